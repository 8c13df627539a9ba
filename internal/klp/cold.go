// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// Before livepatch takes a task off new code it looks for the replaced functions
// on the task's stack, each from its symbol to the next (find_kallsyms_symbol).
// It does not look for what the compiler has split off as "f.cold", nor for new
// functions that are reached by a jump or a pointer, with no replaced function
// on the stack. A task preempted there would be taken for safe, and the module
// could be unloaded under it. So such code is put right behind a replaced
// function and its symbol dropped from the finished module: to the kernel it
// then is part of that function.

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

// joinReached appends new functions that a task can be in with no replaced
// function on its stack. Those that are only called stay by themselves, since
// their caller is there to be found, and keep their names in stack traces.
func (p *piece) joinReached(ln *linkage) {
	if len(p.funcs) == 0 {
		return
	}
	fixed := map[*elfobj.Section]bool{}
	for _, f := range p.funcs {
		fixed[f.new.Section] = true
	}
	for _, h := range p.hooks {
		fixed[h.sym.Section] = true // livepatch calls it while it holds its own lock
	}
	host := p.funcs[0].new.Section
	for _, s := range slices.Clone(p.file.Symbols) {
		if s.Section == nil || s.Type != elf.STT_FUNC || fixed[s.Section] || !s.Section.Exec() || !alone(p.file, s) || !p.reached(s) {
			continue
		}
		for _, cold := range p.coldParts(s) {
			if cold.Section != s.Section && alone(p.file, cold) {
				join(p.file, s.Section, cold.Section)
				ln.cold[cold.Name] = true
			}
		}
		join(p.file, host, s.Section)
		ln.cold[s.Name] = true
	}
}

// reached reports whether anything but a call refers to a function.
func (p *piece) reached(fn *elfobj.Symbol) bool {
	for _, sec := range p.file.Sections {
		special := slices.Contains(early, sec.Name) || strings.HasPrefix(sec.Name, ".discard") || sec.Flags&elf.SHF_ALLOC == 0
		if sec == fn.Section || special {
			continue
		}
		for _, r := range sec.Relocs {
			if r.Sym == nil || r.Sym.Section != fn.Section || sec.Name == ".text.unlikely."+fn.Name {
				continue
			}
			call := sec.Exec() && pcRelative(r.Type) && r.Off >= 1 && r.Off <= uint64(len(sec.Data)) && sec.Data[r.Off-1] == 0xe8
			if !call {
				return true
			}
		}
	}
	return false
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
	const trap = 0xcc                     // int3: nothing runs into it
	align := min(max(src.Align, 1), 4096) // code asks for 64 at most
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

// hideCold drops the symbols of what has been joined to replaced functions.
func (p *postlink) hideCold() error {
	hidden := map[*elfobj.Symbol]bool{}
	for _, s := range p.file.Symbols {
		hidden[s] = s.Section != nil && s.Type != elf.STT_SECTION && p.ln.cold[strings.TrimPrefix(s.Name, "__pfx_")]
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
