// SPDX-License-Identifier: Apache-2.0

package update

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/series"
)

// document is what a group offers to the words of a subject.
type document struct {
	fields map[string]field // by word, lower case
}

// field is where in a group a word is found.
type field struct{ where, weight int }

// Where words are found, and what they weigh there.
const (
	inPath     = 1 << iota // a component of a path
	inFunction             // the name of a function or declaration that changes
	inChange               // an identifier of a changed line
	inPieces               // a piece of such a name, between underscores
)

// match is a group that an entry may belong to.
type match struct {
	group int
	score float64
	path  bool     // words of the prefix are in its paths
	names []string // identifiers of the subject that it changes
}

// attributor weighs words by how few groups have them.
type attributor struct {
	docs   []document
	idf    map[string]float64
	having map[string][]int // groups by word
}

func newAttributor(groups []*Group) *attributor {
	a := &attributor{idf: make(map[string]float64), having: make(map[string][]int)}
	for i, g := range groups {
		d := g.document()
		a.docs = append(a.docs, d)
		for w := range d.fields {
			a.having[w] = append(a.having[w], i)
		}
	}
	for w, in := range a.having {
		a.idf[w] = math.Log(1 + float64(len(groups))/float64(len(in)))
	}
	return a
}

func (g *Group) document() document {
	d := document{fields: make(map[string]field)}
	add := func(w string, where int) {
		if len(w) < 2 {
			return
		}
		f := d.fields[w]
		f.where |= where
		d.fields[w] = f
	}
	for _, p := range g.Files {
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
				for _, name := range words(l) {
					add(strings.ToLower(name), inChange)
					for _, w := range pieces(name) {
						add(w, inPieces)
					}
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
	for _, w := range strings.FieldsFunc(strings.ToLower(head), func(r rune) bool { return r == ' ' || r == ':' || r == '/' || r == ',' || r == '"' }) {
		s.prefix = append(s.prefix, w)
	}
	for _, w := range strings.FieldsFunc(rest, func(r rune) bool {
		return r > 127 || !isWord(byte(r)) && r != '-' && r != '(' && r != ')' && r != '.' && r != '>'
	}) {
		for _, n := range words(w) {
			switch low := strings.ToLower(n); {
			case strings.Contains(n, "_") || strings.Contains(w, n+"(") || strings.Contains(w, "->"+n):
				s.names = append(s.names, low)
			case len(n) > 2 && !slices.Contains(common, low):
				s.words = append(s.words, low)
			}
		}
	}
	return s
}

// common are words of subjects that say nothing of where.
var common = strings.Fields(`the and for with from into not when that this are was use using used fix fixes fixed avoid prevent ensure
	make don doesn add adds added remove removes removed check checks missing potential possible before after null pointer
	dereference deref leak leaks memory free after error errors path paths handling handle bug out bounds bound read write
	access race between during only properly correct correctly wrong invalid return value values ret err int void static struct
	const char unsigned long bool true false case break goto else while sizeof`)

// attribute finds the groups of one entry, best first.
func (a *attributor) attribute(it Item) []match {
	s := parseSubject(it.Subject)
	score := make(map[int]*match)
	at := func(g int) *match {
		m := score[g]
		if m == nil {
			m = &match{group: g}
			score[g] = m
		}
		return m
	}
	for _, w := range uniq(s.prefix) {
		for _, v := range uniq(append([]string{w}, pieces(w)...)) {
			for _, g := range a.having[v] {
				f := a.docs[g].fields[v]
				switch {
				case f.where&inPath != 0:
					m := at(g)
					m.score += 2 * a.idf[v] * share(v, w)
					m.path = true
				case f.where&(inFunction|inPieces) != 0:
					at(g).score += 0.7 * a.idf[v] * share(v, w)
				}
			}
		}
	}
	for _, w := range uniq(s.names) {
		for _, g := range a.having[w] {
			m := at(g)
			switch f := a.docs[g].fields[w]; {
			case f.where&inFunction != 0:
				m.score += 3 * a.idf[w]
			case f.where&inChange != 0:
				m.score += 2 * a.idf[w]
			default:
				continue
			}
			m.names = append(m.names, w)
		}
		for _, v := range pieces(w) {
			for _, g := range a.having[v] {
				if a.docs[g].fields[w].where == 0 {
					at(g).score += 0.4 * a.idf[v]
				}
			}
		}
	}
	for _, w := range uniq(s.words) {
		for _, g := range a.having[w] {
			m := at(g)
			if a.docs[g].fields[w].where&(inFunction|inChange) != 0 {
				m.score += 0.8 * a.idf[w]
			} else {
				m.score += 0.5 * a.idf[w]
			}
		}
	}
	out := make([]match, 0, len(score))
	for _, m := range score {
		out = append(out, *m)
	}
	slices.SortFunc(out, func(x, y match) int { return cmp.Or(cmp.Compare(y.score, x.score), cmp.Compare(x.group, y.group)) })
	return out
}

// share is how much of a word one of its pieces counts.
func share(piece, word string) float64 {
	if piece == word {
		return 1
	}
	return float64(len(piece)) / float64(len(word)+2)
}

func uniq(ws []string) []string {
	out := slices.Clone(ws)
	slices.Sort(out)
	return slices.Compact(out)
}

// decide turns matches into entries of groups: which, and how sure.
func (a *attributor) decide(it Item, ms []match) map[int]series.Entry {
	if len(ms) == 0 || !ms[0].path && len(ms[0].names) == 0 {
		return nil
	}
	best := ms[0]
	second := 0.0
	if len(ms) > 1 {
		second = ms[1].score
	}
	e := series.Entry{Subject: it.Subject, CVEs: it.CVEs}
	alone := slices.ContainsFunc(best.names, func(n string) bool { return len(a.having[n]) == 1 })
	switch {
	case alone && best.path && best.score > 1.2*second:
		e.Confidence, e.Why = series.Certain, fmt.Sprintf("only this fix changes %s", strings.Join(best.names, ", "))
	case best.score > 1.3*second && best.score > 8:
		e.Confidence, e.Why = series.Likely, fmt.Sprintf("it fits best by far (%.0f, next %.0f)", best.score, second)
	case best.score > 6:
		e.Confidence, e.Why = series.Possible, fmt.Sprintf("it fits best (%.0f, next %.0f)", best.score, second)
	default:
		return nil
	}
	return map[int]series.Entry{best.group: e}
}
