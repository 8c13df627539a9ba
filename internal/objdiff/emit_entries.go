// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// entries writes the special sections, in the order of the patched object's.
func (e *emitter) entries() error {
	type where struct {
		atom *atom
		*entry
	}
	bySection := map[*elfobj.Section][]where{}
	for _, a := range e.r.patched.atoms {
		if !a.included {
			continue
		}
		for _, s := range a.special {
			if !e.r.dropped[s] {
				bySection[s.sec] = append(bySection[s.sec], where{a, s})
			}
		}
	}
	for _, in := range e.r.patched.file.Sections {
		list := bySection[in]
		if len(list) == 0 {
			continue
		}
		slices.SortFunc(list, func(x, y where) int { return x.index - y.index })
		out := e.specialSection(in.Name, in)
		var table *elfobj.Section
		if spec := list[0].spec; spec.Table != "" {
			table = e.specialSection(spec.Table, e.r.patched.tableOf(in, spec))
		}
		for _, s := range list {
			base := uint64(len(out.Data))
			size := len(s.data)
			if size < s.spec.Entry { // the last, short one need not be last here
				size = s.spec.Entry
			}
			out.Data = append(append(out.Data, s.data...), make([]byte, size-len(s.data))...)
			for i := range s.refs {
				rel, err := e.entryReloc(s.atom, s.entry, i)
				if err != nil {
					return fmt.Errorf("section %s: entry %d: %w", in.Name, s.index, err)
				}
				rel.Off += base
				out.Relocs = append(out.Relocs, rel)
			}
			if table != nil {
				table.Data = append(table.Data, s.table...)
			}
		}
		if table != nil && table.Name == ".orc_unwind" {
			e.unwindTests(out, table, in)
		}
	}
	return nil
}

// unwindTests adds how to unwind from the tests of keys behind functions: just
// as from the places that they are for.
func (e *emitter) unwindTests(out, table, in *elfobj.Section) {
	for _, a := range e.r.patched.atoms {
		w := e.r.rewritten[a]
		if w == nil || !a.included {
			continue
		}
		for _, t := range w.tests {
			var before *entry
			for _, s := range a.special {
				if own := s.owner(); s.sec == in && own.at() <= t.site && (before == nil || own.at() >= before.owner().at()) {
					before = s
				}
			}
			if before == nil {
				continue
			}
			p := e.place[a]
			out.Relocs = append(out.Relocs, elfobj.Reloc{
				Off: uint64(len(out.Data)), Type: before.owner().typ, Sym: e.sectionSymbol(p.sec), Addend: int64(t.at),
			})
			out.Data = append(out.Data, before.data...)
			table.Data = append(table.Data, before.table...)
		}
	}
}

func (e *emitter) specialSection(name string, like *elfobj.Section) *elfobj.Section {
	if s := e.out.File.Section(name); s != nil {
		return s
	}
	s := &elfobj.Section{
		Name: name, Type: elf.SHT_PROGBITS, Align: like.Align, EntSize: like.EntSize, Data: []byte{},
		Flags: like.Flags &^ (elf.SHF_GROUP | elf.SHF_LINK_ORDER | elf.SHF_MERGE),
	}
	e.out.File.Sections = append(e.out.File.Sections, s)
	return s
}

// entryReloc writes an entry's relocation. References to carried code go
// through section symbols, as the assembler's do: objtool expects it.
func (e *emitter) entryReloc(a *atom, s *entry, i int) (elfobj.Reloc, error) {
	ref := &s.refs[i]
	t := ref.to.atom
	if t != nil && t.included && (t.kind != variable || t.sym == nil) {
		p := e.place[t]
		off := e.moved(ref.to)
		if w := e.r.rewritten[t]; w != nil && s.spec.Table != "" && ref == s.owner() && ref.at() == t.end-t.start {
			off = int64(len(w.data)) - int64(t.entry-t.start) // the end of the whole, and not of what was the function
		}
		return elfobj.Reloc{Off: ref.off, Type: ref.typ, Sym: e.sectionSymbol(p.sec), Addend: p.off + off}, nil
	}
	if ignore := s.spec.IgnoreReloc; ignore != nil && ignore(s.data, i) {
		p := e.place[a] // it points at nothing; let it point somewhere
		return elfobj.Reloc{Off: ref.off, Type: ref.typ, Sym: e.sectionSymbol(p.sec), Addend: p.off}, nil
	}
	return e.reloc(nil, ref)
}
