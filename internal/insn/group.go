// SPDX-License-Identifier: Apache-2.0

package insn

// defined judges the opcodes whose ModRM byte selects an instruction
// (SDM volume 2, table A-6): an undefined selection is refused.
func defined(in *Inst) bool {
	if !in.HasModRM || in.Enc == XOP {
		return true
	}
	reg, isReg := in.Reg(), in.Mod() == 3
	one := func(set ...byte) bool {
		for _, r := range set {
			if r == reg {
				return true
			}
		}
		return false
	}
	switch in.Map {
	case Map1Byte:
		switch in.Opcode {
		case 0x62, 0x8d:
			return !isReg
		case 0x8c:
			return reg <= 5
		case 0x8e:
			return reg <= 5 && reg != 1
		case 0x8f:
			return reg == 0
		case 0xc6, 0xc7:
			return reg == 0 || in.ModRM == 0xf8 // xabort, xbegin
		case 0xfe:
			return reg <= 1
		case 0xff:
			return reg <= 6 && !(isReg && one(3, 5)) // far branches need memory
		}
	case Map0F:
		if in.Enc != Legacy {
			return definedShift(in)
		}
		switch in.Opcode {
		case 0x00:
			return reg <= 6
		case 0x01:
			return definedSystem(in)
		case 0x71, 0x72, 0x73:
			return definedShift(in)
		case 0xa6: // PadLock hash and montmul
			return isReg && reg <= 2
		case 0xa7: // PadLock xstore and xcrypt
			return isReg && reg <= 5
		case 0xba:
			return reg >= 4
		case 0xc7:
			return one(6, 7) || !isReg && one(1, 3, 4, 5)
		}
	}
	return true
}

// definedShift is groups 12, 13 and 14, the vector shifts by an immediate.
// Only EVEX shifts memory and rotates.
func definedShift(in *Inst) bool {
	reg := in.Reg()
	if in.Opcode < 0x71 || in.Opcode > 0x73 {
		return true
	}
	if in.Enc != EVEX && in.Mod() != 3 {
		return false
	}
	switch in.Opcode {
	case 0x71:
		return reg == 2 || reg == 4 || reg == 6
	case 0x72:
		return reg == 2 || reg == 4 || reg == 6 || in.Enc == EVEX && reg <= 1
	}
	return reg == 2 || reg == 3 || reg == 6 || reg == 7
}

// definedSystem is group 7, 0f 01: descriptor tables in memory, and a crowd
// of instructions without operands behind register forms.
func definedSystem(in *Inst) bool {
	if in.Mod() != 3 {
		return true
	}
	const known = 0 |
		1<<0x00 | 1<<0x01 | 1<<0x02 | 1<<0x03 | 1<<0x04 | 1<<0x05 | 1<<0x06 | // enclv, vmx, pconfig, wrmsrns
		1<<0x08 | 1<<0x09 | 1<<0x0a | 1<<0x0b | 1<<0x0c | 1<<0x0d | 1<<0x0e | 1<<0x0f | // monitor, mwait, clac, stac, tdx, encls
		1<<0x10 | 1<<0x11 | 1<<0x14 | 1<<0x15 | 1<<0x16 | 1<<0x17 | // xgetbv, xsetbv, vmfunc, tsx, enclu
		0xff<<0x18 | // svm
		0xff<<0x20 | // smsw
		1<<0x28 | 1<<0x29 | 1<<0x2a | 1<<0x2c | 1<<0x2d | 1<<0x2e | 1<<0x2f | // serialize, cet, uintr, pkru
		0xff<<0x30 | // lmsw
		0xff<<0x38 // swapgs, rdtscp, monitorx, mwaitx, clzero, rdpru, sev
	return uint64(known)>>(in.ModRM&0x3f)&1 != 0
}
