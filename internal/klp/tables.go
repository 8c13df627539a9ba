// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// tables writes the C source of the module's own part: the tables of
// <linux/livepatch.h> and the code that registers them. It is compiled against
// the target's headers, so that no structure layout is assumed here.
type tables struct {
	strings.Builder
	ln *linkage
}

// object collects what one klp_object holds.
type object struct {
	name   string // Vmlinux or a module
	pieces []*piece
}

func (o *object) ident() string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' {
			return r
		}
		return '_'
	}, o.name)
}

// objects groups the pieces: vmlinux first, then modules by name.
func objects(pieces []*piece) []*object {
	by := map[string]*object{}
	for _, p := range pieces {
		n := p.object()
		if by[n] == nil {
			by[n] = &object{name: n}
		}
		by[n].pieces = append(by[n].pieces, p)
	}
	var out []*object
	if o := by[Vmlinux]; o != nil {
		out = append(out, o)
		delete(by, Vmlinux)
	}
	for _, n := range slices.Sorted(maps.Keys(by)) {
		out = append(out, by[n])
	}
	return out
}

func (t *tables) printf(format string, args ...any) { fmt.Fprintf(t, format, args...) }

// writeTables returns the text of the C file and gives the functions that it
// mentions global names.
func writeTables(opts Options, pieces []*piece, ln *linkage) (string, error) {
	t := &tables{ln: ln}
	t.printf("// SPDX-License-Identifier: GPL-2.0\n/* Written by Tsugi. */\n")
	t.printf("#include <linux/kernel.h>\n#include <linux/module.h>\n#include <linux/livepatch.h>\n")
	if ln.clear {
		t.WriteString(clearIncludes)
	}
	objs := objects(pieces)
	if ln.edits {
		objs = withVmlinux(objs)
		t.WriteString(editsIncludes + editsTypes)
		t.lists(objs)
	}
	n := 0
	for _, o := range objs {
		t.functions(o, &n)
	}
	if ln.clear {
		t.WriteString(clearSource)
	}
	if ln.edits {
		t.WriteString(editsSource)
	}
	hooks := 0
	for i, o := range objs {
		if err := t.callbacks(o, i, &hooks); err != nil {
			return "", err
		}
	}
	t.printf("\nstatic struct klp_object tsugi_objects[] = {\n")
	for _, o := range objs {
		t.printf("\t{\n")
		if o.name != Vmlinux {
			t.printf("\t\t.name = \"%s\",\n", o.name)
		}
		t.printf("\t\t.funcs = tsugi_funcs_%s,\n", o.ident())
		for _, k := range callbackKinds {
			if t.wants(o, k) {
				t.printf("\t\t.callbacks.%s = tsugi_%s_%s,\n", k, k, o.ident())
			}
		}
		t.printf("\t},\n")
	}
	t.printf("\t{ }\n};\n")
	states, err := t.states(pieces)
	if err != nil {
		return "", err
	}
	t.printf("\nstatic struct klp_patch tsugi_patch = {\n\t.mod = THIS_MODULE,\n\t.objs = tsugi_objects,\n")
	if states {
		t.printf("\t.states = tsugi_states,\n")
	}
	t.printf("\t.replace = %t,\n};\n", !opts.Keep)
	t.printf("\nstatic int __init tsugi_init(void)\n{\n\treturn klp_enable_patch(&tsugi_patch);\n}\n")
	exit := "module_exit(tsugi_exit);\n"
	if ln.stays {
		exit = fmt.Sprintf("/* Without an exit function it stays in memory: others may have pointers into it. */\nMODULE_INFO(%s, \"Y\");\n", staysInfo)
	} else {
		t.printf("\n/* Needed for the module to be removable; livepatch allows that only when disabled. */\n")
		t.printf("static void __exit tsugi_exit(void)\n{\n}\n")
	}
	t.printf("\nmodule_init(tsugi_init);\n%s", exit)
	t.printf("MODULE_LICENSE(\"GPL\");\nMODULE_INFO(livepatch, \"Y\");\n")
	t.printf("MODULE_DESCRIPTION(%s);\n", quoteC(opts.Description))
	for _, k := range slices.Sorted(maps.Keys(opts.Info)) {
		t.printf("MODULE_INFO(tsugi_%s, %s);\n", k, quoteC(opts.Info[k]))
	}
	for _, ns := range namespaces(pieces) {
		// MODULE_IMPORT_NS takes a bare word before 6.13 and a string since.
		t.printf("MODULE_INFO(import_ns, %s);\n", quoteC(ns))
	}
	return t.String(), nil
}

func (t *tables) functions(o *object, n *int) {
	first := *n
	for _, p := range o.pieces {
		for _, f := range p.funcs {
			t.ln.alias(p, f.new, fmt.Sprintf("tsugi_new_%d", *n))
			if *n == first {
				t.printf("\n")
			}
			t.printf("extern char tsugi_new_%d[]; /* %s, %s */\n", *n, f.entry.name, p.in.Object)
			*n++
		}
	}
	t.printf("\nstatic struct klp_func tsugi_funcs_%s[] = {\n", o.ident())
	i := first
	for _, p := range o.pieces {
		for _, f := range p.funcs {
			t.printf("\t{ .old_name = \"%s\", .new_func = tsugi_new_%d, .old_sympos = %d },\n", f.entry.name, i, place1(f.pos))
			i++
		}
	}
	t.printf("\t{ }\n};\n")
}

// place1 is the position under which livepatch is to look for a symbol. It
// would take 0 for a unique name, and then, before Linux 6.2, read the whole
// symbol table for each of thousands of relocations to be sure; the first of
// one is found sooner. That there is but one was seen in the target.
func place1(pos int) int { return max(pos, 1) }

var callbackKinds = []objdiff.HookKind{
	objdiff.HookPrePatch, objdiff.HookPostPatch, objdiff.HookPreUnpatch, objdiff.HookPostUnpatch,
}

func (p *piece) hooked(kind objdiff.HookKind) (hs []hook) {
	for _, h := range p.hooks {
		if h.kind == kind {
			hs = append(hs, h)
		}
	}
	return hs
}

func (o *object) has(kind objdiff.HookKind) bool {
	return slices.ContainsFunc(o.pieces, func(p *piece) bool { return len(p.hooked(kind)) > 0 })
}

// wants tells whether an object gets a callback.
func (t *tables) wants(o *object, kind objdiff.HookKind) bool {
	return o.has(kind) || kind == objdiff.HookPostUnpatch && t.clears(o) || t.edits(o, kind)
}

// edits tells whether a callback deals with edits of data: vmlinux's also with
// those of the live patch before this one.
func (t *tables) edits(o *object, kind objdiff.HookKind) bool {
	return t.ln.edits && (len(o.edited()) > 0 || o.name == Vmlinux && (kind == objdiff.HookPrePatch || kind == objdiff.HookPostPatch))
}

func (t *tables) clears(o *object) bool { return t.ln.clear && o.name != Vmlinux }

// callbacks writes one function for each kind of callback that the object's
// pieces have, since a klp_object holds one of each: it calls theirs in order,
// or in the reverse order when unpatching. When a pre_patch fails, the
// post_unpatch of the pieces whose pre_patch went well undo them, just as
// livepatch does for whole objects.
//
// Edits of data are made before the authors' post_patch is called, and undone
// after their pre_unpatch. number is the object's in the tables of edits.
func (t *tables) callbacks(o *object, number int, n *int) error {
	names := map[*piece]map[objdiff.HookKind]string{}
	for _, p := range o.pieces {
		names[p] = map[objdiff.HookKind]string{}
		for _, k := range callbackKinds {
			hs := p.hooked(k)
			if len(hs) > 1 {
				return code.New("TS5303", p.in.Object, fmt.Sprintf("it has %d %s callbacks", len(hs), k))
			}
			if len(hs) == 0 {
				continue
			}
			name := fmt.Sprintf("tsugi_hook_%d", *n)
			*n++
			t.ln.alias(p, hs[0].sym, name)
			names[p][k] = name
			ret := "void"
			if k == objdiff.HookPrePatch {
				ret = "int"
			}
			t.printf("\nextern %s %s(struct klp_object *obj); /* %s, %s */\n", ret, name, hs[0].sym.Name, p.in.Object)
		}
	}
	for _, k := range callbackKinds {
		if !t.wants(o, k) {
			continue
		}
		if k == objdiff.HookPrePatch {
			t.prePatch(o, number, names)
			continue
		}
		t.printf("\nstatic void tsugi_%s_%s(struct klp_object *obj)\n{\n", k, o.ident())
		ps := slices.Clone(o.pieces)
		if k == objdiff.HookPostPatch && t.edits(o, k) {
			t.printf("\ttsugi_edits_%s(obj, %d);\n", k, number)
		}
		if k != objdiff.HookPostPatch {
			slices.Reverse(ps)
		}
		for _, p := range ps {
			if f := names[p][k]; f != "" {
				t.printf("\t%s(obj);\n", f)
			}
		}
		if k != objdiff.HookPostPatch && t.edits(o, k) {
			t.printf("\ttsugi_edits_%s(obj, %d);\n", k, number)
		}
		if k == objdiff.HookPostUnpatch && t.clears(o) {
			t.printf("\ttsugi_clear_relocs(obj);\n")
		}
		t.printf("}\n")
	}
	return nil
}

func (t *tables) prePatch(o *object, number int, names map[*piece]map[objdiff.HookKind]string) {
	t.printf("\nstatic int tsugi_pre_patch_%s(struct klp_object *obj)\n{\n\tint ret;\n\n", o.ident())
	var undo []string
	if t.clears(o) { // livepatch has written the module's addresses, and calls nobody when this fails
		undo = append(undo, "tsugi_clear_relocs(obj)")
	}
	if t.edits(o, objdiff.HookPrePatch) {
		t.printf("\tret = tsugi_edits_pre_patch(obj, %d);\n\tif (ret) {\n", number)
		for _, u := range undo {
			t.printf("\t\t%s;\n", u)
		}
		t.printf("\t\treturn ret;\n\t}\n")
		undo = append(undo, fmt.Sprintf("tsugi_forget(%d)", number))
	}
	for _, p := range o.pieces {
		if f := names[p][objdiff.HookPrePatch]; f != "" {
			t.printf("\tret = %s(obj);\n\tif (ret) {\n", f)
			for _, u := range slices.Backward(undo) {
				t.printf("\t\t%s;\n", u)
			}
			t.printf("\t\treturn ret;\n\t}\n")
		}
		if u := names[p][objdiff.HookPostUnpatch]; u != "" {
			undo = append(undo, u+"(obj)")
		}
	}
	t.printf("\treturn 0;\n}\n")
}

// states writes the klp_state array: of states with one id, the highest
// version, and Tsugi's own. The id and version are read from the objects that
// authors define: struct klp_state begins with unsigned long id; unsigned int
// version.
func (t *tables) states(pieces []*piece) (bool, error) {
	states, err := statesOf(pieces, t.ln.edits)
	if err != nil || len(states) == 0 {
		return false, err
	}
	t.printf("\nstatic struct klp_state tsugi_states[] = {\n")
	for _, s := range states {
		if s.ID == EditsState {
			t.printf("\t{ .id = TSUGI_EDITS_STATE, .version = %d, .data = &tsugi_data },\n", s.Version)
			continue
		}
		t.printf("\t{ .id = %#xUL, .version = %d },\n", s.ID, s.Version)
	}
	t.printf("\t{ }\n};\n")
	return true, nil
}

// statesOf lists the states of a module by id.
func statesOf(pieces []*piece, edits bool) ([]State, error) {
	versions := map[uint64]uint32{}
	for _, p := range pieces {
		for _, h := range p.hooked(objdiff.HookState) {
			data := h.sym.Section.Data
			if h.sym.Value > uint64(len(data)) || uint64(len(data))-h.sym.Value < 12 {
				return nil, code.New("TS5303", p.in.Object+": "+h.sym.Name, "a state without contents")
			}
			data = data[h.sym.Value:]
			id := binary.LittleEndian.Uint64(data)
			if id == 0 || id == EditsState {
				return nil, code.New("TS5303", p.in.Object+": "+h.sym.Name, fmt.Sprintf("a state's id must not be %#x", id))
			}
			versions[id] = max(versions[id], binary.LittleEndian.Uint32(data[8:]))
		}
	}
	if edits {
		versions[EditsState] = EditsVersion
	}
	var out []State
	for _, id := range slices.Sorted(maps.Keys(versions)) {
		out = append(out, State{ID: id, Version: versions[id]})
	}
	return out, nil
}

// quoteC writes a C string literal. Bytes outside printable ASCII become octal
// escapes, which unlike \x end after three digits.
func quoteC(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\' || c == '?':
			b.WriteByte('\\')
			b.WriteByte(c)
		case c < ' ' || c > '~':
			fmt.Fprintf(&b, "\\%03o", c)
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}
