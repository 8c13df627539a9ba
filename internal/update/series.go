// SPDX-License-Identifier: Apache-2.0

package update

import (
	"cmp"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Series makes a series of the groups of an update, with the entries of the
// changelog attributed to them and corrections applied (nil for none).
// Errors: TS1212 for a correction of what is not there.
func Series(from, to string, groups []*Group, entries []Item, c *Corrections) (*series.Series, error) {
	return assemble(from, to, groups, nil, entries, c, (*attributor).attributeAll)
}

// PackageSeries is Series of a package's update. patches are fixes that come
// after the groups, and have the entries that are theirs. news is what upstream
// tells of CVEs, by id. Entries with a CVE are attributed on evidence alone.
func PackageSeries(from, to string, groups []*Group, patches []*series.Fix, entries []Item, news map[string]string, c *Corrections) (*series.Series, error) {
	return assemble(from, to, groups, patches, entries, c, func(a *attributor, rest []Item) (map[int][]series.Entry, []series.Entry) {
		has := func(it Item) bool { return len(it.CVEs) > 0 }
		found, left := a.attributeAll(filter(rest, func(i int) bool { return !has(rest[i]) }))
		return found, append(byEvidence(a.of, filter(rest, func(i int) bool { return has(rest[i]) }), news, found), left...)
	})
}

func assemble(from, to string, groups []*Group, after []*series.Fix, entries []Item, c *Corrections, attribute func(*attributor, []Item) (map[int][]series.Entry, []series.Entry)) (*series.Series, error) {
	if c == nil {
		c = &Corrections{}
	}
	s := &series.Series{Name: to, From: from, To: to}
	taken := make(map[string]bool)
	ids := make([]string, len(groups))
	for i, g := range groups {
		ids[i] = g.id(taken)
	}
	groups, ids, err := c.join(slices.Clone(groups), ids)
	if err != nil {
		return nil, err
	}
	for i, g := range groups {
		var raw []byte
		for _, p := range g.Files {
			raw = append(raw, p.diff()...)
		}
		d, err := fix.Parse(ids[i]+".diff", raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", ids[i], err)
		}
		d.ID = ids[i] // it may hold a dot
		s.Fixes = append(s.Fixes, &series.Fix{Diff: d, Meta: series.Meta{ID: ids[i], Update: to, Subsystem: series.Subsystem(g.main().Path)}})
	}
	for _, f := range after {
		f.ID = unused(f.ID, taken)
		f.Diff.ID = f.ID
		s.Fixes = append(s.Fixes, f)
	}
	rest, err := c.stated(entries, s)
	if err != nil {
		return nil, err
	}
	found, left := attribute(newAttributor(groups), rest)
	s.Unattributed = append(s.Unattributed, left...)
	for g, es := range found {
		s.Fixes[g].Entries = append(s.Fixes[g].Entries, es...)
	}
	for i, f := range s.Fixes {
		var own []string
		if i >= len(groups) {
			own = f.CVEs
		}
		settle(f, own)
	}
	return s, c.values(s)
}

// settle derives title and CVEs of a fix from its entries, and from the CVEs that
// it names itself. A title that it has stays.
func settle(f *series.Fix, own []string) {
	f.CVEs = slices.Clone(own)
	for _, e := range f.Entries {
		f.CVEs = append(f.CVEs, e.CVEs...)
	}
	slices.Sort(f.CVEs)
	f.CVEs = slices.Compact(f.CVEs)
	f.Diff.CVEs = f.CVEs
	if len(f.Entries) > 0 && f.Title == "" {
		f.Title = f.Entries[0].Subject
		if n := len(f.Entries); n > 1 {
			f.Title += fmt.Sprintf(" (and %d more)", n-1)
		}
	}
	f.Diff.Title = f.Title
}

// idBytes are what an id may not hold.
var idBytes = regexp.MustCompile(`[^A-Za-z0-9._+]+`)

// main is the file that a group is about: the source file with most changed
// lines, before headers, before what is no code.
func (g *Group) main() Piece {
	return slices.MinFunc(g.Files, func(a, b Piece) int {
		return cmp.Or(cmp.Compare(a.rank(), b.rank()), cmp.Compare(b.size(), a.size()), cmp.Compare(a.Path, b.Path))
	})
}

func (p Piece) rank() int {
	switch path.Ext(p.Path) {
	case ".c":
		return 0
	case ".h":
		return 1
	}
	return 2
}

func (p Piece) size() int {
	n := 0
	for _, i := range p.edits {
		e := p.file.edits[i]
		n += e.oldTo - e.oldFrom + e.newTo - e.newFrom
	}
	return n
}

// id is the path of the main file, and where several groups have one, what
// they change in it.
func (g *Group) id(taken map[string]bool) string {
	m := g.main()
	base := strings.TrimSuffix(strings.TrimSuffix(m.Path, ".c"), ".h")
	if path.Ext(m.Path) == ".h" {
		base = m.Path
	}
	id := strings.TrimLeft(idBytes.ReplaceAllString(base, "-"), "._+-")
	id = id[:min(len(id), 160)]
	if len(m.edits) < len(m.file.edits) {
		if names := m.touched(); len(names) > 0 {
			id += "-" + names[0]
		}
	}
	return unused(id, taken)
}

// unused makes an id one that nothing has, and takes it.
func unused(id string, taken map[string]bool) string {
	unique := id
	for n := 2; taken[unique]; n++ {
		unique = fmt.Sprintf("%s-%d", id, n)
	}
	taken[unique] = true
	return unique
}
