// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/arch"
	"github.com/tsugi-project/tsugi/internal/insn"
)

// Assemblers give a label two bytes where its target is near, and a jump to
// the test of its key needs five. So the function is laid out anew: its
// instructions stay what they are and in their order, places move, and short
// branches that no longer reach become long ones.

// rewritten is the code of a function laid out anew.
type rewritten struct {
	data  []byte
	refs  []ref    // as an atom's, at their new places
	from  []uint64 // where instructions began, and last the end
	to    []uint64 // where they begin
	tests []test
}

// test is where the test of a key came to lie, and for which place.
type test struct{ at, site uint64 }

// moved is where something went that lay at an offset from the atom's start.
func (w *rewritten) moved(off uint64) uint64 {
	i, exact := slices.BinarySearch(w.from, off)
	if !exact {
		i--
	}
	if i < 0 {
		return off // padding before the entry
	}
	return w.to[i] + off - w.from[i]
}

// piece is one instruction on its way.
type piece struct {
	insn.Inst
	from   uint64 // from the atom's start
	to     uint64
	length uint64 // what it will be
	refs   []ref
	target int64 // of a branch or operand without reference inside the function, else -1
	test   *keyTest
	label  bool // a label that stays one
	pinned bool // part of what an alternative replaces
}

type grower struct {
	arch   *arch.Arch
	atom   *atom
	pieces []piece
	tests  []keyTest
	from   []uint64
}

func newGrower(ar *arch.Arch, a *atom, tests []keyTest) (*grower, string) {
	g := &grower{arch: ar, atom: a, tests: tests}
	pad := a.entry - a.start
	code := a.bytes()
	k := 0
	for k < len(a.refs) && a.refs[k].off < pad {
		k++
	}
	for off := pad; off < uint64(len(code)); {
		in, err := ar.Decode(code[off:])
		if err != nil {
			return nil, "its code can't be read"
		}
		p := piece{Inst: in, from: off, length: uint64(in.Len), target: -1}
		first := k
		for k < len(a.refs) && a.refs[k].off < off+p.length {
			k++
		}
		p.refs = slices.Clone(a.refs[first:k])
		g.pieces, g.from = append(g.pieces, p), append(g.from, off)
		off += p.length
	}
	g.from = append(g.from, uint64(len(code)))
	if why := g.findTargets(); why != "" {
		return nil, why
	}
	return g, g.findSites()
}

// at returns the instruction at an offset.
func (g *grower) at(off uint64) *piece {
	if i, ok := slices.BinarySearch(g.from, off); ok && i < len(g.pieces) {
		return &g.pieces[i]
	}
	return nil
}

// findTargets finds where branches and operands lead that the assembler
// resolved, and makes room for the ones that lead elsewhere.
func (g *grower) findTargets() string {
	for i := range g.pieces {
		p := &g.pieces[i]
		field := func(off int) bool {
			return slices.ContainsFunc(p.refs, func(f ref) bool { return f.size > 0 && f.off == p.from+uint64(off) })
		}
		switch {
		case p.RelSize > 0 && !field(p.RelOff):
			p.target = p.Target(int(p.from))
		case p.RIPRel && !field(p.DispOff):
			p.target = int64(p.from) + int64(p.Len) + p.Disp
		case p.RelSize == 1: // to another function
			if why := p.widen(); why != "" {
				return why
			}
		}
		if p.target < 0 && p.target != -1 {
			return "a branch leads before the function"
		}
		if _, ok := slices.BinarySearch(g.from, uint64(p.target)); p.target >= 0 && !ok {
			return fmt.Sprintf("the branch at %s leads into an instruction", g.atom.where(p.from))
		}
	}
	return ""
}

// findSites finds what special sections say of instructions.
func (g *grower) findSites() string {
	found := 0
	for _, e := range g.atom.special {
		own := e.owner()
		if own.to.atom != g.atom || own.to.off < 0 {
			continue
		}
		from := own.at()
		i := slices.IndexFunc(g.tests, func(t keyTest) bool { return t.entry == e })
		switch {
		case e.spec.KeyKind == arch.JumpLabel:
			p := g.at(from)
			if p == nil || p.Len != 2 && p.Len != 5 || p.Kind != insn.Jump && p.Kind != insn.Nop {
				return fmt.Sprintf("at %s is no label", g.atom.where(from))
			}
			if i < 0 {
				p.label = true
				if to := e.label(); p.Kind == insn.Nop && to.atom == g.atom && to.off >= 0 {
					p.target = to.off + int64(g.atom.entry-g.atom.start)
				}
				continue
			}
			found++
			p.test, p.target, p.refs, p.length = &g.tests[i], -1, nil, uint64(len(g.arch.KeyTest.Jump))
		case e.spec.Covers != nil:
			end := from + uint64(e.spec.Covers(e.data))
			for k := range g.pieces {
				if p := &g.pieces[k]; p.from >= from && p.from < end {
					p.pinned = true
				}
			}
		}
	}
	if found != len(g.tests) {
		return "one of its labels lies outside"
	}
	for _, t := range g.tests {
		if to := t.to; to.atom == nil || !to.atom.class.code() {
			return "one of its labels leads nowhere"
		} else if _, ok := slices.BinarySearch(g.from, uint64(to.off)+g.atom.entry-g.atom.start); to.atom == g.atom && !ok {
			return "one of its labels leads into an instruction"
		}
	}
	return ""
}

// widen turns a short branch into a long one, or says why it can't.
func (p *piece) widen() string {
	switch {
	case p.Kind == insn.Nop && p.label:
		p.length = 5
	case p.Kind == insn.Jump && p.Opcode == 0xeb:
		p.length += 3
	case p.Kind == insn.CondJump && p.Map == insn.Map1Byte && p.Opcode&0xf0 == 0x70:
		p.length += 4
	default:
		return "it has a short branch that has no long form"
	}
	return ""
}

// short reports whether an instruction has a displacement of one byte, or is a
// label of which the kernel would make such a jump.
func (p *piece) short() bool {
	return p.length == uint64(p.Len) && (p.RelSize == 1 || p.label && p.Len == 2)
}

// relax places the instructions, and makes short branches long until every
// one reaches. It ends because none becomes short again.
func (g *grower) relax() string {
	for again := true; again; {
		again = false
		at := g.atom.entry - g.atom.start
		for i := range g.pieces {
			g.pieces[i].to = at
			at += g.pieces[i].length
		}
		for i := range g.pieces {
			p := &g.pieces[i]
			if p.target < 0 || !p.short() {
				continue
			}
			if d := g.place(uint64(p.target), at) - int64(p.to+p.length); d < -128 || d > 127 {
				if why := p.widen(); why != "" {
					return why
				}
				again = true
			}
		}
	}
	for i := range g.pieces {
		if p := &g.pieces[i]; p.pinned && p.length != uint64(p.Len) {
			return fmt.Sprintf("code that .altinstructions replaces would grow at %s", g.atom.where(p.from))
		}
	}
	return ""
}

// place is the new offset of an old one at which an instruction began.
func (g *grower) place(off, end uint64) int64 {
	if p := g.at(off); p != nil {
		return int64(p.to)
	}
	return int64(end)
}

// write makes the new code, and the tests behind it.
func (g *grower) write() (*rewritten, string) {
	a, kt := g.atom, g.arch.KeyTest
	w := &rewritten{data: bytes.Clone(a.bytes()[:a.entry-a.start]), from: g.from}
	for _, f := range a.refs {
		if f.off < a.entry-a.start {
			w.refs = append(w.refs, f)
		}
	}
	last := g.pieces[len(g.pieces)-1]
	end := last.to + last.length
	displacement := func(field, next uint64, to int64) {
		binary.LittleEndian.PutUint32(w.data[field:], uint32(to-int64(next)))
	}
	var sites []*piece
	for i := range g.pieces {
		p := &g.pieces[i]
		w.to = append(w.to, p.to)
		if p.test != nil {
			w.data, sites = append(w.data, kt.Jump...), append(sites, p)
			continue
		}
		g.writePiece(w, p, end)
	}
	w.to = append(w.to, end)
	for _, p := range sites {
		at, next := uint64(len(w.data)), p.to+p.length
		displacement(next-4, next, int64(at))
		text := kt.On
		if p.test.branch {
			text = kt.Off
		}
		w.data = append(w.data, text...)
		w.refs = append(w.refs, ref{off: at + uint64(kt.Key), typ: kt.KeyRel, toEnd: int64(kt.KeyToEnd), size: 4, to: p.test.key})
		taken := at + uint64(kt.Taken)
		if to := p.test.to; to.atom == a {
			displacement(taken, taken+4, g.place(uint64(to.off)+a.entry-a.start, end))
		} else {
			w.refs = append(w.refs, ref{off: taken, typ: g.arch.PCRelCall, toEnd: 4, size: 4, branch: true, to: to})
		}
		displacement(at+uint64(kt.Back), at+uint64(kt.Back)+4, int64(next))
		w.tests = append(w.tests, test{at: at, site: p.from})
	}
	return w, ""
}

// writePiece writes one instruction that stays.
func (g *grower) writePiece(w *rewritten, p *piece, end uint64) {
	text := g.atom.bytes()[p.from : p.from+uint64(p.Len)]
	relOff, relSize := p.RelOff, p.RelSize
	switch {
	case p.length == uint64(p.Len):
	case p.Kind == insn.Nop:
		text = g.arch.KeyTest.Nop
	case p.Kind == insn.Jump:
		text = slices.Concat(text[:relOff-1], []byte{0xe9, 0, 0, 0, 0})
		relSize = 4
	default:
		text = slices.Concat(text[:relOff-1], []byte{0x0f, 0x80 | p.Opcode&0xf, 0, 0, 0, 0})
		relOff, relSize = relOff+1, 4
	}
	at := uint64(len(w.data))
	w.data = append(w.data, text...)
	next := uint64(len(w.data))
	for _, f := range p.refs {
		f.off = f.off - p.from + at
		if f.implicit && f.branch && relSize == 4 && f.size == 1 {
			f.off, f.size, f.toEnd = at+uint64(relOff), 4, 4
		}
		w.refs = append(w.refs, f)
	}
	if p.target < 0 || p.Kind == insn.Nop {
		return
	}
	to := g.place(uint64(p.target), end) - int64(next)
	switch {
	case p.RelSize == 0: // an operand
		binary.LittleEndian.PutUint32(w.data[at+uint64(p.DispOff):], uint32(to))
	case relSize == 1:
		w.data[at+uint64(relOff)] = byte(to)
	default:
		binary.LittleEndian.PutUint32(w.data[at+uint64(relOff):], uint32(to))
	}
}
