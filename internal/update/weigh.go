// SPDX-License-Identifier: Apache-2.0

package update

import (
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// Most of what a file's own entries do not tell apart is one change, or may
// be. It is two when each side is evidently told of by an entry of its own,
// weighed against all that the update changes: what names join across files,
// and what is the same edit made in another file, counts as one there.

// How evident it must be that an entry tells of one atom and not of another
// one of its file, whose path says the same.
const (
	sayMore  = 1.5 // times what the subject says of the other
	sayAtAll = 2   // and so much more
	alike    = 4   // what an atom must have in common with another one to go with it and no third
)

// sure is how sure it is that an entry of its own tells of an atom.
type sure uint8

const (
	nothing sure = iota
	perhaps
	evidently
)

// weigh joins the atoms of each file, but for those that different entries
// evidently tell of.
func (s *splitter) weigh(entries []Item) {
	byFile := make(map[*file][]*part)
	for _, p := range s.parts {
		if p.atom != nil {
			byFile[p.file] = append(byFile[p.file], p)
		}
	}
	said := s.said(entries)
	for _, f := range s.files {
		for _, set := range untold(byFile[f]) {
			s.weighSet(set, said)
		}
	}
}

// untold groups atoms that their file's own entries don't tell apart.
func untold(ps []*part) [][]*part {
	var out [][]*part
	at := make(map[int]int)
	for _, p := range ps {
		k, ok := at[p.told]
		if !ok {
			k = len(out)
			at[p.told] = k
			out = append(out, nil)
		}
		out[k] = append(out[k], p)
	}
	return out
}

// weighSet joins the atoms of one file that no entry of their own tells of
// with those that they are most alike; with all, where nothing says which.
func (s *splitter) weighSet(ps []*part, said map[*part]sure) {
	var told, unsure []*part
	evident := false
	for _, p := range ps {
		switch said[p] {
		case evidently:
			told, evident = append(told, p), true
		case perhaps:
			told, unsure = append(told, p), append(unsure, p)
		}
	}
	if !evident {
		for _, p := range ps {
			join(ps[0], p)
		}
		return
	}
	var pairs [][2]*part
	for _, p := range unsure { // one side of a cut must be evident
		pairs = append(pairs, [2]*part{unsure[0], p})
	}
	for _, p := range ps {
		if said[p] > nothing {
			continue
		}
		like := make([]float64, len(told))
		for i, q := range told {
			like[i] = s.likeness(p, q)
		}
		best := slices.Max(like)
		for i, q := range told {
			if 2*like[i] >= best || best < alike {
				pairs = append(pairs, [2]*part{p, q})
			}
		}
	}
	for _, x := range pairs {
		join(x[0], x[1])
	}
}

// likeness weighs the words that an atom has in common with all that is one
// with another.
func (s *splitter) likeness(p, with *part) float64 {
	theirs := make(map[string]bool)
	for _, q := range s.parts {
		if q.root() == with.root() {
			for _, m := range []map[string]bool{q.added, q.removed} {
				for w := range m {
					theirs[w] = true
				}
			}
		}
	}
	sum := 0.0
	for _, w := range slices.Sorted(maps.Keys(p.atom.whole)) {
		if theirs[w] && !common(strings.ToLower(w)) {
			sum += rarity(len(s.files), s.rare[w])
		}
	}
	return sum
}

// said finds the atoms that an entry of their own evidently tells of.
func (s *splitter) said(entries []Item) map[*part]sure {
	twins := s.twins()
	parts := make(map[*part]*part) // root by root, of twins the first
	for _, p := range s.parts {
		parts[p.root()] = p.root()
	}
	for _, p := range s.parts {
		if q := twins[p]; q != nil {
			to, from := parts[q.root()], parts[p.root()]
			for r, is := range parts {
				if is == from {
					parts[r] = to
				}
			}
		}
	}
	groups := s.groupsBy(func(p *part) *part { return parts[p.root()] })
	a := newAttributor(groups)
	v := voice{attributor: a, around: make([]map[*file]map[string]bool, len(groups)), of: make(map[*file][]int)}
	number := make(map[*part]int)
	for i, g := range groups {
		v.around[i] = make(map[*file]map[string]bool)
		for _, p := range g.Files {
			v.around[i][p.file] = p.surroundings()
			v.of[p.file] = append(v.of[p.file], i)
		}
		number[g.root] = i
	}
	explained := make(map[int]sure)
	for _, it := range entries {
		if otherArch(it) {
			continue
		}
		if ms := a.attribute(it); len(ms) > 0 {
			v.tell(parseSubject(it.Subject), ms, explained)
		}
	}
	out := make(map[*part]sure)
	for _, p := range s.parts {
		out[p] = max(out[p], explained[number[parts[p.root()]]])
		if q := twins[p]; q != nil { // what is done here is done elsewhere too
			out[p], out[q] = max(out[p], perhaps), max(out[q], perhaps)
		}
	}
	return out
}

// voice is what entries are weighed with.
type voice struct {
	*attributor
	around []map[*file]map[string]bool // words near what a group changes in a file
	of     map[*file][]int             // groups that change it
}

// surroundings adds the words of changed lines and of those around them, with
// the pieces that they are made of, in lower case.
func (p Piece) surroundings() map[string]bool {
	const far = 10
	into := make(map[string]bool)
	add := func(text []string, from, to int) {
		for _, l := range text[max(0, from-far):min(len(text), to+far)] {
			for _, w := range ctext.Words(l) {
				into[strings.ToLower(w)] = true
				for _, v := range pieces(w) {
					into[v] = true
				}
			}
		}
	}
	for _, i := range p.edits {
		e := p.file.edits[i]
		add(p.file.old, e.oldFrom, e.oldTo)
		add(p.file.new, e.newFrom, e.newTo)
	}
	for _, name := range p.touched() {
		into[strings.ToLower(name)] = true
	}
	return into
}

// mayMean weighs what a subject says that is near a change.
func (v voice) mayMean(s subject, near map[string]bool) float64 {
	score := 0.0
	for _, w := range uniq(s.names) {
		if near[w] {
			score += 2 * v.idf[w]
			continue
		}
		for _, x := range pieces(w) {
			if near[x] {
				score += 0.4 * v.idf[x]
			}
		}
	}
	for _, w := range uniq(s.words) {
		if near[w] {
			score += 0.6 * v.idf[w]
		}
	}
	return score
}

// tell marks the groups that an entry tells of. It is evident for the one that
// fits best, by far; it may be for others that fit nearly as well. Of groups
// that share a file only what stands behind the subject's prefix counts, and
// the other one must not have it nearby either: a function that two commits
// change is told of by both.
func (v voice) tell(s subject, ms []match, explained map[int]sure) {
	top := ms[0]
	if top.score < fits || top.prefix == 0 && len(top.names) == 0 {
		return
	}
	for i, g := range ms {
		if g.score < 0.8*top.score || g.prefix < 0.9*top.prefix {
			break
		}
		if !v.alone(s, g, ms) {
			continue
		}
		evident := i == 0
		for _, m := range ms[1:] {
			if !v.meet(top.group, m.group) && !(top.alone && top.score > 1.2*m.score) && !(top.score > byFar*m.score && top.score > atLeast && top.prefix > 0.5) {
				evident = false
				break
			}
		}
		if evident {
			explained[g.group] = evidently
		} else if g.prefix > 0 && g.bare >= sayAtAll {
			explained[g.group] = max(explained[g.group], perhaps)
		}
	}
}

// alone tells whether a subject is of a group and not of others that share
// files with it.
func (v voice) alone(s subject, g match, ms []match) bool {
	bare := make(map[int]float64)
	for _, m := range ms {
		bare[m.group] = m.bare
	}
	for f := range v.around[g.group] {
		for _, m := range v.of[f] {
			if m == g.group {
				continue
			}
			if other := max(bare[m], v.mayMean(s, v.around[m][f])); g.bare < sayMore*other || g.bare < other+sayAtAll {
				return false
			}
		}
	}
	return true
}

func (v voice) meet(a, b int) bool {
	for f := range v.around[a] {
		if v.around[b][f] != nil {
			return true
		}
	}
	return false
}
