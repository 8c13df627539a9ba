// SPDX-License-Identifier: Apache-2.0

package update

import (
	"cmp"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// document is what a group's change of one file offers to the words of a subject.
type document struct {
	fields map[string]int // where, by word in lower case
}

// Where in a file's change a word is found.
const (
	inPath     = 1 << iota // a component of a path
	inFunction             // the name of a function or declaration that changes
	inChange               // an identifier of a changed line
	inPieces               // a piece of such a name, between underscores
)

// match is a group that an entry may belong to, by one of its files.
type match struct {
	group  int
	score  float64
	bare   float64  // score of what the subject says behind its prefix
	prefix float64  // how much of the subject's prefix its path covers, 0 to 1
	names  []string // identifiers of the subject that it changes
	alone  bool     // no other file changes one of these
	base   bool     // the subject has a rare word of the file's own name
}

// attributor weighs words by how few of the changed files have them.
type attributor struct {
	of     []*Group
	groups []int // by document
	docs   []document
	own    [][]string // words of the files' own names
	weight []float64  // of words in a document: one that has many says less with each
	idf    map[string]float64
	having map[string][]int       // documents by word
	twins  map[int]map[int]string // groups with the same edit elsewhere, and where the first is
}

func newAttributor(groups []*Group) *attributor {
	a := &attributor{of: groups, idf: make(map[string]float64), having: make(map[string][]int), twins: twinGroups(groups)}
	for i, g := range groups {
		for _, p := range g.Files {
			d := p.document()
			for w := range d.fields {
				a.having[w] = append(a.having[w], len(a.docs))
			}
			a.docs = append(a.docs, d)
			stem := strings.TrimSuffix(strings.ToLower(p.file.base()), path.Ext(p.Path))
			a.own = append(a.own, append(pieces(stem), stem))
			a.groups = append(a.groups, i)
		}
	}
	sum := 0
	for _, d := range a.docs {
		sum += len(d.fields)
	}
	for _, d := range a.docs {
		share := float64(len(d.fields)*len(a.docs)) / float64(max(1, sum))
		a.weight = append(a.weight, min(1.2, max(0.35, 1/(0.6+0.4*share))))
	}
	// Scaled so that scores of small updates compare with the thresholds, which
	// are for some 1,700 files.
	scale := math.Log(1+1700) / math.Log(1+float64(max(1, len(a.docs))))
	for w, in := range a.having {
		a.idf[w] = scale * math.Log(1+float64(len(a.docs))/float64(len(in)))
	}
	return a
}

func (p Piece) document() document {
	d := document{fields: make(map[string]int)}
	add := func(w string, where int) {
		if len(w) > 1 {
			d.fields[w] |= where
		}
	}
	for _, w := range pathWords(p.Path) {
		add(w, inPath)
	}
	for _, name := range p.touched() {
		add(strings.ToLower(name), inFunction)
		for _, w := range pieces(name) {
			add(w, inPieces)
		}
	}
	for _, i := range p.edits {
		e := p.file.edits[i]
		for _, l := range slices.Concat(p.file.old[e.oldFrom:e.oldTo], p.file.new[e.newFrom:e.newTo]) {
			for _, name := range ctext.Words(l) {
				add(strings.ToLower(name), inChange)
				for _, w := range pieces(name) {
					add(w, inPieces)
				}
			}
		}
	}
	return d
}

// touched names the declarations that a piece changes.
func (p Piece) touched() []string {
	var out []string
	for _, i := range p.edits {
		e := p.file.edits[i]
		for _, d := range p.file.oldDecls {
			if d.name != "" && d.kind != include && overlaps(e.oldFrom, max(e.oldTo, e.oldFrom+1), d.from, d.to) {
				out = append(out, d.name)
			}
		}
		for _, d := range p.file.newDecls {
			if d.name != "" && d.kind != include && overlaps(e.newFrom, e.newTo, d.from, d.to) {
				out = append(out, d.name)
			}
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

func pathWords(p string) []string {
	var out []string
	for c := range strings.SplitSeq(p, "/") {
		c = strings.ToLower(strings.TrimSuffix(strings.TrimSuffix(c, ".c"), ".h"))
		out = append(out, c, strings.ReplaceAll(c, "_", "-"), strings.ReplaceAll(c, "-", "_"))
		out = append(out, pieces(c)...)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// pieces are the words that a name is made of.
func pieces(name string) []string {
	out := strings.FieldsFunc(strings.ToLower(name), func(r rune) bool { return r == '_' || r == '-' || r == '.' })
	return slices.DeleteFunc(out, func(w string) bool { return len(w) < 2 })
}

// subject is an entry's text, taken apart.
type subject struct {
	prefix []string // words of what stands before the last colon
	names  []string // identifiers of the rest
	words  []string // other words of the rest
}

func parseSubject(text string) subject {
	var s subject
	head, rest := "", text
	for { // "net: stmmac: …": a prefix has no more than a few words
		before, after, ok := strings.Cut(rest, ": ")
		if !ok || len(strings.Fields(before)) > 4 {
			break
		}
		head, rest = head+" "+before, after
	}
	if strings.HasPrefix(text, "Revert \"") && head != "" {
		head = strings.Replace(head, "Revert \"", "", 1)
	}
	s.prefix = strings.FieldsFunc(strings.ToLower(head), func(r rune) bool { return strings.ContainsRune(" :/,\"", r) })
	for _, w := range strings.FieldsFunc(rest, func(r rune) bool {
		return r > 127 || !ctext.IsWord(byte(r)) && r != '-' && r != '(' && r != ')' && r != '.' && r != '>'
	}) {
		for _, n := range ctext.Words(w) {
			switch low := strings.ToLower(n); {
			case strings.Contains(n, "_") || strings.Contains(w, n+"(") || strings.Contains(w, "->"+n):
				s.names = append(s.names, low)
			case len(n) > 2 && !common(low):
				s.words = append(s.words, low)
			}
		}
	}
	return s
}

// attribute finds the groups of one entry, best first.
func (a *attributor) attribute(it Item) []match {
	s := parseSubject(it.Subject)
	found := make(map[int]*match) // by document
	at := func(d int) *match {
		m := found[d]
		if m == nil {
			m = &match{group: a.groups[d]}
			found[d] = m
		}
		return m
	}
	a.byPrefix(s, at)
	for _, m := range found {
		m.bare = -m.score
	}
	for _, w := range uniq(s.names) {
		for _, d := range a.having[w] {
			m := at(d)
			switch f := a.docs[d].fields[w]; {
			case f&inFunction != 0:
				m.score += 3 * a.idf[w]
			case f&inChange != 0:
				m.score += 2 * a.idf[w]
			default:
				continue
			}
			m.names = append(m.names, w)
			m.alone = m.alone || len(a.having[w]) == 1
		}
		for _, v := range pieces(w) {
			for _, d := range a.having[v] {
				if a.docs[d].fields[w] == 0 {
					at(d).score += 0.4 * a.idf[v] * a.weight[d]
				}
			}
		}
	}
	for _, w := range uniq(s.words) {
		for _, d := range a.having[w] {
			if a.docs[d].fields[w]&(inFunction|inChange) != 0 {
				at(d).score += 0.8 * a.idf[w] * a.weight[d]
			} else {
				at(d).score += 0.5 * a.idf[w] * a.weight[d]
			}
		}
	}
	said := make(map[string]bool)
	for _, w := range slices.Concat(s.prefix, s.names, s.words) {
		said[w] = true
		for _, v := range pieces(w) {
			said[v] = true
		}
	}
	best := make(map[int]match) // by group
	for d := range a.docs {
		if m := found[d]; m != nil {
			m.bare += m.score
			m.base = slices.ContainsFunc(a.own[d], func(w string) bool { return said[w] && a.idf[w] > 3 })
		}
		if m := found[d]; m != nil && m.score > best[m.group].score {
			best[m.group] = *m
		}
	}
	out := slices.Collect(maps.Values(best))
	slices.SortFunc(out, func(x, y match) int { return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.group, y.group)) })
	return out
}

// byPrefix scores the paths that a subject's prefix names. What the prefix
// says and a path does not have counts against it.
func (a *attributor) byPrefix(s subject, at func(int) *match) {
	total := 0.0
	covered := make(map[int]float64)
	for _, w := range uniq(s.prefix) {
		hits := make(map[int]float64)
		anywhere := false
		for _, v := range uniq(slices.Concat([]string{w}, aliases(w), pieces(w), ofPieces(w))) {
			for _, d := range a.having[v] {
				switch f := a.docs[d].fields[v]; {
				case f&inPath != 0: // pieces add up: vhost_iotlb is vhost/iotlb.c
					hits[d] = min(1, hits[d]+share(v, w))
					anywhere = true
				case f&(inFunction|inPieces) != 0:
					hits[d] = max(hits[d], 0.35*share(v, w))
				}
			}
		}
		idf := a.idf[w]
		if idf == 0 {
			idf = 3
			for _, v := range aliases(w) {
				idf = max(1, a.idf[v])
			}
		}
		if anywhere {
			total += idf
		}
		for d, h := range hits {
			covered[d] += idf * h
		}
	}
	for d, c := range covered {
		m := at(d)
		m.score += 2 * c
		if total > 0 {
			m.prefix = min(1, c/total)
			m.score -= (1 - m.prefix) * total
		}
	}
}

// ofPieces are the aliases of a word's pieces.
func ofPieces(w string) []string {
	var out []string
	if ps := pieces(w); len(ps) > 1 {
		for _, p := range ps {
			out = append(out, aliases(p)...)
		}
	}
	return out
}

// share is how much of a word one of its pieces counts: all together count as
// the word.
func share(piece, word string) float64 {
	if piece == word || slices.Contains(aliases(word), piece) {
		return 1
	}
	all := 0
	for _, p := range pieces(word) {
		all += len(p)
		if piece != p && slices.Contains(aliases(p), piece) {
			piece = p
		}
	}
	return min(1, float64(len(piece))/float64(max(1, all)))
}

func uniq(ws []string) []string {
	out := slices.Clone(ws)
	slices.Sort(out)
	return slices.Compact(out)
}

// perFile finds the entries that may change each file.
func perFile(files []*file, entries []Item) map[*file][]Item {
	groups := make([]*Group, len(files))
	for i, f := range files {
		groups[i] = &Group{Files: []Piece{{Path: f.path, file: f, edits: f.all()[0]}}}
	}
	a := newAttributor(groups)
	out := make(map[*file][]Item)
	for _, it := range entries {
		ms := a.attribute(it)
		for i, m := range ms {
			if m.score < 0.8*ms[0].score || i >= 4 || m.prefix == 0 && len(m.names) == 0 {
				break
			}
			out[files[m.group]] = append(out[files[m.group]], it)
		}
	}
	return out
}
