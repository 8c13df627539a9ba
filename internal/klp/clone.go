// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// clone copies a file so that it can be changed. The map leads from its
// symbols to those of the copy. Section bytes stay shared until written to. A
// relocation or section that points outside the file is an error.
func clone(f *elfobj.File) (*elfobj.File, map[*elfobj.Symbol]*elfobj.Symbol, error) {
	out := *f
	secs := make(map[*elfobj.Section]*elfobj.Section, len(f.Sections))
	syms := make(map[*elfobj.Symbol]*elfobj.Symbol, len(f.Symbols))
	out.Sections = make([]*elfobj.Section, len(f.Sections))
	for i, s := range f.Sections {
		c := *s
		out.Sections[i], secs[s] = &c, &c
	}
	out.Symbols = make([]*elfobj.Symbol, len(f.Symbols))
	for i, s := range f.Symbols {
		c := *s
		if c.Section = secs[s.Section]; c.Section == nil && s.Section != nil {
			return nil, nil, fmt.Errorf("symbol %s: its section %s is not in the file", s.Name, s.Section.Name)
		}
		out.Symbols[i], syms[s] = &c, &c
	}
	for _, s := range out.Sections {
		s.Relocs = slices.Clone(s.Relocs)
		for i := range s.Relocs {
			if old := s.Relocs[i].Sym; old != nil {
				if s.Relocs[i].Sym = syms[old]; s.Relocs[i].Sym == nil {
					return nil, nil, fmt.Errorf("section %s: relocation %d: symbol %s is not in the file", s.Name, i, old.Name)
				}
			}
		}
		s.Target, s.LinkTo = secs[s.Target], secs[s.LinkTo]
		if s.Group != nil {
			g := *s.Group
			g.Signature = syms[g.Signature]
			g.Members = slices.Clone(g.Members)
			for i, m := range g.Members {
				g.Members[i] = secs[m]
			}
			s.Group = &g
		}
	}
	return &out, syms, nil
}
