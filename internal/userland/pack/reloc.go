// SPDX-License-Identifier: Apache-2.0

package pack

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"math"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// value is what a symbol stands for: a place in the patch or the ELF file
// (ref), a constant, or what only a Target tells.
type value struct {
	name     string
	ref      splice.Ref // Kind "" for none
	constant bool       // ref.Value is the value
	target   *Target
}

// fixed reports that the value's address is known by where the patch and the
// ELF file lie, without asking the loader.
func (v value) fixed() bool {
	return v.target == nil && !v.constant || v.target != nil && v.target.Defined && !v.target.IFunc && !v.target.TLS
}

// field is a relocation on its way into the payload.
type field struct {
	part *Part
	sec  *elfobj.Section
	at   place
	rel  elfobj.Reloc
	val  value
}

func (p *packer) relocate() {
	for i := range p.in.Parts {
		part := &p.in.Parts[i]
		for _, s := range part.Extract.File.Sections {
			at, ok := p.where[s]
			if !ok {
				continue
			}
			for _, r := range s.Relocs {
				v, err := p.value(part, r.Sym)
				if err == nil {
					err = p.write(field{part, s, at, r, v})
				}
				if err != nil {
					c := code.Of(err)
					if c == "" {
						c = "TS3503"
					}
					p.refuse(c, site(part, s, r.Off), "%s: %s", v.name, reason(err))
				}
			}
		}
	}
}

// reason is the text of a problem without its title, which its new place says.
func reason(err error) string {
	if p, ok := err.(*code.Problem); ok {
		return p.Why
	}
	return err.Error()
}

// value finds out what a symbol stands for.
func (p *packer) value(part *Part, s *elfobj.Symbol) (value, error) {
	if s == nil {
		return value{name: "no symbol", constant: true}, nil
	}
	v := value{name: s.Name}
	switch {
	case s.Section != nil:
		return p.local(v, s)
	case s.Index == elf.SHN_ABS:
		v.constant, v.ref.Value = true, s.Value
		return v, nil
	case s.Index != elf.SHN_UNDEF:
		return v, fmt.Errorf("a symbol in section %v", s.Index)
	}
	for _, r := range part.Extract.Refs {
		if other := p.globals[s.Name]; r.Symbol == s && r.Orig == nil && other != nil {
			return p.local(v, other)
		}
	}
	t, ok := part.Resolve[s]
	switch {
	case ok:
		v.target = &t
	case s.Bind == elf.STB_WEAK:
		v.target = &Target{Import: splice.Import{Name: s.Name, Weak: true}}
	default:
		return v, code.New("TS3504", s.Name, "nothing tells where it is")
	}
	if v.target.Defined {
		v.ref = splice.Ref{Kind: splice.RefTarget, Value: v.target.Vaddr}
	}
	return v, nil
}

func (p *packer) local(v value, s *elfobj.Symbol) (value, error) {
	at, ok := p.where[s.Section]
	if !ok || s.Value > s.Section.Size() {
		return v, fmt.Errorf("it is in section %s, which the patch does not carry", s.Section.Name)
	}
	kind := map[splice.Area]splice.RefKind{splice.InText: splice.RefText, splice.InROData: splice.RefROData, splice.InData: splice.RefData}[at.area]
	v.ref = splice.Ref{Kind: kind, Value: at.off + s.Value}
	return v, nil
}

// write turns one relocation into what a splice can say. The kinds are those
// of the x86-64 psABI, chapter 4.4.
func (p *packer) write(f field) error {
	a := f.rel.Addend
	tls := f.val.target != nil && f.val.target.TLS
	switch t := elf.R_X86_64(f.rel.Type); t {
	case elf.R_X86_64_NONE, elf.R_X86_64_TLSDESC_CALL:
		return nil
	case elf.R_X86_64_TPOFF32, elf.R_X86_64_TPOFF64, elf.R_X86_64_GOTTPOFF, elf.R_X86_64_TLSGD, elf.R_X86_64_TLSLD,
		elf.R_X86_64_DTPOFF32, elf.R_X86_64_DTPOFF64, elf.R_X86_64_GOTPC32_TLSDESC:
		if !tls && t != elf.R_X86_64_TLSLD {
			return fmt.Errorf("%v, but no thread-local variable", t)
		}
		return p.tls(f, t)
	case elf.R_X86_64_64:
		if tls {
			break
		}
		return p.pointer(f)
	case elf.R_X86_64_PC32:
		if tls {
			break
		}
		return p.near(f)
	case elf.R_X86_64_PLT32:
		if tls {
			break
		}
		return p.call(f)
	case elf.R_X86_64_PC64:
		if !f.val.fixed() {
			break
		}
		return p.emit(f, splice.PC64, f.val.ref, a)
	case elf.R_X86_64_32, elf.R_X86_64_32S:
		switch {
		case f.val.constant:
			return p.constant(f, 4, int64(f.val.ref.Value)+a)
		case f.val.fixed() && p.in.File.Type == elf.ET_EXEC:
			return p.emit(f, splice.Abs32, f.val.ref, a)
		}
	case elf.R_X86_64_GOTPCREL, elf.R_X86_64_GOTPCRELX, elf.R_X86_64_REX_GOTPCRELX:
		if tls {
			break
		}
		ref, err := p.got(f.val, indirectBranch(f))
		if err != nil {
			return err
		}
		return p.emit(f, splice.PC32, ref, a)
	}
	return fmt.Errorf("%v", elf.R_X86_64(f.rel.Type))
}

// emit notes a relocation of the payload and clears what the object had there.
func (p *packer) emit(f field, kind splice.RelocKind, ref splice.Ref, addend int64) error {
	size := uint64(8)
	if kind == splice.PC32 || kind == splice.Abs32 {
		size = 4
	}
	b, err := p.bytes(f, size)
	if err != nil {
		return err
	}
	clear(b)
	off := f.at.off + f.rel.Off
	p.out.Relocs = append(p.out.Relocs, splice.Reloc{Area: f.at.area, Offset: uint32(off), Kind: kind, Ref: ref, Addend: addend})
	return nil
}

// constant writes a value that is the same in every process.
func (p *packer) constant(f field, size uint64, v int64) error {
	b, err := p.bytes(f, size)
	if err != nil {
		return err
	}
	if size == 8 {
		binary.LittleEndian.PutUint64(b, uint64(v))
		return nil
	}
	signed := elf.R_X86_64(f.rel.Type) != elf.R_X86_64_32
	if signed && (v < math.MinInt32 || v > math.MaxInt32) || !signed && (v < 0 || v > math.MaxUint32) {
		return fmt.Errorf("%#x does not fit in 4 bytes", v)
	}
	binary.LittleEndian.PutUint32(b, uint32(v))
	return nil
}

// bytes is the place of a relocation in the payload.
func (p *packer) bytes(f field, size uint64) ([]byte, error) {
	area := map[splice.Area][]byte{splice.InText: p.out.Text, splice.InROData: p.out.ROData, splice.InData: p.out.Data}[f.at.area]
	if f.rel.Off > f.sec.Size() || size > f.sec.Size()-f.rel.Off || f.at.off+f.rel.Off+size > uint64(len(area)) {
		return nil, fmt.Errorf("the relocation is not in its section")
	}
	return area[f.at.off+f.rel.Off:][:size], nil
}

// pointer writes an address of 8 bytes.
func (p *packer) pointer(f field) error {
	v, a := f.val, f.rel.Addend
	switch {
	case v.constant:
		return p.constant(f, 8, int64(v.ref.Value)+a)
	case v.target == nil:
		return p.emit(f, splice.Abs64, v.ref, a)
	}
	ref, err := p.address(v, a)
	if err != nil {
		return err
	}
	if ref.Kind == splice.RefSlot && a != 0 {
		return fmt.Errorf("%d bytes behind what only the loader places", a)
	}
	return p.emit(f, splice.Abs64, ref, a)
}

// near writes a distance of 4 bytes. To what only the loader places, code gets
// by a stub, and a pointer is read from a GOT entry instead of computed.
func (p *packer) near(f field) error {
	if f.val.constant {
		return fmt.Errorf("a distance to a constant")
	}
	if f.val.fixed() {
		return p.emit(f, splice.PC32, f.val.ref, f.rel.Addend)
	}
	if directBranch(f) {
		return p.call(f)
	}
	if !f.sec.Exec() || !p.leaToMov(f) {
		return fmt.Errorf("a distance to what only the loader places")
	}
	ref, err := p.got(f.val, false)
	if err != nil {
		return err
	}
	return p.emit(f, splice.PC32, ref, f.rel.Addend)
}

// call writes the distance to a function, or to a stub that jumps there.
func (p *packer) call(f field) error {
	v := f.val
	if v.constant {
		return fmt.Errorf("a call of a constant")
	}
	if v.fixed() && (v.target == nil || v.target.Slot == 0) {
		return p.emit(f, splice.PC32, v.ref, f.rel.Addend)
	}
	ref, err := p.got(v, true)
	if err != nil {
		return err
	}
	return p.emit(f, splice.PC32, splice.Ref{Kind: splice.RefText, Value: p.stub(ref)}, f.rel.Addend)
}

// code before a relocation: whether it is the displacement of call, jmp or a
// conditional jump; of call and jmp through memory; of lea into a 64-bit register.
func directBranch(f field) bool {
	b, off := f.sec.Data, f.rel.Off
	return f.sec.Exec() && (off >= 1 && off <= uint64(len(b)) && (b[off-1] == 0xe8 || b[off-1] == 0xe9) ||
		off >= 2 && off <= uint64(len(b)) && b[off-2] == 0x0f && b[off-1]&0xf0 == 0x80)
}

func indirectBranch(f field) bool {
	b, off := f.sec.Data, f.rel.Off
	return f.sec.Exec() && off >= 2 && off <= uint64(len(b)) && b[off-2] == 0xff && (b[off-1] == 0x15 || b[off-1] == 0x25)
}

// leaToMov makes "lea x(%rip), reg" a "mov x(%rip), reg": the linker's step
// from GOTPCREL to a near address, backwards.
func (p *packer) leaToMov(f field) bool {
	b, off := f.sec.Data, f.rel.Off
	if off < 3 || off > uint64(len(b)) || f.rel.Addend != -4 || b[off-3]&0xf8 != 0x48 || b[off-2] != 0x8d || b[off-1]&0xc7 != 0x05 {
		return false
	}
	p.out.Text[f.at.off+off-2] = 0x8b
	return true
}
