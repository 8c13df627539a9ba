// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"path"
	"slices"

	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// spares are fixes that the policy leaves out as too mild, out of scope or
// without effect, and that were taken back because chosen ones need them.
type spares struct {
	wanted []string                  // to be taken
	taken  map[string]selection.Left // as they were left out
	asked  map[string][]string       // by what is needed, who needs it
	typed  map[string]bool           // fixes for which one was taken by a type alone
}

func newSpares() spares {
	return spares{taken: map[string]selection.Left{}, asked: map[string][]string{}, typed: map[string]bool{}}
}

// ask notes that a fix does not apply or compile without others.
func (c *construction) ask(id string, need ...string) {
	for _, n := range need {
		c.spares.wanted = append(c.spares.wanted, n)
		if !slices.Contains(c.spares.asked[n], id) {
			c.spares.asked[n] = append(c.spares.asked[n], id)
		}
	}
}

// take puts what was asked for back, and returns how many fixes came.
func (c *construction) take() int {
	was := map[string]selection.Left{}
	for _, l := range c.result.Selection.Left {
		was[l.ID] = l
	}
	came := c.result.Selection.Take(c.req.Series, c.spares.wanted...)
	c.spares.wanted = nil
	for _, id := range came {
		c.spares.taken[id] = was[id]
	}
	return len(came)
}

// needed tells whether a chosen fix asked for this one.
func (c *construction) needed(id string) bool {
	return slices.ContainsFunc(c.spares.asked[id], func(by string) bool {
		return slices.ContainsFunc(c.result.Selection.Fixes, func(f *series.Fix) bool { return f.ID == by })
	})
}

// prune leaves spares out again that nobody needs any more, because who asked
// for them had to go. It reports whether there were any.
func (c *construction) prune() bool {
	keep := map[string]bool{}
	for again := true; again; {
		again = false
		for _, f := range c.result.Selection.Fixes {
			if keep[f.ID] {
				continue
			}
			_, spare := c.spares.taken[f.ID]
			if !spare || slices.ContainsFunc(c.spares.asked[f.ID], func(by string) bool { return keep[by] }) ||
				slices.ContainsFunc(c.result.Selection.Fixes, func(g *series.Fix) bool { return keep[g.ID] && slices.Contains(g.Requires, f.ID) }) {
				keep[f.ID], again = true, true
			}
		}
	}
	var out []selection.Left
	for _, f := range c.result.Selection.Fixes {
		if !keep[f.ID] {
			out = append(out, c.spares.taken[f.ID])
			delete(c.spares.taken, f.ID)
			delete(c.spares.asked, f.ID)
		}
	}
	return len(c.result.Selection.Leave(out...)) > 0
}

// below finds the spares that a fix needs to apply: none of them can be missed.
// It is nil when they do not help.
func (c *construction) below(f *series.Fix) []string {
	var from []*series.Fix
	for _, g := range c.before(f) {
		if i := c.leftAt(g.ID); c.result.Selection.Left[i].Kind.Yields() && c.result.Selection.CanTake(c.req.Series, g.ID) {
			from = append(from, g)
		}
	}
	if len(from) == 0 {
		return nil
	}
	with, ok := c.fits(f, from)
	if !ok {
		return nil
	}
	for _, g := range with {
		less := slices.DeleteFunc(slices.Clone(with), func(h *series.Fix) bool { return h == g })
		if fewer, ok := c.fits(f, less); ok && slices.Contains(with, g) {
			with = fewer
		}
	}
	return ids(with)
}

// fits tells whether a fix applies where those of others that apply themselves
// are put back, which it returns.
func (c *construction) fits(f *series.Fix, from []*series.Fix) (with []*series.Fix, ok bool) {
	t := newText(c.original)
	for _, g := range c.req.Series.Fixes {
		switch {
		case g == f:
			return with, t.does(f)
		case slices.Contains(from, g):
			if t.apply(g) == nil {
				with = append(with, g)
			}
		case slices.Contains(c.result.Selection.Fixes, g) && touches(g, f, from):
			_ = t.apply(g) // one that does not is out of the way, as in settle
		}
	}
	return nil, false
}

// kin takes back what is known to change nothing by itself, and is wanted by
// the policy, but has to do with a chosen fix: it changes a source of its own, or
// a function that its lines use. In one live patch it may well have an effect.
// A header that both change is no sign of that, and may be everyone's.
func (c *construction) kin() {
	if len(c.req.Verdicts) == 0 {
		return
	}
	wanted := map[string]bool{}
	for _, f := range selection.Choose(c.req.Series, c.req.Policy, nil, c.req.Now).Fixes {
		wanted[f.ID] = true
	}
	sel := c.result.Selection
	files, uses := map[string]bool{}, map[string]bool{}
	note := func(f *series.Fix) {
		for _, p := range f.Paths() {
			files[p] = path.Ext(p) != ".h"
		}
		for w := range words(f, '+') {
			uses[w] = true
		}
	}
	for _, f := range sel.Fixes {
		note(f)
	}
	for again := true; again; {
		again = false
		for _, l := range slices.Clone(sel.Left) {
			if l.Kind != selection.NotHere || !wanted[l.ID] {
				continue
			}
			if !slices.ContainsFunc(l.Fix.Paths(), func(p string) bool { return files[p] }) &&
				!slices.ContainsFunc(l.Fix.Functions(), func(n string) bool { return uses[n] }) {
				continue
			}
			for _, id := range sel.Take(c.req.Series, l.ID) {
				note(c.req.Series.Fix(id))
				again = true
			}
		}
	}
}
