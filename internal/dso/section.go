// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// Section is a section header of a file on disk.
type Section struct {
	Name         string
	Type         elf.SectionType
	Flags        elf.SectionFlag
	Addr         uint64 // virtual address, 0 for what is not loaded
	Offset, Size uint64
	Link         uint32
	Align        uint64
}

// Sections returns the section headers by index, the first, empty one too. A
// file in memory has none, nor has one that was stripped of them.
func (f *File) Sections() ([]Section, error) {
	list, err := f.sections()
	if err != nil {
		return nil, fmt.Errorf("%w: section headers: %w", ErrFormat, err)
	}
	return list, nil
}

// Section returns the first section of a name.
func (f *File) Section(name string) (Section, bool, error) {
	list, err := f.Sections()
	for _, s := range list {
		if s.Name == name {
			return s, true, nil
		}
	}
	return Section{}, false, err
}

// SectionBytes reads a section's bytes from the file. It has no more than
// 64 MiB, and is not decompressed.
func (f *File) SectionBytes(s Section) ([]byte, error) {
	if s.Type == elf.SHT_NOBITS || f.Memory {
		return nil, fmt.Errorf("%w: section %s has no bytes", ErrFormat, s.Name)
	}
	raw, err := f.chunk(s.Offset, s.Size)
	if err != nil {
		return nil, fmt.Errorf("%w: section %s: %w", ErrFormat, s.Name, err)
	}
	return raw, nil
}

func (f *File) readSections() ([]Section, error) {
	h := f.section
	if f.Memory || h.Shoff == 0 {
		return nil, nil
	}
	if h.Shentsize != shdrSize {
		return nil, fmt.Errorf("of %d bytes", h.Shentsize)
	}
	count, names := uint64(h.Shnum), uint64(h.Shstrndx)
	if count == 0 || elf.SectionIndex(h.Shstrndx) == elf.SHN_XINDEX { // the first entry has them then
		first, err := f.sectionHeaders(h.Shoff, 1)
		if err != nil {
			return nil, err
		}
		if count == 0 {
			count = first[0].Size
		}
		if elf.SectionIndex(h.Shstrndx) == elf.SHN_XINDEX {
			names = uint64(first[0].Link)
		}
	}
	if count > maxSections || names >= max(count, 1) {
		return nil, fmt.Errorf("%d, the names in %d", count, names)
	}
	headers, err := f.sectionHeaders(h.Shoff, count)
	if err != nil {
		return nil, err
	}
	table, err := f.nameTable(headers, uint32(names))
	if err != nil {
		return nil, err
	}
	list := make([]Section, len(headers))
	for i, s := range headers {
		name, err := table.at(s.Name)
		if err != nil {
			return nil, fmt.Errorf("section %d: %w", i, err)
		}
		list[i] = Section{
			Name: name, Type: elf.SectionType(s.Type), Flags: elf.SectionFlag(s.Flags), Addr: s.Addr,
			Offset: s.Off, Size: s.Size, Link: s.Link, Align: s.Addralign,
		}
	}
	return list, nil
}

func (f *File) sectionHeaders(at, count uint64) ([]elf.Section64, error) {
	raw, err := f.chunk(at, count*shdrSize)
	if err != nil {
		return nil, err
	}
	list := make([]elf.Section64, count)
	_, err = binary.Decode(raw, binary.LittleEndian, list)
	return list, err
}

// nameTable reads the string table in a section; index 0 stands for none.
func (f *File) nameTable(headers []elf.Section64, index uint32) (*nameTable, error) {
	if index == 0 {
		return &nameTable{}, nil
	}
	if uint64(index) >= uint64(len(headers)) || elf.SectionType(headers[index].Type) != elf.SHT_STRTAB {
		return nil, fmt.Errorf("section %d is no table of names", index)
	}
	raw, err := f.chunk(headers[index].Off, headers[index].Size)
	if err != nil {
		return nil, err
	}
	return &nameTable{raw: string(raw), left: maxScan}, nil
}

// Symbols returns .symtab without its first, empty entry: nothing for a file
// that was stripped of it, or in memory. Local symbols know their Source.
func (f *File) Symbols() ([]Symbol, error) {
	list, err := f.Sections()
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if s.Type != elf.SHT_SYMTAB {
			continue
		}
		symbols, err := f.readSymtab(list, s)
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrFormat, s.Name, err)
		}
		return symbols, nil
	}
	return nil, nil
}

func (f *File) readSymtab(list []Section, s Section) ([]Symbol, error) {
	if s.Size/symSize > maxSymbols || uint64(s.Link) >= uint64(len(list)) {
		return nil, fmt.Errorf("%d symbols", s.Size/symSize)
	}
	raw, err := f.SectionBytes(s)
	if err != nil {
		return nil, err
	}
	names, err := f.SectionBytes(list[s.Link])
	if err != nil {
		return nil, err
	}
	if len(raw) < symSize {
		return nil, errors.New("it is empty")
	}
	source := ""
	return readSymbolList(raw[symSize:], &nameTable{raw: string(names), left: maxScan}, func(s *Symbol) {
		switch {
		case s.Bind != elf.STB_LOCAL:
		case s.Type == elf.STT_FILE:
			source = s.Name // the linker's own symbols come behind one without a name
		default:
			s.Source = source
		}
	})
}

// buildIDFromSections looks at note sections: of a file with debug information
// only, PT_NOTE may point nowhere.
func (f *File) buildIDFromSections() {
	list, err := f.readSections()
	if err != nil {
		return // then it has none that could be read
	}
	for _, s := range list {
		if s.Type != elf.SHT_NOTE || s.Size > maxNote {
			continue
		}
		if raw, err := f.SectionBytes(s); err == nil && bytes.Contains(raw, []byte("GNU\x00")) {
			if f.BuildID = buildID(raw, s.Align); f.BuildID != "" {
				return
			}
		}
	}
}
