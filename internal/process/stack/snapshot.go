// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"encoding/binary"
	"io"
)

const (
	// redZone is what functions may use below the stack pointer.
	redZone  = 128
	pageSize = 4096
	// maxSegments bounds the pieces of memory of one thread.
	maxSegments = 256
)

// snapshot holds the stack of one thread: what was read at first, and pieces
// that were asked for later. It implements unwind.Memory.
type snapshot struct {
	first, limit int // bytes of the first read, and of all

	mem      io.ReaderAt
	segments []segment
	last     int // the segment of the last word
	total    int
	bufs     [][]byte // of the segments, kept for the next thread
}

type segment struct {
	base uint64
	data []byte
}

// open reads the first piece: from below sp up to end, where that is known.
func (s *snapshot) open(mem io.ReaderAt, sp, end uint64) {
	s.mem, s.last, s.total = mem, 0, 0
	s.segments = s.segments[:0]
	from := sp&^7 - redZone
	size := uint64(s.first)
	if end != 0 {
		size = min(size, (end-from+7)&^7)
	}
	buf := s.buffer()[:size]
	if data := s.read(buf, from); len(data) > redZone {
		s.segments = append(s.segments, segment{from, data})
		return
	}
	// The stack pointer is at the very beginning of the mapping.
	if data := s.read(buf, from+redZone); len(data) > 0 {
		s.segments = append(s.segments, segment{from + redZone, data})
	}
}

// buffer is for the next segment, of as many bytes as one may have.
func (s *snapshot) buffer() []byte {
	n := len(s.segments)
	if n == len(s.bufs) {
		s.bufs = append(s.bufs, make([]byte, s.first))
	}
	return s.bufs[n]
}

// read fills p from an address, as far as it gets: whole words.
func (s *snapshot) read(p []byte, at uint64) []byte {
	if int64(at) < 0 {
		return nil // addresses of the kernel
	}
	n, err := s.mem.ReadAt(p, int64(at))
	if n <= 0 && err != nil {
		// Some readers give all or nothing: try to the end of the page.
		if rest := pageSize - at%pageSize; rest < uint64(len(p)) {
			n, _ = s.mem.ReadAt(p[:rest], int64(at))
		}
	}
	n = max(n, 0) &^ 7
	s.total += n
	return p[:n]
}

// Word implements unwind.Memory.
func (s *snapshot) Word(addr uint64) (uint64, bool) {
	for i := range s.segments {
		g := &s.segments[(s.last+i)%len(s.segments)]
		if off := addr - g.base; addr >= g.base && len(g.data) >= 8 && off <= uint64(len(g.data)-8) {
			s.last = (s.last + i) % len(s.segments)
			return binary.LittleEndian.Uint64(g.data[off:]), true
		}
	}
	if data := s.more(addr&^7, 0); len(data) >= 8 && addr%8 == 0 {
		return binary.LittleEndian.Uint64(data), true
	} else if len(data) >= 16 {
		return binary.LittleEndian.Uint64(data[addr%8:]), true
	}
	return 0, false
}

// more reads another piece, within the bounds; nil when there is none.
func (s *snapshot) more(at, end uint64) []byte {
	size := min(s.first, s.limit-s.total)
	if end != 0 && end > at {
		size = int(min(uint64(size), (end-at+7)&^7))
	}
	if size < 8 || len(s.segments) >= maxSegments {
		return nil
	}
	data := s.read(s.buffer()[:size], at)
	if len(data) > 0 {
		s.segments = append(s.segments, segment{at, data})
		s.last = len(s.segments) - 1
	}
	return data
}

// reach is the address behind the first piece.
func (s *snapshot) reach() uint64 {
	if len(s.segments) == 0 {
		return 0
	}
	return s.segments[0].base + uint64(len(s.segments[0].data))
}
