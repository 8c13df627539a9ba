// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"container/heap"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
)

// Position is a machine's place in a rollout's order: FNV-1a of both ids with
// the finalizer of MurmurHash3, which lets each bit depend on all of them.
func Position(rollout, machine string) uint64 {
	const prime = 1099511628211
	x := uint64(14695981039346656037)
	for _, s := range [2]string{rollout, machine} {
		for i := range len(s) {
			x = (x ^ uint64(s[i])) * prime
		}
		x = (x ^ 0xff) * prime // a byte that no text has: ends do not run into beginnings
	}
	x = (x ^ x>>33) * 0xff51afd7ed558ccd
	x = (x ^ x>>33) * 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}

// places is how many machines a wave and those before it have together.
func places(p *Plan, wave, n int) int {
	most := 0
	for _, w := range p.Waves[:wave+1] {
		most = max(most, w.Upto.Of(n))
	}
	return min(most, n)
}

// Flight is how many machines may be on their way now.
func Flight(p *Plan, h Health) int {
	return min(p.Flight.Of(h.Machines), max(minFlight, int(p.Ramp*float64(h.Well)/100)))
}

// Bar is a reason not to offer it to a machine now.
type Bar string

// The bars.
const (
	BarNone   Bar = ""
	BarHad    Bar = "had"  // it has had it, or has it on offer
	BarLate   Bar = "late" // it was offered it in vain
	BarNeeds  Bar = "not-needed"
	BarOut    Bar = "out-of-scope"
	BarBefore Bar = "was-there" // it had it before the rollout, and it went badly or was taken out
	BarUnable Bar = "unable"
	BarHeld   Bar = "held"
	BarOther  Bar = "other-rollout"
	BarSilent Bar = "silent"
)

// bar says whether a machine can be offered the live patch now.
func bar(s *State, f *Facts, m *Machine, now time.Time) Bar {
	r := s.Records[m.ID]
	switch {
	case m.Gone || m.Out != "":
		return BarOut
	case r != nil && r.Status == Late && r.Begun.IsZero():
		return BarLate
	case r != nil && (r.Status != Withdrawn && r.Status != Left || !r.Begun.IsZero()):
		return BarHad
	case m.Has:
		return BarNeeds
	case m.State == api.Quarantined || m.State == api.Reverted || m.State == api.Reverting || m.State == api.Loading:
		return BarBefore
	case m.Other != "":
		return BarOther
	case m.Held:
		return BarHeld
	case m.Unable != "":
		return BarUnable
	case f.silent(m, now):
		return BarSilent
	}
	return BarNone
}

// place is a candidate.
type place struct {
	at uint64
	m  *Machine
}

func (a place) compare(b place) int {
	return cmp.Or(cmp.Compare(a.at, b.at), cmp.Compare(a.m.ID, b.m.ID))
}

// queue has the last place on top.
type queue []place

func (q queue) Len() int           { return len(q) }
func (q queue) Less(i, j int) bool { return q[i].compare(q[j]) > 0 }
func (q queue) Swap(i, j int)      { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)        { *q = append(*q, x.(place)) }
func (q *queue) Pop() any {
	last := (*q)[len(*q)-1]
	*q = (*q)[:len(*q)-1]
	return last
}

// pick takes the first n machines that can be offered it, in their order.
func pick(s *State, f *Facts, now time.Time, n int) []Mark {
	if n <= 0 {
		return nil
	}
	var q queue
	for i := range f.Machines {
		m := &f.Machines[i]
		if bar(s, f, m, now) != BarNone {
			continue
		}
		c := place{Position(s.Rollout, m.ID), m}
		switch {
		case len(q) < n:
			heap.Push(&q, c)
		case c.compare(q[0]) < 0:
			q[0] = c
			heap.Fix(&q, 0)
		}
	}
	slices.SortFunc(q, place.compare)
	marks := make([]Mark, len(q))
	for i, c := range q {
		marks[i] = Mark{Machine: c.m.ID, Boot: c.m.Boot}
	}
	return marks
}
