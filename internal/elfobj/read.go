// SPDX-License-Identifier: Apache-2.0

package elfobj

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
)

// ErrFormat is in the chain of every error that Read returns.
var ErrFormat = errors.New("not a usable ELF64 relocatable object")

const (
	ehdrSize = 64
	shdrSize = 64
	symSize  = 24
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
		case elf.SHT_RELA, elf.SHT_GROUP:
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

func (r *reader) symbolTable() error {
	if r.symtab < 0 {
		return nil
	}
	h := r.headers[r.symtab]
	body, err := r.contents(r.symtab)
	if err != nil {
		return fmt.Errorf("symbol table: %w", err)
	}
	if len(body)%symSize != 0 {
		return fmt.Errorf("symbol table: %d bytes are no multiple of %d", len(body), symSize)
	}
	if int64(h.Link) >= int64(len(r.headers)) {
		return fmt.Errorf("symbol table: string table %d does not exist", h.Link)
	}
	strs, err := r.contents(int(h.Link))
	if err != nil {
		return fmt.Errorf("symbol string table: %w", err)
	}
	extended, err := r.extendedIndices(len(body) / symSize)
	if err != nil {
		return err
	}
	r.symbols = make([]*Symbol, len(body)/symSize)
	for i := 1; i < len(r.symbols); i++ {
		raw := body[i*symSize:]
		sym := &Symbol{
			Bind: elf.ST_BIND(raw[4]), Type: elf.ST_TYPE(raw[4]), Other: raw[5],
			Value: r.bo.Uint64(raw[8:]), Size: r.bo.Uint64(raw[16:]),
		}
		if sym.Name, err = str(strs, r.bo.Uint32(raw)); err != nil {
			return fmt.Errorf("symbol %d: name: %w", i, err)
		}
		shndx := uint32(r.bo.Uint16(raw[6:]))
		if elf.SectionIndex(shndx) == elf.SHN_XINDEX {
			if extended == nil {
				return fmt.Errorf("symbol %d: no extended section index table", i)
			}
			shndx = extended[i]
		} else if shndx == 0 || elf.SectionIndex(shndx) >= elf.SHN_LORESERVE {
			sym.Index = elf.SectionIndex(shndx)
			r.symbols[i] = sym
			continue
		}
		if int64(shndx) >= int64(len(r.sections)) {
			return fmt.Errorf("symbol %d (%s): section %d does not exist", i, sym.Name, shndx)
		}
		if sym.Section = r.sections[shndx]; sym.Section == nil {
			if sym.Type != elf.STT_SECTION {
				return fmt.Errorf("symbol %d (%s): lies in section %s, which holds no contents", i, sym.Name, r.names[shndx])
			}
			sym.Index = elf.SHN_ABS // a section symbol of a table that the model takes apart
		} else if sym.Type == elf.STT_SECTION && sym.Name == "" {
			sym.Name = sym.Section.Name
		}
		r.symbols[i] = sym
	}
	return nil
}

func (r *reader) extendedIndices(n int) ([]uint32, error) {
	for i, h := range r.headers {
		if elf.SectionType(h.Type) != elf.SHT_SYMTAB_SHNDX || int(h.Link) != r.symtab {
			continue
		}
		body, err := r.contents(i)
		if err != nil {
			return nil, fmt.Errorf("extended section indices: %w", err)
		}
		if len(body) != n*4 {
			return nil, fmt.Errorf("extended section indices: %d bytes for %d symbols", len(body), n)
		}
		out := make([]uint32, n)
		for k := range out {
			out[k] = r.bo.Uint32(body[k*4:])
		}
		return out, nil
	}
	return nil, nil
}

// relocations hangs each SHT_RELA's entries on the section they apply to.
func (r *reader) relocations() error {
	for i, h := range r.headers {
		if elf.SectionType(h.Type) != elf.SHT_RELA {
			continue
		}
		own := r.sections[i]
		if own == nil { // section 0, or a string table of that type
			return fmt.Errorf("section %d: relocations where none can be", i)
		}
		if int64(h.Info) >= int64(len(r.sections)) || r.sections[h.Info] == nil || h.Info == 0 {
			return fmt.Errorf("section %s: target section %d does not exist", own.Name, h.Info)
		}
		target := r.sections[h.Info]
		if target.Type == elf.SHT_RELA || target.Type == elf.SHT_GROUP {
			return fmt.Errorf("section %s: target %s takes no relocations", own.Name, target.Name)
		}
		relocs, err := r.relocs(i, target)
		if err != nil {
			return fmt.Errorf("section %s: %w", own.Name, err)
		}
		attached := own.Flags&SHFRelaLivepatch == 0 && strings.TrimPrefix(own.Name, ".rela") == target.Name && target.Relocs == nil
		if !attached {
			own.Relocs, own.Target = relocs, target
			continue
		}
		target.Relocs = relocs
		target.RelaFlags = own.Flags &^ elf.SHF_INFO_LINK
		r.sections[i] = nil
	}
	return nil
}

func (r *reader) relocs(i int, target *Section) ([]Reloc, error) {
	body, err := r.contents(i)
	if err != nil {
		return nil, err
	}
	if len(body)%relaSize != 0 {
		return nil, fmt.Errorf("%d bytes are no multiple of %d", len(body), relaSize)
	}
	if int(r.headers[i].Link) != r.symtab && len(body) > 0 {
		return nil, fmt.Errorf("its symbols are in section %d, not in the symbol table", r.headers[i].Link)
	}
	out := make([]Reloc, len(body)/relaSize)
	for k := range out {
		raw := body[k*relaSize:]
		info := r.bo.Uint64(raw[8:])
		rel := Reloc{Off: r.bo.Uint64(raw), Type: uint32(info), Addend: int64(r.bo.Uint64(raw[16:]))}
		// in a compressed section offsets count uncompressed bytes
		if rel.Off >= target.Size() && target.Flags&elf.SHF_COMPRESSED == 0 {
			return nil, fmt.Errorf("relocation %d: offset %#x lies outside %s (%#x bytes)", k, rel.Off, target.Name, target.Size())
		}
		n := info >> 32
		if n >= uint64(len(r.symbols)) && n != 0 {
			return nil, fmt.Errorf("relocation %d: symbol %d does not exist", k, n)
		}
		if n != 0 {
			rel.Sym = r.symbols[n]
		}
		out[k] = rel
	}
	return out, nil
}

func (r *reader) groups() error {
	for i, h := range r.headers {
		s := r.sections[i]
		if s == nil || s.Type != elf.SHT_GROUP {
			continue
		}
		body, err := r.contents(i)
		if err != nil {
			return fmt.Errorf("group %d: %w", i, err)
		}
		if len(body) < 4 || len(body)%4 != 0 {
			return fmt.Errorf("group %d: %d bytes are no list of sections", i, len(body))
		}
		if h.Info == 0 || int64(h.Info) >= int64(len(r.symbols)) {
			return fmt.Errorf("group %d: signature symbol %d does not exist", i, h.Info)
		}
		s.Group = &Group{Flags: r.bo.Uint32(body), Signature: r.symbols[h.Info]}
		for k := 4; k < len(body); k += 4 {
			m := r.bo.Uint32(body[k:])
			if int64(m) >= int64(len(r.sections)) {
				return fmt.Errorf("group %d: member section %d does not exist", i, m)
			}
			if r.sections[m] != nil { // relocation sections follow their targets
				s.Group.Members = append(s.Group.Members, r.sections[m])
			}
		}
	}
	return nil
}
