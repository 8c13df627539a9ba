// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Corrections are what an operator knows better than the computation: which
// fixes an entry of the changelog belongs to, and what a fix is. They are
// kept by subjects and ids, so they outlive a better computation.
type Corrections struct {
	From string `yaml:"from"`
	To   string `yaml:"to"`
	// Entries are attributions by hand.
	Entries []Attribution `yaml:"entries,omitempty"`
	// Fixes are corrections by id.
	Fixes map[string]Correction `yaml:"fixes,omitempty"`
}

// Attribution says which fixes an entry belongs to; none means that it
// belongs to no fix of this update.
type Attribution struct {
	Subject string   `yaml:"subject"`
	Fixes   []string `yaml:"fixes"`
	Note    string   `yaml:"note,omitempty"`
}

// Correction changes what is known of one fix. What is empty stays as it is.
type Correction struct {
	Title    string          `yaml:"title,omitempty"`
	Severity series.Severity `yaml:"severity,omitempty"`
	CVSS     string          `yaml:"cvss,omitempty"`
	CVEs     []string        `yaml:"cves,omitempty"`     // further ones
	Requires []string        `yaml:"requires,omitempty"` // further ones
	Join     []string        `yaml:"join,omitempty"`     // fixes that are one with this
	Note     string          `yaml:"note,omitempty"`
}

// Empty tells whether a correction says nothing.
func (c Correction) Empty() bool {
	return c.Title == "" && c.Severity == "" && c.CVSS == "" && c.Note == "" && len(c.CVEs)+len(c.Requires)+len(c.Join) == 0
}

// Check holds the values. Errors: TS1202.
func (c *Corrections) Check(where string) error {
	for id, x := range c.Fixes {
		m := series.Meta{ID: id, Title: x.Title, Severity: x.Severity, CVSS: x.CVSS, CVEs: slices.Clone(x.CVEs), Requires: x.Requires, Note: x.Note}
		if err := m.Check(where + ": " + id); err != nil {
			return err
		}
		if slices.Contains(x.Join, id) {
			return code.New("TS1202", where+": "+id, "it is joined with itself")
		}
	}
	seen := make(map[string]bool)
	for _, e := range c.Entries {
		if e.Subject == "" || seen[e.Subject] {
			return code.New("TS1202", where, fmt.Sprintf("the entry %.80q is there twice or has no subject", e.Subject))
		}
		seen[e.Subject] = true
	}
	return nil
}

// join makes one group of those that a correction joins, under the id of the
// first. ids are those of the groups.
func (c *Corrections) join(groups []*Group, ids []string) ([]*Group, []string, error) {
	at := make(map[string]int, len(ids))
	for i, id := range ids {
		at[id] = i
	}
	gone := make([]bool, len(groups))
	for _, id := range slices.Sorted(maps.Keys(c.Fixes)) {
		for _, other := range c.Fixes[id].Join {
			i, ok := at[id]
			j, okay := at[other]
			if !ok || !okay || i == j {
				return nil, nil, code.New("TS1212", id+" and "+other, "there is no such pair of fixes")
			}
			groups[i] = groups[i].with(groups[j])
			gone[j] = true
			at[other] = i
		}
	}
	keep := func(i int) bool { return !gone[i] }
	return filter(groups, keep), filter(ids, keep), nil
}

func filter[T any](in []T, keep func(int) bool) []T {
	var out []T
	for i, x := range in {
		if keep(i) {
			out = append(out, x)
		}
	}
	return out
}

// with is a group that does what two do.
func (g *Group) with(o *Group) *Group {
	sum := &Group{Files: slices.Clone(g.Files), Links: slices.Concat(g.Links, o.Links)}
	for _, p := range o.Files {
		if i := slices.IndexFunc(sum.Files, func(q Piece) bool { return q.Path == p.Path }); i >= 0 {
			q := sum.Files[i]
			q.edits = slices.Concat(q.edits, p.edits)
			slices.Sort(q.edits)
			sum.Files[i] = q
		} else {
			sum.Files = append(sum.Files, p)
		}
	}
	slices.SortFunc(sum.Files, func(a, b Piece) int {
		if a.Path < b.Path {
			return -1
		}
		return 1
	})
	return sum
}

// stated takes the entries that are attributed by hand out of all, and
// returns the others with the fixes of those.
func (c *Corrections) stated(entries []Item, s *series.Series) (rest []Item, err error) {
	by := make(map[string]Attribution, len(c.Entries))
	for _, a := range c.Entries {
		by[a.Subject] = a
	}
	for _, it := range entries {
		a, ok := by[it.Subject]
		if !ok {
			rest = append(rest, it)
			continue
		}
		e := series.Entry{Subject: it.Subject, CVEs: it.CVEs, Confidence: series.Stated, Why: "corrected by hand"}
		if a.Note != "" {
			e.Why += ": " + a.Note
		}
		for _, id := range a.Fixes {
			f := s.Fix(id)
			if f == nil {
				return nil, code.New("TS1212", fmt.Sprintf("the entry %q", a.Subject), "there is no fix "+id)
			}
			f.Entries = append(f.Entries, e)
		}
		if len(a.Fixes) == 0 {
			s.Unattributed = append(s.Unattributed, e)
		}
	}
	return rest, nil
}

// values sets what is corrected of the fixes themselves.
func (c *Corrections) values(s *series.Series) error {
	for _, id := range slices.Sorted(maps.Keys(c.Fixes)) {
		x, f := c.Fixes[id], s.Fix(id)
		if f == nil {
			return code.New("TS1212", id, "there is no such fix in the update")
		}
		f.CVEs = append(f.CVEs, x.CVEs...)
		for i, e := range f.Entries { // who names a CVE of an entry agrees to it
			if slices.ContainsFunc(e.CVEs, func(c string) bool { return slices.Contains(x.CVEs, c) }) {
				f.Entries[i].Confidence, f.Entries[i].Why = series.Stated, "corrected by hand"
			}
		}
		slices.Sort(f.CVEs)
		f.CVEs = slices.Compact(f.CVEs)
		if x.Title != "" {
			f.Title = x.Title
		}
		if x.Severity != "" {
			f.Severity = x.Severity
		}
		if x.CVSS != "" {
			f.CVSS = x.CVSS
		}
		if x.Note != "" {
			f.Note = x.Note
		}
		for _, r := range x.Requires {
			if s.Fix(r) == nil {
				return code.New("TS1212", id+" requires "+r, "there is no such fix in the update")
			}
			f.Requires = append(f.Requires, r)
		}
		f.Diff.CVEs, f.Diff.Title = f.CVEs, f.Title
	}
	return order(s)
}

// order puts what is required in front of what requires it, and changes no
// order otherwise.
func order(s *series.Series) error {
	const under, done = 1, 2
	state := make(map[string]int)
	var out []*series.Fix
	var visit func(f *series.Fix) error
	visit = func(f *series.Fix) error {
		switch state[f.ID] {
		case done:
			return nil
		case under:
			return code.New("TS1212", f.ID, "it requires itself, through others").WithFix("join fixes that require each other")
		}
		state[f.ID] = under
		for _, r := range f.Requires {
			if err := visit(s.Fix(r)); err != nil {
				return err
			}
		}
		state[f.ID] = done
		out = append(out, f)
		return nil
	}
	for _, f := range s.Fixes {
		if err := visit(f); err != nil {
			return err
		}
	}
	s.Fixes = out
	return nil
}

// Attribute states which fixes an entry belongs to, in place of what was
// stated before.
func (c *Corrections) Attribute(subject string, fixes []string) {
	slices.Sort(fixes)
	fixes = append([]string{}, slices.Compact(fixes)...)
	if i := slices.IndexFunc(c.Entries, func(a Attribution) bool { return a.Subject == subject }); i >= 0 {
		c.Entries[i].Fixes = fixes
		return
	}
	c.Entries = append(c.Entries, Attribution{Subject: subject, Fixes: fixes})
}
