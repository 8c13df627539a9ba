// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// loaderRef is a pointer in an array of functions that a loader calls.
type loaderRef struct {
	section string
	target  target
}

// loaderArray reports whether a section lists functions that run when a file is
// loaded or unloaded. A priority may follow the name.
func loaderArray(section string) bool {
	return hasAnyPrefix(section, []string{".init_array", ".preinit_array", ".fini_array", ".ctors", ".dtors"})
}

// judgeUserland refuses what only the loader of a program acts on, and what
// each thread would have to get.
func (r *Result) judgeUserland() {
	r.judgeLoaderArrays()
	r.judgeHooks()
	sizes := map[string]int64{}
	for _, s := range r.orig.file.Sections {
		if r.orig.registers(s) {
			sizes[s.Name] -= int64(s.Size())
		}
	}
	for _, s := range r.patched.file.Sections {
		if r.patched.registers(s) {
			sizes[s.Name] += int64(s.Size())
		}
	}
	for _, a := range r.patched.atoms {
		switch {
		case a.kind == variable && a.state == fresh && a.threadLocal() && (a.included || a.sym.Bind != elf.STB_LOCAL):
			r.refuse("TS4050", a.name(), "in "+a.sec.Name)
		case a.kind == variable && a.state == fresh && !a.included && r.patched.registers(a.sec):
			r.refuse("TS4013", a.name(), "whoever goes through "+a.sec.Name+" has done so, or knows where it ends")
			sizes[a.sec.Name] -= int64(a.size())
		case a.included && a.kind == function && a.state == fresh && a.class == bootText:
			r.refuse("TS4051", a.name(), "")
		}
	}
	for _, s := range r.patched.file.Sections {
		if n := sizes[s.Name]; n != 0 {
			r.refuse("TS4013", s.Name, fmt.Sprintf("%+d bytes; its readers know where it ends", n))
			delete(sizes, s.Name)
		}
	}
}

// judgeHooks refuses the kernel's macros: nobody would call what they name.
func (r *Result) judgeHooks() {
	if r.hasHooks() {
		r.refuse("TS4052", "tsugi/livepatch.h", "")
	}
}

// judgeLoaderArrays compares what the loader calls.
func (r *Result) judgeLoaderArrays() {
	count := map[string]int{}
	key := func(l loaderRef) string { return l.section + " " + describe(l.target) }
	for _, l := range r.orig.loader {
		count[key(l)]--
	}
	for _, l := range r.patched.loader {
		count[key(l)]++
	}
	for _, l := range slices.Concat(r.patched.loader, r.orig.loader) {
		n := count[key(l)]
		count[key(l)] = 0
		unload := hasAnyPrefix(l.section, []string{".fini", ".dtors"})
		switch name := describe(l.target); {
		case n > 0 && unload:
			r.refuse("TS4013", name, "a new destructor is called only where the loader found it in "+l.section)
		case n > 0:
			r.refuse("TS4013", name, "a new constructor is called only when the file is loaded")
		case n < 0 && unload:
			r.refuse("TS4012", name, "the loader still calls the destructor that is gone")
		}
	}
}

// registers reports whether a section is one that others go through from its
// beginning to its end, as linkers let them for names that C knows
// (__start_NAME): what is new in it never gets there.
func (o *object) registers(s *elfobj.Section) bool {
	if s.Flags&elf.SHF_ALLOC == 0 || s.Exec() || o.class[s] != data && o.class[s] != bootData || loaderArray(s.Name) {
		return false
	}
	return !hasAnyPrefix(s.Name, []string{
		".data", ".bss", ".rodata", ".tdata", ".tbss", ".lrodata", ".ldata", ".lbss", ".gcc_except_table", ".gnu.linkonce",
	}) && !strings.HasPrefix(s.Name, ".note")
}

// Landing lists the functions that the live patch carries and in which an
// exception or a cancellation may stop: the process's unwinder must know them.
func (r *Result) Landing() []string {
	var out []string
	for _, a := range r.patched.atoms {
		if a.included && a.class.code() && a.landing() {
			out = append(out, a.family().name())
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
