// SPDX-License-Identifier: Apache-2.0

package unwind

import "fmt"

const (
	// maxSteps bounds the operations of one expression, loops included.
	maxSteps = 1000
	// maxDepth bounds the stack of an expression.
	maxDepth = 64
)

// Operations of DWARF expressions (DWARF 5, 7.7.1).
const (
	opDeref      = 0x06
	opConst1u    = 0x08
	opConst1s    = 0x09
	opConst2u    = 0x0a
	opConst2s    = 0x0b
	opConst4u    = 0x0c
	opConst4s    = 0x0d
	opConst8u    = 0x0e
	opConst8s    = 0x0f
	opConstu     = 0x10
	opConsts     = 0x11
	opDup        = 0x12
	opDrop       = 0x13
	opOver       = 0x14
	opPick       = 0x15
	opSwap       = 0x16
	opRot        = 0x17
	opAbs        = 0x19
	opAnd        = 0x1a
	opDiv        = 0x1b
	opMinus      = 0x1c
	opMod        = 0x1d
	opMul        = 0x1e
	opNeg        = 0x1f
	opNot        = 0x20
	opOr         = 0x21
	opPlus       = 0x22
	opPlusUconst = 0x23
	opShl        = 0x24
	opShr        = 0x25
	opShra       = 0x26
	opXor        = 0x27
	opBra        = 0x28
	opEq         = 0x29
	opGe         = 0x2a
	opGt         = 0x2b
	opLe         = 0x2c
	opLt         = 0x2d
	opNe         = 0x2e
	opSkip       = 0x2f
	opLit0       = 0x30
	opLit31      = 0x4f
	opBreg0      = 0x70
	opBreg31     = 0x8f
	opBregx      = 0x92
	opNop        = 0x96
)

// expr is an expression that is being evaluated.
type expr struct {
	c     cursor
	stack [maxDepth]uint64
	depth int
	bad   bool // the stack ran empty or over
}

func (e *expr) push(v uint64) {
	if e.depth == maxDepth {
		e.bad = true
		return
	}
	e.stack[e.depth] = v
	e.depth++
}

func (e *expr) pop() uint64 {
	if e.depth == 0 {
		e.bad = true
		return 0
	}
	e.depth--
	return e.stack[e.depth]
}

// pick returns the nth value from the top, 0 for the top itself.
func (e *expr) pick(n int) uint64 {
	if n >= e.depth {
		e.bad = true
		return 0
	}
	return e.stack[e.depth-1-n]
}

// evaluate runs an expression. initial, when there is one, is on its stack
// from the start.
func (t *Table) evaluate(code span, r *Regs, mem Memory, initial *uint64) (uint64, error) {
	e := expr{c: cursor{data: t.data[:code.to], at: int(code.from)}}
	if initial != nil {
		e.push(*initial)
	}
	for steps := 0; e.c.at < len(e.c.data); steps++ {
		if steps == maxSteps {
			return 0, fmt.Errorf("expression of more than %d steps: %w", maxSteps, ErrUnsupported)
		}
		if err := e.one(int(code.from), r, mem); err != nil {
			return 0, err
		}
		if e.c.bad || e.bad {
			return 0, fmt.Errorf("expression: %w", ErrMalformed)
		}
	}
	v := e.pop()
	if e.bad {
		return 0, fmt.Errorf("empty expression: %w", ErrMalformed)
	}
	return v, nil
}

func (e *expr) one(from int, r *Regs, mem Memory) error {
	op := e.c.u8()
	switch {
	case op >= opLit0 && op <= opLit31:
		e.push(uint64(op - opLit0))
		return nil
	case op >= opBreg0 && op <= opBreg31:
		return e.register(uint64(op-opBreg0), r)
	case op >= opConst1u && op <= opConsts:
		e.push(e.constant(op))
		return nil
	case op >= opAnd && op <= opXor && op != opNeg && op != opNot && op != opPlusUconst || op >= opEq && op <= opNe:
		return e.binary(op)
	}
	switch op {
	case opNop:
	case opBregx:
		return e.register(e.c.uleb(), r)
	case opDeref:
		v, ok := mem.Word(e.pop())
		if !ok && !e.bad {
			return ErrMemory
		}
		e.push(v)
	case opDup:
		e.push(e.pick(0))
	case opDrop:
		e.pop()
	case opOver:
		e.push(e.pick(1))
	case opPick:
		e.push(e.pick(int(e.c.u8())))
	case opSwap:
		a, b := e.pop(), e.pop()
		e.push(a)
		e.push(b)
	case opRot:
		a, b, c := e.pop(), e.pop(), e.pop()
		e.push(a)
		e.push(c)
		e.push(b)
	case opAbs:
		if v := e.pop(); int64(v) < 0 {
			e.push(-v)
		} else {
			e.push(v)
		}
	case opNeg:
		e.push(-e.pop())
	case opNot:
		e.push(^e.pop())
	case opPlusUconst:
		e.push(e.pop() + e.c.uleb())
	case opSkip:
		e.jump(from, true)
	case opBra:
		e.jump(from, e.pop() != 0)
	default:
		return fmt.Errorf("operation %#x in an expression: %w", op, ErrUnsupported)
	}
	return nil
}

// register pushes a register and an offset.
func (e *expr) register(n uint64, r *Regs) error {
	offset := e.c.sleb()
	if n >= Registers || r.Known&(1<<n) == 0 {
		return fmt.Errorf("register %d in an expression: %w", n, ErrLost)
	}
	e.push(r.Value[n] + uint64(offset))
	return nil
}

func (e *expr) constant(op byte) uint64 {
	switch op {
	case opConst1u:
		return uint64(e.c.u8())
	case opConst1s:
		return uint64(int64(int8(e.c.u8())))
	case opConst2u:
		return uint64(e.c.u16())
	case opConst2s:
		return uint64(int64(int16(e.c.u16())))
	case opConst4u:
		return uint64(e.c.u32())
	case opConst4s:
		return uint64(int64(int32(e.c.u32())))
	case opConst8u, opConst8s:
		return e.c.u64()
	case opConstu:
		return e.c.uleb()
	}
	return uint64(e.c.sleb())
}

// jump moves by the offset that follows when it is taken.
func (e *expr) jump(from int, taken bool) {
	offset := int(int16(e.c.u16()))
	if !taken {
		return
	}
	if to := e.c.at + offset; to >= from && to <= len(e.c.data) {
		e.c.at = to
		return
	}
	e.bad = true
}

// binary runs the operations with two operands; the second is on top.
func (e *expr) binary(op byte) error {
	b, a := e.pop(), e.pop()
	truth := func(is bool) uint64 {
		if is {
			return 1
		}
		return 0
	}
	var v uint64
	switch op {
	case opAnd:
		v = a & b
	case opDiv, opMod:
		if b == 0 {
			return fmt.Errorf("division by zero in an expression: %w", ErrMalformed)
		}
		if op == opMod {
			v = a % b
		} else {
			v = uint64(int64(a) / int64(b))
		}
	case opMinus:
		v = a - b
	case opMul:
		v = a * b
	case opOr:
		v = a | b
	case opPlus:
		v = a + b
	case opShl:
		v = a << b
	case opShr:
		v = a >> b
	case opShra:
		v = uint64(int64(a) >> b)
	case opXor:
		v = a ^ b
	case opEq:
		v = truth(a == b)
	case opGe:
		v = truth(int64(a) >= int64(b))
	case opGt:
		v = truth(int64(a) > int64(b))
	case opLe:
		v = truth(int64(a) <= int64(b))
	case opLt:
		v = truth(int64(a) < int64(b))
	case opNe:
		v = truth(a != b)
	default:
		return fmt.Errorf("operation %#x in an expression: %w", op, ErrUnsupported)
	}
	e.push(v)
	return nil
}
