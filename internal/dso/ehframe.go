// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"encoding/binary"
	"fmt"
)

// EHFrame says where .eh_frame lies: from where PT_GNU_EH_FRAME's table points
// to, up to the end of the bytes of that segment. It has an end of its own, a
// length of zero, that comes before. A file without it has Size 0.
func (f *File) EHFrame() (Range, error) {
	h := f.EHFrameHdr
	if h.Size < 8 {
		return Range{}, nil
	}
	raw, err := f.Bytes(h.Start, min(h.Size, 12))
	if err != nil {
		return Range{}, err
	}
	if raw[0] != 1 {
		return Range{}, fmt.Errorf("%w: .eh_frame_hdr of version %d", ErrFormat, raw[0])
	}
	enc := raw[1]
	var at uint64
	switch enc & 0x0f { // DW_EH_PE_*: the form of the pointer
	case 0x03: // udata4
		at = uint64(binary.LittleEndian.Uint32(raw[4:]))
	case 0x0b: // sdata4
		at = uint64(int64(int32(binary.LittleEndian.Uint32(raw[4:]))))
	case 0x00, 0x04, 0x0c: // absptr, udata8, sdata8
		if len(raw) < 12 {
			return Range{}, fmt.Errorf("%w: .eh_frame_hdr ends early", ErrFormat)
		}
		at = binary.LittleEndian.Uint64(raw[4:])
	default:
		return Range{}, fmt.Errorf("%w: .eh_frame_hdr: pointer of kind %#x", ErrFormat, enc)
	}
	switch enc & 0xf0 { // and what it counts from
	case 0x00:
	case 0x10: // pcrel
		at += h.Start + 4
	case 0x30: // datarel
		at += h.Start
	default:
		return Range{}, fmt.Errorf("%w: .eh_frame_hdr: pointer of kind %#x", ErrFormat, enc)
	}
	s, ok := f.segment(at)
	if !ok || at-s.Vaddr >= s.Filesz {
		return Range{}, fmt.Errorf("%w: .eh_frame at %#x is in no segment", ErrFormat, at)
	}
	return Range{at, s.Vaddr + s.Filesz - at}, nil
}
