// SPDX-License-Identifier: Apache-2.0

package build

import (
	"debug/elf"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/userland/pack"
)

// pack resolves what the units refer to and makes the splice.
func (b *binder) pack(parts []*part, opt Options, r *Result) error {
	brought := map[string]bool{} // globals that a unit of the fix adds
	for _, p := range parts {
		for _, s := range p.extract.File.Symbols {
			if s.Section != nil && s.Bind != elf.STB_LOCAL {
				brought[s.Name] = true
			}
		}
	}
	in := pack.Input{File: b.l.File, Name: b.l.Name, Path: b.l.Path, Exceptions: opt.Exceptions}
	for _, p := range parts {
		one := pack.Part{Source: p.unit.Source, Extract: p.extract, Functions: p.functions, Resolve: map[*elfobj.Symbol]pack.Target{}}
		for _, ref := range p.extract.Refs {
			if ref.Orig == nil && brought[ref.Symbol.Name] {
				continue
			}
			t, err := b.resolve(p, ref)
			if err != nil {
				return fmt.Errorf("%s: %w", p.unit.Source, err)
			}
			one.Resolve[ref.Symbol] = t
		}
		in.Parts = append(in.Parts, one)
	}
	f, err := pack.Pack(in)
	if err == nil {
		r.Splice = f
		return nil
	}
	for _, p := range code.All(err) {
		if e, ok := code.Lookup(p.Code); !ok || e.Kind != code.KindRefusal {
			return err
		}
		r.Refusals = append(r.Refusals, Problem{Problem: p})
	}
	if !r.Refused() {
		return err
	}
	return nil
}

// resolve finds what an undefined symbol of an extract stands for.
func (b *binder) resolve(p *part, ref objdiff.Ref) (pack.Target, error) {
	if o := ref.Orig; o != nil && o.Section != nil {
		return b.resolveOwn(p, ref)
	}
	name := ref.Symbol.Name
	if s := b.global(name); s != nil {
		return b.inFile(s.Value, s.Type, name), nil
	}
	slot := b.addressSlot(name)
	switch addr, proven := p.where.extern[name]; {
	case slot != nil:
		return pack.Target{Slot: slot.Vaddr, Import: imported(slot.Symbol), TLS: slot.Symbol.Type == elf.STT_TLS}, nil
	case proven && b.stub(addr) == nil:
		return b.inFile(addr, elf.STT_NOTYPE, name), nil
	}
	if s := b.threadSymbol(name); s != nil {
		return pack.Target{TLS: true, Import: imported(s)}, nil
	}
	return pack.Target{Import: splice.Import{
		Name: name, Func: !ref.Pointer, Weak: ref.Symbol.Bind == elf.STB_WEAK,
	}}, nil
}

// resolveOwn finds what the unit itself defines.
func (b *binder) resolveOwn(p *part, ref objdiff.Ref) (pack.Target, error) {
	s, err := plainSymbol(p.where.plain, ref.Orig)
	if err != nil && p.same[ref.Orig.Name] && entryOnly(p.extract.File, ref.Symbol) {
		s, err = plainFunction(p.where.plain, ref.Orig, true)
	}
	if err != nil {
		return pack.Target{}, err
	}
	at, ok := p.where.address(s)
	if !ok {
		return pack.Target{}, code.New("TS3510", s.Name, "nothing tells where it lies in "+b.l.Name)
	}
	if x := indirectAt(p.unit.Orig, ref.Orig); x != nil {
		// The differ has one name for the resolver and for what it chooses.
		if usedAsCode(p.unit.Orig, x.Name) || usedAsCode(p.unit.Patched, x.Name) {
			return pack.Target{}, code.New("TS3504", x.Name, "its resolver is used as a function too")
		}
		s = x
	}
	t := b.inFile(at, s.Type, "")
	if s.Bind != elf.STB_LOCAL {
		t = b.inFile(at, s.Type, s.Name)
	}
	return t, nil
}

// entryOnly tells whether all that refers to a function means its entry, and
// nothing a place within, which another encoding moves.
func entryOnly(f *elfobj.File, s *elfobj.Symbol) bool {
	for _, sec := range f.Sections {
		for _, r := range sec.Relocs {
			if r.Sym != s {
				continue
			}
			// Relative ones count from behind their field.
			if absolute := elf.R_X86_64(r.Type) == elf.R_X86_64_64; absolute && r.Addend != 0 || !absolute && r.Addend >= 0 {
				return false
			}
		}
	}
	return true
}

// indirectAt finds the IFUNC whose resolver a symbol is, or that it is itself.
func indirectAt(f *elfobj.File, s *elfobj.Symbol) *elfobj.Symbol {
	for _, x := range f.Symbols {
		if x.Type == elf.STT_GNU_IFUNC && x.Section == s.Section && x.Value == s.Value {
			return x
		}
	}
	return nil
}

// usedAsCode reports that something refers to the resolver of an IFUNC by
// another name than the IFUNC's: its section's, or its own. Each function has a
// section of its own here, so that no use goes without a relocation.
func usedAsCode(f *elfobj.File, ifunc string) bool {
	i := slices.IndexFunc(f.Symbols, func(s *elfobj.Symbol) bool { return s.Type == elf.STT_GNU_IFUNC && s.Name == ifunc })
	if i < 0 {
		return false
	}
	resolver := f.Symbols[i].Section
	for _, sec := range f.Sections {
		if sec == resolver || sec.Flags&elf.SHF_ALLOC == 0 || sec.Name == ".eh_frame" {
			continue
		}
		for _, r := range sec.Relocs {
			if r.Sym != nil && r.Sym.Section == resolver && r.Sym.Type != elf.STT_GNU_IFUNC {
				return true
			}
		}
	}
	return false
}

// inFile is a target in the linked file itself. A global one with a GOT entry
// may be another file's in a process: then the entry says whose.
func (b *binder) inFile(at uint64, typ elf.SymType, global string) pack.Target {
	t := pack.Target{Defined: true, Vaddr: at, TLS: typ == elf.STT_TLS, IFunc: typ == elf.STT_GNU_IFUNC}
	if global == "" {
		return t
	}
	if slot := b.addressSlot(global); slot != nil {
		t.Slot, t.Import = slot.Vaddr, imported(slot.Symbol)
	}
	return t
}

// global finds a symbol that all units of the linked file see under a name.
func (b *binder) global(name string) *dso.Symbol {
	var found *dso.Symbol
	for _, s := range b.byName[bareName(name)] {
		switch {
		case s.Bind == elf.STB_LOCAL && s.Source != "": // static in another unit
		case found == nil || found.Bind == elf.STB_LOCAL && s.Bind != elf.STB_LOCAL:
			found = s
		}
	}
	return found
}

// threadSymbol finds a thread-local symbol of another file that this one uses.
func (b *binder) threadSymbol(name string) *dso.Symbol {
	for _, s := range b.bySlot[name] {
		if s.Kind == dso.TPOff || s.Kind == dso.DTPMod || s.Kind == dso.TLSDesc {
			return s.Symbol
		}
	}
	return nil
}

func imported(s *dso.Symbol) splice.Import {
	return splice.Import{
		Name: s.Name, Version: s.Version, Library: s.Library, Weak: s.Bind == elf.STB_WEAK,
		Func: s.Type == elf.STT_FUNC || s.Type == elf.STT_GNU_IFUNC,
	}
}
