// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"cmp"
	"debug/elf"
	"slices"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/insn"
)

// site is a relocation on its way to becoming a ref.
type site struct {
	ref
	rel *elfobj.Reloc
	sec *elfobj.Section // target section, nil for an extern
	at  int64           // offset in the target section
}

// sites resolves every relocation that matters to a section and offset.
func (o *object) sites() map[*elfobj.Section][]site {
	out := map[*elfobj.Section][]site{}
	for _, sec := range o.file.Sections {
		c := o.class[sec]
		if c == ignored || c == parallel || c == literals {
			continue
		}
		list := make([]site, 0, len(sec.Relocs))
		for i := range sec.Relocs {
			r := &sec.Relocs[i]
			k := o.arch.Rel(r.Type)
			list = append(list, site{ref: ref{off: r.Off, typ: r.Type, size: k.Size}, rel: r})
		}
		slices.SortStableFunc(list, func(x, y site) int { return cmp.Compare(x.off, y.off) })
		if c.code() {
			list = o.decode(sec, list)
		}
		for i := range list {
			o.resolve(&list[i])
		}
		out[sec] = list
	}
	return out
}

// resolve finds what a relocation points at, in terms of sections.
func (o *object) resolve(s *site) {
	if s.implicit {
		return // decode did
	}
	sym := s.rel.Sym
	if sym == nil {
		return
	}
	off := s.rel.Addend + s.toEnd
	if sym.Section == nil {
		s.to = target{extern: o.externs[sym.Name], off: off}
		if s.to.extern == nil {
			s.to.extern = sym
		}
		return
	}
	s.sec, s.at = sym.Section, int64(sym.Value)+off
	if sym.Type != elf.STT_SECTION {
		if a := o.bySym[sym]; a != nil { // the symbol says which atom, whatever the offset
			s.to = target{atom: a, off: int64(sym.Value) - int64(a.entry) + off}
		}
	}
}

// decode walks the instructions of a code section: it corrects PC-relative
// fields by the distance to the end of their instruction, marks branches, and
// adds the references between functions that the assembler resolved itself.
func (o *object) decode(sec *elfobj.Section, list []site) []site {
	if o.arch.Decode == nil {
		o.assume(list, 0, sec.Size())
		return list
	}
	ranges := o.bySec[sec]
	if len(ranges) == 0 {
		ranges = []*atom{{sec: sec, end: uint64(len(sec.Data))}}
	}
	next := 0
	var implicit []site
	for _, a := range ranges {
		for next < len(list) && list[next].off < a.start {
			next++
		}
		for off := a.start; off < a.end; {
			in, err := o.arch.Decode(sec.Data[off:a.end])
			if err != nil {
				a.undecoded = true
				next = o.assume(list, next, a.end)
				break
			}
			covered := insn.NoField
			for next < len(list) && list[next].off < off+uint64(in.Len) {
				s := &list[next]
				field, toEnd := in.FieldAt(int(s.off - off))
				if o.arch.Rel(s.typ).PCRel {
					s.toEnd = int64(toEnd)
				}
				s.branch = field == insn.RelField
				if field != insn.NoField {
					covered = field
				}
				next++
			}
			if s, ok := o.implicitRef(sec, a, off, in, covered); ok {
				implicit = append(implicit, s)
			}
			off += uint64(in.Len)
		}
	}
	if len(implicit) > 0 {
		list = append(list, implicit...)
		slices.SortStableFunc(list, func(x, y site) int { return cmp.Compare(x.off, y.off) })
	}
	return list
}

// assume corrects the relocations up to end as is usual for their type.
func (o *object) assume(list []site, next int, end uint64) int {
	for ; next < len(list) && list[next].off < end; next++ {
		if k := o.arch.Rel(list[next].typ); k.PCRel {
			list[next].toEnd = int64(k.ToEnd)
		}
	}
	return next
}

// implicitRef recognises a branch or a RIP-relative operand without relocation
// that leads out of its own function.
func (o *object) implicitRef(sec *elfobj.Section, a *atom, off uint64, in insn.Inst, covered insn.Field) (site, bool) {
	var field, size int
	var value int64
	switch {
	case in.RelSize > 0 && covered != insn.RelField:
		field, size, value = in.RelOff, in.RelSize, in.Rel
	case in.RIPRel && covered != insn.DispField:
		field, size, value = in.DispOff, in.DispSize, in.Disp
	default:
		return site{}, false
	}
	at := int64(off) + int64(in.Len) + value
	if at >= int64(a.start) && at < int64(a.end) || at < 0 || at > int64(len(sec.Data)) {
		return site{}, false
	}
	return site{
		ref: ref{
			off: off + uint64(field), size: size, toEnd: int64(in.Len - field), implicit: true,
			branch: in.RelSize > 0, typ: o.arch.PCRelCall,
		},
		sec: sec, at: at,
	}, true
}
