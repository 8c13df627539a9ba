// SPDX-License-Identifier: Apache-2.0

// Package elfobj reads, edits and writes relocatable ELF64 objects: compiler
// output (.o) and kernel modules (.ko) of any architecture and byte order.
//
// A File holds pointers where ELF holds indices: a relocation points at its
// symbol, a symbol at its section. Sections and symbols can so be added,
// removed and reordered freely; indices exist only while reading and writing.
// Symbol tables, string tables and ordinary relocation sections are not
// sections of the model: they are taken apart on reading and made anew on
// writing.
//
// The format is the System V gABI, chapter 4; SHN_LIVEPATCH and
// SHF_RELA_LIVEPATCH are Documentation/livepatch/module-elf-format.rst's.
//
// MIPS packs r_info in an order of its own on little-endian machines
// (mips64 psABI); the model hides it.
//
// Read refuses whatever is not ELF64 ET_REL and whatever contradicts itself;
// it never panics and never allocates more than a small multiple of its input.
package elfobj

import "debug/elf"

const (
	// SHNLivepatch marks a symbol that the kernel's livepatch core resolves.
	SHNLivepatch elf.SectionIndex = 0xff20
	// SHFRelaLivepatch marks a relocation section that the livepatch core applies.
	SHFRelaLivepatch elf.SectionFlag = 0x00100000
)

// File is one relocatable object. The zero index entries of ELF's section and
// symbol tables are not part of it.
type File struct {
	Machine  elf.Machine
	Order    elf.Data // ELFDATA2LSB or ELFDATA2MSB
	OSABI    elf.OSABI
	Flags    uint32 // e_flags, processor specific
	Sections []*Section
	Symbols  []*Symbol
}

// Section is a section with the relocations that apply to it.
//
// A relocation section of its own (a livepatch one, or one that does not
// follow the ".rela<name>" rule) stays in the model as a Section of type
// SHT_RELA whose Relocs are its own entries and whose Target is the section
// they apply to.
type Section struct {
	Name      string
	Type      elf.SectionType
	Flags     elf.SectionFlag
	Align     uint64
	EntSize   uint64
	Data      []byte          // nil for SHT_NOBITS
	NoBits    uint64          // size in bytes of a SHT_NOBITS section
	Relocs    []Reloc         // in file order
	RelaFlags elf.SectionFlag // flags of the ".rela" section beyond SHF_INFO_LINK
	// Implicit: the relocations came from a SHT_REL section. Their addends lie
	// in the fields themselves and Addend is 0.
	Implicit bool
	Target   *Section // of a stand-alone SHT_RELA
	LinkTo   *Section // sh_link of a section with SHF_LINK_ORDER
	Group    *Group   // of a SHT_GROUP
}

// Group is the content of a SHT_GROUP section.
type Group struct {
	Flags     uint32
	Signature *Symbol
	Members   []*Section
}

// Symbol is a symbol table entry. Section is nil unless the symbol is defined
// in a section; Index then holds the special index (undefined, absolute,
// common, livepatch).
type Symbol struct {
	Name    string
	Bind    elf.SymBind
	Type    elf.SymType
	Other   byte // visibility and processor bits
	Section *Section
	Index   elf.SectionIndex
	Value   uint64
	Size    uint64
}

// Reloc is a relocation with an explicit addend. Sym is nil for symbol 0.
type Reloc struct {
	Off    uint64
	Type   uint32 // low half of r_info, e.g. elf.R_X86_64
	Sym    *Symbol
	Addend int64
}

// Size is the section's size in memory, in bytes.
func (s *Section) Size() uint64 {
	if s.Type == elf.SHT_NOBITS {
		return s.NoBits
	}
	return uint64(len(s.Data))
}

// Exec reports whether the section holds code.
func (s *Section) Exec() bool { return s.Flags&elf.SHF_EXECINSTR != 0 }

// packInfo and unpackInfo are ELF64_R_INFO and its inverse.
func packInfo(m elf.Machine, order elf.Data, sym, typ uint32) uint64 {
	if m == elf.EM_MIPS && order == elf.ELFDATA2LSB {
		return uint64(typ)<<32 | uint64(sym)
	}
	return uint64(sym)<<32 | uint64(typ)
}

func unpackInfo(m elf.Machine, order elf.Data, info uint64) (sym, typ uint32) {
	if m == elf.EM_MIPS && order == elf.ELFDATA2LSB {
		return uint32(info), uint32(info >> 32)
	}
	return uint32(info >> 32), uint32(info)
}

// Undefined reports whether the symbol must be found elsewhere.
func (s *Symbol) Undefined() bool { return s.Section == nil && s.Index == elf.SHN_UNDEF }

// Defined reports whether the symbol lies in one of the file's sections.
func (s *Symbol) Defined() bool { return s.Section != nil }

// Section returns the first section of that name, or nil.
func (f *File) Section(name string) *Section {
	for _, s := range f.Sections {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Symbol returns the first symbol of that name that is neither a section nor
// a file symbol, or nil.
func (f *File) Symbol(name string) *Symbol {
	for _, s := range f.Symbols {
		if s.Name == name && s.Type != elf.STT_SECTION && s.Type != elf.STT_FILE {
			return s
		}
	}
	return nil
}
