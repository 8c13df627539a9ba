// SPDX-License-Identifier: Apache-2.0

package unwind

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Pointer encodings (Linux Standard Base, 10.5.1).
const (
	encAbsolute = 0x00
	encULEB     = 0x01
	encUdata2   = 0x02
	encUdata4   = 0x03
	encUdata8   = 0x04
	encSLEB     = 0x09
	encSdata2   = 0x0a
	encSdata4   = 0x0b
	encSdata8   = 0x0c
	encForm     = 0x0f

	encPCRel    = 0x10
	encDataRel  = 0x30
	encBase     = 0x70
	encIndirect = 0x80
	encOmit     = 0xff
)

// cursor reads from a piece of a section. A read beyond its end sets bad, and
// from then on every read gives 0.
type cursor struct {
	data []byte
	at   int
	bad  bool
}

func (c *cursor) take(n int) []byte {
	if c.bad || n < 0 || n > len(c.data)-c.at {
		c.bad = true
		return nil
	}
	b := c.data[c.at : c.at+n]
	c.at += n
	return b
}

func (c *cursor) u8() byte {
	if b := c.take(1); b != nil {
		return b[0]
	}
	return 0
}

func (c *cursor) u16() uint16 {
	if b := c.take(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

func (c *cursor) u32() uint32 {
	if b := c.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (c *cursor) u64() uint64 {
	if b := c.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// uleb reads an unsigned LEB128 number; more than 64 bits are an error.
func (c *cursor) uleb() uint64 {
	var v uint64
	for shift := uint(0); ; shift += 7 {
		b := c.u8()
		if c.bad || shift > 63 || shift == 63 && b > 1 {
			c.bad = true
			return 0
		}
		v |= uint64(b&0x7f) << shift
		if b < 0x80 {
			return v
		}
	}
}

// sleb reads a signed LEB128 number; more than 64 bits are an error.
func (c *cursor) sleb() int64 {
	var v int64
	for shift := uint(0); ; shift += 7 {
		b := c.u8()
		if c.bad || shift > 63 || shift == 63 && b != 0 && b != 0x7f {
			c.bad = true
			return 0
		}
		v |= int64(b&0x7f) << shift
		if b < 0x80 {
			if shift += 7; shift < 64 && b&0x40 != 0 {
				v |= -1 << shift
			}
			return v
		}
	}
}

// pointer reads an encoded pointer. addr is the virtual address of c.data[0];
// base is what data-relative pointers count from, 0 where there are none.
func (c *cursor) pointer(enc byte, addr, base uint64) (uint64, error) {
	here := addr + uint64(c.at)
	v, err := c.value(enc & encForm)
	if err != nil {
		return 0, err
	}
	switch {
	case enc&encIndirect != 0:
		return 0, fmt.Errorf("pointer encoding %#x: %w", enc, ErrUnsupported)
	case enc&encBase == encPCRel:
		v += here
	case enc&encBase == encDataRel && base != 0:
		v += base
	case enc&encBase != encAbsolute:
		return 0, fmt.Errorf("pointer encoding %#x: %w", enc, ErrUnsupported)
	}
	return v, nil
}

// value reads a number in one of the forms of a pointer.
func (c *cursor) value(form byte) (uint64, error) {
	var v uint64
	switch form {
	case encAbsolute, encUdata8, encSdata8:
		v = c.u64()
	case encULEB:
		v = c.uleb()
	case encUdata2:
		v = uint64(c.u16())
	case encUdata4:
		v = uint64(c.u32())
	case encSLEB:
		v = uint64(c.sleb())
	case encSdata2:
		v = uint64(int64(int16(c.u16())))
	case encSdata4:
		v = uint64(int64(int32(c.u32())))
	default:
		return 0, fmt.Errorf("pointer form %#x: %w", form, ErrUnsupported)
	}
	if c.bad {
		return 0, ErrMalformed
	}
	return v, nil
}

// parser fills a Table.
type parser struct {
	t    *Table
	cies map[int]int32 // by offset; -1 for one that is of an unknown kind
}

// record reads the record at an offset and returns the offset behind it, or 0
// for the terminator. Only a broken length is an error.
func (p *parser) record(at int) (int, error) {
	body, id, next, err := p.frame(at)
	if err != nil || next == 0 {
		return 0, err
	}
	if id == 0 {
		return next, nil // a CIE is read when an entry asks for it
	}
	if len(p.t.entries)+p.t.skipped >= maxFrames {
		return 0, fmt.Errorf("more than %d entries: %w", maxFrames, ErrUnsupported)
	}
	e, err := p.entry(body, id, next)
	switch {
	case err != nil:
		p.t.skipped++
	case e.start < e.end: // an empty one describes code that the linker left out
		p.t.entries = append(p.t.entries, e)
	}
	return next, nil
}

// frame reads the head of a record: where its body begins, its id, and where
// the next record lies, which is 0 for the terminator.
func (p *parser) frame(at int) (body int, id uint32, next int, err error) {
	c := cursor{data: p.t.data, at: at}
	size := uint64(c.u32())
	if size == 0 && !c.bad {
		return 0, 0, 0, nil
	}
	if size == 0xffffffff {
		size = c.u64()
	}
	if c.bad || size < 4 || size > uint64(len(c.data)-c.at) {
		return 0, 0, 0, ErrMalformed
	}
	// In .eh_frame the id has 4 bytes with the long length as well.
	next = c.at + int(size)
	body = c.at
	return body, c.u32(), next, nil
}

// entry reads an FDE whose id lies at offset body.
func (p *parser) entry(body int, id uint32, end int) (entry, error) {
	index, err := p.cie(body - int(id))
	if err != nil {
		return entry{}, err
	}
	ci := &p.t.cies[index]
	c := cursor{data: p.t.data[:end], at: body + 4}
	start, err := c.pointer(ci.encoding, p.t.addr, 0)
	if err != nil {
		return entry{}, err
	}
	size, err := c.value(ci.encoding & encForm)
	if err != nil {
		return entry{}, err
	}
	if ci.augmented {
		c.take(int(min(c.uleb(), uint64(len(c.data)))))
	}
	if c.bad || start+size < start {
		return entry{}, ErrMalformed
	}
	return entry{start: start, end: start + size, cie: index, code: span{uint32(c.at), uint32(end)}}, nil
}

// cie returns the index of the CIE at an offset, which it reads when it is new.
func (p *parser) cie(at int) (int32, error) {
	if at < 0 || at >= len(p.t.data) {
		return 0, ErrMalformed
	}
	if i, ok := p.cies[at]; ok {
		if i < 0 {
			return 0, ErrUnsupported
		}
		return i, nil
	}
	p.cies[at] = -1
	body, id, end, err := p.frame(at)
	if err != nil || end == 0 || id != 0 {
		return 0, ErrMalformed
	}
	one, err := p.readCIE(cursor{data: p.t.data[:end], at: body + 4})
	if err != nil {
		return 0, err
	}
	p.cies[at] = int32(len(p.t.cies))
	p.t.cies = append(p.t.cies, one)
	return p.cies[at], nil
}

func (p *parser) readCIE(c cursor) (cie, error) {
	version := c.u8()
	if version != 1 && version != 3 {
		return cie{}, fmt.Errorf("version %d: %w", version, ErrUnsupported)
	}
	length := bytes.IndexByte(c.data[min(c.at, len(c.data)):], 0)
	if length < 0 || length > maxAugmentation {
		return cie{}, ErrMalformed
	}
	augmentation := string(c.take(length))
	c.u8()
	one := cie{codeAlign: c.uleb(), dataAlign: c.sleb(), encoding: encAbsolute}
	ra := uint64(0)
	if version == 1 {
		ra = uint64(c.u8())
	} else {
		ra = c.uleb()
	}
	if c.bad {
		return cie{}, ErrMalformed
	}
	if ra != RIP {
		return cie{}, fmt.Errorf("return address in column %d: %w", ra, ErrUnsupported)
	}
	if augmentation != "" {
		if augmentation[0] != 'z' {
			return cie{}, fmt.Errorf("augmentation %q: %w", augmentation, ErrUnsupported)
		}
		one.augmented = true
		size := c.uleb()
		if c.bad || size > uint64(len(c.data)-c.at) {
			return cie{}, ErrMalformed
		}
		a := cursor{data: c.data[:c.at+int(size)], at: c.at}
		if err := one.augment(&a, augmentation[1:]); err != nil {
			return cie{}, err
		}
		c.at += int(size)
	}
	one.code = span{uint32(c.at), uint32(len(c.data))}
	return one, nil
}

// augment reads the augmentation data of a CIE.
func (one *cie) augment(c *cursor, letters string) error {
	for _, letter := range letters {
		switch letter {
		case 'R':
			one.encoding = c.u8()
		case 'L':
			c.u8()
		case 'P':
			if enc := c.u8(); enc == encBase&0x50 { // aligned
				return fmt.Errorf("aligned personality: %w", ErrUnsupported)
			} else if _, err := c.value(enc & encForm); err != nil {
				return err
			}
		case 'S':
			one.signal = true
		default:
			return fmt.Errorf("augmentation %q: %w", letters, ErrUnsupported)
		}
	}
	if c.bad {
		return ErrMalformed
	}
	return nil
}
