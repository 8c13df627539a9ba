// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/arch"
)

// compare decides for every paired atom whether it changed.
func (r *Result) compare() *comparer {
	c := &comparer{arch: r.patched.arch, memo: map[[2]*atom]bool{}}
	for _, p := range r.patched.atoms {
		if p.twin == nil || p.byContent() {
			continue
		}
		if why := c.atoms(p.twin, p); why != "" {
			p.state, p.why = changed, why
		}
	}
	r.spread(c)
	r.promote(c)
	r.Notes = append(r.Notes, c.notes...)
	return c
}

// spread makes a function changed when its cold part did, when the cold part
// came or went, and when it uses a constant that changed and may be copied.
func (r *Result) spread(c *comparer) {
	for _, p := range r.patched.atoms {
		if p.parent == nil {
			if t := p.twin; t != nil && p.state == same && len(t.children) != len(p.children) {
				p.state, p.why = changed, "its cold part came or went"
			}
			continue
		}
		if p.state != same && p.parent.state == same && p.parent.twin != nil {
			p.parent.state, p.parent.why = changed, "its cold part: "+orElse(p.why, "is new")
		}
	}
	for _, p := range r.patched.atoms {
		if p.kind != variable || p.state != changed || !r.copyable(p) {
			continue
		}
		p.twin.twin, p.twin = nil, nil
		p.state = fresh
		for _, u := range p.users {
			if f := u.family(); f.state == same && f.kind == function {
				f.state, f.why = changed, "uses the changed constant "+p.name()
			}
		}
		r.risk("TS8006", p.name(), "")
	}
}

func orElse(s, otherwise string) string {
	if s == "" {
		return otherwise
	}
	return s
}

// comparer holds what is known while two objects are compared.
type comparer struct {
	arch  *arch.Arch
	memo  map[[2]*atom]bool // content of unnamed atoms; true also while under way
	notes []string
}

// atoms says why two atoms differ, or "".
func (c *comparer) atoms(o, p *atom) string {
	if o.trampoline() {
		return ""
	}
	why := c.exact(o, p)
	if why == "" {
		return c.sameFrames(o, p)
	}
	if !p.class.code() || c.arch.Decode == nil || o.undecoded || p.undecoded {
		return why
	}
	if why = c.meaning(o, p, why); why != "" {
		return why
	}
	return c.sameFrames(o, p)
}

// exact compares byte by byte and reference by reference.
func (c *comparer) exact(o, p *atom) string {
	if (o.sec.Type == elf.SHT_NOBITS) != (p.sec.Type == elf.SHT_NOBITS) {
		if !(o.zero() && p.zero()) {
			return "initial value differs"
		}
	} else if !p.class.code() && o.sec.Flags&elf.SHF_WRITE != p.sec.Flags&elf.SHF_WRITE {
		return fmt.Sprintf("moved from %s to %s", o.sec.Name, p.sec.Name)
	}
	if o.size() != p.size() {
		return fmt.Sprintf("size changes from %d to %d bytes", o.size(), p.size())
	}
	ob, pb := c.masked(o), c.masked(p)
	if p.kind == function { // padding before the entry is no change
		ob, pb = ob[min(len(ob), int(o.entry-o.start)):], pb[min(len(pb), int(p.entry-p.start)):]
	}
	if len(ob) == len(pb) {
		if i := mismatch(ob, pb); i >= 0 {
			return "differs at " + p.where(uint64(i)+p.entry-p.start)
		}
	}
	if len(o.refs) != len(p.refs) {
		return fmt.Sprintf("has %d references instead of %d", len(p.refs), len(o.refs))
	}
	for i := range p.refs {
		or, pr := &o.refs[i], &p.refs[i]
		if or.off-(o.entry-o.start) != pr.off-(p.entry-p.start) || or.typ != pr.typ && !or.implicit && !pr.implicit {
			return "differs at " + p.where(pr.off)
		}
		if !c.targets(or.to, pr.to, nil) {
			return fmt.Sprintf("refers to %s instead of %s at %s", describe(pr.to), describe(or.to), p.where(pr.off))
		}
	}
	return c.entries(o, p, nil)
}

// masked is an atom's bytes with the fields blanked that the assembler filled
// in for references it resolved.
func (c *comparer) masked(a *atom) []byte {
	b := a.bytes()
	if !slices.ContainsFunc(a.refs, func(r ref) bool { return r.implicit }) {
		return b
	}
	b = bytes.Clone(b)
	for _, r := range a.refs {
		if r.implicit {
			clear(b[r.off:min(r.off+uint64(r.size), uint64(len(b)))])
		}
	}
	return b
}

func mismatch(a, b []byte) int {
	if bytes.Equal(a, b) {
		return -1
	}
	for i := range a {
		if a[i] != b[i] {
			return i
		}
	}
	return -1
}

// targets reports whether two references mean the same. places maps offsets
// of the patched function under comparison to the original's, nil when they
// are equal.
func (c *comparer) targets(o, p target, places *placeMap) bool {
	switch {
	case o.extern != nil || p.extern != nil:
		return o.extern != nil && p.extern != nil && o.off == p.off && o.extern.Name == p.extern.Name
	case o.atom == nil || p.atom == nil:
		return o.atom == nil && p.atom == nil && bytes.Equal(o.literal, p.literal)
	case o.atom.byContent() && p.atom.byContent():
		return o.off == p.off && c.content(o.atom, p.atom)
	case p.atom.twin != o.atom:
		return false
	case places != nil && places.patched == p.atom:
		return places.same(o.off, p.off)
	}
	return o.off == p.off
}

// content compares atoms that have no identity, and what they refer to.
func (c *comparer) content(o, p *atom) bool {
	if o.private != p.private || o.private && canonical(o.name()) != canonical(p.name()) {
		return false
	}
	key := [2]*atom{o, p}
	if known, ok := c.memo[key]; ok {
		return known
	}
	c.memo[key] = true // a cycle back to here is no difference by itself
	equal := c.sameContent(o, p)
	c.memo[key] = equal
	return equal
}

func (c *comparer) sameContent(o, p *atom) bool {
	if o.sec.Name == "__dyndbg" && p.sec.Name == "__dyndbg" {
		return c.sameRefs(o, p) // the rest is a line number and run-time flags
	}
	if o.kind == anonymous {
		// Where an anonymous atom ends is known only by what comes next:
		// compare what both have, and let only padding follow.
		return c.samePrefix(o, p)
	}
	return c.exact(o, p) == ""
}

func (c *comparer) sameRefs(o, p *atom) bool {
	if len(o.refs) != len(p.refs) {
		return false
	}
	for i := range p.refs {
		if o.refs[i].off != p.refs[i].off || !c.targets(o.refs[i].to, p.refs[i].to, nil) {
			return false
		}
	}
	return true
}

func (c *comparer) samePrefix(o, p *atom) bool {
	ob, pb := c.masked(o), c.masked(p)
	n := min(len(ob), len(pb))
	return bytes.Equal(ob[:n], pb[:n]) && filler(ob[n:], o) && filler(pb[n:], p) && c.sameRefs(o, p) && c.entries(o, p, nil) == ""
}

func filler(rest []byte, a *atom) bool {
	for _, b := range rest {
		if b != 0 && !(a.sec.Exec() && (b == 0x90 || b == 0xcc)) {
			return false
		}
	}
	return true
}

// entries compares the special section entries of two atoms.
func (c *comparer) entries(o, p *atom, places *placeMap) string {
	of, pf := compared(o.special), compared(p.special)
	if len(of) != len(pf) {
		return fmt.Sprintf("has %d special section entries instead of %d", len(pf), len(of))
	}
	for i := range pf {
		if !c.sameEntry(of[i], pf[i], places) {
			return fmt.Sprintf("its entry of %s differs", pf[i].spec.Name)
		}
	}
	return ""
}

func compared(list []*entry) []*entry {
	out := make([]*entry, 0, len(list))
	for _, e := range list {
		if e.spec.Rule == arch.Compare {
			out = append(out, e)
		}
	}
	return out
}

func (c *comparer) sameEntry(o, p *entry, places *placeMap) bool {
	if o.spec.Name != p.spec.Name || len(o.refs) != len(p.refs) {
		return false
	}
	ob, pb := o.data, p.data
	if m := p.spec.Mask; m != nil {
		ob, pb = bytes.Clone(ob), bytes.Clone(pb)
		m(ob)
		m(pb)
	}
	if !bytes.Equal(bytes.TrimRight(ob, "\x00"), bytes.TrimRight(pb, "\x00")) {
		return false
	}
	for i := range p.refs {
		if ignore := p.spec.IgnoreReloc; ignore != nil && ignore(o.data, i) && ignore(p.data, i) {
			continue
		}
		if !c.targets(o.refs[i].to, p.refs[i].to, places) {
			return false
		}
	}
	return true
}
