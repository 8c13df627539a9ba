// SPDX-License-Identifier: Apache-2.0

package unwind

import "fmt"

// header is .eh_frame_hdr (Linux Standard Base, 10.6.2).
type header struct {
	frame   uint64 // address of .eh_frame
	count   uint64
	entries int // offset of the search table, 0 for none
}

func readHeader(hdr []byte, addr uint64) (header, error) {
	c := cursor{data: hdr}
	version, frameEnc, countEnc, tableEnc := c.u8(), c.u8(), c.u8(), c.u8()
	if c.bad || version != 1 {
		return header{}, fmt.Errorf(".eh_frame_hdr version %d: %w", version, ErrUnsupported)
	}
	h := header{}
	var err error
	if h.frame, err = c.pointer(frameEnc, addr, addr); err != nil {
		return header{}, fmt.Errorf(".eh_frame_hdr: %w", err)
	}
	// Linkers write the table as pairs of 4 byte offsets from the header, or
	// leave it out.
	if countEnc == encOmit || tableEnc != encDataRel|encSdata4 {
		return h, nil
	}
	if h.count, err = c.pointer(countEnc, addr, addr); err != nil {
		return header{}, fmt.Errorf(".eh_frame_hdr: %w", err)
	}
	if h.count > uint64(len(hdr)-c.at)/8 {
		return header{}, fmt.Errorf(".eh_frame_hdr: %d entries: %w", h.count, ErrMalformed)
	}
	h.entries = c.at
	return h, nil
}

// FrameAddress returns the address of .eh_frame, as the .eh_frame_hdr at addr
// tells it.
func FrameAddress(hdr []byte, addr uint64) (uint64, error) {
	h, err := readHeader(hdr, addr)
	return h.frame, err
}

// ParseHeader reads the entries that the search table of the .eh_frame_hdr at
// hdrAddr lists, as the unwinder of a process does. It needs neither the size
// of .eh_frame nor a terminator: frame may be longer than the section. Without
// a search table it is Parse.
func ParseHeader(hdr []byte, hdrAddr uint64, frame []byte, addr uint64) (*Table, error) {
	h, err := readHeader(hdr, hdrAddr)
	if err != nil {
		return nil, err
	}
	if h.entries == 0 {
		return Parse(frame, addr)
	}
	if h.count > maxFrames {
		return nil, fmt.Errorf(".eh_frame_hdr: %d entries: %w", h.count, ErrUnsupported)
	}
	t, p, err := newParser(frame, addr)
	if err != nil {
		return nil, err
	}
	t.entries = make([]entry, 0, h.count)
	c := cursor{data: hdr, at: h.entries}
	for range h.count {
		start := hdrAddr + uint64(int64(int32(c.u32())))
		at := hdrAddr + uint64(int64(int32(c.u32()))) - addr
		if at >= uint64(len(frame)) {
			return nil, fmt.Errorf(".eh_frame_hdr: entry of %#x: %w", start, ErrMalformed)
		}
		n := len(t.entries)
		if next, err := p.record(int(at)); err != nil || next == 0 {
			return nil, fmt.Errorf(".eh_frame_hdr: entry of %#x: %w", start, ErrMalformed)
		}
		if len(t.entries) > n && t.entries[n].start != start {
			return nil, fmt.Errorf(".eh_frame_hdr: entry of %#x is of %#x: %w", start, t.entries[n].start, ErrMalformed)
		}
	}
	t.finish()
	return t, nil
}
