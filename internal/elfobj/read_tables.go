// SPDX-License-Identifier: Apache-2.0

package elfobj

import (
	"debug/elf"
	"fmt"
	"strings"
)

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

// relocations hangs the entries of each SHT_RELA and SHT_REL on the section
// that they apply to.
func (r *reader) relocations() error {
	for i, h := range r.headers {
		implicit := elf.SectionType(h.Type) == elf.SHT_REL
		if !implicit && elf.SectionType(h.Type) != elf.SHT_RELA {
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
		if target.Type == elf.SHT_RELA || target.Type == elf.SHT_REL || target.Type == elf.SHT_GROUP {
			return fmt.Errorf("section %s: target %s takes no relocations", own.Name, target.Name)
		}
		relocs, err := r.relocs(i, target)
		if err != nil {
			return fmt.Errorf("section %s: %w", own.Name, err)
		}
		if implicit {
			if own.Name != ".rel"+target.Name || target.Relocs != nil {
				return fmt.Errorf("section %s: relocations without addends must be a section's only ones", own.Name)
			}
			target.Relocs, target.Implicit, target.RelaFlags = relocs, true, own.Flags&^elf.SHF_INFO_LINK
			r.sections[i] = nil
			continue
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
	size := relaSize
	if elf.SectionType(r.headers[i].Type) == elf.SHT_REL {
		size = relSize
	}
	if len(body)%size != 0 {
		return nil, fmt.Errorf("%d bytes are no multiple of %d", len(body), size)
	}
	if int(r.headers[i].Link) != r.symtab && len(body) > 0 {
		return nil, fmt.Errorf("its symbols are in section %d, not in the symbol table", r.headers[i].Link)
	}
	out := make([]Reloc, len(body)/size)
	for k := range out {
		raw := body[k*size:]
		n, typ := unpackInfo(r.file.Machine, r.file.Order, r.bo.Uint64(raw[8:]))
		rel := Reloc{Off: r.bo.Uint64(raw), Type: typ}
		if size == relaSize {
			rel.Addend = int64(r.bo.Uint64(raw[16:]))
		}
		// in a compressed section offsets count uncompressed bytes
		if rel.Off >= target.Size() && target.Flags&elf.SHF_COMPRESSED == 0 {
			return nil, fmt.Errorf("relocation %d: offset %#x lies outside %s (%#x bytes)", k, rel.Off, target.Name, target.Size())
		}
		if uint64(n) >= uint64(len(r.symbols)) && n != 0 {
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
