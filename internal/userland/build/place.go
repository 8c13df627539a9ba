// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// place finds every replaced function in the linked file and proves it.
func (b *binder) place(parts []*part, opt Options, r *Result) error {
	owner := map[uint64]*copyOf{}
	for _, p := range parts {
		if err := b.placePart(p, opt, r, owner); err != nil {
			return fmt.Errorf("%s: %w", p.unit.Source, err)
		}
	}
	return nil
}

// copyOf is the first replacement of a function that several units have.
type copyOf struct {
	part *part
	sym  *elfobj.Symbol
}

func (b *binder) placePart(p *part, opt Options, r *Result, owner map[uint64]*copyOf) error {
	plain := p.unit.Plain
	var err error
	if plain == nil {
		plain = p.unit.Orig
	} else if p.same, err = sameCode(plain, p); err != nil {
		return err
	}
	var needed []*elfobj.Symbol
	for _, f := range p.extract.Replaced {
		s, err := plainFunction(plain, f.Orig, p.same[f.Orig.Name])
		if err != nil {
			return err
		}
		needed = append(append(needed, s), coldParts(plain, s)...)
	}
	if p.where, err = b.locate(plain, needed, &r.Proven); err != nil {
		return err
	}
	for _, f := range p.extract.Replaced {
		s, _ := plainFunction(plain, f.Orig, p.same[f.Orig.Name])
		at, ok := p.where.address(s)
		if !ok {
			return code.New("TS3510", s.Name, "")
		}
		fn, err := b.function(p, s, at, opt)
		if err != nil {
			return err
		}
		if why := b.entry(&fn, p, f.Orig); why != "" {
			r.Refusals = append(r.Refusals, Problem{code.New("TS3506", f.Orig.Name, why), p.unit.Source})
			continue
		}
		if grouped(p.unit.Orig, f.Orig.Section) && b.preempted(f.Orig.Name) {
			r.Refusals = append(r.Refusals, Problem{code.New("TS4056", f.Orig.Name, ""), p.unit.Source})
			continue
		}
		if fn.Name == "main" {
			r.Risks = append(r.Risks, Problem{worded(code.New("TS8001", fn.Name, "it runs as long as the program does")), p.unit.Source})
		}
		if first := owner[at]; first != nil {
			if !sameNew(first, &copyOf{p, f.New}) {
				r.Refusals = append(r.Refusals, Problem{code.New("TS4055", f.Orig.Name, "in "+first.part.unit.Source+" too"), p.unit.Source})
			}
			continue
		}
		owner[at] = &copyOf{p, f.New}
		p.functions[f.New] = fn
	}
	return b.sharedConstants(p)
}

// sameCode sees that the differ looked at the code that packaging compiles: one
// section for each symbol must not make other functions. It tells the replaced
// functions of which the differ found each instruction to be the same.
func sameCode(plain *elfobj.File, p *part) (map[string]bool, error) {
	d, err := objdiff.Diff(plain, p.unit.Orig, objdiff.Options{Trace: objdiff.TraceUnneeded, Userland: true})
	if err != nil {
		return nil, err
	}
	same := map[string]bool{}
	for _, x := range p.extract.Replaced {
		same[x.Orig.Name] = true
	}
	for _, f := range d.Changed {
		delete(same, f.Name)
		// Places in a switch's table count from it, which is another atom where
		// functions share a section.
		if strings.HasPrefix(f.Why, "refers to .rodata") && strings.Contains(f.Why, " instead of .rodata") {
			continue
		}
		if slices.ContainsFunc(p.extract.Replaced, func(x objdiff.Replacement) bool { return x.Orig.Name == f.Name }) {
			return nil, code.New("TS3511", f.Name, "compiled with a section of its own it is other code: "+f.Why)
		}
	}
	return same, nil
}

// plainFunction is plainSymbol for a function that is replaced. The assembler may
// write a jump of it in fewer bytes where it has a section of its own: with the
// same instructions it is the same function, if its entry has the same bytes,
// which is where the jump goes.
func plainFunction(plain *elfobj.File, s *elfobj.Symbol, same bool) (*elfobj.Symbol, error) {
	found, err := counterpart(plain, s)
	if err != nil {
		return nil, err
	}
	const entry = endbrSize + jumpSize
	if found.Size != s.Size && !(same && found.Size > entry && s.Size > entry && bytes.Equal(beginning(found, entry), beginning(s, entry))) {
		return nil, notMade(s)
	}
	return found, nil
}

// endbrSize is the length of an endbr64, behind which the jump goes.
const endbrSize = 4

// beginning is the first bytes of a function.
func beginning(s *elfobj.Symbol, n uint64) []byte { return s.Section.Data[s.Value : s.Value+n] }

// plainSymbol finds the symbol of plain that is one of the original object.
func plainSymbol(plain *elfobj.File, s *elfobj.Symbol) (*elfobj.Symbol, error) {
	found, err := counterpart(plain, s)
	if err == nil && found.Size != s.Size {
		return nil, notMade(s)
	}
	return found, err
}

func notMade(s *elfobj.Symbol) error {
	return code.New("TS3510", s.Name, "packaging's compiler run makes none like it")
}

// counterpart finds the symbol of an object that has the name and type of another's.
func counterpart(plain *elfobj.File, s *elfobj.Symbol) (*elfobj.Symbol, error) {
	var found *elfobj.Symbol
	for _, c := range plain.Symbols {
		if c.Name != s.Name || c.Section == nil || c.Type == elf.STT_SECTION || c.Type == elf.STT_FILE {
			continue
		}
		if found != nil {
			return nil, code.New("TS3510", s.Name, "its unit has two of this name")
		}
		found = c
	}
	if found == nil || found.Type != s.Type {
		return nil, notMade(s)
	}
	return found, nil
}

// coldParts are the pieces of a function that the compiler put apart.
func coldParts(f *elfobj.File, s *elfobj.Symbol) []*elfobj.Symbol {
	var out []*elfobj.Symbol
	for _, c := range f.Symbols {
		rest, ok := strings.CutPrefix(c.Name, s.Name+".cold")
		if ok && c.Section != nil && strings.Trim(rest, ".0123456789") == "" {
			out = append(out, c)
		}
	}
	return out
}

// grouped reports whether a section is part of a COMDAT group: other files may
// have a copy of what is in it.
func grouped(f *elfobj.File, sec *elfobj.Section) bool {
	for _, s := range f.Sections {
		if s.Group != nil && slices.Contains(s.Group.Members, sec) {
			return true
		}
	}
	return false
}

// function describes a function of the linked file.
func (b *binder) function(p *part, s *elfobj.Symbol, at uint64, opt Options) (splice.Function, error) {
	old, err := b.l.File.Bytes(at, s.Size)
	if err != nil {
		return splice.Function{}, err
	}
	sum := sha256.Sum256(old)
	f := splice.Function{
		Name: s.Name, Source: p.unit.Source, Old: at, Size: uint32(s.Size), SHA256: hex.EncodeToString(sum[:]),
		Room: uint32(s.Size + b.padding(at+s.Size)), Policy: splice.Quiescent,
	}
	if opt.EntryOnly {
		f.Policy = splice.EntryOnly
	}
	for _, c := range append(coldParts(p.where.plain, s), b.gone(p, s)...) {
		if addr, ok := p.where.address(c); ok {
			f.Parts = append(f.Parts, splice.Range{Start: addr, Size: c.Size})
		}
	}
	return f, nil
}

// gone lists functions that only a changed one used and that its new code is
// without: who is in one of them returns into old code.
func (b *binder) gone(p *part, s *elfobj.Symbol) []*elfobj.Symbol {
	var out []*elfobj.Symbol
	for _, name := range p.diff.Removed {
		if !strings.HasPrefix(name, s.Name+".") || strings.Contains(name, ".cold") {
			continue
		}
		if c := p.where.byName[name]; c != nil {
			out = append(out, c)
		}
	}
	return out
}

// sameNew compares the new code of two copies of one function.
func sameNew(x, y *copyOf) bool {
	if !bytes.Equal(x.sym.Section.Data, y.sym.Section.Data) || len(x.sym.Section.Relocs) != len(y.sym.Section.Relocs) {
		return false
	}
	for i, a := range x.sym.Section.Relocs {
		c := y.sym.Section.Relocs[i]
		if a.Off != c.Off || a.Type != c.Type || !sameTarget(a, c) {
			return false
		}
	}
	return true
}

func sameTarget(a, c elfobj.Reloc) bool {
	if a.Sym == nil || c.Sym == nil {
		return a.Sym == c.Sym
	}
	if a.Sym.Section == nil || c.Sym.Section == nil {
		return a.Sym.Section == c.Sym.Section && a.Sym.Name == c.Sym.Name && a.Addend == c.Addend
	}
	if a.Sym.Section.Flags&elf.SHF_WRITE != 0 {
		return false // each copy would have a variable of its own
	}
	return a.Sym.Name == c.Sym.Name && a.Addend == c.Addend && bytes.Equal(a.Sym.Section.Data, c.Sym.Section.Data)
}

// sharedConstants compares the constants that new code reads in the linked file
// with those that were compiled.
func (b *binder) sharedConstants(p *part) error {
	for _, ref := range p.extract.Refs {
		o := ref.Orig
		if o == nil || o.Section == nil || o.Section.Exec() || o.Section.Flags&elf.SHF_WRITE != 0 || o.Size == 0 || o.Section.Type == elf.SHT_NOBITS {
			continue
		}
		s, err := plainSymbol(p.where.plain, o)
		if err != nil {
			return err
		}
		at, ok := p.where.address(s)
		if !ok {
			return code.New("TS3510", s.Name, "")
		}
		got, err := b.l.File.Bytes(at, s.Size)
		if err != nil {
			return err
		}
		want := bytes.Clone(s.Section.Data[s.Value : s.Value+s.Size])
		for _, r := range s.Section.Relocs {
			if r.Off >= s.Value && r.Off < s.Value+s.Size {
				n := min(r.Off-s.Value+8, s.Size)
				clear(got[r.Off-s.Value : n])
				clear(want[r.Off-s.Value : n])
			}
		}
		if !bytes.Equal(got, want) {
			return code.New("TS3511", s.Name, "the constant is another one in the shipped file")
		}
	}
	return nil
}
