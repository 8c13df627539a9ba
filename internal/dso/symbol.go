// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// Symbol is an entry of .dynsym, or one of .symtab that a caller has read.
type Symbol struct {
	Name string
	// Version is "GLIBC_2.14", or "" for none; Library is the file that it is
	// of ("libc.so.6") when that is another: of what is undefined here, or was
	// copied from there.
	Version, Library string
	// Hidden tells that the version is not the default one (name@version): who
	// asks for no version does not get it.
	Hidden     bool
	Value      uint64 // virtual address; an offset in PT_TLS for thread-local ones
	Size       uint64
	Type       elf.SymType
	Bind       elf.SymBind
	Visibility elf.SymVis
	Section    elf.SectionIndex
	// Source is the source file that STT_FILE names for a local symbol of
	// .symtab: the base name that the compiler was given.
	Source string
}

// Defined reports that the file itself has what the symbol names.
func (s *Symbol) Defined() bool { return s.Section != elf.SHN_UNDEF }

// DynamicSymbols returns .dynsym without its first, empty entry. In memory its
// length follows from the hash table and the relocations.
func (f *File) DynamicSymbols() ([]Symbol, error) {
	table, err := f.symbols()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return table.list[min(1, len(table.list)):], nil
}

// symbolTable is .dynsym with all that belongs to it.
type symbolTable struct {
	list     []Symbol // by index; [0] is the empty one
	versions []uint16 // DT_VERSYM, nil for none
	names    map[uint16]version
	hash     *gnuHash // nil for none
}

type version struct {
	name, library string
	base          bool // the file's own name, no version
}

func (f *File) readSymbols() (*symbolTable, error) {
	t := &symbolTable{}
	at, ok, err := f.pointer(elf.DT_SYMTAB)
	if err != nil || !ok {
		return t, err
	}
	if size := f.dyn[elf.DT_SYMENT]; size != symSize {
		return nil, fmt.Errorf("symbols of %d bytes", size)
	}
	if t.hash, err = f.gnuHash(); err != nil {
		return nil, fmt.Errorf("DT_GNU_HASH: %w", err)
	}
	count, err := f.countSymbols(t.hash)
	if err != nil {
		return nil, err
	}
	raw, err := f.Bytes(at, uint64(count)*symSize)
	if err != nil {
		return nil, fmt.Errorf("dynamic symbols: %w", err)
	}
	strings, err := f.table(elf.DT_STRTAB, elf.DT_STRSZ)
	if err != nil {
		return nil, err
	}
	names := &nameTable{raw: string(strings), left: maxScan}
	if t.list, err = readSymbolList(raw, names); err != nil {
		return nil, fmt.Errorf("dynamic symbols: %w", err)
	}
	if err := f.readVersions(t, count, names); err != nil {
		return nil, fmt.Errorf("symbol versions: %w", err)
	}
	return t, nil
}

// countSymbols: no tag says how long .dynsym is.
func (f *File) countSymbols(hash *gnuHash) (uint32, error) {
	count := uint32(1)
	if hash != nil {
		count = max(count, hash.count)
	}
	if at, ok, err := f.pointer(elf.DT_HASH); err != nil {
		return 0, err
	} else if ok {
		raw, err := f.Bytes(at, 8) // nbucket, nchain: there is a chain entry per symbol
		if err != nil {
			return 0, fmt.Errorf("DT_HASH: %w", err)
		}
		count = max(count, binary.LittleEndian.Uint32(raw[4:]))
	}
	relocs, err := f.relocs()
	if err != nil {
		return 0, err
	}
	for _, r := range relocs {
		count = max(count, r.sym+1)
	}
	if count > maxSymbols {
		return 0, fmt.Errorf("%d dynamic symbols", count)
	}
	return count, nil
}

func readSymbolList(raw []byte, names *nameTable) ([]Symbol, error) {
	list := make([]Symbol, 0, len(raw)/symSize)
	for ; len(raw) >= symSize; raw = raw[symSize:] {
		name, err := names.at(binary.LittleEndian.Uint32(raw))
		if err != nil {
			return nil, fmt.Errorf("symbol %d: %w", len(list), err)
		}
		list = append(list, Symbol{
			Name: name, Type: elf.ST_TYPE(raw[4]), Bind: elf.ST_BIND(raw[4]), Visibility: elf.ST_VISIBILITY(raw[5]),
			Section: elf.SectionIndex(binary.LittleEndian.Uint16(raw[6:])),
			Value:   binary.LittleEndian.Uint64(raw[8:]), Size: binary.LittleEndian.Uint64(raw[16:]),
		})
	}
	return list, nil
}

// nameTable is a string table. What is looked at for the ends of names is
// counted, because many symbols can share one long name without an end.
type nameTable struct {
	raw  string
	left int
}

func (n *nameTable) at(off uint32) (string, error) {
	if off == 0 {
		return "", nil
	}
	if uint64(off) >= uint64(len(n.raw)) {
		return "", fmt.Errorf("name %d of a table of %d bytes", off, len(n.raw))
	}
	s := n.raw[off:]
	s = s[:min(len(s), maxName)]
	end := strings.IndexByte(s, 0)
	n.left -= max(end, 0) + 1
	if end < 0 {
		return "", errors.New("a name has no end")
	}
	if n.left < 0 {
		return "", errors.New("names are longer than there is reason for")
	}
	return s[:end], nil
}
