// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"debug/elf"
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// Before livepatch takes a task off new code it looks for the function on the
// task's stack: from its symbol to the next one (find_kallsyms_symbol). What
// the compiler has split off as "f.cold" is not looked for. A task preempted
// there would be taken for safe, and the module could be unloaded under it. So
// the cold part is put right behind its function, and its symbol is dropped
// from the finished module: to the kernel it then is the function.

// joinCold appends the cold parts of the replaced functions to them.
func (p *piece) joinCold(ln *linkage) error {
	for _, f := range p.funcs {
		for _, cold := range p.coldParts(f.new) {
			if cold.Section == f.new.Section {
				continue
			}
			if !alone(p.file, f.new) || !alone(p.file, cold) {
				return fmt.Errorf("extract of %s: %s and %s do not have sections of their own", p.in.Object, f.new.Name, cold.Name)
			}
			join(p.file, f.new.Section, cold.Section)
			ln.cold[cold.Name] = true
		}
	}
	return nil
}

func (p *piece) coldParts(fn *elfobj.Symbol) []*elfobj.Symbol {
	var out []*elfobj.Symbol
	for _, s := range p.file.Symbols {
		if s.Section != nil && s.Type == elf.STT_FUNC && (s.Name == fn.Name+".cold" || strings.HasPrefix(s.Name, fn.Name+".cold.")) {
			out = append(out, s)
		}
	}
	return out
}

// alone reports whether no other function than fn and its cold parts is in
// fn's section; the names of padding do not count.
func alone(f *elfobj.File, fn *elfobj.Symbol) bool {
	for _, s := range f.Symbols {
		if s.Section == fn.Section && s.Type == elf.STT_FUNC && s.Value != fn.Value &&
			!strings.HasPrefix(s.Name, fn.Name+".cold") && !strings.HasPrefix(s.Name, "__pfx_") {
			return false
		}
	}
	return true
}

// join moves the content of src to the end of dst, with all that refers to it.
func join(f *elfobj.File, dst, src *elfobj.Section) {
	const trap = 0xcc // int3: nothing runs into it
	align := max(src.Align, 1)
	base := (uint64(len(dst.Data)) + align - 1) / align * align
	data := append(bytes.Clone(dst.Data), bytes.Repeat([]byte{trap}, int(base)-len(dst.Data))...)
	dst.Data = append(data, src.Data...)
	dst.Align = max(dst.Align, src.Align)
	for _, r := range src.Relocs {
		r.Off += base
		dst.Relocs = append(dst.Relocs, r)
	}
	gone := map[*elfobj.Symbol]bool{}
	for _, s := range f.Symbols {
		switch {
		case s.Section != src:
		case s.Type == elf.STT_SECTION:
			gone[s] = true
		default:
			s.Section, s.Value = dst, s.Value+base
		}
	}
	var whole *elfobj.Symbol
	sections := f.Sections[:0:0]
	for _, s := range f.Sections {
		if s == src {
			continue
		}
		sections = append(sections, s)
		if s.LinkTo == src {
			s.LinkTo = dst
		}
		for i := range s.Relocs {
			if r := &s.Relocs[i]; gone[r.Sym] {
				if whole == nil {
					whole = sectionSymbol(f, dst)
				}
				r.Sym, r.Addend = whole, r.Addend+int64(base)
			}
		}
	}
	f.Sections = sections
	f.RemoveSymbols(func(s *elfobj.Symbol) bool { return gone[s] })
}

// sectionSymbol returns the symbol of a section, which it makes if need be.
func sectionSymbol(f *elfobj.File, sec *elfobj.Section) *elfobj.Symbol {
	for _, s := range f.Symbols {
		if s.Section == sec && s.Type == elf.STT_SECTION {
			return s
		}
	}
	s := &elfobj.Symbol{Name: sec.Name, Type: elf.STT_SECTION, Section: sec}
	f.Symbols = append(f.Symbols, s)
	return s
}

// hideCold drops the symbols of the cold parts that joinCold has moved.
func (p *postlink) hideCold() error {
	hidden := map[*elfobj.Symbol]bool{}
	for _, s := range p.file.Symbols {
		hidden[s] = p.ln.cold[s.Name] && s.Section != nil && s.Bind == elf.STB_LOCAL
	}
	for _, sec := range p.file.Sections {
		for i := range sec.Relocs {
			if r := &sec.Relocs[i]; hidden[r.Sym] {
				r.Addend += int64(r.Sym.Value)
				r.Sym = sectionSymbol(p.file, r.Sym.Section)
			}
		}
	}
	p.file.RemoveSymbols(func(s *elfobj.Symbol) bool { return hidden[s] })
	return nil
}
