// SPDX-License-Identifier: Apache-2.0

// Package insn decodes the shape of x86-64 instructions in 64-bit mode: where
// an instruction ends, where its displacement, immediate and branch
// displacement sit, and what it does to the flow of control. It names no
// mnemonics and no operands; the differ and the byte proof need none.
//
// Bytes go in, an [Inst] comes out. What the tables do not know is an error,
// never a guess: a wrong length would shift every instruction after it.
//
// The tables follow the opcode maps of the Intel SDM, volume 2, appendix A,
// and of the AMD APM, volume 3, appendix A. Where the two vendors disagree
// (an operand-size prefix on a near branch) the instruction is refused.
package insn

// MaxLen is the most bytes that an x86 instruction may have.
const MaxLen = 15

// Kind says what an instruction does to the flow of control, and names the
// few others that the differ tells apart.
type Kind uint8

const (
	Other        Kind = iota
	Call              // direct call, e8
	Jump              // direct jump, e9 and eb
	CondJump          // jcc, loop, jrcxz, xbegin
	Ret               // ret, iret, sysret, sysexit
	IndirectCall      // ff /2 and /3
	IndirectJump      // ff /4 and /5
	Nop               // 90 and 0f 1f
	Trap              // int3, int1, ud0, ud1, ud2
	Endbr             // endbr64 and endbr32
)

func (k Kind) String() string {
	return [...]string{"other", "call", "jump", "condjump", "ret", "indirect call", "indirect jump", "nop", "trap", "endbr"}[k]
}

// Map is the opcode map that the opcode byte belongs to.
type Map uint8

const (
	Map1Byte Map = iota
	Map0F
	Map0F38
	Map0F3A
	Map5 // EVEX only
	Map6 // EVEX only
	MapXOP8
	MapXOP9
	MapXOPA
)

// Encoding is how the map was selected.
type Encoding uint8

const (
	Legacy Encoding = iota
	VEX
	EVEX
	XOP
)

// Prefix is a set of the legacy prefixes before the opcode.
type Prefix uint8

const (
	OpSize   Prefix = 1 << iota // 66
	AddrSize                    // 67
	RepNE                       // f2
	Rep                         // f3
	Lock                        // f0
	Segment                     // 26, 2e, 36, 3e, 64, 65
)

// Inst is one decoded instruction. Offsets count from its first byte; a size
// of 0 means that it has no such field.
type Inst struct {
	Len  int
	Kind Kind

	Enc    Encoding
	Map    Map
	Opcode byte
	Prefix Prefix
	REX    byte // the REX byte that counts, or 0

	HasModRM bool
	ModRM    byte
	HasSIB   bool
	SIB      byte

	DispOff, DispSize int   // displacement of a memory operand, moffs included
	Disp              int64 // its value, sign-extended
	RIPRel            bool  // the displacement counts from the end of the instruction

	ImmOff, ImmSize int   // immediate; enter and extrq have two, taken as one
	Imm             int64 // its value, sign-extended

	RelOff, RelSize int   // branch displacement
	Rel             int64 // its value: the target is the end of the instruction plus Rel
}

// Target is the offset that a direct branch at offset at leads to. It is
// meaningful only if RelSize is not 0 and no relocation covers the field.
func (in Inst) Target(at int) int64 { return int64(at) + int64(in.Len) + in.Rel }

// Mod, Reg and RM are the fields of the ModRM byte without REX extension.
func (in Inst) Mod() byte { return in.ModRM >> 6 }
func (in Inst) Reg() byte { return in.ModRM >> 3 & 7 }
func (in Inst) RM() byte  { return in.ModRM & 7 }

// Field is a part of an instruction that a relocation can cover.
type Field uint8

const (
	NoField Field = iota
	DispField
	ImmField
	RelField
)

// FieldAt tells which field starts at byte off of the instruction, and how
// many bytes lie between off and the end of the instruction: the correction
// that a PC-relative relocation's addend carries. A relocation that starts
// anywhere else is NoField.
func (in Inst) FieldAt(off int) (f Field, toEnd int) {
	switch {
	case in.DispSize > 0 && off == in.DispOff:
		f = DispField
	case in.ImmSize > 0 && off == in.ImmOff:
		f = ImmField
	case in.RelSize > 0 && off == in.RelOff:
		f = RelField
	default:
		return NoField, 0
	}
	return f, in.Len - off
}

// MovImm recognises an integer constant moved into a whole general register,
// the way a compiler passes a line number: b8+r imm32, b8+r imm64 with REX.W,
// and c7 /0 on a register. The register number has the REX extension
// (7 is rdi, 6 rsi, 2 rdx, 1 rcx, 8 and 9 r8 and r9).
func (in Inst) MovImm() (reg int, ok bool) {
	if in.Enc != Legacy || in.Map != Map1Byte || in.Prefix&OpSize != 0 {
		return 0, false
	}
	ext := int(in.REX&1) << 3
	switch {
	case in.Opcode >= 0xb8 && in.Opcode <= 0xbf:
		return int(in.Opcode&7) | ext, true
	case in.Opcode == 0xc7 && in.Mod() == 3 && in.Reg() == 0:
		return int(in.RM()) | ext, true
	}
	return 0, false
}
