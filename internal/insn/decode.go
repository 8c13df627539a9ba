// SPDX-License-Identifier: Apache-2.0

package insn

import (
	"encoding/binary"
	"errors"
	"fmt"
)

var (
	// ErrTruncated says that the bytes end inside an instruction.
	ErrTruncated = errors.New("the bytes end inside an instruction")
	// ErrTooLong says that the instruction has more than MaxLen bytes.
	ErrTooLong = errors.New("the instruction is longer than 15 bytes")
	// ErrUnknown says that the tables do not know the instruction, or that
	// its length depends on the maker of the processor.
	ErrUnknown = errors.New("unknown instruction")
)

// Decode reads the instruction that code starts with. It looks at no more
// than MaxLen bytes. The error is ErrTruncated, ErrTooLong or ErrUnknown.
func Decode(code []byte) (Inst, error) {
	d := decoder{code: code}
	if len(code) > MaxLen {
		d.code = code[:MaxLen]
	}
	d.run()
	if d.err != nil {
		if d.err == ErrTruncated && len(d.code) == MaxLen {
			return Inst{}, ErrTooLong
		}
		return Inst{}, d.err
	}
	d.in.Len = d.pos
	return d.in, nil
}

// Walk calls visit for every instruction of code in order, with its offset.
// It stops at the first error; one of its own names the offset and the bytes.
func Walk(code []byte, visit func(off int, in Inst) error) error {
	for off := 0; off < len(code); {
		in, err := Decode(code[off:])
		if err != nil {
			return fmt.Errorf("offset %#x: bytes % x: %w", off, code[off:min(len(code), off+MaxLen)], err)
		}
		if err := visit(off, in); err != nil {
			return err
		}
		off += in.Len
	}
	return nil
}

// decoder is a cursor over at most MaxLen bytes with a sticky error.
type decoder struct {
	code []byte
	pos  int
	err  error
	in   Inst
}

func (d *decoder) fail(err error) {
	if d.err == nil {
		d.err = err
	}
}

func (d *decoder) peek() byte {
	if d.pos >= len(d.code) {
		d.fail(ErrTruncated)
		return 0
	}
	return d.code[d.pos]
}

func (d *decoder) next() byte {
	b := d.peek()
	if d.err == nil {
		d.pos++
	}
	return b
}

// value reads a little-endian integer of n bytes and extends its sign. Sizes
// that no machine word has (enter, extrq) are skipped and read as 0.
func (d *decoder) value(n int) (off int, v int64) {
	off = d.pos
	if d.err != nil {
		return off, 0
	}
	if len(d.code)-d.pos < n {
		d.fail(ErrTruncated)
		return off, 0
	}
	b := d.code[d.pos:]
	d.pos += n
	switch n {
	case 1:
		v = int64(int8(b[0]))
	case 2:
		v = int64(int16(binary.LittleEndian.Uint16(b)))
	case 4:
		v = int64(int32(binary.LittleEndian.Uint32(b)))
	case 8:
		v = int64(binary.LittleEndian.Uint64(b))
	}
	return off, v
}

func (d *decoder) disp(n int) {
	d.in.DispSize = n
	d.in.DispOff, d.in.Disp = d.value(n)
}

func (d *decoder) imm(n int) {
	d.in.ImmSize = n
	d.in.ImmOff, d.in.Imm = d.value(n)
}

func (d *decoder) rel(n int) {
	d.in.RelSize = n
	d.in.RelOff, d.in.Rel = d.value(n)
}

func (d *decoder) run() {
	d.prefixes()
	shape := d.opcode()
	if d.err != nil {
		return
	}
	d.operands(shape)
	if d.err != nil {
		return
	}
	if !defined(&d.in) {
		d.fail(ErrUnknown)
		return
	}
	d.in.Kind = kind(&d.in)
}

// prefixes reads the legacy prefixes and REX. Only a REX right before the
// opcode counts; the processor ignores others.
func (d *decoder) prefixes() {
	for d.err == nil {
		b := d.peek()
		switch b {
		case 0x66:
			d.in.Prefix |= OpSize
		case 0x67:
			d.in.Prefix |= AddrSize
		case 0xf2:
			d.in.Prefix |= RepNE
		case 0xf3:
			d.in.Prefix |= Rep
		case 0xf0:
			d.in.Prefix |= Lock
		case 0x26, 0x2e, 0x36, 0x3e, 0x64, 0x65:
			d.in.Prefix |= Segment
		default:
			if b>>4 != 4 {
				return
			}
			d.in.REX = b
			d.pos++
			continue
		}
		d.in.REX = 0
		d.pos++
	}
}

// opcode reads the escapes and the opcode, and returns the letter of its
// table. The encodings that replace prefixes refuse those before them.
func (d *decoder) opcode() byte {
	in := &d.in
	b := d.next()
	if d.err != nil {
		return '.'
	}
	hadREX := in.REX != 0
	var t *opmap
	switch b {
	case 0x0f:
		in.Map, t = Map0F, &map0F
		switch d.peek() {
		case 0x38:
			d.pos++
			in.Map, t = Map0F38, &map0F38
		case 0x3a:
			d.pos++
			in.Map, t = Map0F3A, &map0F3A
		}
		in.Opcode = d.next()
	case 0xc5:
		in.Enc = VEX
		d.next()
		t = d.vexMap(1)
	case 0xc4:
		in.Enc = VEX
		m := d.next() & 31
		if d.next()&0x80 != 0 {
			in.REX = 0x48
		}
		t = d.vexMap(m)
	case 0x62:
		in.Enc = EVEX
		p0, p1 := d.next(), d.next()
		d.next()
		if p0&0x08 != 0 || p1&0x04 == 0 { // both fixed; set otherwise by APX
			d.fail(ErrUnknown)
			return '.'
		}
		t = d.evexMap(p0 & 7)
	case 0x8f:
		if m := d.peek() & 31; m >= 8 {
			in.Enc = XOP
			d.next()
			d.next()
			if in.Prefix&^(Segment|AddrSize) != 0 || hadREX {
				d.fail(ErrUnknown)
			}
			return d.xop(m)
		}
		fallthrough
	default:
		in.Opcode, t = b, &map1Byte
	}
	if in.Enc != Legacy && (in.Prefix&^(Segment|AddrSize) != 0 || hadREX) {
		d.fail(ErrUnknown)
	}
	if t == nil {
		d.fail(ErrUnknown)
	}
	if d.err != nil {
		return '.'
	}
	return t.at(in.Opcode)
}

func (d *decoder) vexMap(m byte) *opmap {
	d.in.Opcode = d.next()
	switch m {
	case 1:
		d.in.Map = Map0F
		return &vex0F
	case 2:
		d.in.Map = Map0F38
		return &vex0F38
	case 3:
		d.in.Map = Map0F3A
		return &vex0F3A
	}
	return nil
}

func (d *decoder) evexMap(m byte) *opmap {
	d.in.Opcode = d.next()
	switch m {
	case 1:
		d.in.Map = Map0F
		return &evex0F
	case 2:
		d.in.Map = Map0F38
		return &evex0F38
	case 3:
		d.in.Map = Map0F3A
		return &evex0F3A
	case 5:
		d.in.Map = Map5
		return &evexMap5
	case 6:
		d.in.Map = Map6
		return &evexMap6
	}
	return nil
}

// xop reads an instruction of AMD's XOP extension; the map alone decides the
// immediate (AMD APM volume 3, A.1.2). Kernel code has none.
func (d *decoder) xop(m byte) byte {
	d.in.Opcode = d.next()
	switch m {
	case 8:
		d.in.Map = MapXOP8
		return 'b'
	case 9:
		d.in.Map = MapXOP9
		return 'm'
	case 10:
		d.in.Map = MapXOPA
		return 'i'
	}
	d.fail(ErrUnknown)
	return '.'
}

func (d *decoder) operands(shape byte) {
	in := &d.in
	rexW := in.REX&8 != 0
	opSize := 4
	if in.Prefix&OpSize != 0 && !rexW {
		opSize = 2
	}
	switch shape {
	case '-':
	case 'm':
		d.modRM()
	case 'r':
		in.HasModRM, in.ModRM = true, d.next()
	case 'b':
		d.modRM()
		d.imm(1)
	case 'z':
		d.modRM()
		if in.Opcode == 0xc7 && in.ModRM == 0xf8 { // xbegin
			d.branch(opSize)
			return
		}
		d.imm(opSize)
	case 'i':
		d.modRM()
		d.imm(4)
	case 'g':
		d.modRM()
		switch {
		case in.Reg() > 1:
		case in.Opcode == 0xf6:
			d.imm(1)
		default:
			d.imm(opSize)
		}
	case 'x':
		d.modRM()
		if in.Prefix&(OpSize|RepNE) != 0 {
			d.imm(2)
		}
	case 'p':
		d.modRM()
		if in.Prefix&Rep == 0 {
			d.fail(ErrUnknown)
		}
	case '1':
		d.imm(1)
	case '2':
		d.imm(2)
	case 'e':
		d.imm(3)
	case '4':
		d.imm(opSize)
	case 'v':
		if rexW {
			opSize = 8
		}
		d.imm(opSize)
	case 'o':
		if in.Prefix&AddrSize != 0 {
			d.disp(4)
		} else {
			d.disp(8)
		}
	case 'j':
		d.rel(1)
	case 'J':
		d.branch(opSize)
	default:
		d.fail(ErrUnknown)
	}
}

// branch reads a near branch's displacement. With an operand-size prefix AMD
// reads two bytes and Intel four, so that form is refused.
func (d *decoder) branch(opSize int) {
	if opSize == 2 {
		d.fail(ErrUnknown)
		return
	}
	d.rel(4)
}

// modRM reads ModRM, SIB and the displacement (SDM volume 2, tables 2-2, 2-3).
func (d *decoder) modRM() {
	in := &d.in
	in.HasModRM, in.ModRM = true, d.next()
	mod, rm := in.Mod(), in.RM()
	if mod == 3 || d.err != nil {
		return
	}
	if rm == 4 {
		in.HasSIB, in.SIB = true, d.next()
		rm = in.SIB & 7
	} else if mod == 0 && rm == 5 {
		in.RIPRel = true
	}
	switch {
	case mod == 1:
		d.disp(1)
	case mod == 2, rm == 5:
		d.disp(4)
	}
}

// kind classifies a well-formed instruction.
func kind(in *Inst) Kind {
	if in.Enc != Legacy {
		return Other
	}
	op := in.Opcode
	switch in.Map {
	case Map1Byte:
		switch {
		case op == 0xe8:
			return Call
		case op == 0xe9, op == 0xeb:
			return Jump
		case in.RelSize > 0:
			return CondJump
		case op == 0xc2, op == 0xc3, op == 0xca, op == 0xcb, op == 0xcf:
			return Ret
		case op == 0xcc, op == 0xf1:
			return Trap
		case op == 0x90 && in.REX&1 == 0 && in.Prefix&Rep == 0: // else xchg %r8, pause
			return Nop
		case op == 0xff && (in.Reg() == 2 || in.Reg() == 3):
			return IndirectCall
		case op == 0xff && (in.Reg() == 4 || in.Reg() == 5):
			return IndirectJump
		}
	case Map0F:
		switch {
		case op>>4 == 8:
			return CondJump
		case op == 0x07, op == 0x35:
			return Ret
		case op == 0x0b, op == 0xb9, op == 0xff:
			return Trap
		case op == 0x1f:
			return Nop
		case op == 0x1e && in.Prefix&Rep != 0 && (in.ModRM == 0xfa || in.ModRM == 0xfb):
			return Endbr
		}
	}
	return Other
}
