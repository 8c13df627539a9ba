// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"encoding/binary"

	"github.com/tsugi-project/tsugi/internal/insn"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// maxTable is how many entries of a table of jumps are looked at.
const maxTable = 4096

// suspended makes sure that activations of the old code may go on beside the
// jump. No stack of a thread shows those that a coroutine was suspended in, so
// nobody can wait for them. They were suspended in a call; they must neither
// return into the bytes of the jump, nor branch there later. A function without
// calls has no such activations.
func (p *packer) suspended(fn *splice.Function) {
	at := fn.Old + uint64(fn.Skip)
	covered := func(addr uint64) bool { return addr > at && addr < at+splice.JumpSize }
	calls, returns, back, table := false, false, false, false
	for _, r := range ranges(fn) {
		b, err := p.in.File.Bytes(r.Start, r.Size)
		if err != nil {
			p.refuse("TS3507", fn.Name, "%v", err)
			return
		}
		var tables []uint64
		err = insn.Walk(b, func(off int, in insn.Inst) error {
			end := r.Start + uint64(off+in.Len)
			switch in.Kind {
			case insn.Call, insn.IndirectCall:
				calls = true
				returns = returns || covered(end)
			case insn.IndirectJump:
				table = true
				if in.DispSize == 4 && in.HasSIB && !in.RIPRel {
					back = back || p.leads(fn, uint64(uint32(in.Disp)), 8, covered)
				}
			}
			if in.RelSize != 0 && in.Kind != insn.Call {
				back = back || covered(r.Start+uint64(in.Target(off)))
			}
			if in.Map == insn.Map1Byte && in.Opcode == 0x8d && in.RIPRel { // lea
				tables = append(tables, end+uint64(in.Disp))
			}
			return nil
		})
		if err != nil {
			p.refuse("TS3506", fn.Name, "its code can't be read, so nobody knows whether activations of it can go on: %v", err)
			return
		}
		for _, vaddr := range tables {
			back = back || table && p.leads(fn, vaddr, 4, covered)
		}
	}
	switch {
	case returns:
		p.refuse("TS3506", fn.Name, "a call within its first bytes returns into the jump, in a coroutine that nobody sees")
	case back && calls:
		p.refuse("TS3506", fn.Name, "a loop of it leads into its first bytes, and a coroutine that nobody sees may be in it")
	}
}

// leads tells whether what may be a table of jumps has an entry to such an
// address: distances from the table of 4 bytes, or addresses of 8. It ends with
// the first entry that does not lead into the function.
func (p *packer) leads(fn *splice.Function, vaddr uint64, size int, to func(uint64) bool) bool {
	for at := vaddr; at < vaddr+maxTable*uint64(size); at += uint64(size) {
		b, err := p.in.File.Bytes(at, uint64(size))
		if err != nil {
			return false
		}
		var addr uint64
		if size == 8 {
			addr = binary.LittleEndian.Uint64(b)
		} else {
			addr = vaddr + uint64(int64(int32(binary.LittleEndian.Uint32(b))))
		}
		switch {
		case to(addr):
			return true
		case !within(fn, addr):
			return false
		}
	}
	return false
}

// ranges are all the code of a function.
func ranges(fn *splice.Function) []splice.Range {
	return append([]splice.Range{{Start: fn.Old, Size: uint64(fn.Size)}}, fn.Parts...)
}
