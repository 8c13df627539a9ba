// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"fmt"
	"hash/fnv"
	"strconv"
)

// correlate pairs the named atoms of two objects: those that are the same
// function or variable, whatever number the compiler gave them. Names that are
// unique on both sides pair at once; what shares a canonical name is told
// apart by content, by who uses it in what order, and last by order alone.
// Private variables and anonymous atoms are not paired: their content counts.
func correlate(o, p *object) {
	c := &correlator{left: group(o), right: group(p)}
	for _, key := range c.left.order {
		if len(c.left.by[key]) == 1 && len(c.right.by[key]) == 1 {
			pair(c.left.by[key][0], c.right.by[key][0])
		}
	}
	for _, key := range c.left.order {
		if key.kind == function {
			c.byContent(key)
			c.byOrder(key)
		}
	}
	for _, key := range c.left.order {
		if key.kind == variable {
			c.byUse(key)
			c.byContent(key)
			c.byOrder(key)
		}
	}
	for _, key := range c.left.order {
		if key.kind == variable {
			c.checkUse(key)
		}
	}
	for _, a := range p.atoms {
		if a.twin != nil && a.twin.class == bootText && a.class == text {
			part(a) // the running kernel has thrown the original away
		}
		if a.twin == nil && !a.byContent() {
			a.state = fresh
		}
	}
}

func pair(o, p *atom) { o.twin, p.twin = p, o }

func part(p *atom) {
	p.twin.twin = nil
	p.twin = nil
}

// groupKey is what atoms must share to be candidates for each other.
type groupKey struct {
	kind kind
	name string
}

type groups struct {
	by    map[groupKey][]*atom
	order []groupKey
}

func group(o *object) groups {
	g := groups{by: map[groupKey][]*atom{}}
	for _, a := range o.atoms {
		if a.byContent() {
			continue
		}
		k := groupKey{a.kind, canonical(a.name())}
		if g.by[k] == nil {
			g.order = append(g.order, k)
		}
		g.by[k] = append(g.by[k], a)
	}
	return g
}

type correlator struct{ left, right groups }

// open returns the atoms of a key that have no twin yet.
func (c *correlator) open(key groupKey) (o, p []*atom) {
	unpaired := func(list []*atom) (out []*atom) {
		for _, a := range list {
			if a.twin == nil {
				out = append(out, a)
			}
		}
		return out
	}
	return unpaired(c.left.by[key]), unpaired(c.right.by[key])
}

// byContent pairs atoms of one key whose signature occurs equally often on
// both sides.
func (c *correlator) byContent(key groupKey) {
	os, ps := c.open(key)
	if len(os) == 0 || len(ps) == 0 || len(os)+len(ps) == 2 {
		return
	}
	left, right := map[uint64][]*atom{}, map[uint64][]*atom{}
	for _, a := range os {
		left[signature(a)] = append(left[signature(a)], a)
	}
	for _, a := range ps {
		right[signature(a)] = append(right[signature(a)], a)
	}
	for _, a := range os {
		sig := signature(a)
		if l, r := left[sig], right[sig]; a.twin == nil && len(l) == len(r) {
			for i := range l {
				pair(l[i], r[i])
			}
		}
	}
}

// signature hashes what an atom holds, its references by canonical name.
func signature(a *atom) uint64 {
	h := fnv.New64a()
	fmt.Fprint(h, a.end-a.start, a.sec.Type, " ")
	h.Write(a.bytes())
	for _, r := range a.refs {
		fmt.Fprint(h, r.off, r.typ, describe(r.to))
	}
	return h.Sum64()
}

// describe names a target without the numbers of compilers.
func describe(t target) string {
	switch {
	case t.extern != nil:
		return t.extern.Name + plus(t.off)
	case t.atom == nil:
		return strconv.Quote(string(t.literal))
	case t.atom.sym != nil:
		return canonical(t.atom.name()) + plus(t.off)
	default:
		return t.atom.sec.Name
	}
}

func plus(off int64) string {
	if off == 0 {
		return ""
	}
	return fmt.Sprintf("%+#x", off)
}

// use is one place where an atom is referred to: the family that does, and
// the how-manieth reference to anything of that canonical name it is there.
type use struct {
	family *atom // of the original object
	nth    int
}

// uses lists for the atoms of a key where functions of known twins use them.
func uses(key groupKey, list []*atom, toOrig func(*atom) *atom) map[*atom][]use {
	wanted := map[*atom]bool{}
	var users []*atom
	seen := map[*atom]bool{}
	for _, a := range list {
		wanted[a] = true
		for _, u := range a.users {
			if f := u.family(); !seen[f] {
				seen[f] = true
				users = append(users, f)
			}
		}
	}
	out := map[*atom][]use{}
	for _, f := range users {
		orig := toOrig(f)
		if orig == nil {
			continue
		}
		order := map[*atom]int{}
		visit := func(a *atom) {
			for i := range a.refs {
				t := a.refs[i].to.atom
				if t == nil || t.sym == nil || canonical(t.name()) != key.name {
					continue
				}
				if _, ok := order[t]; !ok {
					order[t] = len(order)
					if wanted[t] {
						out[t] = append(out[t], use{orig, order[t]})
					}
				}
			}
		}
		visit(f)
		for _, child := range f.children {
			visit(child)
		}
	}
	return out
}

func itself(a *atom) *atom { return a }

func twinOf(a *atom) *atom { return a.twin }

// byUse pairs variables that twin functions use in the same order.
func (c *correlator) byUse(key groupKey) {
	os, ps := c.open(key)
	if len(os) == 0 || len(ps) == 0 || len(os)+len(ps) == 2 {
		return
	}
	left := map[use]*atom{}
	for a, list := range uses(key, os, itself) {
		for _, u := range list {
			left[u] = a
		}
	}
	byUse := uses(key, ps, twinOf)
	for _, a := range ps {
		for _, u := range byUse[a] {
			if o := left[u]; o != nil && o.twin == nil && a.twin == nil && o.end-o.start == a.end-a.start {
				pair(o, a)
			}
		}
	}
}

// byOrder pairs what is left when both sides have equally many.
func (c *correlator) byOrder(key groupKey) {
	os, ps := c.open(key)
	if len(os) != len(ps) {
		return
	}
	for i := range os {
		pair(os[i], ps[i])
	}
}

// checkUse parts variables of functions (static count in f) that no common
// function uses: one was removed, and another of the same name is new.
func (c *correlator) checkUse(key groupKey) {
	for _, p := range c.right.by[key] {
		o := p.twin
		if o == nil || !numbered(o.name()) && !numbered(p.name()) || len(o.users) == 0 || len(p.users) == 0 {
			continue
		}
		common := map[*atom]bool{}
		for _, u := range o.users {
			common[u.family()] = true
		}
		shared := false
		for _, u := range p.users {
			f := u.family()
			// a user that is itself new may have been cut out of an old one
			shared = shared || f.twin == nil || common[f.twin]
		}
		if !shared {
			part(p)
		}
	}
}
