// SPDX-License-Identifier: Apache-2.0

package elfobj

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
)

// Bytes writes the object. The same File gives the same bytes. Local symbols
// come before global ones, as ELF demands, in their order otherwise; each
// relocation section follows its target; the symbol and string tables come
// last. It fails when a relocation or symbol points outside the File.
func (f *File) Bytes() ([]byte, error) {
	w := &writer{file: f, secIndex: map[*Section]uint32{}, symIndex: map[*Symbol]uint32{}}
	switch f.Order {
	case elf.ELFDATA2LSB:
		w.bo = binary.LittleEndian
	case elf.ELFDATA2MSB:
		w.bo = binary.BigEndian
	default:
		return nil, fmt.Errorf("byte order %d is unknown", f.Order)
	}
	return w.write()
}

// byteOrder is what both of encoding/binary's orders offer.
type byteOrder interface {
	binary.ByteOrder
	binary.AppendByteOrder
}

type writer struct {
	file     *File
	bo       byteOrder
	headers  []header
	secIndex map[*Section]uint32
	symbols  []*Symbol
	symIndex map[*Symbol]uint32
	firstGlo uint32
	symtab   uint32
}

// header is a section header under construction with the bytes it will hold.
type header struct {
	elf.Section64
	name string
	body []byte
}

func (w *writer) write() ([]byte, error) {
	w.orderSymbols()
	w.indexSections()
	if err := w.sections(); err != nil {
		return nil, err
	}
	if err := w.symbolTables(); err != nil {
		return nil, err
	}
	return w.layout(), nil
}

func (w *writer) orderSymbols() {
	locals := func(s *Symbol) bool { return s.Bind == elf.STB_LOCAL }
	for _, s := range w.file.Symbols {
		if locals(s) {
			w.symbols = append(w.symbols, s)
		}
	}
	w.firstGlo = uint32(len(w.symbols)) + 1
	for _, s := range w.file.Symbols {
		if !locals(s) {
			w.symbols = append(w.symbols, s)
		}
	}
	for i, s := range w.symbols {
		w.symIndex[s] = uint32(i) + 1
	}
}

func (w *writer) indexSections() {
	n := uint32(1)
	for _, s := range w.file.Sections {
		w.secIndex[s] = n
		n++
		if s.Type != elf.SHT_RELA && len(s.Relocs) > 0 {
			n++
		}
	}
	w.symtab = n
}

func (w *writer) sections() error {
	w.headers = []header{{}}
	// which group a section is in: its relocation section must be a member too
	grouped := map[*Section]bool{}
	for _, s := range w.file.Sections {
		if s.Group != nil {
			for _, m := range s.Group.Members {
				grouped[m] = true
			}
		}
	}
	for _, s := range w.file.Sections {
		h := header{name: s.Name, body: s.Data}
		h.Type, h.Flags, h.Addralign, h.Entsize = uint32(s.Type), uint64(s.Flags), s.Align, s.EntSize
		h.Size = s.Size()
		var err error
		switch s.Type {
		case elf.SHT_RELA:
			h.Link, h.Entsize, h.Addralign = w.symtab, relaSize, 8
			h.Info = w.secIndex[s.Target]
			if h.Info == 0 {
				return fmt.Errorf("section %s: its target is not in the file", s.Name)
			}
			h.body, err = w.relocs(s.Relocs, false)
		case elf.SHT_GROUP:
			h.Link, h.Entsize, h.Addralign = w.symtab, 4, 4
			h.body, err = w.group(s.Group)
			if err == nil {
				h.Info = w.symIndex[s.Group.Signature]
			}
		default:
			if s.Flags&elf.SHF_LINK_ORDER != 0 && s.LinkTo != nil {
				if h.Link = w.secIndex[s.LinkTo]; h.Link == 0 {
					return fmt.Errorf("section %s: its linked section %s is not in the file", s.Name, s.LinkTo.Name)
				}
			}
		}
		if err != nil {
			return fmt.Errorf("section %s: %w", s.Name, err)
		}
		if s.Type != elf.SHT_NOBITS {
			h.Size = uint64(len(h.body))
		}
		w.headers = append(w.headers, h)
		if s.Type != elf.SHT_RELA && len(s.Relocs) > 0 {
			rh := header{name: ".rela" + s.Name}
			rh.Type, rh.Entsize = uint32(elf.SHT_RELA), relaSize
			if s.Implicit {
				rh.name = ".rel" + s.Name
				rh.Type, rh.Entsize = uint32(elf.SHT_REL), relSize
			}
			if rh.body, err = w.relocs(s.Relocs, s.Implicit); err != nil {
				return fmt.Errorf("section %s: %w", s.Name, err)
			}
			rh.Flags = uint64(elf.SHF_INFO_LINK | s.RelaFlags)
			if grouped[s] {
				rh.Flags |= uint64(elf.SHF_GROUP)
			}
			rh.Size, rh.Link, rh.Info = uint64(len(rh.body)), w.symtab, w.secIndex[s]
			rh.Addralign = 8
			w.headers = append(w.headers, rh)
		}
	}
	return nil
}

func (w *writer) relocs(relocs []Reloc, implicit bool) ([]byte, error) {
	out := make([]byte, 0, len(relocs)*relaSize)
	for i, r := range relocs {
		var n uint32
		if r.Sym != nil {
			if n = w.symIndex[r.Sym]; n == 0 {
				return nil, fmt.Errorf("relocation %d: symbol %q is not in the file", i, r.Sym.Name)
			}
		}
		out = w.bo.AppendUint64(out, r.Off)
		out = w.bo.AppendUint64(out, packInfo(w.file.Machine, w.file.Order, n, r.Type))
		if !implicit {
			out = w.bo.AppendUint64(out, uint64(r.Addend))
		}
	}
	return out, nil
}

func (w *writer) group(g *Group) ([]byte, error) {
	if g == nil || w.symIndex[g.Signature] == 0 {
		return nil, fmt.Errorf("the group has no signature symbol in the file")
	}
	out := w.bo.AppendUint32(nil, g.Flags)
	for _, m := range g.Members {
		n := w.secIndex[m]
		if n == 0 {
			return nil, fmt.Errorf("member %s is not in the file", m.Name)
		}
		out = w.bo.AppendUint32(out, n)
		if m.Type != elf.SHT_RELA && len(m.Relocs) > 0 {
			out = w.bo.AppendUint32(out, n+1)
		}
	}
	return out, nil
}

func (w *writer) symbolTables() error {
	strs := newStrings()
	body := make([]byte, symSize, (len(w.symbols)+1)*symSize)
	extended := make([]byte, 4, (len(w.symbols)+1)*4)
	needExtended := false
	for _, s := range w.symbols {
		name := s.Name
		if s.Type == elf.STT_SECTION {
			name = ""
		}
		shndx, wide := uint16(s.Index), uint32(0)
		if s.Section != nil {
			n := w.secIndex[s.Section]
			if n == 0 {
				return fmt.Errorf("symbol %s: its section %s is not in the file", s.Name, s.Section.Name)
			}
			shndx = uint16(n)
			if n >= uint32(elf.SHN_LORESERVE) {
				shndx, wide, needExtended = uint16(elf.SHN_XINDEX), n, true
			}
		}
		body = w.bo.AppendUint32(body, strs.add(name))
		body = append(body, elf.ST_INFO(s.Bind, s.Type), s.Other)
		body = w.bo.AppendUint16(body, shndx)
		body = w.bo.AppendUint64(body, s.Value)
		body = w.bo.AppendUint64(body, s.Size)
		extended = w.bo.AppendUint32(extended, wide)
	}
	sym := header{name: ".symtab", body: body}
	sym.Type, sym.Size, sym.Addralign, sym.Entsize = uint32(elf.SHT_SYMTAB), uint64(len(body)), 8, symSize
	sym.Info = w.firstGlo
	sym.Link = w.symtab + 1
	w.headers = append(w.headers, sym)

	str := header{name: ".strtab", body: strs.data}
	str.Type, str.Size, str.Addralign = uint32(elf.SHT_STRTAB), uint64(len(strs.data)), 1
	w.headers = append(w.headers, str)

	if needExtended {
		x := header{name: ".symtab_shndx", body: extended}
		x.Type, x.Size, x.Addralign, x.Entsize = uint32(elf.SHT_SYMTAB_SHNDX), uint64(len(extended)), 4, 4
		x.Link = w.symtab
		w.headers = append(w.headers, x)
	}
	return nil
}

func (w *writer) layout() []byte {
	names := newStrings()
	shstr := header{name: ".shstrtab"}
	shstr.Type, shstr.Addralign = uint32(elf.SHT_STRTAB), 1
	w.headers = append(w.headers, shstr)
	for i := range w.headers[1:] {
		w.headers[i+1].Name = names.add(w.headers[i+1].name)
	}
	last := &w.headers[len(w.headers)-1]
	last.body, last.Size = names.data, uint64(len(names.data))

	out := make([]byte, ehdrSize)
	for i := range w.headers[1:] {
		h := &w.headers[i+1]
		out = pad(out, max(h.Addralign, 1))
		h.Off = uint64(len(out))
		out = append(out, h.body...)
	}
	out = pad(out, 8)
	n, strndx := uint32(len(w.headers)), uint32(len(w.headers)-1)
	eh := elf.Header64{
		Type: uint16(elf.ET_REL), Machine: uint16(w.file.Machine), Version: uint32(elf.EV_CURRENT),
		Shoff: uint64(len(out)), Flags: w.file.Flags, Ehsize: ehdrSize, Shentsize: shdrSize,
		Shnum: uint16(n), Shstrndx: uint16(strndx),
	}
	copy(eh.Ident[:], elf.ELFMAG)
	eh.Ident[elf.EI_CLASS], eh.Ident[elf.EI_DATA] = byte(elf.ELFCLASS64), byte(w.file.Order)
	eh.Ident[elf.EI_VERSION], eh.Ident[elf.EI_OSABI] = byte(elf.EV_CURRENT), byte(w.file.OSABI)
	if n >= uint32(elf.SHN_LORESERVE) {
		eh.Shnum, eh.Shstrndx = 0, uint16(elf.SHN_XINDEX)
		w.headers[0].Size, w.headers[0].Link = uint64(n), strndx
	}
	buf := bytes.NewBuffer(out)
	for i := range w.headers {
		// a bytes.Buffer never fails
		_ = binary.Write(buf, w.bo, &w.headers[i].Section64)
	}
	var head bytes.Buffer
	_ = binary.Write(&head, w.bo, &eh)
	out = buf.Bytes()
	copy(out, head.Bytes())
	return out
}

// pad extends out to a multiple of align. Alignments beyond 64 KiB matter only
// in memory, not in a file.
func pad(out []byte, align uint64) []byte {
	align = min(align, 1<<16)
	if rest := uint64(len(out)) % align; rest != 0 {
		out = append(out, make([]byte, align-rest)...)
	}
	return out
}

// stringTable is an ELF string table that stores equal strings once.
type stringTable struct {
	data []byte
	at   map[string]uint32
}

func newStrings() *stringTable {
	return &stringTable{data: []byte{0}, at: map[string]uint32{"": 0}}
}

func (t *stringTable) add(s string) uint32 {
	if off, ok := t.at[s]; ok {
		return off
	}
	off := uint32(len(t.data))
	t.data = append(append(t.data, s...), 0)
	t.at[s] = off
	return off
}

// RemoveSymbols drops the symbols for which drop says so. The caller sees to
// it that nothing refers to them any more; Bytes checks it.
func (f *File) RemoveSymbols(drop func(*Symbol) bool) {
	f.Symbols = slices.DeleteFunc(f.Symbols, drop)
}
