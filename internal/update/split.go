// SPDX-License-Identifier: Apache-2.0

package update

import (
	"cmp"
	"path"
	"slices"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// part is edits of one file that can't be told apart.
type part struct {
	file           *file
	edits          []int
	defs           []def
	added, removed map[string]bool // words of the changed lines
	indirect       map[string]bool // words beside the names of functions whose signature changes
	assigned       map[string]bool // members that such functions are assigned to
	parent         *part           // union-find
	atom           *cluster        // of a source file, one of several
	told           int             // atoms with the same number are not told apart by the file's own entries
}

func (p *part) root() *part {
	for p.parent != p {
		p.parent = p.parent.parent
		p = p.parent
	}
	return p
}

// join makes one group of two parts' groups; the part that is first in the
// order of paths stays the root, so the outcome does not hang on the order.
func join(a, b *part) {
	a, b = a.root(), b.root()
	if a == b {
		return
	}
	if c := cmp.Compare(a.file.path, b.file.path); c > 0 || c == 0 && a.edits[0] > b.edits[0] {
		a, b = b, a
	}
	b.parent = a
}

// splitter joins parts to groups.
type splitter struct {
	files []*file
	parts []*part
	inc   *includes
	rare  map[string]int // in how many of the changed files a word is, before the update
	users map[string][]*part
	links []Link
}

// Link says why two parts are in one fix.
type Link struct {
	Name     string // the name that both have
	Tag      string // the struct that it is a member of, or ""
	From, To string // the file that defines it and the one that uses it

	from *part
}

// Group is one fix of an update.
type Group struct {
	Files []Piece
	Links []Link
	root  *part
}

// Piece is what a group changes in one file.
type Piece struct {
	Path  string
	file  *file
	edits []int
}

// Split cuts a difference into groups that each stand alone, in the order of
// the paths of their first files. entries are what the changelog tells of it:
// a source file that several of them change is cut further.
func Split(d Delta, entries []Item) ([]*Group, error) {
	files, err := d.load()
	if err != nil {
		return nil, err
	}
	s := &splitter{files: files, inc: newIncludes(d.Old, d.New), rare: make(map[string]int), users: make(map[string][]*part)}
	told := perFile(files, entries)
	retyped := retypedMembers(files)
	for _, f := range files {
		s.count(f)
		if len(told[f]) > 0 {
			told[f] = append(told[f], f.following(retyped)...)
		}
		for _, p := range f.parts(told[f]) {
			p.parent = p
			s.parts = append(s.parts, p)
		}
	}
	s.index()
	s.linkPlaces()
	for _, p := range s.parts {
		slices.SortFunc(p.defs, func(a, b def) int {
			return cmp.Or(cmp.Compare(a.change, b.change), cmp.Compare(a.name, b.name), cmp.Compare(a.tag, b.tag))
		})
		for _, d := range p.defs {
			s.link(p, d)
		}
	}
	s.linkBuild()
	s.linkIncludes()
	s.weigh(entries)
	s.separable()
	return s.groups(), nil
}

// retypedMembers are the members of structs in headers whose type changes.
func retypedMembers(files []*file) map[string]bool {
	out := make(map[string]bool)
	for _, f := range files {
		if !f.header() || f.oneWhole() {
			continue
		}
		for _, d := range f.defs() {
			if d.change == redefined && d.tag != "" {
				out[d.name] = true
			}
		}
	}
	return out
}

// following stands for a commit that changes the type of an ops member: the
// functions of this file that follow it are not what the file's own entries
// tell of.
func (f *file) following(retyped map[string]bool) []Item {
	if f.header() || !f.cSource() || f.oneWhole() {
		return nil
	}
	heads := make(map[string]bool)
	for _, d := range f.defs() {
		if d.change == redefined && d.kind == function {
			heads[d.name] = true
		}
	}
	var out []Item
	for _, l := range f.newCode {
		if m, fn, ok := assignment(l); ok && heads[fn] && retyped[m] {
			out = append(out, Item{Subject: fn + "()"})
		}
	}
	return out
}

func (s *splitter) count(f *file) {
	seen := make(map[string]bool)
	for _, l := range f.old {
		for _, w := range ctext.Words(l) {
			if !seen[w] {
				seen[w] = true
				s.rare[w]++
			}
		}
	}
}

func (s *splitter) index() {
	for _, p := range s.parts {
		seen := make(map[string]bool)
		for _, m := range []map[string]bool{p.added, p.removed, p.indirect} {
			for w := range m {
				if !seen[w] {
					seen[w] = true
					s.users[w] = append(s.users[w], p)
				}
			}
		}
	}
}

// linkPlaces joins the parts that have a part of one definition: its old and
// its new place.
func (s *splitter) linkPlaces() {
	type key struct {
		file      *file
		name, tag string
		change    change
	}
	first := make(map[key]*part)
	for _, p := range s.parts {
		for _, d := range p.defs {
			k := key{p.file, d.name, d.tag, d.change}
			if q := first[k]; q != nil {
				join(q, p)
			} else {
				first[k] = p
			}
		}
	}
}

// link joins a part with those that use a name of its own.
func (s *splitter) link(p *part, d def) {
	for _, q := range s.users[d.name] {
		if q == p || q.root() == p.root() || !s.uses(q, p, d) {
			continue
		}
		s.links = append(s.links, Link{Name: d.name, Tag: d.tag, From: p.file.path, To: q.file.path, from: p})
		join(p, q)
	}
}

// uses tells whether what q changes hangs on a definition that p changes.
func (s *splitter) uses(q, p *part, d def) bool {
	switch d.change {
	case moved:
		return false
	case introduced:
		if !q.added[d.name] {
			return false
		}
	case removed:
		if !q.removed[d.name] {
			return false
		}
	case redefined:
		if !q.added[d.name] && !q.removed[d.name] && !q.indirect[d.name] {
			return false
		}
	}
	switch {
	case q.file == p.file:
		return true
	case d.static, d.tag == "" && q.file.ownStatic(d.name):
		return false
	case d.kind == aggregate && d.tag != "" && !s.knows(q.file, p.file, d) && !(d.change == redefined && q.assigned[d.name]):
		return false
	case !p.file.header() && p.file.cSource():
		// A function or variable of another source file: some header tells of
		// it, and a name that the kernel's linker sees is there only once.
		return d.kind == function || d.kind == prototype || len(d.name) > 5 && s.rare[d.name] <= 3*len(s.users[d.name])
	case p.file.header() && q.file.header():
		return s.inc.sees(q.file.path, p.file.path) || s.inc.sees(p.file.path, q.file.path) || p.file.private() && q.file.dir() == p.file.dir()
	case p.file.header():
		return s.inc.sees(q.file.path, p.file.path)
	}
	return true
}

// ownStatic tells whether a name means a static function or variable of a
// source file's own, before and after: another file's of that name is not it.
func (f *file) ownStatic(name string) bool {
	if f.header() {
		return false
	}
	own := func(ds []decl) bool {
		found := false
		for _, d := range ds {
			if d.name != name {
				continue
			}
			if !d.static || d.kind != function && d.kind != prototype && d.kind != variable {
				return false
			}
			found = true
		}
		return found
	}
	return own(f.oldDecls) && own(f.newDecls)
}

// knows tells whether a member's name in a file can be that member: it is a
// name that no changed file had before, or the file mentions the struct, or
// lies beside its header.
func (s *splitter) knows(user, home *file, d def) bool {
	return d.change == introduced && s.rare[d.name] == 0 || user.text[d.tag] || home.private() && user.dir() == home.dir()
}

// linkBuild joins makefiles with the files that come or go in them, and
// files that come or go with those that include them.
func (s *splitter) linkBuild() {
	byPath := make(map[string]*part)
	for _, p := range s.parts {
		if p.file.oneWhole() {
			byPath[p.file.path] = p
		}
	}
	for _, p := range s.parts {
		for _, src := range p.file.sources() {
			if q := byPath[src]; q != nil {
				s.links = append(s.links, Link{Name: path.Base(src), From: src, To: p.file.path, from: p})
				join(p, q)
			}
		}
		for _, e := range p.edits {
			x := p.file.edits[e]
			for _, l := range slices.Concat(p.file.old[x.oldFrom:x.oldTo], p.file.new[x.newFrom:x.newTo]) {
				if name, quoted, ok := included(l); ok {
					if q := byPath[s.inc.resolve(p.file.dir(), name, quoted)]; q != nil {
						s.links = append(s.links, Link{Name: path.Base(name), From: q.file.path, To: p.file.path, from: p})
						join(p, q)
					}
				}
			}
		}
	}
}

// linkIncludes joins a changed #include line with the parts of its file that
// use what the header declares, or with all of them when none evidently does.
func (s *splitter) linkIncludes() {
	byFile := make(map[*file][]*part)
	for _, p := range s.parts {
		byFile[p.file] = append(byFile[p.file], p)
	}
	for _, p := range s.parts {
		siblings := byFile[p.file]
		if len(siblings) < 2 || len(p.edits) == 0 || !slices.ContainsFunc(p.edits, func(e int) bool { return p.file.onlyIncludes(p.file.edits[e]) }) {
			continue
		}
		declared := make(map[string]bool)
		for _, e := range p.edits {
			x := p.file.edits[e]
			for _, l := range slices.Concat(p.file.old[x.oldFrom:x.oldTo], p.file.new[x.newFrom:x.newTo]) {
				if name, quoted, ok := included(l); ok {
					s.inc.declares(s.inc.resolve(p.file.dir(), name, quoted), declared)
				}
			}
		}
		users := slices.DeleteFunc(slices.Clone(siblings), func(q *part) bool {
			for w := range declared {
				if q != p && (q.added[w] || q.removed[w]) {
					return false
				}
			}
			return true
		})
		if len(users) == 0 {
			users = siblings
		}
		for _, q := range users {
			join(p, q)
		}
	}
}

func (s *splitter) groups() []*Group { return s.groupsBy((*part).root) }

// groupsBy makes groups of the parts with the same key.
func (s *splitter) groupsBy(key func(*part) *part) []*Group {
	byRoot := make(map[*part]*Group)
	var out []*Group
	for _, p := range s.parts {
		g := byRoot[key(p)]
		if g == nil {
			g = &Group{root: key(p)}
			byRoot[key(p)] = g
			out = append(out, g)
		}
		if n := len(g.Files); n > 0 && g.Files[n-1].file == p.file {
			g.Files[n-1].edits = append(g.Files[n-1].edits, p.edits...)
			slices.Sort(g.Files[n-1].edits)
		} else {
			g.Files = append(g.Files, Piece{Path: p.file.path, file: p.file, edits: slices.Clone(p.edits)})
		}
	}
	for _, l := range s.links {
		g := byRoot[key(l.from)]
		g.Links = append(g.Links, l)
	}
	return out
}
