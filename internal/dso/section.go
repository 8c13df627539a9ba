// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
)

// buildIDFromSections looks at note sections of a file on disk: where it has
// debug information only, PT_NOTE may point nowhere.
func (f *File) buildIDFromSections(h elf.Header64) {
	headers, err := f.sectionHeaders(h)
	if err != nil {
		return // then it has none that could be read
	}
	for _, s := range headers {
		if elf.SectionType(s.Type) != elf.SHT_NOTE || s.Size > maxNote {
			continue
		}
		if raw, err := f.chunk(s.Off, s.Size); err == nil && bytes.Contains(raw, []byte("GNU\x00")) {
			if f.BuildID = buildID(raw, s.Addralign); f.BuildID != "" {
				return
			}
		}
	}
}

func (f *File) sectionHeaders(h elf.Header64) ([]elf.Section64, error) {
	if h.Shoff == 0 {
		return nil, nil
	}
	if h.Shentsize != shdrSize {
		return nil, fmt.Errorf("section headers of %d bytes", h.Shentsize)
	}
	count := uint64(h.Shnum)
	if count == 0 { // the first entry has it then
		first, err := f.sectionList(h.Shoff, 1)
		if err != nil {
			return nil, err
		}
		count = first[0].Size
	}
	if count > maxSections {
		return nil, fmt.Errorf("%d section headers", count)
	}
	return f.sectionList(h.Shoff, count)
}

func (f *File) sectionList(at, count uint64) ([]elf.Section64, error) {
	raw, err := f.chunk(at, count*shdrSize)
	if err != nil {
		return nil, err
	}
	list := make([]elf.Section64, count)
	_, err = binary.Decode(raw, binary.LittleEndian, list)
	return list, err
}
