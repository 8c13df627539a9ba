// SPDX-License-Identifier: Apache-2.0

package elfobj

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// ErrFormat is in the chain of every error that Read returns.
var ErrFormat = errors.New("not a usable ELF64 relocatable object")

const (
	ehdrSize = 64
	shdrSize = 64
	symSize  = 24
	relSize  = 16
	relaSize = 24
	// shtLLVMAddrsig holds symbol indices that any edit would falsify; it is
	// only a hint to the linker.
	shtLLVMAddrsig elf.SectionType = 0x6fff4c03
)

// Read parses an object. The returned File shares no memory with data that a
// caller may change: section contents are copied.
func Read(data []byte) (*File, error) {
	f, err := (&reader{data: data}).read()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return f, nil
}

type reader struct {
	data     []byte
	bo       binary.ByteOrder
	headers  []elf.Section64
	names    []string
	sections []*Section // by section index; nil for those that the model takes apart
	symbols  []*Symbol  // by symbol index; [0] is nil
	symtab   int
	file     *File
}

func (r *reader) read() (*File, error) {
	if err := r.header(); err != nil {
		return nil, err
	}
	for _, step := range []func() error{r.sectionNames, r.plainSections, r.symbolTable, r.relocations, r.groups} {
		if err := step(); err != nil {
			return nil, err
		}
	}
	for _, s := range r.sections {
		if s != nil {
			r.file.Sections = append(r.file.Sections, s)
		}
	}
	r.file.Symbols = r.symbols[min(1, len(r.symbols)):]
	return r.file, nil
}

func (r *reader) header() error {
	d := r.data
	if len(d) < ehdrSize {
		return fmt.Errorf("%d bytes are fewer than an ELF header has", len(d))
	}
	if string(d[:4]) != elf.ELFMAG {
		return errors.New("no ELF magic at offset 0")
	}
	if elf.Class(d[elf.EI_CLASS]) != elf.ELFCLASS64 {
		return fmt.Errorf("class is %v, not ELFCLASS64", elf.Class(d[elf.EI_CLASS]))
	}
	order := elf.Data(d[elf.EI_DATA])
	switch order {
	case elf.ELFDATA2LSB:
		r.bo = binary.LittleEndian
	case elf.ELFDATA2MSB:
		r.bo = binary.BigEndian
	default:
		return fmt.Errorf("byte order %d is unknown", d[elf.EI_DATA])
	}
	var h elf.Header64
	if err := binary.Read(bytes.NewReader(d[:ehdrSize]), r.bo, &h); err != nil {
		return err
	}
	if elf.Type(h.Type) != elf.ET_REL {
		return fmt.Errorf("type is %v, not ET_REL", elf.Type(h.Type))
	}
	if h.Phnum != 0 {
		return errors.New("it has program headers")
	}
	r.file = &File{Machine: elf.Machine(h.Machine), Order: order, OSABI: elf.OSABI(d[elf.EI_OSABI]), Flags: h.Flags}
	if h.Shoff == 0 {
		return errors.New("it has no section table")
	}
	if h.Shentsize != shdrSize {
		return fmt.Errorf("section header size is %d, not %d", h.Shentsize, shdrSize)
	}
	first, err := r.span(h.Shoff, shdrSize)
	if err != nil {
		return fmt.Errorf("section table: %w", err)
	}
	var zero elf.Section64
	if err := binary.Read(bytes.NewReader(first), r.bo, &zero); err != nil {
		return err
	}
	n, strndx := uint64(h.Shnum), uint64(h.Shstrndx)
	if n == 0 { // gABI: more than SHN_LORESERVE sections
		n = zero.Size
	}
	if elf.SectionIndex(strndx) == elf.SHN_XINDEX {
		strndx = uint64(zero.Link)
	}
	if n > uint64(len(d))/shdrSize {
		return fmt.Errorf("section table: %d entries do not fit in the file", n)
	}
	table, err := r.span(h.Shoff, n*shdrSize)
	if err != nil {
		return fmt.Errorf("section table: %w", err)
	}
	r.headers = make([]elf.Section64, n)
	if err := binary.Read(bytes.NewReader(table), r.bo, r.headers); err != nil {
		return err
	}
	if strndx >= n {
		return fmt.Errorf("section name table %d of %d does not exist", strndx, n)
	}
	r.symtab = int(strndx) // reused by sectionNames, then set for good
	return nil
}

// span returns data[off:off+n] or an error when the file is too short.
func (r *reader) span(off, n uint64) ([]byte, error) {
	size := uint64(len(r.data))
	if off > size || n > size-off {
		return nil, fmt.Errorf("bytes %#x to %#x lie outside a file of %#x bytes", off, off+n, size)
	}
	return r.data[off : off+n : off+n], nil
}

func (r *reader) contents(i int) ([]byte, error) {
	h := r.headers[i]
	if elf.SectionType(h.Type) == elf.SHT_NOBITS || elf.SectionType(h.Type) == elf.SHT_NULL {
		return nil, nil
	}
	return r.span(h.Off, h.Size)
}

func (r *reader) sectionNames() error {
	strs, err := r.contents(r.symtab)
	if err != nil {
		return fmt.Errorf("section name table: %w", err)
	}
	r.symtab = -1
	r.names = make([]string, len(r.headers))
	for i, h := range r.headers {
		if i == 0 {
			continue
		}
		if r.names[i], err = str(strs, h.Name); err != nil {
			return fmt.Errorf("section %d: name: %w", i, err)
		}
		if elf.SectionType(h.Type) == elf.SHT_SYMTAB {
			if r.symtab >= 0 {
				return errors.New("it has two symbol tables")
			}
			r.symtab = i
		}
	}
	return nil
}

func str(table []byte, off uint32) (string, error) {
	if uint64(off) >= uint64(len(table)) {
		if off == 0 {
			return "", nil
		}
		return "", fmt.Errorf("string offset %#x lies outside a table of %#x bytes", off, len(table))
	}
	rest := table[off:]
	end := bytes.IndexByte(rest, 0)
	if end < 0 {
		return "", fmt.Errorf("string at %#x has no end", off)
	}
	return string(rest[:end]), nil
}

// plainSections makes a Section of every header that the model does not take
// apart.
func (r *reader) plainSections() error {
	r.sections = make([]*Section, len(r.headers))
	strtab := -1
	if r.symtab >= 0 {
		strtab = int(r.headers[r.symtab].Link)
	}
	for i, h := range r.headers {
		t := elf.SectionType(h.Type)
		switch {
		case i == 0, t == elf.SHT_NULL, t == elf.SHT_SYMTAB, t == elf.SHT_SYMTAB_SHNDX, t == shtLLVMAddrsig:
			continue
		case t == elf.SHT_STRTAB && (i == strtab || h.Flags&uint64(elf.SHF_ALLOC) == 0 && (r.names[i] == ".shstrtab" || r.names[i] == ".strtab")):
			continue
		}
		if h.Addralign > 1 && h.Addralign&(h.Addralign-1) != 0 {
			return fmt.Errorf("section %s: alignment %#x is no power of two", r.names[i], h.Addralign)
		}
		s := &Section{
			Name: r.names[i], Type: t, Flags: elf.SectionFlag(h.Flags),
			Align: h.Addralign, EntSize: h.Entsize,
		}
		body, err := r.contents(i)
		if err != nil {
			return fmt.Errorf("section %s: %w", s.Name, err)
		}
		switch t {
		case elf.SHT_NOBITS:
			s.NoBits = h.Size
		case elf.SHT_RELA, elf.SHT_REL, elf.SHT_GROUP:
			// their contents are modelled, not kept as bytes
		default:
			s.Data = bytes.Clone(body)
			if s.Data == nil {
				s.Data = []byte{}
			}
		}
		r.sections[i] = s
	}
	for i, s := range r.sections {
		if s == nil || s.Flags&elf.SHF_LINK_ORDER == 0 {
			continue
		}
		link := r.headers[i].Link
		if link == 0 {
			continue // gABI allows it; clang emits it for discarded partners
		}
		if int64(link) >= int64(len(r.sections)) || r.sections[link] == nil {
			return fmt.Errorf("section %s: linked section %d does not exist", s.Name, link)
		}
		s.LinkTo = r.sections[link]
	}
	return nil
}
