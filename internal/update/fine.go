// SPDX-License-Identifier: Apache-2.0

package update

import (
	"maps"
	"math"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// A source file that several entries of the changelog change is cut further,
// by function, so that one of its fixes can be had without another. Edits of
// one file often belong together without a name that says so: a lock taken
// here and released there. So what is parted must differ by all of these:
// the functions, the names that the edits are about, their lines, and the
// entry that they fit. What fits no entry better than the others goes with
// the edits that it is most alike, or holds all together.

// cluster is a part in the making.
type cluster struct {
	edits  []int
	whole  map[string]int // names of changed lines, and in how many of them
	pieces map[string]bool
	heads  map[string]bool // functions and declarations that change, lower case
	lines  map[string]bool // changed lines of some length
}

// atoms cuts the edits of a source file into clusters that have nothing in
// common, and edits of nothing but #include lines.
func (f *file) atoms() (cs []cluster, apart []int) {
	cs, apart = f.byDecl()
	u := newSets(len(cs))
	about := f.about(cs)
	for i := range cs {
		for j := range i {
			if cohere(&cs[i], &cs[j], about) {
				u.join([]int{j, i})
			}
		}
	}
	return merge(cs, u), apart
}

// fine joins the atoms of a source file that the entries that change it don't
// tell apart, and returns for each the first of those that it is one with.
func (f *file) fine(cs []cluster, entries []Item) sets {
	u := newSets(len(cs))
	if len(entries) > 1 && len(cs) > 1 {
		f.byEntry(cs, entries, func(a, b int) { u.join([]int{a, b}) })
	} else {
		for i := range cs {
			u.join([]int{0, i})
		}
	}
	return u
}

func (f *file) all() [][]int {
	all := make([]int, len(f.edits))
	for i := range all {
		all[i] = i
	}
	return [][]int{all}
}

// byDecl parts edits by the declarations that they touch. A changed comment
// goes with the declaration below it. An edit of nothing but #include lines
// stays apart: linkIncludes finds who needs it. What else is outside of
// declarations (#if) concerns the whole file and joins with everything.
func (f *file) byDecl() (out []cluster, apart []int) {
	u := newSets(len(f.edits))
	inside := make([]bool, len(f.edits))
	for _, is := range f.editsByName() {
		u.join(is)
		for _, i := range is {
			inside[i] = true
		}
	}
	for i, e := range f.edits {
		switch {
		case inside[i]:
		case f.onlyIncludes(e):
			apart = append(apart, i)
		case f.onlyText(e):
			if k := f.nextDecl(e); k >= 0 {
				u.join([]int{i, k})
			}
		default:
			for k := range f.edits {
				if !f.onlyIncludes(f.edits[k]) {
					u.join([]int{i, k})
				}
			}
		}
	}
	for _, edits := range u.list() {
		if len(edits) == 1 && slices.Contains(apart, edits[0]) {
			continue
		}
		out = append(out, cluster{edits: edits})
		f.fill(&out[len(out)-1])
	}
	return out, apart
}

func (f *file) onlyIncludes(e edit) bool {
	found := false
	for _, l := range slices.Concat(f.old[e.oldFrom:e.oldTo], f.new[e.newFrom:e.newTo]) {
		if _, _, ok := included(l); ok {
			found = true
		} else if strings.TrimSpace(l) != "" {
			return false
		}
	}
	return found
}

// onlyText tells whether an edit changes nothing but comments and empty lines.
func (f *file) onlyText(e edit) bool {
	for _, l := range slices.Concat(f.old[e.oldFrom:e.oldTo], f.new[e.newFrom:e.newTo]) {
		if t := strings.TrimSpace(l); t != "" && !strings.HasPrefix(t, "/*") && !strings.HasPrefix(t, "*") && !strings.HasPrefix(t, "//") {
			return false
		}
	}
	return true
}

// nextDecl is an edit of the declaration that stands right below an edit.
func (f *file) nextDecl(e edit) int {
	for _, d := range f.newDecls {
		if d.from >= e.newTo && d.from < e.newTo+12 {
			if is := f.touching(d.from, d.to, true); len(is) > 0 {
				return is[0]
			}
			return -1
		}
	}
	return -1
}

func (f *file) fill(c *cluster) {
	c.whole, c.pieces, c.heads, c.lines = make(map[string]int), make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, i := range c.edits {
		e := f.edits[i]
		for _, l := range slices.Concat(f.old[e.oldFrom:e.oldTo], f.new[e.newFrom:e.newTo]) {
			if t := strings.TrimSpace(l); len(t) >= 16 && !strings.HasPrefix(t, "return ") && !strings.HasPrefix(t, "goto ") {
				c.lines[t] = true
			}
			for _, w := range uniq(ctext.Words(l)) {
				c.whole[w]++
				for _, p := range pieces(w) {
					c.pieces[p] = true
				}
			}
		}
	}
	for _, name := range (Piece{file: f, edits: c.edits}).touched() {
		c.heads[name] = true
		for _, p := range pieces(name) {
			c.pieces[p] = true
		}
	}
}

// about finds the names that the edits of a file are about: a good part of
// all lines that mention them change, or no line did before.
func (f *file) about(cs []cluster) map[string]bool {
	total := make(map[string]int)
	for _, text := range [][]string{f.old, f.new} {
		for _, l := range text {
			for _, w := range uniq(ctext.Words(l)) {
				total[w]++
			}
		}
	}
	changed := make(map[string]int)
	for i := range cs {
		for w, n := range cs[i].whole {
			changed[w] += n
		}
	}
	out := make(map[string]bool)
	for w, n := range changed {
		// Both versions were counted, so an unchanged line counts twice.
		if len(w) > 2 && !common(strings.ToLower(w)) && 3*n >= total[w]-n {
			out[w] = true
		}
	}
	return out
}

// cohere tells whether two clusters are one change by what they have in common.
func cohere(a, b *cluster, about map[string]bool) bool {
	for w := range a.whole {
		if b.whole[w] > 0 && about[w] || b.heads[w] {
			return true
		}
	}
	for w := range b.whole {
		if a.heads[w] {
			return true
		}
	}
	for l := range a.lines {
		if b.lines[l] {
			return true
		}
	}
	return false
}

func merge(cs []cluster, u sets) []cluster {
	var out []cluster
	at := make(map[int]int)
	for i := range cs {
		r := u.find(i)
		k, ok := at[r]
		if !ok {
			k = len(out)
			at[r] = k
			out = append(out, cluster{
				whole: make(map[string]int), pieces: make(map[string]bool), heads: make(map[string]bool), lines: make(map[string]bool),
			})
		}
		c := &out[k]
		c.edits = append(c.edits, cs[i].edits...)
		for w, n := range cs[i].whole {
			c.whole[w] += n
		}
		for _, m := range []struct{ to, from map[string]bool }{{c.pieces, cs[i].pieces}, {c.heads, cs[i].heads}, {c.lines, cs[i].lines}} {
			for w := range m.from {
				m.to[w] = true
			}
		}
	}
	return out
}

// byEntry joins clusters that fit the same entry, and those that fit none
// with the ones that they are most alike.
func (f *file) byEntry(cs []cluster, entries []Item, union func(a, b int)) {
	df := make(map[string]int)
	for i := range cs {
		for w := range cs[i].terms() {
			df[w]++
		}
	}
	idf := func(w string) float64 { return rarity(len(cs), df[w]) }
	inPath := make(map[string]bool)
	for _, w := range pathWords(f.path) {
		inPath[w] = true
	}
	owner := make([]int, len(cs)) // entry, or -1
	first := make(map[int]int)    // cluster of an entry
	for i := range cs {
		best, second, which := 0.0, 0.0, -1
		for k, it := range entries {
			switch sc := cs[i].fits(parseSubject(it.Subject), inPath, idf); {
			case sc > best:
				best, second, which = sc, best, k
			case sc > second:
				second = sc
			}
		}
		owner[i] = -1
		if which >= 0 && best > 1.5*second && best > 1 {
			owner[i] = which
			if c, ok := first[which]; ok {
				union(c, i)
			} else {
				first[which] = i
			}
		}
	}
	for i := range cs {
		if owner[i] >= 0 {
			continue
		}
		var best float64
		like := make([]float64, len(cs))
		for j := range cs {
			if owner[j] < 0 {
				continue
			}
			like[j] = cs[i].like(&cs[j], idf)
			best = max(best, like[j])
		}
		for j := range cs {
			if owner[j] >= 0 && 2*like[j] >= best {
				union(i, j)
			}
		}
	}
	if len(first) == 0 { // nothing tells them apart
		for i := range cs {
			union(0, i)
		}
	}
}

// rarity weighs a word that some of n have.
func rarity(n, having int) float64 { return math.Log(1 + float64(n)/float64(max(1, having))) }

// like tells how much two clusters have in common. It adds up in the order of
// the names: sums of the same numbers in another order differ by a bit.
func (c *cluster) like(o *cluster, weight func(string) float64) float64 {
	sum := 0.0
	for _, w := range slices.Sorted(maps.Keys(c.whole)) {
		if o.whole[w] > 0 && !common(strings.ToLower(w)) {
			sum += weight(w)
		}
	}
	return sum
}

func (c *cluster) terms() map[string]bool {
	out := make(map[string]bool)
	for w := range c.whole {
		out[strings.ToLower(w)] = true
	}
	for _, m := range []map[string]bool{c.pieces, c.heads} {
		for w := range m {
			out[strings.ToLower(w)] = true
		}
	}
	return out
}

// fits scores how well an entry's subject tells of a cluster.
func (c *cluster) fits(s subject, inPath map[string]bool, idf func(string) float64) float64 {
	heads, whole := make(map[string]bool), make(map[string]bool)
	for w := range c.heads {
		heads[strings.ToLower(w)] = true
	}
	for w := range c.whole {
		whole[strings.ToLower(w)] = true
	}
	score := 0.0
	for _, w := range uniq(s.names) {
		switch {
		case heads[w]:
			score += 4 * idf(w)
		case whole[w]:
			score += 2 * idf(w)
		}
		for _, p := range pieces(w) {
			if c.pieces[p] && !inPath[p] && !heads[w] && !whole[w] {
				score += 0.5 * idf(p)
			}
		}
	}
	for _, w := range uniq(slices.Concat(s.words, s.prefix)) {
		if inPath[w] {
			continue
		}
		switch {
		case heads[w], whole[w]:
			score += idf(w)
		case c.pieces[w]:
			score += 0.7 * idf(w)
		}
	}
	return score
}
