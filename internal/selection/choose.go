// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/series"
)

// Choose applies a policy to a series. facts says by id what is known of a fix
// on the target; one that is not there is taken for live, and a build finds
// out. What only texts and compilers can tell (a fix that does not apply
// without another) is not looked at here.
//
// A fix that a chosen one requires is chosen with it, even if by itself the
// policy would leave it out as less severe or out of scope. A fix that
// requires one that is excluded or can't be live is dragged along.
func Choose(s *series.Series, p Policy, facts map[string]Fact, now time.Time) *Selection {
	c := &choice{series: s, facts: facts, left: map[string]Left{}}
	for _, f := range s.Fixes {
		if l, out := c.judge(f, p, facts[f.ID], now); out {
			c.left[f.ID] = l
		}
	}
	c.drag()
	c.require()
	sel := &Selection{Policy: cmp.Or(p.Name, "default"), Idle: idle(s, p, now)}
	for _, f := range s.Fixes {
		if l, out := c.left[f.ID]; out {
			sel.Left = append(sel.Left, l)
		} else {
			sel.Fixes = append(sel.Fixes, f)
		}
	}
	sel.Digest = series.Digest(sel.Fixes)
	return sel
}

type choice struct {
	series *series.Series
	facts  map[string]Fact
	left   map[string]Left
}

// judge looks at one fix by itself. What the policy does not want is left out
// for that, and not for what it would be on the target.
func (c *choice) judge(f *series.Fix, p Policy, fact Fact, now time.Time) (Left, bool) {
	l := Left{Fix: f, ID: f.ID}
	if x, by := p.excludes(f, now); by != "" {
		l.Kind, l.By, l.Why = Excluded, by, x.Reason
		if also := others(f.CVEs, by); len(also) > 0 {
			l.Why = strings.TrimSpace(fmt.Sprintf("%s (it repairs %s too)", l.Why, strings.Join(also, ", ")))
		}
		return l, true
	}
	switch {
	case fact.Verdict == IsNotAffected:
		l.Kind, l.Code, l.Why = NotHere, fact.Code, fact.Why
	case cmp.Or(p.Scope, Security) == Security && len(f.CVEs) == 0 && len(f.Advisories) == 0:
		l.Kind, l.Why = OutOf, "it has no CVE and no advisory"
	case p.MinSeverity != series.Unknown && f.Severity != series.Unknown && f.Severity.Rank() < p.MinSeverity.Rank() && !f.Exploited:
		l.Kind, l.Why = Lesser, fmt.Sprintf("its severity is %s, the policy's least is %s", f.Severity, p.MinSeverity)
	default:
		l.Kind, l.Code, l.Why = fact.kind(), fact.Code, fact.Why
	}
	return l, l.Kind != ""
}

// kind is why a fix of which this is known can't be had; "" when it can.
func (f Fact) kind() LeftKind {
	return map[Verdict]LeftKind{NeedsReboot: Reboot, IsError: Failed}[f.Verdict]
}

func others(cves []string, not string) []string {
	if !slices.Contains(cves, not) {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(cves), func(c string) bool { return c == not })
}

// Yields tells whether a fix left out for this reason comes back when a chosen
// one requires it.
func (k LeftKind) Yields() bool { return k == Lesser || k == OutOf || k == NotHere }

// drag leaves out what requires, through however many others, a fix that can't
// be had: one that is left out for good, or that turns out not to be possible
// although only the policy's scope kept it out so far.
func (c *choice) drag() {
	never := map[string]Left{} // what it would be left out as
	for again := true; again; {
		again = false
		for _, f := range c.series.Fixes {
			if _, known := never[f.ID]; known {
				continue
			}
			if l, out := c.never(f, never); out {
				never[f.ID], again = l, true
			}
		}
	}
	// What a wanted fix hangs on is told with the reason that it goes for.
	var tell func(id string)
	tell = func(id string) {
		l, out := never[id]
		if _, told := c.left[id]; !out || told && !c.left[id].Kind.Yields() {
			return
		}
		c.left[id] = l
		if l.Kind == Dragged {
			tell(l.By)
		}
	}
	for _, f := range c.series.Fixes {
		if _, out := c.left[f.ID]; !out {
			tell(f.ID)
		}
	}
	for id, l := range c.left {
		if l.Kind == Dragged {
			l.Needs = c.needs(l.Fix)
			c.left[id] = l
		}
	}
}

// never tells whether a fix can't be had whatever requires it, where never are
// those of which that is known.
func (c *choice) never(f *series.Fix, never map[string]Left) (Left, bool) {
	l, out := c.left[f.ID]
	if out && !l.Kind.Yields() {
		return l, true
	}
	if fact := c.facts[f.ID]; fact.kind() != "" {
		return Left{Fix: f, ID: f.ID, Kind: fact.kind(), Code: fact.Code, Why: fact.Why}, true
	}
	for _, id := range f.Requires {
		by, gone := never[id]
		switch {
		case c.series.Fix(id) == nil:
			return Left{Fix: f, ID: f.ID, Kind: Dragged, By: id, Why: fmt.Sprintf("it requires %s, which the series does not hold", id)}, true
		case gone:
			return Left{Fix: f, ID: f.ID, Kind: Dragged, By: id, Why: fmt.Sprintf("it requires %s, which is left out: %s", id, by.Kind)}, true
		}
	}
	return Left{}, false
}

// needs lists the excluded fixes that a dragged one hangs on, through however
// many others; nil when it would not work with them either.
func (c *choice) needs(f *series.Fix) []string {
	var out []string
	seen := map[string]bool{f.ID: true}
	works := true
	var visit func(f *series.Fix)
	visit = func(f *series.Fix) {
		for _, id := range f.Requires {
			if seen[id] {
				continue
			}
			seen[id] = true
			g := c.series.Fix(id)
			if g == nil || c.facts[id].kind() != "" {
				works = false
				return
			}
			if c.left[id].Kind == Excluded {
				out = append(out, id)
			}
			visit(g)
		}
	}
	if visit(f); !works {
		return nil
	}
	slices.Sort(out)
	return out
}

// require takes back what chosen fixes require.
func (c *choice) require() {
	var need func(f *series.Fix)
	need = func(f *series.Fix) {
		for _, id := range f.Requires {
			if _, out := c.left[id]; out {
				delete(c.left, id)
				need(c.series.Fix(id))
			}
		}
	}
	for _, f := range c.series.Fixes {
		if _, out := c.left[f.ID]; !out {
			need(f)
		}
	}
}

// idle lists exclusions in force that no fix answers to.
func idle(s *series.Series, p Policy, now time.Time) []Exclusion {
	var out []Exclusion
	for _, x := range p.Exclusions {
		if x.Active(now) && !slices.ContainsFunc(s.Fixes, func(f *series.Fix) bool { return x.names(f) != "" }) {
			out = append(out, x)
		}
	}
	return out
}

// Leave takes further fixes out of the selection, with what requires them.
// It returns the ids of the fixes that went.
func (s *Selection) Leave(out ...Left) []string {
	var gone []string
	reasons := map[string]Left{}
	for _, l := range out {
		if _, twice := reasons[l.ID]; !twice {
			reasons[l.ID] = l
		}
	}
	for again := true; again; {
		again = false
		s.Fixes = slices.DeleteFunc(s.Fixes, func(f *series.Fix) bool {
			l, leaves := reasons[f.ID]
			if !leaves {
				return false
			}
			l.Fix, l.ID = f, f.ID
			s.Left = append(s.Left, l)
			gone = append(gone, f.ID)
			again = true
			return true
		})
		for _, f := range s.Fixes {
			if i := slices.IndexFunc(f.Requires, func(id string) bool { return slices.Contains(gone, id) }); i >= 0 {
				id := f.Requires[i]
				reasons[f.ID] = Left{Kind: Dragged, By: id, Needs: []string{id}, Why: fmt.Sprintf("it requires %s, which is left out: %s", id, reasons[id].Kind)}
			}
		}
	}
	s.Digest = series.Digest(s.Fixes)
	return gone
}

// Take puts fixes back that were left out for a reason that yields, with what
// they require, and returns the ids of those that came. One that requires what
// is left out for good stays where it is.
func (s *Selection) Take(all *series.Series, ids ...string) []string {
	return s.back(all, func(l Left) bool { return l.Kind.Yields() }, ids)
}

// CanTake tells whether Take would put a fix back.
func (s *Selection) CanTake(all *series.Series, id string) bool {
	c := *s
	return len(c.Take(all, id)) > 0
}

// Again puts fixes back that were left out for whatever reason but that the
// policy excludes them, and returns the ids of those that came. One comes with
// all that it requires, or not at all.
func (s *Selection) Again(all *series.Series, ids ...string) []string {
	return s.back(all, func(l Left) bool { return l.Kind.Yields() || slices.Contains(ids, l.ID) && l.Kind != Excluded }, ids)
}

func (s *Selection) back(all *series.Series, may func(Left) bool, ids []string) []string {
	left := map[string]Left{}
	for _, l := range s.Left {
		left[l.ID] = l
	}
	taken := map[string]bool{}
	// take tells whether a fix could come, and notes it with what it requires.
	var take func(id string, with map[string]bool) bool
	take = func(id string, with map[string]bool) bool {
		l, out := left[id]
		if !out || taken[id] || with[id] {
			return true
		}
		if !may(l) {
			return false
		}
		with[id] = true
		for _, need := range l.Fix.Requires {
			if all.Fix(need) == nil || !take(need, with) {
				return false
			}
		}
		return true
	}
	for _, id := range ids {
		if with := map[string]bool{}; take(id, with) {
			maps.Copy(taken, with)
		}
	}
	s.Left = slices.DeleteFunc(slices.Clone(s.Left), func(l Left) bool { return taken[l.ID] })
	in := map[string]bool{}
	for _, f := range s.Fixes {
		in[f.ID] = true
	}
	s.Fixes = s.Fixes[:0:0]
	for _, f := range all.Fixes {
		if in[f.ID] || taken[f.ID] {
			s.Fixes = append(s.Fixes, f)
		}
	}
	s.Digest = series.Digest(s.Fixes)
	return slices.Sorted(maps.Keys(taken))
}

// Sort puts what was left out into the order of the series.
func (s *Selection) Sort(all *series.Series) {
	at := make(map[string]int, len(all.Fixes))
	for i, f := range all.Fixes {
		at[f.ID] = i
	}
	slices.SortStableFunc(s.Left, func(a, b Left) int { return cmp.Compare(at[a.ID], at[b.ID]) })
}
