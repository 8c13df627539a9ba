// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// ground is what fixes stand on: the others of their series, those that are
// selected now, and the source.
type ground struct {
	series   *series.Series
	sel      *selection.Selection
	original *original
}

// misfit says why a fix does not apply, and finds the smallest set of fixes
// left out with which it would.
func (c *ground) misfit(f *series.Fix, err error) selection.Left {
	needs := c.smallest(f)
	if len(needs) == 0 {
		kind := selection.Failed
		if isRefusal(err) {
			kind = selection.Reboot
		}
		return selection.Left{ID: f.ID, Kind: kind, Code: code.Of(err), Why: firstLine(err.Error())}
	}
	by := needs[0]
	for _, id := range needs { // what is only too mild would have come back
		if i := c.leftAt(id); i >= 0 && !c.sel.Left[i].Kind.Yields() {
			by = id
			break
		}
	}
	return selection.Left{
		ID: f.ID, Kind: selection.Dragged, By: by, Needs: needs, Code: code.Of(err),
		Why: "it does not apply without " + strings.Join(needs, " and "),
	}
}

// before lists fixes left out that come before one in the series and change a
// file of its own.
func (c *ground) before(f *series.Fix) []*series.Fix {
	var out []*series.Fix
	for _, g := range c.series.Fixes {
		if g.ID == f.ID {
			break
		}
		if c.leftAt(g.ID) >= 0 && sharesFile(f, g) {
			out = append(out, g)
		}
	}
	return out
}

// leftAt is the place of a fix among those left out, or -1.
func (c *ground) leftAt(id string) int {
	return slices.IndexFunc(c.sel.Left, func(l selection.Left) bool { return l.ID == id })
}

// most is how many fixes left out are tried together before all are.
const most = 3

// smallest looks for the smallest set of fixes left out with which a fix
// applies: those that change a file of its own.
func (c *ground) smallest(f *series.Fix) []string {
	back := c.before(f)
	for n := 1; n <= min(most, len(back)); n++ {
		if ids := c.try(f, back, nil, n); ids != nil {
			return ids
		}
	}
	if len(back) > most && c.goes(f, back) {
		return ids(back)
	}
	return nil
}

// try puts n of the fixes back, in every way, until f applies.
func (c *ground) try(f *series.Fix, from, with []*series.Fix, n int) []string {
	if n == 0 {
		if c.goes(f, with) {
			return ids(with)
		}
		return nil
	}
	for i := range from {
		if out := c.try(f, from[i+1:], append(slices.Clip(with), from[i]), n-1); out != nil {
			return out
		}
	}
	return nil
}

// goes tells whether a fix applies where some fixes are put back, each in its
// place in the series.
func (c *ground) goes(f *series.Fix, back []*series.Fix) bool {
	t := newText(c.original)
	for _, g := range c.series.Fixes {
		if g.ID == f.ID {
			return t.does(f)
		}
		if !slices.Contains(back, g) && (!slices.Contains(c.sel.Fixes, g) || !touches(g, f, back)) {
			continue
		}
		if t.apply(g) != nil && slices.Contains(back, g) {
			return false
		}
	}
	return false
}

// touches tells whether a fix has a file in common with one of the others.
func touches(g, f *series.Fix, back []*series.Fix) bool {
	return sharesFile(g, f) || slices.ContainsFunc(back, func(b *series.Fix) bool { return sharesFile(g, b) })
}

func sharesFile(a, b *series.Fix) bool {
	has := map[string]bool{}
	for _, d := range a.Diff.Files {
		has[d.Path], has[d.OldPath] = true, true
	}
	for _, d := range b.Diff.Files {
		if has[d.Path] || has[d.OldPath] {
			return true
		}
	}
	return false
}

func ids(fs []*series.Fix) []string {
	out := make([]string, 0, len(fs))
	for _, f := range fs {
		out = append(out, f.ID)
	}
	return out
}

// overlaps finds selected fixes in whose functions one that the policy leaves
// out has changes too.
func (c *ground) overlaps() []selection.Overlap {
	var left []*series.Fix
	for _, l := range c.sel.Left {
		if l.Kind == selection.Excluded || l.Kind == selection.Dragged {
			left = append(left, l.Fix)
		}
	}
	// Lines of a diff count from the text that the fixes before it in the series
	// leave, whether or not they are selected.
	all := newText(c.original)
	for _, f := range c.series.Fixes {
		if slices.ContainsFunc(left, func(l *series.Fix) bool { return sharesFile(f, l) }) {
			_ = all.apply(f) // one that does not is counted from where it stands
		}
	}
	var out []selection.Overlap
	for _, l := range left {
		theirs := functions(all, l)
		for _, f := range c.sel.Fixes {
			if !sharesFile(f, l) {
				continue
			}
			var both []string
			for _, fn := range functions(all, f) {
				if slices.Contains(theirs, fn) {
					both = append(both, fn)
				}
			}
			if len(both) > 0 {
				out = append(out, selection.Overlap{Fix: f.ID, With: l.ID, Functions: both})
			}
		}
	}
	return out
}

// functions lists what definitions a fix changes, as "path: name", ordered.
func functions(t *text, f *series.Fix) []string {
	var out []string
	for _, d := range f.Diff.Files {
		b, err := t.before(d.OldPath, f.ID)
		if err != nil {
			continue
		}
		lines := strings.Split(string(b), "\n")
		for _, h := range d.Hunks {
			n := h.OldStart
			for _, l := range h.Lines {
				if l.Op != ' ' {
					if name := series.FunctionAt(lines, n); name != "" {
						out = append(out, fmt.Sprintf("%s: %s", d.OldPath, name))
					}
				}
				if l.Op != '+' {
					n++
				}
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
