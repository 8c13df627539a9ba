// SPDX-License-Identifier: Apache-2.0

package unwind

import "fmt"

// Memory is what rules read from. Word returns the 8 bytes at an address of the
// process, little-endian, and whether they can be read.
type Memory interface {
	Word(addr uint64) (uint64, bool)
}

// Regs are the registers of one frame.
type Regs struct {
	Value [Registers]uint64
	// Known has bit i set when Value[i] is what the register held.
	Known uint32
	// Exact tells that Value[RIP] is the instruction that runs next: of a
	// thread's innermost frame, and of one that a signal interrupted. Else it
	// is a return address, and the call lies before it.
	Exact bool
}

// AllKnown is Regs.Known of a thread's innermost frame.
const AllKnown = 1<<Registers - 1

// kept are the registers that functions keep for their callers.
const kept = 1<<RBX | 1<<RBP | 1<<R12 | 1<<R13 | 1<<R14 | 1<<R15

// PC returns the address whose Row describes the frame: inside of the call
// instruction when RIP is a return address.
func (r *Regs) PC() uint64 {
	if r.Exact {
		return r.Value[RIP]
	}
	return r.Value[RIP] - 1
}

// Step replaces the registers of a frame by those of its caller. Last says that
// there is no caller, because the row says so: the registers stay as they are.
// With an error the registers are those of the frame still.
//
// Stacks grow down: a caller whose frame is not above is an error, unless a
// signal lies between the two, whose handler may run on a stack of its own.
func (row *Row) Step(r *Regs, mem Memory) (last bool, err error) {
	if row.Rules[RIP].Kind == Undefined {
		return true, nil
	}
	cfa, err := row.frame(r, mem)
	if err != nil {
		return false, err
	}
	if !row.Signal && cfa <= r.Value[RSP] {
		return false, fmt.Errorf("frame address %#x is not above the stack pointer %#x: %w", cfa, r.Value[RSP], ErrMalformed)
	}
	next := Regs{Exact: row.Signal}
	for reg := range uint16(Registers) {
		v, ok, err := row.register(reg, cfa, r, mem)
		if err != nil {
			return false, fmt.Errorf("register %d: %w", reg, err)
		}
		if ok {
			next.Value[reg] = v
			next.Known |= 1 << reg
		}
	}
	if next.Known&(1<<RIP) == 0 {
		return false, fmt.Errorf("return address: %w", ErrLost)
	}
	if next.Known&(1<<RSP) == 0 {
		return false, fmt.Errorf("stack pointer: %w", ErrLost)
	}
	*r = next
	return false, nil
}

func (row *Row) frame(r *Regs, mem Memory) (uint64, error) {
	switch row.CFA.Kind {
	case InRegister:
		if r.Known&(1<<row.CFA.Reg) == 0 {
			return 0, fmt.Errorf("frame address from register %d: %w", row.CFA.Reg, ErrLost)
		}
		return r.Value[row.CFA.Reg] + uint64(row.CFA.Offset), nil
	case IsExpression:
		return row.t.evaluate(row.CFA.code, r, mem, nil)
	}
	return 0, fmt.Errorf("no frame address: %w", ErrMalformed)
}

// register finds one register of the caller; !ok says that it is lost.
func (row *Row) register(reg uint16, cfa uint64, r *Regs, mem Memory) (v uint64, ok bool, err error) {
	known := func(n uint16) (uint64, bool, error) { return r.Value[n], r.Known&(1<<n) != 0, nil }
	rule := &row.Rules[reg]
	switch rule.Kind {
	case Unspecified:
		switch {
		case reg == RSP:
			return cfa, true, nil
		case reg != RIP && kept&(1<<reg) != 0:
			return known(reg)
		}
		return 0, false, nil
	case Undefined:
		return 0, false, nil
	case Same:
		return known(reg)
	case IsCFA:
		return cfa + uint64(rule.Offset), true, nil
	case InRegister:
		return known(rule.Reg)
	case AtCFA:
		v, ok := mem.Word(cfa + uint64(rule.Offset))
		if !ok {
			return 0, false, ErrMemory
		}
		return v, true, nil
	}
	v, err = row.t.evaluate(rule.code, r, mem, &cfa)
	if err != nil {
		return 0, false, err
	}
	if rule.Kind == IsExpression {
		return v, true, nil
	}
	if v, ok = mem.Word(v); !ok {
		return 0, false, ErrMemory
	}
	return v, true, nil
}
