// SPDX-License-Identifier: Apache-2.0

package unwind

import "fmt"

// Numbers of the registers, as DWARF for x86-64 counts them.
const (
	RAX = iota
	RDX
	RCX
	RBX
	RSI
	RDI
	RBP
	RSP
	R8
	R9
	R10
	R11
	R12
	R13
	R14
	R15
	RIP
	// Registers is how many registers are followed.
	Registers
)

const (
	// maxInstructions bounds the call frame instructions of one row.
	maxInstructions = 1 << 16
	// maxRemembered bounds DW_CFA_remember_state.
	maxRemembered = 32
	// maxColumn bounds the registers that instructions may name: vector, mask
	// and control registers are read over.
	maxColumn = 1024
)

// Kind is how a register of the caller is found.
type Kind byte

const (
	// Unspecified registers are as in the frame, when functions keep them for
	// their callers, and else lost.
	Unspecified Kind = iota
	// Undefined registers are lost. Of RIP it means: there is no caller.
	Undefined
	// Same registers are as in the frame.
	Same
	// AtCFA registers were saved at the canonical frame address + Offset.
	AtCFA
	// IsCFA registers are the canonical frame address + Offset.
	IsCFA
	// InRegister registers are what register Reg of the frame is.
	InRegister
	// AtExpression registers were saved at the address that an expression gives.
	AtExpression
	// IsExpression registers are what an expression gives.
	IsExpression
)

// Rule says where to find one register of the caller.
type Rule struct {
	Kind   Kind
	Reg    uint16
	Offset int64
	code   span
}

// Row holds the rules for one place in the code.
type Row struct {
	// CFA is the canonical frame address, the value of RSP before the call:
	// InRegister (Reg + Offset) or IsExpression.
	CFA Rule
	// Rules are those of each register.
	Rules [Registers]Rule
	// Signal tells that the frame was made by the kernel for a signal handler:
	// its caller was interrupted and did not call.
	Signal bool

	t *Table
}

// machine runs call frame instructions.
type machine struct {
	t          *Table
	cie        *cie
	loc, pc    uint64
	steps      int
	row        Row
	initial    Row
	started    bool // the instructions of the FDE
	remembered []Row
}

// run executes the instructions of a span until they pass the address; done
// says that they did.
func (m *machine) run(code span) (done bool, err error) {
	m.row.t = m.t
	c := cursor{data: m.t.data[:code.to], at: int(code.from)}
	for c.at < len(c.data) {
		if m.steps--; m.steps < 0 {
			return false, fmt.Errorf("more than %d instructions: %w", maxInstructions, ErrUnsupported)
		}
		done, err := m.one(&c)
		if c.bad {
			return false, ErrMalformed
		}
		if err != nil || done {
			return done, err
		}
	}
	return false, nil
}

// Call frame instructions (DWARF 5, 6.4.2, and GNU's).
const (
	cfaAdvanceLoc      = 0x40 // high two bits
	cfaOffset          = 0x80
	cfaRestore         = 0xc0
	cfaNop             = 0x00
	cfaSetLoc          = 0x01
	cfaAdvanceLoc1     = 0x02
	cfaAdvanceLoc2     = 0x03
	cfaAdvanceLoc4     = 0x04
	cfaOffsetExtended  = 0x05
	cfaRestoreExtended = 0x06
	cfaUndefined       = 0x07
	cfaSameValue       = 0x08
	cfaRegister        = 0x09
	cfaRememberState   = 0x0a
	cfaRestoreState    = 0x0b
	cfaDefCFA          = 0x0c
	cfaDefCFARegister  = 0x0d
	cfaDefCFAOffset    = 0x0e
	cfaDefCFAExpr      = 0x0f
	cfaExpression      = 0x10
	cfaOffsetSF        = 0x11
	cfaDefCFASF        = 0x12
	cfaDefCFAOffsetSF  = 0x13
	cfaValOffset       = 0x14
	cfaValOffsetSF     = 0x15
	cfaValExpression   = 0x16
	cfaGNUArgsSize     = 0x2e
	cfaGNUNegOffset    = 0x2f
)

func (m *machine) one(c *cursor) (done bool, err error) {
	op := c.u8()
	switch low := uint64(op & 0x3f); op & 0xc0 {
	case cfaAdvanceLoc:
		return m.advance(low)
	case cfaOffset:
		return false, m.set(low, Rule{Kind: AtCFA, Offset: m.factored(c.uleb())})
	case cfaRestore:
		return false, m.restore(low)
	}
	switch op {
	case cfaNop:
	case cfaSetLoc:
		loc, err := c.pointer(m.cie.encoding, m.t.addr, 0)
		if err != nil {
			return false, err
		}
		if loc < m.loc {
			return false, ErrMalformed
		}
		return m.advanceTo(loc)
	case cfaAdvanceLoc1:
		return m.advance(uint64(c.u8()))
	case cfaAdvanceLoc2:
		return m.advance(uint64(c.u16()))
	case cfaAdvanceLoc4:
		return m.advance(uint64(c.u32()))
	case cfaRememberState:
		if len(m.remembered) == maxRemembered {
			return false, fmt.Errorf("more than %d remembered states: %w", maxRemembered, ErrUnsupported)
		}
		m.remembered = append(m.remembered, m.row)
	case cfaRestoreState:
		n := len(m.remembered)
		if n == 0 {
			return false, ErrMalformed
		}
		m.row, m.remembered = m.remembered[n-1], m.remembered[:n-1]
	case cfaDefCFA, cfaDefCFASF, cfaDefCFARegister, cfaDefCFAOffset, cfaDefCFAOffsetSF, cfaDefCFAExpr:
		return false, m.defineCFA(c, op)
	case cfaGNUArgsSize:
		c.uleb() // what a landing pad must take from the stack: no rule of a frame
	default:
		return false, m.rule(c, op)
	}
	return false, nil
}

// rule executes the instructions that set the rule of one register.
func (m *machine) rule(c *cursor, op byte) error {
	switch op {
	case cfaOffsetExtended, cfaRestoreExtended, cfaUndefined, cfaSameValue, cfaRegister, cfaExpression, cfaOffsetSF, cfaValOffset, cfaValOffsetSF, cfaValExpression, cfaGNUNegOffset:
	default:
		return fmt.Errorf("call frame instruction %#x: %w", op, ErrUnsupported)
	}
	reg := c.uleb()
	switch op {
	case cfaOffsetExtended:
		return m.set(reg, Rule{Kind: AtCFA, Offset: m.factored(c.uleb())})
	case cfaGNUNegOffset:
		return m.set(reg, Rule{Kind: AtCFA, Offset: -m.factored(c.uleb())})
	case cfaOffsetSF:
		return m.set(reg, Rule{Kind: AtCFA, Offset: m.factored(uint64(c.sleb()))})
	case cfaValOffset:
		return m.set(reg, Rule{Kind: IsCFA, Offset: m.factored(c.uleb())})
	case cfaValOffsetSF:
		return m.set(reg, Rule{Kind: IsCFA, Offset: m.factored(uint64(c.sleb()))})
	case cfaRestoreExtended:
		return m.restore(reg)
	case cfaUndefined:
		return m.set(reg, Rule{Kind: Undefined})
	case cfaSameValue:
		return m.set(reg, Rule{Kind: Same})
	case cfaRegister:
		from := c.uleb()
		if from >= Registers {
			return m.set(reg, Rule{Kind: Undefined})
		}
		return m.set(reg, Rule{Kind: InRegister, Reg: uint16(from)})
	case cfaExpression:
		return m.set(reg, Rule{Kind: AtExpression, code: expression(c)})
	}
	return m.set(reg, Rule{Kind: IsExpression, code: expression(c)}) // cfaValExpression
}

func (m *machine) defineCFA(c *cursor, op byte) error {
	cfa := &m.row.CFA
	switch op {
	case cfaDefCFAExpr:
		*cfa = Rule{Kind: IsExpression, code: expression(c)}
		return nil
	case cfaDefCFAOffset, cfaDefCFAOffsetSF, cfaDefCFARegister:
		if cfa.Kind != InRegister {
			return ErrMalformed
		}
	}
	switch op {
	case cfaDefCFA, cfaDefCFASF, cfaDefCFARegister:
		reg := c.uleb()
		if reg >= Registers {
			return fmt.Errorf("frame address from register %d: %w", reg, ErrUnsupported)
		}
		cfa.Kind, cfa.Reg = InRegister, uint16(reg)
	}
	switch op {
	case cfaDefCFA, cfaDefCFAOffset:
		cfa.Offset = int64(c.uleb())
	case cfaDefCFASF, cfaDefCFAOffsetSF:
		cfa.Offset = m.factored(uint64(c.sleb()))
	}
	return nil
}

// expression reads the length of an expression and steps over it.
func expression(c *cursor) span {
	n := c.uleb()
	if n > uint64(len(c.data)-c.at) {
		c.bad = true
		return span{}
	}
	from := c.at
	c.at += int(n)
	return span{uint32(from), uint32(c.at)}
}

func (m *machine) factored(n uint64) int64 { return int64(n) * m.cie.dataAlign }

func (m *machine) advance(delta uint64) (bool, error) {
	to := m.loc + delta*m.cie.codeAlign
	if to < m.loc {
		return false, ErrMalformed
	}
	return m.advanceTo(to)
}

func (m *machine) advanceTo(loc uint64) (bool, error) {
	if !m.started {
		return false, ErrMalformed // a CIE has no places
	}
	if loc > m.pc {
		return true, nil
	}
	m.loc = loc
	return false, nil
}

func (m *machine) set(reg uint64, r Rule) error {
	switch {
	case reg < Registers:
		m.row.Rules[reg] = r
	case reg > maxColumn:
		return fmt.Errorf("register %d: %w", reg, ErrUnsupported)
	}
	return nil
}

func (m *machine) restore(reg uint64) error {
	if !m.started {
		return ErrMalformed
	}
	if reg >= Registers {
		return m.set(reg, Rule{})
	}
	return m.set(reg, m.initial.Rules[reg])
}
