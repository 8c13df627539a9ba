// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// word is an entry of the patch's own GOT: an address, or without a Kind the
// constant in Value. A pair of words has its second, a constant, in next.
type word struct {
	ref  splice.Ref
	pair bool
	next uint64
}

// got returns where a pointer to a value lies: in the ELF file's GOT if it has
// one there, else in the patch's own. For a call an entry that is bound at
// the first call is as good as any.
func (p *packer) got(v value, call bool) (splice.Ref, error) {
	if v.constant || v.target == nil {
		return p.own(word{ref: v.ref}), nil
	}
	slot, err := p.slot(v)
	if err != nil {
		return splice.Ref{}, err
	}
	if slot != nil && (call || slot.Kind != dso.JumpSlot) {
		return splice.Ref{Kind: splice.RefTarget, Value: slot.Vaddr}, nil
	}
	ref, err := p.address(v, 0)
	if err != nil {
		return ref, err
	}
	return p.own(word{ref: ref}), nil
}

// address is the value of a Target as something that a pointer of the patch
// can hold, when addend is added.
func (p *packer) address(v value, addend int64) (splice.Ref, error) {
	t := v.target
	slot, err := p.slot(v)
	switch {
	case err != nil:
		return splice.Ref{}, err
	case slot != nil && addend == 0:
		ref := splice.Ref{Kind: splice.RefSlot, Value: slot.Vaddr}
		if slot.Kind == dso.JumpSlot && !p.in.File.BindNow {
			if t.Import.Name == "" {
				return ref, code.New("TS3504", v.name, "its GOT entry is bound at the first call, and nothing says what it will be")
			}
			ref.Import = 1 + p.importOf(t.Import)
		}
		return ref, nil
	case t.Import.Name != "":
		return splice.Ref{Kind: splice.RefImport, Value: uint64(p.importOf(t.Import))}, nil
	case t.Defined && !t.IFunc && slot == nil:
		return v.ref, nil
	case t.IFunc:
		return splice.Ref{}, code.New("TS3504", v.name, "an IFUNC that the ELF file has no GOT entry of")
	}
	return splice.Ref{}, code.New("TS3504", v.name, "it is neither in the ELF file nor imported")
}

// slot finds the GOT entry of a Target, nil for none.
func (p *packer) slot(v value) (*dso.Slot, error) {
	t := v.target
	if t.Slot == 0 {
		if t.IFunc && t.Defined { // one without a name: called from within
			for i := range p.list {
				if s := &p.list[i]; s.Kind == dso.IRelative && uint64(s.Addend) == t.Vaddr {
					return s, nil
				}
			}
		}
		return nil, nil
	}
	s := p.slots[t.Slot]
	switch {
	case s == nil:
		return nil, code.New("TS3507", v.name, fmt.Sprintf("the loader puts nothing at %#x", t.Slot))
	case s.Kind != dso.GlobDat && s.Kind != dso.JumpSlot && s.Kind != dso.IRelative:
		return nil, code.New("TS3507", v.name, fmt.Sprintf("the entry at %#x is of kind %s", t.Slot, s.Kind))
	case t.Import.Name != "" && s.Symbol != nil && s.Symbol.Name != t.Import.Name:
		return nil, code.New("TS3507", v.name, fmt.Sprintf("the entry at %#x holds %s", t.Slot, s.Symbol.Name))
	}
	return s, nil
}

func (p *packer) importOf(m splice.Import) int {
	i, ok := p.imports[m]
	if !ok {
		i = len(p.out.Imports)
		p.imports[m] = i
		p.out.Imports = append(p.out.Imports, m)
	}
	return i
}

// own returns a word of the patch's own GOT.
func (p *packer) own(w word) splice.Ref {
	off, ok := p.words[w]
	if !ok {
		size := 8
		if w.pair {
			size = 16
		}
		off = appendAligned(&p.out.ROData, make([]byte, size), 8, 0)
		p.words[w] = off
		if w.ref.Kind == "" {
			binary.LittleEndian.PutUint64(p.out.ROData[off:], w.ref.Value)
		} else {
			p.out.Relocs = append(p.out.Relocs, splice.Reloc{Area: splice.InROData, Offset: uint32(off), Kind: splice.Abs64, Ref: w.ref})
		}
		if w.pair {
			binary.LittleEndian.PutUint64(p.out.ROData[off+8:], w.next)
		}
	}
	return splice.Ref{Kind: splice.RefROData, Value: off}
}

// stub returns the offset in Text of "jmp *pointer(%rip)".
func (p *packer) stub(pointer splice.Ref) uint64 {
	off, ok := p.stubs[pointer]
	if !ok {
		off = appendAligned(&p.out.Text, []byte{0xff, 0x25, 0, 0, 0, 0, 0xcc, 0xcc}, 8, 0xcc)
		p.stubs[pointer] = off
		if off > math.MaxUint32 {
			return off // Check refuses a text of that length
		}
		p.out.Relocs = append(p.out.Relocs, splice.Reloc{Area: splice.InText, Offset: uint32(off + 2), Kind: splice.PC32, Ref: pointer, Addend: -4})
	}
	return off
}
