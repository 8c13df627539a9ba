// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// ReadVaddr fills p from a virtual address on. The bytes must lie in one
// segment. Of a file, what lies behind its bytes in a segment is zero; of a
// process, bytes are what they are now.
func (f *File) ReadVaddr(p []byte, vaddr uint64) error {
	s, ok := f.segment(vaddr)
	if !ok || uint64(len(p)) > s.Vaddr+s.Memsz-vaddr {
		return fmt.Errorf("%w: %d bytes at %#x are in no segment", ErrFormat, len(p), vaddr)
	}
	if f.Memory {
		return f.readAt(p, vaddr+f.Bias)
	}
	have := min(uint64(len(p)), s.Filesz-min(s.Filesz, vaddr-s.Vaddr))
	clear(p[have:])
	if have == 0 {
		return nil
	}
	return f.readAt(p[:have], s.Offset+vaddr-s.Vaddr)
}

// Bytes returns size bytes from a virtual address on, under the rules of
// ReadVaddr, and no more than 64 MiB.
func (f *File) Bytes(vaddr, size uint64) ([]byte, error) {
	s, ok := f.segment(vaddr)
	if !ok || size > s.Vaddr+s.Memsz-vaddr || size > maxTable {
		return nil, fmt.Errorf("%w: %d bytes at %#x are in no segment", ErrFormat, size, vaddr)
	}
	var all []byte
	for uint64(len(all)) < size { // by pieces, so that memory is only taken for what is there
		n := int(min(size-uint64(len(all)), 1<<20))
		all = append(all, make([]byte, n)...)
		if err := f.ReadVaddr(all[len(all)-n:], vaddr+uint64(len(all)-n)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Uint64 reads the 8 bytes at a virtual address: a GOT entry, for one.
func (f *File) Uint64(vaddr uint64) (uint64, error) {
	var b [8]byte
	err := f.ReadVaddr(b[:], vaddr)
	return binary.LittleEndian.Uint64(b[:]), err
}

// chunk reads by the reader's own count: an offset, or an address.
func (f *File) chunk(at, size uint64) ([]byte, error) {
	if size > maxTable || at > maxAddress {
		return nil, fmt.Errorf("%d bytes at %#x are more than there can be", size, at)
	}
	var all []byte
	for uint64(len(all)) < size {
		n := int(min(size-uint64(len(all)), 1<<20))
		all = append(all, make([]byte, n)...)
		if err := f.readAt(all[len(all)-n:], at+uint64(len(all)-n)); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (f *File) readAt(p []byte, at uint64) error {
	if at > maxAddress {
		return fmt.Errorf("address %#x is out of reach", at)
	}
	n, err := f.r.ReadAt(p, int64(at))
	switch {
	case n == len(p):
		return nil
	case err == nil || errors.Is(err, io.EOF):
		return fmt.Errorf("%d bytes at %#x: %w", len(p), at, io.ErrUnexpectedEOF)
	default:
		return fmt.Errorf("%d bytes at %#x: %w", len(p), at, err)
	}
}

// stringAt reads a string that ends in a zero byte, of at most limit bytes.
func (f *File) stringAt(vaddr, limit uint64) (string, error) {
	var s []byte
	for size := uint64(64); ; size *= 4 {
		seg, ok := f.segment(vaddr)
		if !ok {
			return "", fmt.Errorf("a name at %#x is in no segment", vaddr)
		}
		n := min(size, limit, seg.Vaddr+seg.Memsz-vaddr)
		var err error
		if s, err = f.Bytes(vaddr, n); err != nil {
			return "", err
		}
		if i := bytes.IndexByte(s, 0); i >= 0 {
			return string(s[:i]), nil
		}
		if n < size {
			return "", fmt.Errorf("the name at %#x has no end", vaddr)
		}
	}
}
