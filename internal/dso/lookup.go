// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// Class is what a symbol is looked up for.
type Class uint8

const (
	// ForCall: only what is defined counts.
	ForCall Class = iota
	// ForPointer: an undefined function of a program of fixed addresses counts
	// too when it has a value: its PLT entry there is the function's address
	// for the whole process.
	ForPointer
)

// Lookup finds a symbol among those that the file gives to others, by the
// loader's rules: version "" takes the oldest or the only version, a version
// takes that one, or a symbol of no version. The caller walks the scope.
func (f *File) Lookup(name, version string, class Class) (Symbol, bool, error) {
	t, err := f.symbols()
	if err != nil {
		return Symbol{}, false, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	i, ok := t.find(name, version, class)
	if !ok {
		return Symbol{}, false, nil
	}
	return t.list[i], true, nil
}

func (t *symbolTable) find(name, version string, class Class) (uint32, bool) {
	only, others := uint32(0), 0 // symbols of some newer version, when none is asked for
	try := func(i uint32) bool {
		s := &t.list[i]
		if s.Name != name || !s.offered(class) {
			return false
		}
		if t.versions == nil {
			return true
		}
		v := t.versions[i]
		of, known := t.names[v&versionMask]
		known = known && !of.base
		if version != "" {
			return known && of.name == version || !known && v&versionHidden == 0
		}
		if v&versionMask < 3 { // local, global, or the first version of all
			return true
		}
		if v&versionHidden == 0 {
			if others == 0 {
				only = i
			}
			others++
		}
		return false
	}
	if t.hash != nil {
		if i, ok := t.hash.find(name, uint32(len(t.list)), try); ok {
			return i, true
		}
		return only, others == 1
	}
	for i := uint32(1); i < uint32(len(t.list)); i++ {
		if try(i) {
			return i, true
		}
	}
	return only, others == 1
}

// offered reports that the loader would take the symbol for others.
func (s *Symbol) offered(class Class) bool {
	switch s.Type {
	case elf.STT_NOTYPE, elf.STT_OBJECT, elf.STT_FUNC, elf.STT_COMMON, elf.STT_TLS, elf.STT_GNU_IFUNC:
	default:
		return false
	}
	switch s.Bind {
	case elf.STB_GLOBAL, elf.STB_WEAK, stbGNUUnique:
	default:
		return false
	}
	if s.Visibility == elf.STV_HIDDEN || s.Visibility == elf.STV_INTERNAL {
		return false
	}
	if s.Value == 0 && s.Section != elf.SHN_ABS && s.Type != elf.STT_TLS {
		return false
	}
	return s.Defined() || class == ForPointer
}

const stbGNUUnique elf.SymBind = 10

// gnuHash is DT_GNU_HASH: a bloom filter, buckets, and per symbol its hash
// without the lowest bit, which ends a chain.
type gnuHash struct {
	offset, shift uint32
	bloom         []byte
	buckets       []byte
	chains        []byte
	count         uint32 // symbols that it knows the table to have
}

func (f *File) gnuHash() (*gnuHash, error) {
	at, ok, err := f.pointer(elf.DT_GNU_HASH)
	if err != nil || !ok {
		return nil, err
	}
	head, err := f.Bytes(at, 16)
	if err != nil {
		return nil, err
	}
	word := func(i int) uint32 { return binary.LittleEndian.Uint32(head[4*i:]) }
	buckets, offset, filters, shift := word(0), word(1), word(2), word(3)
	if buckets == 0 || buckets > maxSymbols || offset > maxSymbols || filters == 0 || filters > maxSymbols || filters&(filters-1) != 0 || shift > 31 {
		return nil, fmt.Errorf("%d buckets, %d filter words", buckets, filters)
	}
	h := &gnuHash{offset: offset, shift: shift, count: offset}
	if h.bloom, err = f.Bytes(at+16, uint64(filters)*8); err != nil {
		return nil, err
	}
	at += 16 + uint64(filters)*8
	if h.buckets, err = f.Bytes(at, uint64(buckets)*4); err != nil {
		return nil, err
	}
	at += uint64(buckets) * 4
	last := uint32(0)
	for i := range buckets {
		last = max(last, binary.LittleEndian.Uint32(h.buckets[4*i:]))
	}
	if last == 0 {
		return h, nil
	}
	if last < offset || last >= maxSymbols {
		return nil, fmt.Errorf("a bucket begins at symbol %d", last)
	}
	return h, h.readChains(f, at, last)
}

// readChains reads up to the end of the last chain, which is where a symbol
// after last has the lowest bit.
func (h *gnuHash) readChains(f *File, at uint64, last uint32) error {
	const piece = 1 << 10
	for i := h.offset; i < maxSymbols; {
		n := uint32(piece)
		if i < last {
			n = last - i
		} else if s, ok := f.segment(at); ok { // the table may end with the segment
			n = uint32(min(piece, (s.Vaddr+s.Memsz-at)/4))
		}
		if n == 0 {
			return errors.New("the last chain has no end")
		}
		raw, err := f.Bytes(at, uint64(n)*4)
		if err != nil {
			return err
		}
		for k := range n {
			if i+k >= last && binary.LittleEndian.Uint32(raw[4*k:])&1 != 0 {
				h.chains = append(h.chains, raw[:4*(k+1)]...)
				h.count = i + k + 1
				return nil
			}
		}
		h.chains = append(h.chains, raw...)
		i, at = i+n, at+uint64(n)*4
	}
	return errors.New("the last chain has no end")
}

// find tries the symbols of a name's chain in their order.
func (h *gnuHash) find(name string, count uint32, try func(uint32) bool) (uint32, bool) {
	sum := uint32(5381)
	for i := range len(name) {
		sum = sum*33 + uint32(name[i])
	}
	word := binary.LittleEndian.Uint64(h.bloom[8*(uint64(sum/64)&uint64(len(h.bloom)/8-1)):])
	if word>>(sum%64)&(word>>(sum>>h.shift%64))&1 == 0 {
		return 0, false
	}
	i := binary.LittleEndian.Uint32(h.buckets[4*(sum%uint32(len(h.buckets)/4)):])
	for i != 0 && i >= h.offset && i < count && uint64(i-h.offset)*4 < uint64(len(h.chains)) {
		v := binary.LittleEndian.Uint32(h.chains[4*(i-h.offset):])
		if v|1 == sum|1 && try(i) {
			return i, true
		}
		if v&1 != 0 {
			break
		}
		i++
	}
	return 0, false
}
