// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
)

const (
	ehdrSize = 64
	phdrSize = 56
	shdrSize = 64
	symSize  = 24
	relaSize = 24
	pageSize = 4096
	// addresses above this are the kernel's, and ReadAt counts in int64.
	maxAddress = 1 << 62
)

func open(r io.ReaderAt, base uint64, memory bool) (*File, error) {
	f := &File{r: r, Memory: memory}
	if err := f.read(base); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrFormat, err)
	}
	f.lazy()
	return f, nil
}

func (f *File) read(base uint64) error {
	if base > maxAddress || base%pageSize != 0 {
		return fmt.Errorf("its start %#x is no address of a mapping", base)
	}
	h, err := f.header(base)
	if err != nil {
		return err
	}
	headers, err := f.programHeaders(h, base)
	if err != nil {
		return err
	}
	if err := f.load(headers, base); err != nil {
		return err
	}
	for _, p := range headers {
		if err := f.programHeader(p); err != nil {
			return fmt.Errorf("program header of type %v: %w", elf.ProgType(p.Type), err)
		}
	}
	if f.Dynamic.Size > 0 {
		if err := f.dynamic(); err != nil {
			return fmt.Errorf("dynamic section: %w", err)
		}
	}
	if !f.Memory && f.BuildID == "" { // files with debug information only have segments without bytes
		f.buildIDFromSections(h)
	}
	return nil
}

func (f *File) header(base uint64) (h elf.Header64, err error) {
	var raw [ehdrSize]byte
	if err := f.readAt(raw[:], base); err != nil {
		return h, fmt.Errorf("ELF header: %w", err)
	}
	switch {
	case string(raw[:4]) != elf.ELFMAG:
		return h, errors.New("no ELF magic at its start")
	case elf.Class(raw[elf.EI_CLASS]) != elf.ELFCLASS64 || elf.Data(raw[elf.EI_DATA]) != elf.ELFDATA2LSB:
		return h, ErrClass
	}
	if _, err := binary.Decode(raw[:], binary.LittleEndian, &h); err != nil {
		return h, err
	}
	f.Type, f.Machine, f.Entry = elf.Type(h.Type), elf.Machine(h.Machine), h.Entry
	if f.Type != elf.ET_DYN && f.Type != elf.ET_EXEC {
		return h, fmt.Errorf("type is %v", f.Type)
	}
	if h.Phentsize != phdrSize || h.Phnum == 0 || h.Phnum > maxHeaders {
		return h, fmt.Errorf("%d program headers of %d bytes", h.Phnum, h.Phentsize)
	}
	return h, nil
}

func (f *File) programHeaders(h elf.Header64, base uint64) ([]elf.Prog64, error) {
	if h.Phoff > maxAddress {
		return nil, errors.New("program headers: out of reach")
	}
	raw, err := f.chunk(base+h.Phoff, uint64(h.Phnum)*phdrSize)
	if err != nil {
		return nil, fmt.Errorf("program headers: %w", err)
	}
	list := make([]elf.Prog64, h.Phnum)
	_, err = binary.Decode(raw, binary.LittleEndian, list)
	return list, err
}

// load takes the PT_LOAD headers, and the bias that follows from where the ELF
// header is mapped.
func (f *File) load(headers []elf.Prog64, base uint64) error {
	end, first := uint64(0), -1
	for _, p := range headers {
		if elf.ProgType(p.Type) != elf.PT_LOAD {
			continue
		}
		switch {
		case p.Filesz > p.Memsz:
			return errors.New("a segment has more bytes in the file than in memory")
		case p.Vaddr > maxAddress || p.Memsz > maxAddress || p.Off > maxAddress:
			return errors.New("a segment is out of reach")
		case p.Vaddr < end:
			return errors.New("segments overlap or are out of order")
		case p.Vaddr%pageSize != p.Off%pageSize:
			return errors.New("a segment can't be mapped by pages")
		}
		end = p.Vaddr + p.Memsz
		if p.Off < pageSize && first < 0 && p.Filesz > 0 {
			first = len(f.Segments)
		}
		f.Segments = append(f.Segments, Segment{Vaddr: p.Vaddr, Memsz: p.Memsz, Offset: p.Off, Filesz: p.Filesz, Align: p.Align, Flags: p.Flags})
	}
	if len(f.Segments) == 0 {
		return errors.New("no segment to load")
	}
	if !f.Memory {
		return nil
	}
	if first < 0 {
		return errors.New("the ELF header is in no segment")
	}
	start := f.Segments[first].Vaddr - f.Segments[first].Offset // may lie below 0 only in a made-up file
	f.Bias = base - start
	if start > base || f.Bias+end > maxAddress {
		return errors.New("its segments can't lie there")
	}
	if f.Type == elf.ET_EXEC && f.Bias != 0 {
		return errors.New("a program of fixed addresses lies elsewhere")
	}
	return nil
}

func (f *File) programHeader(p elf.Prog64) error {
	at := Range{p.Vaddr, p.Memsz}
	switch elf.ProgType(p.Type) {
	case elf.PT_TLS:
		f.TLS, f.TLSAlign = at, p.Align
	case elf.PT_GNU_RELRO:
		f.Relro = at
	case elf.PT_DYNAMIC:
		f.Dynamic = Range{p.Vaddr, p.Filesz} // without bytes in a file of debug information
	case elf.PT_GNU_EH_FRAME:
		f.EHFrameHdr = at
	case elf.PT_INTERP:
		s, err := f.stringAt(p.Vaddr, min(p.Filesz, 4096))
		if err != nil && p.Filesz > 0 {
			return err
		}
		f.Interp = s
	case elf.PT_NOTE:
		if f.BuildID != "" || p.Filesz == 0 || p.Filesz > maxNote {
			return nil
		}
		raw, err := f.segmentBytes(p)
		if err != nil {
			return err
		}
		f.BuildID = buildID(raw, p.Align)
	}
	return nil
}

// segmentBytes are the bytes of a header other than PT_LOAD, by its offset in a
// file and by its address in memory.
func (f *File) segmentBytes(p elf.Prog64) ([]byte, error) {
	if !f.Memory {
		return f.chunk(p.Off, p.Filesz)
	}
	return f.Bytes(p.Vaddr, p.Filesz)
}

// buildID looks for NT_GNU_BUILD_ID among notes.
func buildID(raw []byte, align uint64) string {
	pad := func(n uint32) uint64 { // binutils aligns notes to 4 but in segments aligned to 8
		if align == 8 {
			return (uint64(n) + 7) &^ 7
		}
		return (uint64(n) + 3) &^ 3
	}
	for len(raw) >= 12 {
		name, desc, kind := binary.LittleEndian.Uint32(raw), binary.LittleEndian.Uint32(raw[4:]), binary.LittleEndian.Uint32(raw[8:])
		start := pad(12 + min(name, 1<<20))
		end := start + uint64(desc)
		if end > uint64(len(raw)) {
			return ""
		}
		if kind == 3 && bytes.Equal(raw[12:12+name], []byte("GNU\x00")) && desc > 0 && desc <= 64 {
			return hex.EncodeToString(raw[start:end])
		}
		raw = raw[min(pad(uint32(end)), uint64(len(raw))):]
	}
	return ""
}
