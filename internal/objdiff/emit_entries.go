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
	}
	return nil
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
		return elfobj.Reloc{Off: ref.off, Type: ref.typ, Sym: e.sectionSymbol(p.sec), Addend: p.off + ref.to.off}, nil
	}
	if ignore := s.spec.IgnoreReloc; ignore != nil && ignore(s.data, i) {
		p := e.place[a] // it points at nothing; let it point somewhere
		return elfobj.Reloc{Off: ref.off, Type: ref.typ, Sym: e.sectionSymbol(p.sec), Addend: p.off}, nil
	}
	return e.reloc(nil, ref)
}
