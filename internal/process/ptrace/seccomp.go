// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"encoding/binary"
	"errors"
)

// instruction is struct sock_filter: classic BPF, as seccomp(2) takes it.
type instruction struct {
	Code   uint16
	JT, JF uint8
	K      uint32
}

const (
	maxFilter  = 4096 // BPF_MAXINSNS
	maxFilters = 1024

	auditArchX8664 = 0xc000003e
)

// What a filter can have done, include/uapi/linux/seccomp.h. Of several filters
// the one that takes most wins; as signed numbers that is the lowest.
const (
	actKill    = 0x00000000 // the thread; 0x80000000 is the process
	actErrno   = 0x00050000
	actLog     = 0x7ffc0000
	actAllow   = 0x7fff0000
	actionBits = 0xffff0000
)

// call is a system call as a filter sees it.
type call struct {
	nr   int
	ip   uint64 // behind the instruction
	args [6]uint64
}

// data is struct seccomp_data.
func (c call) data() []byte {
	b := binary.LittleEndian.AppendUint32(nil, uint32(c.nr))
	b = binary.LittleEndian.AppendUint32(b, auditArchX8664)
	b = binary.LittleEndian.AppendUint64(b, c.ip)
	for _, a := range c.args {
		b = binary.LittleEndian.AppendUint64(b, a)
	}
	return b
}

// verdict is what the filters do with a call.
func verdict(filters [][]instruction, c call) (uint32, error) {
	lowest := int32(actAllow)
	data := c.data()
	for _, f := range filters {
		r, err := evaluate(f, data)
		if err != nil {
			return 0, err
		}
		lowest = min(lowest, int32(r&actionBits))
	}
	return uint32(lowest), nil
}

var errFilter = errors.New("a filter that the kernel would not take")

// evaluate runs a filter. Its jumps lead forward only, so it ends.
func evaluate(prog []instruction, data []byte) (uint32, error) {
	var a, x uint32
	var mem [16]uint32
	for pc := 0; pc < len(prog); pc++ {
		in := prog[pc]
		switch in.Code & 7 {
		case 0, 1: // BPF_LD, BPF_LDX
			v, ok := load(in, data, &mem)
			if !ok {
				return 0, errFilter
			}
			if in.Code&7 == 0 {
				a = v
			} else {
				x = v
			}
		case 2, 3: // BPF_ST, BPF_STX
			if in.K >= uint32(len(mem)) {
				return 0, errFilter
			}
			mem[in.K] = a
			if in.Code&7 == 3 {
				mem[in.K] = x
			}
		case 4: // BPF_ALU
			v, ok := compute(in, a, x)
			if !ok {
				return 0, errFilter
			}
			a = v
		case 5: // BPF_JMP
			n, ok := jump(in, a, x)
			if !ok || n > uint32(len(prog)) {
				return 0, errFilter
			}
			pc += int(n)
		case 6: // BPF_RET
			switch in.Code & 0x18 {
			case 0:
				return in.K, nil
			case 0x10:
				return a, nil
			}
			return 0, errFilter
		case 7: // BPF_MISC
			if in.Code&0xf8 == 0x80 {
				a = x // BPF_TXA
			} else {
				x = a // BPF_TAX
			}
		}
	}
	return 0, errFilter
}

func load(in instruction, data []byte, mem *[16]uint32) (uint32, bool) {
	switch in.Code & 0xe0 {
	case 0x00: // BPF_IMM
		return in.K, true
	case 0x20: // BPF_ABS
		if in.K%4 != 0 || int64(in.K)+4 > int64(len(data)) {
			return 0, false
		}
		return binary.LittleEndian.Uint32(data[in.K:]), true
	case 0x60: // BPF_MEM
		if in.K >= uint32(len(mem)) {
			return 0, false
		}
		return mem[in.K], true
	case 0x80: // BPF_LEN
		return uint32(len(data)), true
	}
	return 0, false
}

func operand(in instruction, x uint32) uint32 {
	if in.Code&8 != 0 {
		return x
	}
	return in.K
}

func compute(in instruction, a, x uint32) (uint32, bool) {
	b := operand(in, x)
	switch in.Code & 0xf0 {
	case 0x00:
		return a + b, true
	case 0x10:
		return a - b, true
	case 0x20:
		return a * b, true
	case 0x30:
		if b == 0 {
			return 0, false
		}
		return a / b, true
	case 0x40:
		return a | b, true
	case 0x50:
		return a & b, true
	case 0x60:
		return a << (b & 31), true
	case 0x70:
		return a >> (b & 31), true
	case 0x80:
		return -a, true
	case 0xa0:
		return a ^ b, true
	}
	return 0, false
}

func jump(in instruction, a, x uint32) (uint32, bool) {
	b := operand(in, x)
	var yes bool
	switch in.Code & 0xf0 {
	case 0x00:
		return in.K, true
	case 0x10:
		yes = a == b
	case 0x20:
		yes = a > b
	case 0x30:
		yes = a >= b
	case 0x40:
		yes = a&b != 0
	default:
		return 0, false
	}
	if yes {
		return uint32(in.JT), true
	}
	return uint32(in.JF), true
}
