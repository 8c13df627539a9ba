// SPDX-License-Identifier: Apache-2.0

package build

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
)

// binder knows the linked file: what lies where, and what the loader fills in.
type binder struct {
	l      *Linked
	byName map[string][]*dso.Symbol
	starts []uint64 // addresses at which code begins, ascending, each once
	slots  []dso.Slot
	// bySlot finds the slots that hold a symbol's address, by its name.
	bySlot map[string][]*dso.Slot
	atSlot map[uint64]*dso.Slot // by address
}

func newBinder(l *Linked) (*binder, error) {
	b := &binder{l: l, byName: map[string][]*dso.Symbol{}, bySlot: map[string][]*dso.Slot{}, atSlot: map[uint64]*dso.Slot{}}
	if l.File.Machine != elf.EM_X86_64 {
		return nil, code.New("TS1002", l.Name, fmt.Sprintf("it is for %v, not for x86-64", l.File.Machine))
	}
	if l.File.BuildID == "" {
		return nil, code.New("TS3510", l.Name, "it has no build-id")
	}
	dynamic, err := l.File.DynamicSymbols()
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, list := range [][]dso.Symbol{l.Symbols, dynamic} {
		for i := range list {
			s := &list[i]
			if !s.Defined() || s.Name == "" || s.Type == elf.STT_SECTION || s.Type == elf.STT_FILE {
				continue
			}
			name, version, versioned := strings.Cut(s.Name, "@")
			if versioned && !strings.HasPrefix(version, "@") { // not the default version
				name = s.Name
			}
			key := fmt.Sprintf("%s %x %v", name, s.Value, s.Type == elf.STT_TLS)
			if seen[key] || s.Hidden && s.Version != "" {
				continue
			}
			seen[key] = true
			b.byName[name] = append(b.byName[name], s)
			if l.File.Executable(s.Value) && s.Type != elf.STT_TLS {
				b.starts = append(b.starts, s.Value)
			}
		}
	}
	slices.Sort(b.starts)
	b.starts = slices.Compact(b.starts)
	if b.slots, err = l.File.Slots(); err != nil {
		return nil, err
	}
	for i := range b.slots {
		s := &b.slots[i]
		b.atSlot[s.Vaddr] = s
		if s.Symbol != nil {
			b.bySlot[s.Symbol.Name] = append(b.bySlot[s.Symbol.Name], s)
		}
	}
	return b, nil
}

// addressSlot is a GOT entry that holds the address of a symbol as the loader
// resolved it, nil for none. The one for pointers comes first: a lazy one is
// not bound before its first call.
func (b *binder) addressSlot(name string) *dso.Slot {
	var lazy *dso.Slot
	for _, s := range b.bySlot[name] {
		switch {
		case s.Kind == dso.GlobDat && s.Addend == 0:
			return s
		case s.Kind == dso.JumpSlot && s.Addend == 0 && lazy == nil:
			lazy = s
		}
	}
	return lazy
}

// preempted reports whether the file reaches a symbol of its own through the
// loader, which may have found another file's.
func (b *binder) preempted(name string) bool {
	s := b.addressSlot(name)
	return s != nil && s.Symbol.Defined()
}

// next is the address at which the next known code begins behind addr.
func (b *binder) next(addr uint64) (uint64, bool) {
	i := sort.Search(len(b.starts), func(i int) bool { return b.starts[i] > addr })
	if i == len(b.starts) {
		return 0, false
	}
	return b.starts[i], true
}

// stub reads the PLT stub at an address and returns the slot that it jumps
// through, or nil where there is no stub: endbr64 perhaps, then an indirect
// jump relative to the instruction.
func (b *binder) stub(addr uint64) *dso.Slot {
	if !b.l.File.Executable(addr) {
		return nil
	}
	raw := make([]byte, 16)
	if b.l.File.ReadVaddr(raw, addr) != nil {
		return nil
	}
	at := addr
	if binary.BigEndian.Uint32(raw) == 0xf30f1efa {
		raw, at = raw[4:], at+4
	}
	if raw[0] == 0xf2 { // bnd
		raw, at = raw[1:], at+1
	}
	if raw[0] != 0xff || raw[1] != 0x25 {
		return nil
	}
	return b.atSlot[at+6+uint64(int64(int32(binary.LittleEndian.Uint32(raw[2:]))))]
}
