// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// evidence is what functions of the linked file say of where things lie, if a
// section is where it is thought to be.
type evidence struct {
	l      *located
	base   map[*elfobj.Section]uint64
	extern map[string]uint64
}

// function compares a function of the unit with the linked file: its bytes, and
// what each of its references leads to.
func (e *evidence) function(s *elfobj.Symbol) error {
	if s.Size == 0 || s.Value > s.Section.Size() || s.Size > s.Section.Size()-s.Value {
		return code.New("TS3510", s.Name, "its size is not known")
	}
	addr := e.base[s.Section] + s.Value
	shipped, err := e.l.b.l.File.Bytes(addr, s.Size)
	if err != nil || !e.l.b.l.File.Executable(addr) {
		return code.New("TS3510", s.Name, fmt.Sprintf("there is no code at %#x", addr))
	}
	f := &field{
		e: e, addr: addr, start: s.Value, end: s.Value + s.Size,
		was: bytes.Clone(s.Section.Data[s.Value : s.Value+s.Size]), is: bytes.Clone(shipped),
	}
	for i := range s.Section.Relocs {
		r := &s.Section.Relocs[i]
		if r.Off < f.start || r.Off >= f.end {
			continue
		}
		if err := f.reference(r); err != nil {
			return code.New("TS3511", fmt.Sprintf("%s+%#x", s.Name, r.Off-s.Value), "").With(err)
		}
	}
	for i := range f.was {
		if f.was[i] != f.is[i] {
			return code.New("TS3511", fmt.Sprintf("%s+%#x", s.Name, i), fmt.Sprintf("compiled %#02x, shipped %#02x at %#x", f.was[i], f.is[i], addr+uint64(i)))
		}
	}
	return nil
}

// field goes through the references of one function.
type field struct {
	e          *evidence
	addr       uint64 // of the function in the linked file
	start, end uint64 // in its section
	was, is    []byte // compiled and shipped; what was understood is blanked
	skip       uint64 // relocations before this offset went with another
}

// blank takes bytes of both sides out of the comparison.
func (f *field) blank(from, to int) {
	from, to = max(from, 0), min(to, len(f.was))
	clear(f.was[from:to])
	clear(f.is[from:to])
}

// reference checks one relocation, and blanks what the linker wrote for it.
func (f *field) reference(r *elfobj.Reloc) error {
	at := int(r.Off - f.start)
	if r.Off < f.skip {
		return nil
	}
	typ := elf.R_X86_64(r.Type)
	size := 4
	switch typ {
	case elf.R_X86_64_NONE:
		return nil
	case elf.R_X86_64_64, elf.R_X86_64_PC64:
		size = 8
	}
	if at+size > len(f.is) {
		return fmt.Errorf("a field of %d bytes crosses its end", size)
	}
	if r.Sym == nil {
		return fmt.Errorf("relocation %v names nothing", typ)
	}
	place := f.addr + uint64(at)
	value := func(at int) uint64 { return uint64(int64(int32(binary.LittleEndian.Uint32(f.is[at:])))) }
	relative := value(at) + place - uint64(r.Addend)
	defer f.blank(at, at+size)
	switch typ {
	case elf.R_X86_64_PC32, elf.R_X86_64_PLT32:
		return f.e.leads(r.Sym, relative)
	case elf.R_X86_64_32, elf.R_X86_64_32S:
		return f.e.leads(r.Sym, value(at)-uint64(r.Addend))
	case elf.R_X86_64_64:
		if e := binary.LittleEndian.Uint64(f.is[at:]) - uint64(r.Addend); f.e.l.b.atSlot[place] == nil {
			return f.e.leads(r.Sym, e)
		}
		return fmt.Errorf("the loader writes to it")
	case elf.R_X86_64_GOTPCREL, elf.R_X86_64_GOTPCRELX, elf.R_X86_64_REX_GOTPCRELX:
		return f.gotReference(r, at, relative, value)
	case elf.R_X86_64_GOTTPOFF:
		if f.sameBefore(at, 3) {
			return f.e.threadSlot(r.Sym, relative, dso.TPOff)
		}
		f.blank(at-3, at+4) // made a constant
		return nil
	case elf.R_X86_64_TLSGD:
		if f.sameBefore(at, 4) {
			return f.e.threadSlot(r.Sym, relative, dso.DTPMod)
		}
		f.blank(at-4, at+12) // with the call of __tls_get_addr behind it
		f.skip = r.Off + 12
		return nil
	case elf.R_X86_64_TLSLD:
		if f.sameBefore(at, 3) {
			return f.e.threadSlot(nil, relative, dso.DTPMod)
		}
		f.blank(at-3, at+9)
		f.skip = r.Off + 9
		return nil
	case elf.R_X86_64_TPOFF32, elf.R_X86_64_DTPOFF32:
		return nil // an offset in the thread's block, which the symbols tell
	}
	return fmt.Errorf("relocation %v is not understood", typ)
}

// sameBefore reports whether the bytes in front of a field are as compiled: the
// linker has not made another instruction of it.
func (f *field) sameBefore(at, n int) bool {
	from := max(at-n, 0)
	return bytes.Equal(f.was[from:at], f.is[from:at])
}

// gotReference checks an access through the GOT, which linkers make a direct
// one where they can (x86-64 psABI, B.2).
func (f *field) gotReference(r *elfobj.Reloc, at int, relative uint64, value func(int) uint64) error {
	if at < 2 {
		return fmt.Errorf("there is no instruction in front of it")
	}
	was, is := f.was[at-2:at], f.is[at-2:at]
	switch {
	case bytes.Equal(was, is):
		return f.e.slotLeads(r.Sym, relative)
	case was[0] == 0x8b && is[0] == 0x8d && was[1] == is[1]: // mov to lea
		f.blank(at-2, at)
		return f.e.leads(r.Sym, relative)
	case was[0] == 0xff && was[1] == 0x15 && is[0] == 0x67 && is[1] == 0xe8: // call
		f.blank(at-2, at)
		return f.e.leads(r.Sym, relative)
	case was[0] == 0xff && was[1] == 0x25 && is[0] == 0xe9 && f.is[at+3] == 0x90: // jmp and a nop
		target := value(at-1) + f.addr + uint64(at-1) - uint64(r.Addend)
		f.blank(at-2, at+4)
		return f.e.leads(r.Sym, target)
	case is[0] == 0xc7 || is[0] == 0x81 || is[0] == 0xf7: // the address itself
		f.blank(at-3, at)
		return f.e.leads(r.Sym, value(at))
	}
	return fmt.Errorf("% x became % x", was, is)
}

// leads checks that code of the linked file means a symbol of the unit by an
// address, and notes what follows from it.
func (e *evidence) leads(s *elfobj.Symbol, addr uint64) error {
	if s.Section == nil {
		return e.leadsOut(s, addr)
	}
	sec := s.Section
	if sec.Flags&elf.SHF_MERGE != 0 {
		return e.sameConstant(s, addr)
	}
	if slot := e.l.b.stub(addr); slot != nil && slot.Symbol != nil && sameName(slot.Symbol.Name, s.Name) {
		return nil
	}
	if slot := e.l.b.stub(addr); slot != nil && slot.Kind == dso.IRelative && s.Type == elf.STT_GNU_IFUNC {
		addr = uint64(slot.Addend) // calls go to what its resolver chose
	}
	base, known := e.base[sec]
	if known && base != addr-s.Value {
		return fmt.Errorf("%s is at %#x, the shipped code means %#x", s.Name, base+s.Value, addr)
	}
	e.base[sec] = addr - s.Value
	return nil
}

// sameConstant compares a constant that linkers merge with equal ones.
func (e *evidence) sameConstant(s *elfobj.Symbol, addr uint64) error {
	sec := s.Section
	if s.Value >= sec.Size() {
		return nil // of nothing
	}
	want := sec.Data[s.Value:]
	if sec.Flags&elf.SHF_STRINGS != 0 {
		width := max(int(sec.EntSize), 1)
		for i := 0; i+width <= len(want); i += width {
			if len(bytes.Trim(want[i:i+width], "\x00")) == 0 {
				want = want[:i+width]
				break
			}
		}
	} else {
		want = want[:min(uint64(len(want)), max(sec.EntSize, 1))]
	}
	got, err := e.l.b.l.File.Bytes(addr, uint64(len(want)))
	if err != nil || !bytes.Equal(got, want) {
		return fmt.Errorf("the constant at %#x is %q, compiled %q", addr, shortly(got), shortly(want))
	}
	return nil
}

func shortly(b []byte) []byte { return b[:min(len(b), 40)] }

// leadsOut checks a reference to what the unit does not define.
func (e *evidence) leadsOut(s *elfobj.Symbol, addr uint64) error {
	if s.Index == elf.SHN_ABS || s.Bind == elf.STB_WEAK && addr == 0 {
		return nil
	}
	if slot := e.l.b.stub(addr); slot != nil && e.slotIs(slot, s.Name) {
		return e.note(s.Name, addr)
	}
	known := false
	for _, c := range e.l.b.byName[bareName(s.Name)] {
		if c.Bind == elf.STB_LOCAL && c.Source != "" {
			continue // static in another unit
		}
		if c.Value == addr {
			return e.note(s.Name, addr)
		}
		known = true
	}
	if known {
		return fmt.Errorf("the shipped code means %#x, where %s is not", addr, s.Name)
	}
	if !e.l.b.l.File.Own(addr) {
		return fmt.Errorf("%s would be at %#x, outside the file", s.Name, addr)
	}
	return e.note(s.Name, addr)
}

func (e *evidence) note(name string, addr uint64) error {
	// A function may be reached by its address and by a stub.
	if was, ok := e.extern[name]; ok && was != addr && e.l.b.stub(was) == nil && e.l.b.stub(addr) == nil {
		return fmt.Errorf("%s is at %#x and at %#x", name, was, addr)
	}
	if was, ok := e.extern[name]; !ok || e.l.b.stub(was) != nil {
		e.extern[name] = addr
	}
	return nil
}

// slotLeads checks a GOT entry that code of the linked file reads an address from.
func (e *evidence) slotLeads(s *elfobj.Symbol, at uint64) error {
	b := e.l.b
	slot := b.atSlot[at]
	switch {
	case slot == nil: // of a file that is not moved: the entry is final
		addr, err := b.l.File.Uint64(at)
		if err != nil {
			return err
		}
		return e.leads(s, addr)
	case slot.Symbol != nil:
		if sameName(slot.Symbol.Name, s.Name) {
			return nil
		}
	case slot.Kind == dso.Relative:
		return e.leads(s, uint64(slot.Addend))
	case slot.Kind == dso.IRelative:
		return e.leads(s, uint64(slot.Addend))
	}
	return fmt.Errorf("the GOT entry at %#x is not that of %s", at, s.Name)
}

// threadSlot checks a GOT entry of a thread-local symbol. s is nil for the
// file's own block.
func (e *evidence) threadSlot(s *elfobj.Symbol, at uint64, kind dso.SlotKind) error {
	slot := e.l.b.atSlot[at]
	switch {
	case slot == nil && kind == dso.TPOff:
		return nil // final, in a program that is not moved
	case slot == nil || slot.Kind != kind:
		return fmt.Errorf("%#x is no GOT entry of kind %s", at, kind)
	case slot.Symbol != nil && s != nil && !sameName(slot.Symbol.Name, s.Name):
		return fmt.Errorf("the GOT entry at %#x is that of %s", at, slot.Symbol.Name)
	}
	return nil
}

// slotIs reports whether a slot holds the address of what has a name.
func (e *evidence) slotIs(slot *dso.Slot, name string) bool {
	if slot.Symbol != nil {
		return sameName(slot.Symbol.Name, name)
	}
	for _, c := range e.l.b.byName[bareName(name)] {
		if c.Value == uint64(slot.Addend) {
			return true
		}
	}
	return false
}

func sameName(a, b string) bool { return bareName(a) == bareName(b) }

// bareName is a symbol's name without its version.
func bareName(s string) string {
	name, _, _ := strings.Cut(s, "@")
	return name
}
