// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Place is where everything that a File hangs on lies in one process.
type Place struct {
	Bias               uint64 // address = virtual address + Bias
	Text, ROData, Data uint64 // addresses of the areas
	// Slots are the values for RefSlot by virtual address: what the 8 bytes
	// there hold or, where the loader has not bound the entry yet, will hold.
	Slots map[uint64]uint64
	// Imports are the addresses of File.Imports, 0 for a weak one that nobody
	// defines.
	Imports []uint64
}

// Areas are the final bytes of the areas. BSS is not part of Data.
type Areas struct{ Text, ROData, Data []byte }

// Slots returns the virtual addresses whose 8 bytes Resolve needs, in order.
func (f *File) Slots() []uint64 {
	var list []uint64
	for _, r := range f.Relocs {
		if r.Ref.Kind == RefSlot {
			list = append(list, r.Ref.Value)
		}
	}
	slices.Sort(list)
	return slices.Compact(list)
}

// SlotImport returns 1 + the index of the import that the slot at a virtual
// address holds, or 0.
func (f *File) SlotImport(vaddr uint64) int {
	for _, r := range f.Relocs {
		if r.Ref.Kind == RefSlot && r.Ref.Value == vaddr && r.Ref.Import != 0 {
			return r.Ref.Import
		}
	}
	return 0
}

// Resolve writes the relocations and returns what is to be put into the
// process. It changes nothing of the File, which must have passed Check. The
// error is a *code.Problem TS3502: something is out of reach, or not given.
func (f *File) Resolve(p Place) (*Areas, error) {
	if err := f.checkPlace(p); err != nil {
		return nil, code.New("TS3502", f.Name, err.Error())
	}
	out := &Areas{Text: slices.Clone(f.Text), ROData: slices.Clone(f.ROData), Data: slices.Clone(f.Data)}
	for i, r := range f.Relocs {
		if err := f.write(out, p, r); err != nil {
			return nil, code.New("TS3502", f.Name, fmt.Sprintf("relocation %d (%s in %s at %#x): %v", i, r.Kind, r.Area, r.Offset, err))
		}
	}
	return out, nil
}

func (f *File) checkPlace(p Place) error {
	for _, a := range []struct {
		name     string
		at, size uint64
	}{
		{"text", p.Text, uint64(len(f.Text))},
		{"rodata", p.ROData, uint64(len(f.ROData))},
		{"data", p.Data, uint64(len(f.Data)) + uint64(f.BSS)},
	} {
		if a.size > 0 && (a.at == 0 || a.at%Align != 0 || a.at > maxAddress || a.at+a.size > maxAddress) {
			return fmt.Errorf("the %s can't lie at %#x", a.name, a.at)
		}
	}
	last := f.Segments[len(f.Segments)-1]
	if p.Bias > maxAddress || p.Bias%PageSize != 0 || p.Bias+last.Vaddr+last.Memsz > maxAddress {
		return fmt.Errorf("the ELF file can't lie at %#x", p.Bias)
	}
	if len(p.Imports) != len(f.Imports) {
		return fmt.Errorf("%d of %d imports are known", len(p.Imports), len(f.Imports))
	}
	return nil
}

// write does one relocation. Check has seen that it lies in its area, and the
// bounds are held here again.
func (f *File) write(out *Areas, p Place, r Reloc) error {
	field, at := out.Text, p.Text
	switch r.Area {
	case InText:
	case InROData:
		field, at = out.ROData, p.ROData
	case InData:
		field, at = out.Data, p.Data
	default:
		return fmt.Errorf("no area")
	}
	size := r.Kind.size()
	if size == 0 || uint64(r.Offset)+size > uint64(len(field)) {
		return fmt.Errorf("it does not lie in the area")
	}
	field, at = field[r.Offset:uint64(r.Offset)+size], at+uint64(r.Offset)
	value, err := f.value(p, r.Ref)
	if err != nil {
		return err
	}
	value += uint64(r.Addend)
	switch r.Kind {
	case Abs64:
		binary.LittleEndian.PutUint64(field, value)
	case Abs32:
		if value > math.MaxInt32 {
			return fmt.Errorf("%#x is not below 2 GiB", value)
		}
		binary.LittleEndian.PutUint32(field, uint32(value))
	case PC64:
		binary.LittleEndian.PutUint64(field, value-at)
	case PC32:
		d := int64(value - at)
		if d < math.MinInt32 || d > math.MaxInt32 {
			return fmt.Errorf("%#x is too far from %#x", value, at)
		}
		binary.LittleEndian.PutUint32(field, uint32(int32(d)))
	}
	return nil
}

func (f *File) value(p Place, ref Ref) (uint64, error) {
	switch ref.Kind {
	case RefText:
		return p.Text + ref.Value, nil
	case RefROData:
		return p.ROData + ref.Value, nil
	case RefData:
		return p.Data + ref.Value, nil
	case RefTarget:
		return p.Bias + ref.Value, nil
	case RefSlot:
		v, ok := p.Slots[ref.Value]
		if !ok {
			return 0, fmt.Errorf("the slot at %#x is not known", ref.Value)
		}
		return v, nil
	case RefImport:
		if ref.Value >= uint64(len(p.Imports)) {
			return 0, fmt.Errorf("no import %d", ref.Value)
		}
		m, v := f.Imports[ref.Value], p.Imports[ref.Value]
		if v == 0 && !m.Weak {
			return 0, fmt.Errorf("%s is not known", m.Name)
		}
		return v, nil
	}
	return 0, fmt.Errorf("it refers to nothing")
}

// Jump is the instruction at an address that continues at another: jmp rel32.
func Jump(at, to uint64) ([JumpSize]byte, error) {
	var b [JumpSize]byte
	d := int64(to - (at + JumpSize))
	if at > maxAddress || to > maxAddress || d < math.MinInt32 || d > math.MaxInt32 {
		return b, code.New("TS3502", "", fmt.Sprintf("%#x is too far from %#x for a jump", to, at))
	}
	b[0] = 0xe9
	binary.LittleEndian.PutUint32(b[1:], uint32(int32(d)))
	return b, nil
}
