// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// SlotKind is what the loader writes into a slot.
type SlotKind string

// The kinds of slots. Unless said otherwise a slot is 8 bytes.
const (
	// GlobDat holds the address of Symbol. For a function of IFUNC kind that is
	// what its resolver chose.
	GlobDat SlotKind = "glob-dat"
	// JumpSlot holds the same for a function that is only called from its PLT.
	// Without BIND_NOW it points into the file's own PLT until the first call.
	JumpSlot SlotKind = "jump-slot"
	// Abs64 holds the address of Symbol plus Addend: a pointer in data.
	Abs64 SlotKind = "abs64"
	// Relative holds Bias + Addend. Read from a process, Addend is 0 for those
	// of DT_RELR: theirs lie in the places, and the loader has changed them.
	Relative SlotKind = "relative"
	// IRelative holds what the resolver at Addend returned.
	IRelative SlotKind = "irelative"
	// Copy is as long as Symbol: a copy of a variable that a library defines.
	// Everybody uses the copy from then on.
	Copy SlotKind = "copy"
	// DTPMod holds the module id of the file that defines Symbol, or of this
	// one without a Symbol; DTPOff its offset there.
	DTPMod SlotKind = "dtpmod"
	DTPOff SlotKind = "dtpoff"
	// TPOff holds the offset from the thread pointer to Symbol (or to this
	// file's block) plus Addend.
	TPOff SlotKind = "tpoff"
	// TLSDesc is two words of 8 bytes: a function and its argument.
	TLSDesc SlotKind = "tlsdesc"
	// OtherSlot is a relocation that this package knows nothing of.
	OtherSlot SlotKind = "other"
)

// Slot is one place that the loader fills when it loads the file.
type Slot struct {
	Vaddr  uint64
	Kind   SlotKind
	Symbol *Symbol // nil for none
	Addend int64
}

// rela is a dynamic relocation as it lies in the file; type and symbol apart.
type rela struct {
	off    uint64
	kind   uint32
	sym    uint32
	addend int64
}

// Slots returns what the loader fills: the dynamic relocations in their order,
// those of DT_RELR first and those of the PLT last. Only x86-64 is understood.
func (f *File) Slots() ([]Slot, error) {
	if f.Machine != elf.EM_X86_64 {
		return nil, fmt.Errorf("%w: slots of %v are not understood", ErrFormat, f.Machine)
	}
	relocs, err := f.relocs()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	table, err := f.symbols()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	list := make([]Slot, 0, len(relocs))
	for i, r := range relocs {
		kind := slotKind(elf.R_X86_64(r.kind))
		if kind == "" {
			continue // R_X86_64_NONE
		}
		s := Slot{Vaddr: r.off, Kind: kind, Addend: r.addend}
		if !f.Own(r.off) {
			return nil, fmt.Errorf("%w: dynamic relocation %d lies in no segment", ErrFormat, i)
		}
		if r.sym != 0 { // readSymbols reads as far as relocations count, if there is a table
			if uint64(r.sym) >= uint64(len(table.list)) {
				return nil, fmt.Errorf("%w: dynamic relocation %d names symbol %d", ErrFormat, i, r.sym)
			}
			s.Symbol = &table.list[r.sym]
		}
		list = append(list, s)
	}
	return list, nil
}

func slotKind(t elf.R_X86_64) SlotKind {
	switch t {
	case elf.R_X86_64_NONE:
		return ""
	case elf.R_X86_64_GLOB_DAT:
		return GlobDat
	case elf.R_X86_64_JMP_SLOT:
		return JumpSlot
	case elf.R_X86_64_64:
		return Abs64
	case elf.R_X86_64_RELATIVE:
		return Relative
	case elf.R_X86_64_IRELATIVE:
		return IRelative
	case elf.R_X86_64_COPY:
		return Copy
	case elf.R_X86_64_DTPMOD64:
		return DTPMod
	case elf.R_X86_64_DTPOFF64:
		return DTPOff
	case elf.R_X86_64_TPOFF64:
		return TPOff
	case elf.R_X86_64_TLSDESC:
		return TLSDesc
	default:
		return OtherSlot
	}
}

// readRelocs reads DT_RELR, DT_RELA and DT_JMPREL, which may overlap the
// second (then it is its end).
func (f *File) readRelocs() ([]rela, error) {
	if _, ok := f.dyn[elf.DT_REL]; ok {
		return nil, fmt.Errorf("relocations without addends")
	}
	var list []rela
	relr, err := f.table(dtRelr, dtRelrSz)
	if err != nil {
		return nil, err
	}
	if list, err = appendRelr(list, relr, f); err != nil {
		return nil, err
	}
	main, err := f.table(elf.DT_RELA, elf.DT_RELASZ)
	if err != nil {
		return nil, err
	}
	plt, err := f.table(elf.DT_JMPREL, elf.DT_PLTRELSZ)
	if err != nil {
		return nil, err
	}
	if kind := f.dyn[elf.DT_PLTREL]; plt != nil && elf.DynTag(kind) != elf.DT_RELA {
		return nil, fmt.Errorf("relocations of the PLT without addends")
	}
	if start, _, _ := f.pointer(elf.DT_RELA); main != nil && plt != nil {
		if at, _, _ := f.pointer(elf.DT_JMPREL); at >= start && at+uint64(len(plt)) == start+uint64(len(main)) {
			main = main[:at-start]
		}
	}
	if (len(main)+len(plt))/relaSize+len(list) > maxRelocs {
		return nil, fmt.Errorf("%d dynamic relocations", (len(main)+len(plt))/relaSize+len(list))
	}
	for _, raw := range [][]byte{main, plt} {
		for ; len(raw) >= relaSize; raw = raw[relaSize:] {
			info := binary.LittleEndian.Uint64(raw[8:])
			r := rela{
				off: binary.LittleEndian.Uint64(raw), kind: uint32(info), sym: uint32(info >> 32),
				addend: int64(binary.LittleEndian.Uint64(raw[16:])),
			}
			if r.sym >= maxSymbols {
				return nil, fmt.Errorf("a relocation names symbol %d", r.sym)
			}
			list = append(list, r)
		}
	}
	return list, nil
}

// DT_RELR of the gABI of 2022: relative relocations as bitmaps. The addends lie
// in the places; of a process they are not to be had any more, and 0 here.
const (
	dtRelrSz elf.DynTag = 35
	dtRelr   elf.DynTag = 36
)

func appendRelr(list []rela, raw []byte, f *File) ([]rela, error) {
	var next uint64
	add := func(at uint64) error {
		if len(list) >= maxRelocs {
			return fmt.Errorf("too many relative relocations")
		}
		r := rela{off: at, kind: uint32(elf.R_X86_64_RELATIVE)}
		if !f.Memory {
			v, err := f.Uint64(at)
			if err != nil {
				return err
			}
			r.addend = int64(v)
		}
		list = append(list, r)
		return nil
	}
	for ; len(raw) >= 8; raw = raw[8:] {
		entry := binary.LittleEndian.Uint64(raw)
		if entry&1 == 0 {
			if err := add(entry); err != nil {
				return nil, err
			}
			next = entry + 8
			continue
		}
		for i := range uint64(63) {
			if entry>>(i+1)&1 != 0 {
				if err := add(next + 8*i); err != nil {
					return nil, err
				}
			}
		}
		next += 63 * 8
	}
	return list, nil
}
