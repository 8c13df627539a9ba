// SPDX-License-Identifier: Apache-2.0

package process

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/splice"
)

var (
	errMissing   = errors.New("no loaded library has it")
	errAmbiguous = errors.New("more than one library may give it")
	errIFunc     = errors.New("which implementation was chosen for this processor is written nowhere in the process")
	errImport    = errors.New("a symbol of this kind has no address")
)

// lookup finds what the loader would have put into a GOT entry for an import,
// and who defines it. A weak one that nobody has is 0.
func (s scope) lookup(imp splice.Import) (uint64, *loaded, error) {
	for i, l := range s.sure {
		sym, ok, err := l.file.Lookup(imp.Name, imp.Version, dso.ForPointer)
		if err != nil {
			return 0, nil, fmt.Errorf("%s: %w", l.name, err)
		}
		if !ok {
			continue
		}
		if i >= s.global || sym.Bind == stbUnique {
			if other, err := s.another(imp, l, sym.Bind == stbUnique); err != nil {
				return 0, nil, err
			} else if other != nil {
				return 0, nil, fmt.Errorf("%w: %s and %s", errAmbiguous, l.name, other.name)
			}
		}
		addr, err := s.address(l, &sym)
		return addr, l, err
	}
	for _, l := range s.maybe {
		if _, ok, err := l.file.Lookup(imp.Name, imp.Version, dso.ForPointer); err != nil || ok {
			return 0, nil, errors.Join(fmt.Errorf("%w: %s was opened while the program ran", errAmbiguous, l.name), err)
		}
	}
	if imp.Weak {
		return 0, nil, nil
	}
	return 0, nil, errMissing
}

// stbUnique is STB_GNU_UNIQUE: one definition for the whole process, whoever
// came first.
const stbUnique elf.SymBind = 10

// another finds a second library that may come before the one that was found.
func (s scope) another(imp splice.Import, found *loaded, everywhere bool) (*loaded, error) {
	others := s.maybe
	if everywhere {
		others = append(slices.Clone(s.sure), s.maybe...)
	}
	for _, l := range others {
		if l == found {
			continue
		}
		if _, ok, err := l.file.Lookup(imp.Name, imp.Version, dso.ForPointer); err != nil {
			return nil, fmt.Errorf("%s: %w", l.name, err)
		} else if ok {
			return l, nil
		}
	}
	return nil, nil
}

// address is what a symbol's definition is to others.
func (s scope) address(l *loaded, sym *dso.Symbol) (uint64, error) {
	switch sym.Type {
	case elf.STT_TLS:
		return 0, errImport
	case elf.STT_GNU_IFUNC:
		return s.chosen(l, sym)
	}
	if sym.Section == elf.SHN_ABS {
		return sym.Value, nil
	}
	return l.file.Bias + sym.Value, nil
}

// chosen finds what the resolver of an IFUNC has returned: written in an entry
// that the loader has filled with it, of the library itself or of another.
// What is found must lie in the code of the library that has the resolver, or in
// the vDSO.
func (s scope) chosen(l *loaded, sym *dso.Symbol) (uint64, error) {
	for _, other := range append([]*loaded{l}, append(slices.Clone(s.sure), s.maybe...)...) {
		slots, err := other.file.Slots()
		if err != nil {
			return 0, fmt.Errorf("%s: %w", other.name, err)
		}
		for i := range slots {
			slot := &slots[i]
			switch {
			case slot.Kind == dso.IRelative && other == l && uint64(slot.Addend) == sym.Value:
			case (slot.Kind == dso.GlobDat || slot.Kind == dso.JumpSlot) && slot.Symbol != nil &&
				slot.Symbol.Name == sym.Name && slot.Symbol.Version == sym.Version:
			default:
				continue
			}
			v, err := other.file.Uint64(slot.Vaddr)
			if err != nil {
				return 0, fmt.Errorf("%s: %w", other.name, err)
			}
			if v >= l.file.Bias && l.file.Executable(v-l.file.Bias) && !pltStub(l.file, v) || s.vdso.holds(v) {
				return v, nil
			}
		}
	}
	return 0, errIFunc
}

// pltStub tells whether the lazy half of a PLT entry stands at an address:
// push $number; jmp first entry; maybe behind an endbr64.
func pltStub(f *dso.File, addr uint64) bool {
	var raw [16]byte
	if f.ReadVaddr(raw[:], addr-f.Bias) != nil {
		return false
	}
	b := raw[:]
	if binary.LittleEndian.Uint32(b) == 0xfa1e0ff3 {
		b = b[4:]
	}
	if b[0] != 0x68 {
		return false
	}
	b = b[5:]
	if b[0] == 0xf2 { // bnd
		b = b[1:]
	}
	return b[0] == 0xe9
}
