// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"debug/elf"
	"encoding/binary"

	"github.com/tsugi-project/tsugi/internal/insn"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// entries makes sure that nobody branches into the middle of a jump that will
// stand at a function's entry, and that what the jump takes behind a short
// function is padding.
func (p *packer) entries() {
	for i := range p.out.Functions {
		p.padding(&p.out.Functions[i])
		p.inside(&p.out.Functions[i])
		p.suspended(&p.out.Functions[i])
	}
	for _, s := range p.in.File.Segments {
		if elf.ProgFlag(s.Flags)&elf.PF_X == 0 || s.Filesz == 0 {
			continue
		}
		text, err := p.in.File.Bytes(s.Vaddr, s.Filesz)
		if err != nil {
			p.refuse("TS3507", p.in.Name, "%v", err)
			return
		}
		p.branches(text, s.Vaddr)
	}
}

// padding: the bytes between the end of a function and the end of a jump must
// be such that nobody runs them.
func (p *packer) padding(fn *splice.Function) {
	if fn.Room <= fn.Size || fn.Skip+splice.JumpSize <= fn.Size {
		return
	}
	b, err := p.in.File.Bytes(fn.Old+uint64(fn.Size), uint64(fn.Room-fn.Size))
	if err != nil {
		p.refuse("TS3507", fn.Name, "%v", err)
		return
	}
	for need := int(fn.Skip + splice.JumpSize - fn.Size); need > 0; {
		in, err := insn.Decode(b)
		nop := err == nil && (in.Map == insn.Map1Byte && (in.Opcode == 0x90 || in.Opcode == 0xcc) && in.Prefix&insn.Rep == 0 ||
			in.Map == insn.Map0F && in.Opcode == 0x1f)
		if !nop {
			p.refuse("TS3506", fn.Name, "it has %d bytes, and behind it is no padding", fn.Size)
			return
		}
		need -= in.Len
		b = b[in.Len:]
	}
}

// inside: an activation of the old code that goes on beside the new must not
// branch to the entry, where the jump is.
func (p *packer) inside(fn *splice.Function) {
	if fn.Policy != splice.EntryOnly {
		return
	}
	at := fn.Old + uint64(fn.Skip)
	for _, r := range ranges(fn) {
		b, err := p.in.File.Bytes(r.Start, r.Size)
		if err != nil {
			p.refuse("TS3507", fn.Name, "%v", err)
			return
		}
		err = insn.Walk(b, func(off int, in insn.Inst) error {
			if in.RelSize == 0 || in.Kind == insn.Call {
				return nil
			}
			if to := r.Start + uint64(in.Target(off)); to >= fn.Old && to < at+splice.JumpSize {
				p.refuse("TS3506", fn.Name, "it branches to its own entry, so old activations can't go on")
			}
			return nil
		})
		if err != nil {
			p.refuse("TS3506", fn.Name, "old activations can't go on: %v", err)
		}
	}
}

// branches looks at every place that may be a branch with a displacement of 4
// bytes, without knowing where instructions begin. Only hand-written assembly
// has such branches into another function's first bytes.
func (p *packer) branches(text []byte, base uint64) {
	low, high := p.out.Functions[0].Old, p.out.Functions[len(p.out.Functions)-1].Old+4+splice.JumpSize
	for i := 1; i+4 <= len(text); i++ {
		if b := text[i-1]; b != 0xe8 && b != 0xe9 && (b&0xf0 != 0x80 || i < 2 || text[i-2] != 0x0f) {
			continue
		}
		to := base + uint64(i) + 4 + uint64(int64(int32(binary.LittleEndian.Uint32(text[i:]))))
		if to < low || to >= high {
			continue
		}
		for k := range p.out.Functions {
			fn := &p.out.Functions[k]
			at := fn.Old + uint64(fn.Skip)
			if to > at && to < at+splice.JumpSize && !within(fn, base+uint64(i)) {
				p.refuse("TS3506", fn.Name, "code at %#x branches into its first bytes", base+uint64(i)-1)
			}
		}
	}
}

func within(fn *splice.Function, addr uint64) bool {
	for _, r := range ranges(fn) {
		if addr-r.Start < r.Size {
			return true
		}
	}
	return false
}
