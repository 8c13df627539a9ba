// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"debug/elf"
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// A live patch may edit data of the target in place: a table of operations
// that gets another function, for instance.
//
//   - What is there is checked before the transition (pre_patch): it must be
//     what the target was built with, or what the live patch before this one
//     wrote. Else the live patch is refused, or the word left alone where an
//     administrator may have set it.
//   - It is written after the transition (post_patch), when the live patch can
//     no longer be given up: livepatch frees a module whose load it cancels,
//     whoever runs in it, and calls nobody before it turns a transition round.
//     Nothing leads into a live patch by a table before it is there for good.
//   - Read-only data is written by way of a second mapping, all words at once
//     while every other CPU stands still; what nobody expected is left alone.
//   - It is written back before the transition that ends the live patch
//     (pre_unpatch), and before a module goes.
//   - Where there was no pointer, the new one stays (TSUGI_STAYS): somebody may
//     have seen it and not yet called it.
//   - Who has read a pointer may keep it for as long as they like. A live patch
//     that puts pointers to its own code anywhere stays in memory until the
//     next boot (lend.go).
//   - A live patch that replaces another runs alone: the kernel does not call
//     the callbacks of what is replaced. It finds the other's table by a
//     klp_state, and when its own transition is over it takes over the words
//     that both edit and writes back the others. Until then the other one is in
//     charge, and stays so if this one is given up. Every live patch of Tsugi's
//     has this state, so that the kernel refuses one that knows nothing of it.

// EditsState is the id of the klp_state by which live patches know each
// other's edits ("TSUGI" in ASCII), EditsVersion that of struct tsugi_data.
const (
	EditsState   = 0x5453554749
	EditsVersion = 2
)

// proveEdited compares the variables that are edited with the target's bytes.
func (p *piece) proveEdited(proof *Proof) error {
	for _, v := range p.in.Extract.Edited {
		sym := p.layout.names[v.Name]
		if sym == nil || sym.Section == nil {
			return code.New("TS5108", p.in.Object+": "+v.Name, "the plain compile has no such variable")
		}
		if strings.HasPrefix(sym.Section.Name, ".init") || strings.HasPrefix(sym.Section.Name, ".exit") && sym.Type != elf.STT_FUNC {
			return code.New("TS5209", p.in.Object+": "+v.Name, "it lies in section "+sym.Section.Name)
		}
		if sym.Section.Type == elf.SHT_NOBITS {
			continue // zeros, until somebody writes
		}
		if err := p.layout.prove(sym, proof); err != nil {
			return err
		}
	}
	return nil
}

// edited reports whether an object has edits, and lists their tables.
func (o *object) edited() (ps []*piece) {
	for _, p := range o.pieces {
		if p.edits != nil {
			ps = append(ps, p)
		}
	}
	return ps
}

// withVmlinux makes sure that vmlinux is among the objects: the live patch
// before this one is looked at in its callbacks.
func withVmlinux(objs []*object) []*object {
	if len(objs) > 0 && objs[0].name == Vmlinux {
		return objs
	}
	return append([]*object{{name: Vmlinux}}, objs...)
}

// lists writes the tables of edits, by object.
func (t *tables) lists(objs []*object) {
	n := 0
	var rows strings.Builder
	for i, o := range objs {
		for _, p := range o.edited() {
			name := fmt.Sprintf("tsugi_edits_%d", n)
			t.ln.alias(p, p.edits, name)
			t.printf("extern struct tsugi_edit %s[]; /* %s */\n", name, p.in.Object)
			fmt.Fprintf(&rows, "\t{ %s, %d, %d },\n", name, p.edits.Size/objdiff.EditSize, i)
			n++
		}
	}
	t.printf("static struct tsugi_list tsugi_lists[] = {\n%s\t{ }\n};\n", rows.String())
	t.printf("static struct tsugi_data tsugi_data = { .nr = %d, .lists = tsugi_lists };\n", n)
}

// editSymbol finds the table of edits in the private copy of an extract.
func (p *piece) editSymbol(syms map[*elfobj.Symbol]*elfobj.Symbol) error {
	if p.in.Extract.Edits == nil {
		return nil
	}
	p.edits = syms[p.in.Extract.Edits]
	if p.edits == nil || p.edits.Section == nil || p.edits.Size%objdiff.EditSize != 0 {
		return fmt.Errorf("extract of %s: its table of edits is not in its file", p.in.Object)
	}
	return nil
}
