// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"math"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Image is a vmlinux ELF file. Its slices alias the bytes that Open got, so
// the caller must not change them. Methods may be called concurrently.
type Image struct {
	raw      []byte
	sections []Section
	segments []segment

	lowest, highest uint64 // loaded addresses in the upper half
}

// Section is one section of the image that has a name. Data is empty for a
// section without bytes in the file (.bss).
type Section struct {
	Name  string
	Addr  uint64
	Size  uint64
	Type  elf.SectionType
	Flags elf.SectionFlag
	Data  []byte
}

type segment struct {
	addr uint64
	data []byte
	note bool
}

// Open reads the headers of a 64-bit little-endian vmlinux. It needs section
// headers, which the vmlinux inside a vmlinuz has, but no symbol table.
func Open(b []byte) (*Image, error) {
	f, err := elf.NewFile(bytes.NewReader(b))
	if err != nil {
		return nil, code.New("TS2101", "vmlinux", "").With(err)
	}
	if f.Class != elf.ELFCLASS64 || f.Data != elf.ELFDATA2LSB {
		return nil, code.New("TS2101", "vmlinux", fmt.Sprintf("it is %s %s, not 64-bit little-endian", f.Class, f.Data))
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return nil, code.New("TS2101", "vmlinux", fmt.Sprintf("its ELF type is %s, not an executable", f.Type))
	}
	img := &Image{raw: b, lowest: math.MaxUint64}
	var total uint64
	for _, s := range f.Sections {
		if s.Name == "" {
			continue
		}
		out := Section{Name: s.Name, Addr: s.Addr, Size: s.Size, Type: s.Type, Flags: s.Flags}
		// The percpu section is linked at 0 on x86 before 6.15 and is left out.
		if s.Flags&elf.SHF_ALLOC != 0 && s.Addr >= 1<<63 && s.Size <= math.MaxUint64-s.Addr {
			img.lowest, img.highest = min(img.lowest, s.Addr), max(img.highest, s.Addr+s.Size)
		}
		if s.Type != elf.SHT_NOBITS {
			if out.Data, err = slice(b, s.Offset, s.FileSize); err != nil {
				return nil, code.New("TS2103", "vmlinux: section "+s.Name, "").With(err)
			}
			if total += s.FileSize; total > uint64(len(b)) {
				return nil, code.New("TS2103", "vmlinux: section "+s.Name, "the sections overlap one another in the file")
			}
		}
		img.sections = append(img.sections, out)
	}
	for i, p := range f.Progs {
		if p.Type != elf.PT_LOAD && p.Type != elf.PT_NOTE {
			continue
		}
		data, err := slice(b, p.Off, p.Filesz)
		if err != nil {
			return nil, code.New("TS2103", fmt.Sprintf("vmlinux: segment %d", i), "").With(err)
		}
		img.segments = append(img.segments, segment{p.Vaddr, data, p.Type == elf.PT_NOTE})
	}
	if len(img.segments) == 0 {
		return nil, code.New("TS2101", "vmlinux", "it has no program headers")
	}
	return img, nil
}

func slice(b []byte, off, n uint64) ([]byte, error) {
	if n > uint64(len(b)) || off > uint64(len(b))-n {
		return nil, fmt.Errorf("bytes %#x+%#x lie behind the end of the file, %#x", off, n, len(b))
	}
	return b[off : off+n : off+n], nil
}

// Sections returns the sections in the order of the file.
func (m *Image) Sections() []Section { return slices.Clone(m.sections) }

// Section returns the bytes and the address of the first section of that name.
func (m *Image) Section(name string) (data []byte, addr uint64, ok bool) {
	for _, s := range m.sections {
		if s.Name == name {
			return s.Data, s.Addr, true
		}
	}
	return nil, 0, false
}

// At returns the n bytes that the image holds for a link-time virtual
// address, as the linker left them: relocations of vmlinux itself are applied,
// but nothing that the kernel changes in itself at boot (alternatives,
// paravirt, static calls, ftrace sites, retpolines, sealed ENDBR).
// The bytes must lie in one segment of the file; .bss has none.
func (m *Image) At(addr uint64, n int) ([]byte, error) {
	for _, s := range m.segments {
		if s.note || addr < s.addr || addr-s.addr >= uint64(len(s.data)) {
			continue
		}
		off := addr - s.addr
		if n < 0 || uint64(n) > uint64(len(s.data))-off {
			break
		}
		return s.data[off : off+uint64(n) : off+uint64(n)], nil
	}
	return nil, fmt.Errorf("kernel image: no bytes for address %#x+%#x", addr, n)
}

// BTF returns the raw bytes of the kernel's type information, nil when it was
// built without CONFIG_DEBUG_INFO_BTF.
func (m *Image) BTF() []byte {
	b, _, _ := m.Section(".BTF")
	return b
}

// BuildID returns the GNU build-id in lower-case hexadecimal, as
// /sys/kernel/notes shows it for the running kernel; "" when there is none.
func (m *Image) BuildID() string {
	for _, s := range m.segments {
		if s.note {
			if id := buildID(s.data); id != "" {
				return id
			}
		}
	}
	for _, s := range m.sections {
		if s.Type == elf.SHT_NOTE {
			if id := buildID(s.Data); id != "" {
				return id
			}
		}
	}
	return ""
}

// buildID walks ELF notes: name size, descriptor size, type, then name and
// descriptor, each padded to four bytes.
func buildID(b []byte) string {
	const ntGNUBuildID = 3
	for len(b) >= 12 {
		nameLen := uint64(binary.LittleEndian.Uint32(b))
		descLen := uint64(binary.LittleEndian.Uint32(b[4:]))
		typ := binary.LittleEndian.Uint32(b[8:])
		desc := 12 + (nameLen+3)&^3
		next := desc + (descLen+3)&^3
		if desc+descLen > uint64(len(b)) {
			return ""
		}
		if typ == ntGNUBuildID && nameLen == 4 && string(b[12:16]) == "GNU\x00" && descLen > 0 {
			return hex.EncodeToString(b[desc : desc+descLen])
		}
		b = b[min(next, uint64(len(b))):]
	}
	return ""
}
