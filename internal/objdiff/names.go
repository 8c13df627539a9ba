// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"regexp"
	"strings"
)

// canonical strips what compilers number from a symbol name: gcc's and
// clang's ".<digits>" of static locals and clones (foo.isra.3 -> foo.isra),
// ".llvm.<digits>", and the counter of the kernel's __UNIQUE_ID. Two names of
// one canonical form may be the same thing.
func canonical(name string) string {
	if i := strings.Index(name, ".llvm."); i >= 0 && digits(name[i+len(".llvm."):]) {
		name = name[:i]
	}
	if strings.Contains(name, "__UNIQUE_ID_") {
		name = trimUniqueID(name)
	}
	if strings.HasPrefix(name, "__BTF_ID__") { // __BTF_ID__<kind>__<name>__<n>
		if head, n, ok := cutLast(name, "__"); ok && digits(n) {
			name = head
		}
	}
	if strings.HasPrefix(name, "__initcall__") {
		name = initcallID.ReplaceAllString(name, "__")
	}
	if !strings.Contains(name, ".") {
		return name
	}
	parts := strings.Split(name, ".")
	kept := parts[:1]
	for _, p := range parts[1:] {
		if !digits(p) {
			kept = append(kept, p)
		}
	}
	return strings.Join(kept, ".")
}

// initcallID is the counter and line in __initcall__<module>__<n>_<line>_<function><level>.
var initcallID = regexp.MustCompile(`__\d+_\d+_`)

// trimUniqueID removes the counter that ends each __UNIQUE_ID_<prefix><n>.
func trimUniqueID(name string) string {
	parts := strings.Split(name, ".")
	for i, p := range parts {
		if strings.Contains(p, "__UNIQUE_ID_") {
			parts[i] = strings.TrimRight(p, "0123456789")
		}
	}
	return strings.Join(parts, ".")
}

func digits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// numbered reports whether a compiler numbered the name, as it does for
// variables that are static inside a function.
func numbered(name string) bool {
	_, last, ok := cutLast(name, ".")
	return ok && digits(last)
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// coldParent returns the name of the function that a cold part belongs to
// (foo.cold, foo.cold.3, foo.isra.0.cold, and the foo.unlikely of old gccs).
func coldParent(name string) (parent string, ok bool) {
	for _, mark := range []string{".cold", ".unlikely"} {
		if i := strings.LastIndex(name, mark); i > 0 {
			rest := name[i+len(mark):]
			if rest == "" || strings.HasPrefix(rest, ".") && digits(rest[1:]) {
				return name[:i], true
			}
		}
	}
	return "", false
}

// privateNames are variables inside functions of which every user may have
// its own: once-flags, lock class keys, names of functions, switch tables.
// They are compared by content, and a patch carries its own copy.
var privateNames = map[string]bool{
	"__key": true, "__warned": true, "__already_done": true, "__func__": true, "__FUNCTION__": true,
	"__PRETTY_FUNCTION__": true, "_rs": true, "CSWTCH": true, "_entry": true, "_entry_ptr": true,
	"__print_once": true, "__ret_once": true, "___tp_str": true,
	"C": true, // aggregate constants that gcc keeps in memory (C.0.1234)
}

// private reports whether an atom is one of the private variables. In programs
// the names of constants alone are compilers': a variable may be anybody's.
func (o *object) private(a *atom) bool {
	if a.kind != variable || a.sym == nil || o.opt.Userland && !readOnly(a.sec) {
		return false
	}
	switch a.sec.Name {
	case ".data.once", ".data..once", "__dyndbg", "__verbose":
		return true
	}
	base := canonical(a.sym.Name)
	if strings.HasPrefix(base, "switch.table.") && a.sym.Bind == elf.STB_LOCAL {
		return true // clang's CSWTCH
	}
	if i := strings.LastIndexByte(base, '.'); i >= 0 { // clang: function.variable
		base = base[i+1:]
	} else if !numbered(a.sym.Name) {
		return false
	}
	return privateNames[base]
}
