// SPDX-License-Identifier: Apache-2.0

package update

import (
	"cmp"
	"fmt"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Series makes a series of the groups of an update, with the entries of the
// changelog attributed to them.
func Series(from, to string, groups []*Group, entries []Item) (*series.Series, error) {
	s := &series.Series{Name: to, From: from, To: to}
	ids := make(map[string]bool)
	for _, g := range groups {
		var raw []byte
		for _, p := range g.Files {
			raw = append(raw, p.diff()...)
		}
		id := g.id(ids)
		d, err := fix.Parse(id+".diff", raw)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", id, err)
		}
		s.Fixes = append(s.Fixes, &series.Fix{Diff: d, Meta: series.Meta{ID: id, Update: to, Subsystem: g.subsystem()}})
	}
	found, left := newAttributor(groups).attributeAll(entries)
	s.Unattributed = left
	for g, es := range found {
		s.Fixes[g].Entries = es
	}
	for _, f := range s.Fixes {
		Settle(f)
	}
	return s, nil
}

// Settle derives title and CVEs of a fix from its entries.
func Settle(f *series.Fix) {
	f.Title, f.CVEs = "", nil
	for _, e := range f.Entries {
		f.CVEs = append(f.CVEs, e.CVEs...)
	}
	slices.Sort(f.CVEs)
	f.CVEs = slices.Compact(f.CVEs)
	f.Diff.CVEs = f.CVEs
	if len(f.Entries) > 0 {
		f.Title = f.Entries[0].Subject
		if n := len(f.Entries); n > 1 {
			f.Title += fmt.Sprintf(" (and %d more)", n-1)
		}
	}
	f.Diff.Title = f.Title
}

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
	id := strings.ReplaceAll(base, "/", "-")
	if len(m.edits) < len(m.file.edits) {
		if names := m.touched(); len(names) > 0 {
			id += "-" + names[0]
		}
	}
	unique := id
	for n := 2; taken[unique]; n++ {
		unique = fmt.Sprintf("%s-%d", id, n)
	}
	taken[unique] = true
	return unique
}

func (g *Group) subsystem() string {
	dir := path.Dir(g.main().Path)
	if parts := strings.Split(dir, "/"); len(parts) > 3 {
		return strings.Join(parts[:3], "/")
	}
	return dir
}
