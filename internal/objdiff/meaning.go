// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/insn"
)

// placeMap relates code offsets (from the entry) of a patched function to
// those of its original, for two functions that differ only in how the
// assembler spelled them. A place among nops is the instruction behind them.
type placeMap struct {
	patched *atom
	from    []int64 // ascending offsets of the patched function's steps
	to      []int64 // those of the original's
}

// same reports whether offset p of the patched function is offset o of the
// original.
func (m *placeMap) same(o, p int64) bool {
	i, _ := slices.BinarySearch(m.from, p)
	k, _ := slices.BinarySearch(m.to, o)
	return i == k && i < len(m.from)
}

// step is one instruction that does something.
type step struct {
	insn.Inst
	at   int64 // from the entry
	code []byte
	ref  []ref
}

// meaning compares instruction by instruction where bytes differ: nops that
// align are skipped, a branch counts by where it leads and not by how long its
// encoding is, and a constant that is only a source line handed to a reporting
// function is forgiven. It returns why they differ, or "".
func (c *comparer) meaning(o, p *atom, exact string) string {
	os, ps := steps(o, c.arch.Decode), steps(p, c.arch.Decode)
	if len(os) == 0 || len(os) != len(ps) {
		return exact
	}
	places := &placeMap{patched: p}
	for i := range ps {
		places.from = append(places.from, ps[i].at)
		places.to = append(places.to, os[i].at)
	}
	places.from = append(places.from, int64(p.size()))
	places.to = append(places.to, int64(o.size()))

	var lines []int
	for i := range ps {
		switch equal, line := c.sameStep(&os[i], &ps[i], places); {
		case equal:
		case line && c.reportsLine(ps[i:]) && c.reportsLine(os[i:]):
			lines = append(lines, i)
		default:
			if why := c.refDifference(p, &os[i], &ps[i], places); why != "" {
				return why
			}
			return fmt.Sprintf("differs at %s+%#x", p.name(), ps[i].at)
		}
	}
	if why := c.entries(o, p, places); why != "" {
		return why
	}
	for _, i := range lines {
		c.notes = append(c.notes, fmt.Sprintf("%s+%#x: line number %d instead of %d forgiven", p.name(), ps[i].at, ps[i].Imm, os[i].Imm))
	}
	return ""
}

// steps lists a function's instructions without its nops, nil when some bytes
// are no known instruction.
func steps(a *atom, decode func([]byte) (insn.Inst, error)) []step {
	code := a.sec.Data[a.entry:a.end]
	pad := a.entry - a.start
	var out []step
	k := 0
	for k < len(a.refs) && a.refs[k].off < pad {
		k++
	}
	for off := 0; off < len(code); {
		in, err := decode(code[off:])
		if err != nil {
			return nil
		}
		first := k
		for k < len(a.refs) && a.refs[k].off-pad < uint64(off+in.Len) {
			k++
		}
		if in.Kind != insn.Nop || first != k {
			out = append(out, step{Inst: in, at: int64(off), code: code[off : off+in.Len], ref: a.refs[first:k]})
		}
		off += in.Len
	}
	return out
}

// sameStep compares two instructions. line tells that they differ only in a
// constant that may be a source line.
func (c *comparer) sameStep(o, p *step, places *placeMap) (equal, line bool) {
	if o.Kind != p.Kind || len(o.ref) != len(p.ref) {
		return false, false
	}
	for i := range p.ref {
		if !c.targets(o.ref[i].to, p.ref[i].to, places) || c.arch.Rel(o.ref[i].typ).Way != c.arch.Rel(p.ref[i].typ).Way {
			return false, false
		}
	}
	if o.RelSize > 0 && p.RelSize > 0 {
		return condition(&o.Inst) == condition(&p.Inst) && c.sameBranch(o, p, places), false
	}
	ob, pb := blank(o), blank(p)
	if bytes.Equal(ob, pb) {
		return true, false
	}
	or, ook := o.MovImm()
	pr, pok := p.MovImm()
	return false, ook && pok && or == pr && c.arch.LineRegs[pr] && len(p.ref) == 0 && o.Imm > 0 && p.Imm > 0
}

// sameBranch compares where two branches lead. References were compared.
func (c *comparer) sameBranch(o, p *step, places *placeMap) bool {
	if len(p.ref) > 0 {
		return true
	}
	return places.same(o.Target(int(o.at)), p.Target(int(p.at)))
}

// condition identifies a branch apart from the length of its displacement.
func condition(in *insn.Inst) int {
	if in.Kind != insn.CondJump {
		return -int(in.Kind)
	}
	op := int(in.Opcode)
	if in.Map == insn.Map0F && op&0xf0 == 0x80 || in.Map == insn.Map1Byte && op&0xf0 == 0x70 {
		return op & 0xf
	}
	return 0x100 | op
}

// blank is the instruction without the fields that references stand for.
func blank(s *step) []byte {
	out := s.code
	for _, r := range s.ref {
		if r.implicit {
			out = bytes.Clone(out)
			field := int(s.Len) - int(r.toEnd)
			clear(out[field:min(field+r.size, len(out))])
		}
	}
	return out
}

// reportsLine looks for the call that a line-number argument is for: the next
// call must be to a function that is known to take one.
func (c *comparer) reportsLine(rest []step) bool {
	for _, s := range rest {
		switch s.Kind {
		case insn.Call:
			return len(s.ref) == 1 && s.ref[0].to.extern != nil && c.arch.LineCallees[s.ref[0].to.extern.Name]
		case insn.Jump, insn.CondJump, insn.Ret, insn.IndirectJump, insn.IndirectCall:
			return false
		}
	}
	return false
}

// refDifference words a difference in what two instructions refer to.
func (c *comparer) refDifference(p *atom, os, ps *step, places *placeMap) string {
	if len(os.ref) != len(ps.ref) || os.Kind != ps.Kind {
		return ""
	}
	for i := range ps.ref {
		if !c.targets(os.ref[i].to, ps.ref[i].to, places) {
			return fmt.Sprintf("refers to %s instead of %s at %s+%#x",
				strings.TrimSpace(describe(ps.ref[i].to)), describe(os.ref[i].to), p.name(), ps.at)
		}
	}
	return ""
}
