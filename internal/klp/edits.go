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
// that gets another function, for instance. Its words are written when the live
// patch comes (or the module whose data it is), and written back when it goes.
//
//   - Read-only data is written by way of a second mapping, all words of an
//     object at once while every other CPU stands still.
//   - What was there is checked before: it must be what the target was built
//     with, or what the live patch before this one wrote. Else the live patch is
//     refused, or the word left alone where an administrator may have set it.
//   - They are written back before the transition that ends the live patch, so
//     that no task enters a function of it by such a table while the kernel
//     looks for tasks in them, and the live patch goes only when every task has
//     been seen outside the code between reading a pointer and calling it.
//   - A live patch that replaces another runs alone: the kernel does not call
//     the callbacks of what is replaced. It finds the other's table by a
//     klp_state, takes over the words that both edit, writes back the others,
//     and undoes all that if it is given up. Every live patch of Tsugi's has
//     this state, so that the kernel refuses one that knows nothing of it.

// EditsState is the id of the klp_state by which live patches know each
// other's edits ("TSUGI" in ASCII), EditsVersion that of struct tsugi_data.
const (
	EditsState   = 0x5453554749
	EditsVersion = 1
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
