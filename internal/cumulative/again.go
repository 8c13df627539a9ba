// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// second is the second chance of fixes that were left out for what may have
// been another one's doing. When a live patch stands without them, they are put
// back: first those together that went together, for who was blamed in the
// place of another goes before it; then one by one those of which it is still
// not sure. What stood is proven to work, so whatever goes wrong then is the
// doing of those that came back; when none of them can stay, the live patch
// that stood is the one.
//
// It makes the outcome one of the fixes, and not of the way to it: of which
// verdicts were known, and of who was blamed first.
type second struct {
	doubted map[string]int // by fix left out of which it is not sure, when it went
	tried   map[string]int // how many chances a fix had
	stood   *standing
}

// standing is what was built before.
type standing struct {
	report *builder.Report
	digest string
	has    map[string]bool
}

func newSecond() second { return second{doubted: map[string]int{}, tried: map[string]int{}} }

// doubtVerdicts notes which known verdicts may be those of other fixes: an
// error, because the whole may compile, and one of a fix that was judged
// together with others.
func (c *construction) doubtVerdicts() {
	for _, l := range c.result.Selection.Left {
		if l.Kind != selection.Failed && l.Kind != selection.Reboot {
			continue
		}
		with := c.req.Verdicts[l.ID].With
		if l.Kind == selection.Failed || len(with) > 0 {
			c.doubt(l.ID, true)
			for _, id := range with {
				c.doubt(id, true)
			}
		}
	}
}

// doubt notes whether it is not sure that a fix is to blame.
func (c *construction) doubt(id string, is bool) {
	if delete(c.second.doubted, id); is {
		c.second.doubted[id] = c.result.Rounds + 1
	}
}

// leave takes fixes out of the selection.
func (c *construction) leave(out ...selection.Left) []string {
	return c.result.Selection.Leave(c.turn(out)...)
}

// turn turns blame away from fixes that stood without those that have their
// second chance now.
func (c *construction) turn(out []selection.Left) []selection.Left {
	s := c.second.stood
	if s == nil {
		return out
	}
	var to []selection.Left
	for _, l := range out {
		if !s.has[l.ID] || l.Kind == selection.NotHere {
			to = append(to, l)
			continue
		}
		came := slices.DeleteFunc(slices.Clone(c.result.Selection.Fixes), func(f *series.Fix) bool { return s.has[f.ID] })
		if own := c.req.Series.Fix(l.ID); slices.ContainsFunc(came, func(f *series.Fix) bool { return sharesFile(f, own) }) {
			came = slices.DeleteFunc(came, func(f *series.Fix) bool { return !sharesFile(f, own) })
		}
		if l.Kind == selection.Dragged {
			l.Kind, l.By, l.Needs = selection.Failed, "", nil
		}
		for _, f := range came {
			l.ID = f.ID
			c.doubt(f.ID, len(came) > 1)
			to = append(to, l)
		}
	}
	return to
}

// again puts doubted fixes back, with what they drag along, and reports whether
// any came.
func (c *construction) again() bool {
	for {
		ids := c.doubtful()
		if len(ids) == 0 {
			return false
		}
		if c.putBack(ids) {
			return true
		}
	}
}

// doubtful lists the fixes whose turn it is to have another chance.
func (c *construction) doubtful() []string {
	sel := c.result.Selection
	sel.Sort(c.req.Series)
	by := map[string]selection.Left{}
	for _, l := range sel.Left {
		by[l.ID] = l
	}
	chances, first, root := 2, 0, ""
	for _, l := range sel.Left { // who had fewest, and of those who went first
		if when, is := c.second.doubted[l.ID]; is && l.Root(by).ID == l.ID && !l.Kind.Yields() && l.Kind != selection.Excluded {
			if n := c.second.tried[l.ID]; n < chances || n == chances && n < 2 && when < first {
				chances, first, root = n, when, l.ID
			}
		}
	}
	if root == "" {
		return nil
	}
	var ids []string
	for _, l := range sel.Left {
		r := l.Root(by).ID
		when, is := c.second.doubted[r]
		if is && c.second.tried[r] == chances && (chances == 0 && when == first || r == root) && l.Kind != selection.Excluded && !l.Kind.Yields() {
			ids = append(ids, l.ID)
		}
	}
	return ids
}

// putBack puts fixes back, those that can come.
func (c *construction) putBack(ids []string) bool {
	sel := c.result.Selection
	var now *standing
	if len(sel.Fixes) > 0 {
		now = &standing{c.result.Report, sel.Digest, map[string]bool{}}
		for _, f := range sel.Fixes {
			now.has[f.ID] = true
		}
	}
	came := sel.Again(c.req.Series, ids...)
	for _, id := range ids {
		c.second.tried[id]++
	}
	if len(came) > 0 {
		c.second.stood = now
	}
	return len(came) > 0
}

// stands tells whether the selection is again what stood before, and takes its
// report.
func (c *construction) stands() bool {
	s := c.second.stood
	if s == nil || s.digest != c.result.Selection.Digest {
		return false
	}
	c.result.Report = s.report
	return true
}

// giveUp leaves all those out that have their second chance now, because of
// something that is not known to be the doing of any of them.
func (c *construction) giveUp(err error) bool {
	s := c.second.stood
	if s == nil || code.Of(err) == "" || strings.HasPrefix(string(code.Of(err)), "TS9") {
		return false
	}
	var out []selection.Left
	for _, f := range c.result.Selection.Fixes {
		if !s.has[f.ID] {
			c.doubt(f.ID, len(c.result.Selection.Fixes) > len(s.has)+1)
			out = append(out, selection.Left{ID: f.ID, Kind: selection.Failed, Code: code.Of(err), Why: firstLine(err.Error())})
		}
	}
	return len(c.result.Selection.Leave(out...)) > 0
}
