// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// entrySizes are those of 6.1 and 6.12 for the tables that functions have
// entries in; the differ takes them from the target's BTF.
var entrySizes = map[string]uint64{
	"__mcount_loc": 8, ".orc_unwind_ip": 4, ".return_sites": 4, ".retpoline_sites": 4, ".call_sites": 4,
	"__bug_table": 12, "__ex_table": 12, ".smp_locks": 4, ".parainstructions": 16, "__jump_table": 16, ".static_call_sites": 8,
	".ibt_endbr_seal": 4,
}

// extract makes by hand what the differ makes: the functions of an object
// built with function sections, and what belongs to them. The tests of this
// package so depend on nothing but the type.
func extract(t testing.TB, f *elfobj.File, plain *elfobj.File, functions ...string) objdiff.Extract {
	t.Helper()
	f, _, err := clone(f)
	if err != nil {
		t.Fatal(err)
	}
	keep := map[*elfobj.Section]bool{}
	for _, name := range functions {
		for _, n := range []string{name, name + ".cold"} {
			if s := f.Symbol(n); s != nil {
				keep[s.Section] = true
			}
		}
	}
	tables := map[*elfobj.Section]bool{}
	for _, s := range f.Sections {
		if size := entrySizes[s.Name]; size != 0 {
			filterTable(f, s, size, keep)
			tables[s] = true
		}
		if s.Name == ".altinstructions" {
			filterTable(f, s, uint64(len(s.Data)/max(1, len(s.Relocs)/2)), keep)
			tables[s] = true
		}
	}
	for s := range tables {
		if len(s.Data) > 0 {
			keep[s] = true
		}
	}
	if s := f.Section(".orc_unwind"); s != nil {
		keep[s] = true
	}
	if s := f.Section(".altinstr_replacement"); s != nil && keep[f.Section(".altinstructions")] {
		keep[s] = true
	}
	for _, s := range f.Sections {
		if strings.HasPrefix(s.Name, ".discard.") && s.Name != ".discard.addressable" && len(s.Relocs) > 0 {
			// objtool reads these when it runs over the linked module.
			if size := uint64(len(s.Data) / len(s.Relocs)); size > 0 && len(s.Data)%len(s.Relocs) == 0 {
				filterTable(f, s, size, keep)
				keep[s] = len(s.Data) > 0
			}
		}
	}
	// Strings and constants of the functions come along; the rest is left
	// behind as undefined symbols.
	for again := true; again; {
		again = false
		for _, s := range f.Sections {
			if !keep[s] {
				continue
			}
			for _, r := range s.Relocs {
				if r.Sym == nil || r.Sym.Section == nil || keep[r.Sym.Section] {
					continue
				}
				d := r.Sym.Section
				if d.Flags&elf.SHF_MERGE != 0 || strings.HasPrefix(d.Name, ".rodata.") {
					keep[d], again = true, true
				}
			}
		}
	}
	var x objdiff.Extract
	x.File = f
	outside := map[string]*elfobj.Symbol{}
	undefined := func(sym *elfobj.Symbol, off int64) (*elfobj.Symbol, int64) {
		if sym.Type == elf.STT_SECTION {
			for _, s := range f.Symbols {
				if s.Section == sym.Section && s.Type != elf.STT_SECTION && !strings.HasPrefix(s.Name, "__pfx_") {
					off, sym = off-int64(s.Value), s
					break
				}
			}
		}
		u := outside[sym.Name]
		if u == nil {
			u = &elfobj.Symbol{Name: sym.Name, Bind: elf.STB_GLOBAL}
			outside[sym.Name] = u
			x.Refs = append(x.Refs, objdiff.Ref{Symbol: u, Orig: sym})
		}
		return u, off
	}
	for _, s := range f.Sections {
		if !keep[s] {
			continue
		}
		for i := range s.Relocs {
			r := &s.Relocs[i]
			if r.Sym != nil && r.Sym.Section != nil && !keep[r.Sym.Section] {
				r.Sym, r.Addend = undefined(r.Sym, r.Addend)
			} else if r.Sym != nil && r.Sym.Undefined() && !slices.ContainsFunc(x.Refs, func(ref objdiff.Ref) bool { return ref.Symbol == r.Sym }) {
				x.Refs = append(x.Refs, objdiff.Ref{Symbol: r.Sym, Orig: r.Sym})
			}
		}
	}
	f.Sections = slices.DeleteFunc(f.Sections, func(s *elfobj.Section) bool { return !keep[s] })
	f.RemoveSymbols(func(s *elfobj.Symbol) bool { return s.Section != nil && !keep[s.Section] || s.Index == elf.SHN_ABS })
	for _, u := range x.Refs {
		if !slices.Contains(f.Symbols, u.Symbol) {
			f.Symbols = append(f.Symbols, u.Symbol)
		}
	}
	for _, name := range functions {
		s := f.Symbol(name)
		orig := plain.Symbol(name)
		if s == nil || orig == nil {
			t.Fatalf("no function %s", name)
		}
		s.Bind = elf.STB_LOCAL
		x.Replaced = append(x.Replaced, objdiff.Replacement{Orig: orig, New: s, Change: "test"})
	}
	return x
}

// filterTable keeps the entries that refer to a kept section.
func filterTable(f *elfobj.File, s *elfobj.Section, size uint64, kept map[*elfobj.Section]bool) {
	if size == 0 || uint64(len(s.Data))%size != 0 {
		return
	}
	keep := make([]bool, uint64(len(s.Data))/size)
	for _, r := range s.Relocs {
		if r.Off%size == 0 && r.Sym != nil && kept[r.Sym.Section] && r.Sym.Section.Exec() {
			keep[r.Off/size] = true
		}
	}
	filterEntries(s, size, keep)
	if s.Name != ".orc_unwind_ip" {
		return
	}
	if orc := f.Section(".orc_unwind"); orc != nil {
		filterEntries(orc, uint64(len(orc.Data)/max(1, len(keep))), keep)
	}
}
