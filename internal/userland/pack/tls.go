// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"debug/elf"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// tls writes a reference to a thread-local variable of the ELF file or of
// another. The models are those of Drepper's "ELF Handling For Thread-Local
// Storage"; a new variable has no storage in threads that run.
func (p *packer) tls(f field, typ elf.R_X86_64) error {
	t, a := f.val.target, f.rel.Addend
	switch typ {
	case elf.R_X86_64_TPOFF32, elf.R_X86_64_TPOFF64: // local exec
		off, err := p.threadOffset(f.val)
		if err != nil {
			return err
		}
		size := uint64(4)
		if typ == elf.R_X86_64_TPOFF64 {
			size = 8
		}
		return p.constant(f, size, off+a)
	case elf.R_X86_64_DTPOFF32, elf.R_X86_64_DTPOFF64:
		if !t.Defined {
			break
		}
		size := uint64(4)
		if typ == elf.R_X86_64_DTPOFF64 {
			size = 8
		}
		return p.constant(f, size, int64(t.Vaddr)+a)
	case elf.R_X86_64_GOTTPOFF: // initial exec
		if s := p.tlsSlot(f.val, dso.TPOff); s != nil {
			return p.emit(f, splice.PC32, splice.Ref{Kind: splice.RefTarget, Value: s.Vaddr}, a)
		}
		off, err := p.threadOffset(f.val)
		if err != nil {
			return err
		}
		return p.emit(f, splice.PC32, p.own(word{ref: splice.Ref{Value: uint64(off)}}), a)
	case elf.R_X86_64_TLSGD: // general dynamic: a pair of module and offset
		if s := p.tlsSlot(f.val, dso.DTPMod); s != nil && !t.Defined {
			return p.emit(f, splice.PC32, splice.Ref{Kind: splice.RefTarget, Value: s.Vaddr}, a)
		}
		if !t.Defined {
			break
		}
		return p.module(f, t.Vaddr)
	case elf.R_X86_64_TLSLD: // local dynamic: the same with offset 0
		return p.module(f, 0)
	case elf.R_X86_64_GOTPC32_TLSDESC:
		if s := p.tlsSlot(f.val, dso.TLSDesc); s != nil {
			return p.emit(f, splice.PC32, splice.Ref{Kind: splice.RefTarget, Value: s.Vaddr}, a)
		}
	}
	return code.New("TS3505", f.val.name, fmt.Sprintf("%v, and the ELF file has no entry of it", typ))
}

// module refers to a pair of the patch's own: the ELF file's module id, from
// any entry that holds it, and an offset.
func (p *packer) module(f field, off uint64) error {
	for i := range p.list {
		if s := &p.list[i]; s.Kind == dso.DTPMod && s.Symbol == nil {
			return p.emit(f, splice.PC32, p.own(word{ref: splice.Ref{Kind: splice.RefSlot, Value: s.Vaddr}, pair: true, next: off}), f.rel.Addend)
		}
	}
	return code.New("TS3505", f.val.name, "the ELF file has no entry with its own module id")
}

// threadOffset is the distance from the thread pointer, which is the same in
// all processes only for the program itself.
func (p *packer) threadOffset(v value) (int64, error) {
	f := p.in.File
	if !v.target.Defined || f.Type != elf.ET_EXEC && !f.PIE {
		return 0, code.New("TS3505", v.name, "its distance from the thread pointer is not known before the program is loaded")
	}
	align := max(f.TLSAlign, 1)
	if align&(align-1) != 0 || f.TLS.Start%align != 0 || v.target.Vaddr > f.TLS.Size || f.TLS.Size > 1<<30 || align > 1<<16 {
		return 0, code.New("TS3507", v.name, "it is not in the block of thread-local variables")
	}
	return int64(v.target.Vaddr) - int64(up(f.TLS.Size, align)), nil
}

// tlsSlot finds the entry of a kind that the loader fills for a variable.
func (p *packer) tlsSlot(v value, kind dso.SlotKind) *dso.Slot {
	for i := range p.list {
		s := &p.list[i]
		if s.Kind != kind {
			continue
		}
		switch t := v.target; {
		case t.Defined && s.Symbol == nil:
			if kind != dso.DTPMod && uint64(s.Addend) == t.Vaddr {
				return s
			}
		case t.Defined:
			if s.Symbol.Defined() && s.Symbol.Value+uint64(s.Addend) == t.Vaddr {
				return s
			}
		case s.Symbol != nil && s.Symbol.Name == t.Import.Name && s.Symbol.Version == t.Import.Version && s.Addend == 0:
			return s
		}
	}
	return nil
}
