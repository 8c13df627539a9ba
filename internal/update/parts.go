// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// parts cuts the edits of a file into those that can't be told apart. A
// header's edits are parted by the declarations that they are in, a source
// file's by the entries that change it; what else there is stays whole.
func (f *file) parts(entries []Item) []*part {
	if len(f.edits) == 0 { // an empty file comes or goes
		return []*part{{file: f}}
	}
	var out []*part
	switch {
	case f.oneWhole() || !f.cSource():
		out = []*part{{file: f, edits: f.all()[0]}}
	case f.header():
		for _, edits := range f.perDecl() {
			out = append(out, &part{file: f, edits: edits})
		}
	default:
		out = f.sourceParts(entries)
	}
	for _, p := range out {
		p.words()
	}
	for _, d := range f.defs() {
		for _, p := range out {
			if slices.ContainsFunc(d.edits, func(e int) bool { return slices.Contains(p.edits, e) }) {
				p.defs = append(p.defs, d)
			}
		}
	}
	for _, p := range out {
		for _, d := range p.defs {
			if d.tag == "" { // the definition, or another declaration, of what a header declares
				p.indirect[d.name] = true
			}
		}
		p.findIndirect()
	}
	return out
}

// sourceParts are the atoms of a source file, and which of them its entries
// tell apart.
func (f *file) sourceParts(entries []Item) []*part {
	cs, apart := f.atoms()
	if len(cs) < 2 {
		return []*part{{file: f, edits: f.all()[0]}}
	}
	told := f.fine(cs, entries)
	var out []*part
	for i := range cs {
		slices.Sort(cs[i].edits)
		out = append(out, &part{file: f, edits: cs[i].edits, atom: &cs[i], told: told.find(i)})
	}
	for _, i := range apart {
		out = append(out, &part{file: f, edits: []int{i}})
	}
	return out
}

// perDecl joins the edits of one declaration, wherever it stands before and
// after. Those of a struct stay apart: each member has its own users. A
// changed comment goes with the declaration below it.
func (f *file) perDecl() [][]int {
	u := newSets(len(f.edits))
	for _, is := range f.editsByName() {
		u.join(is)
	}
	for i, e := range f.edits {
		if f.onlyText(e) {
			if k := f.nextDecl(e); k >= 0 {
				u.join([]int{i, k})
			}
		}
	}
	return u.list()
}

// editsByName finds the edits of each declaration, those of its old place and
// of its new one: half of a move leaves two of it, or none. Declarations of
// one name, as #if has them, count as one. Structs of a header are left out.
func (f *file) editsByName() map[string][]int {
	out := make(map[string][]int)
	for _, side := range []bool{false, true} {
		ds := f.oldDecls
		if side {
			ds = f.newDecls
		}
		for n, d := range ds {
			if d.kind == include || d.kind == conditional || d.kind == aggregate && f.header() {
				continue
			}
			key := d.name
			if d.name == "" || d.kind == other {
				key = fmt.Sprint(side, n) // nothing tells it from others
			}
			out[key] = append(out[key], f.touching(d.from, d.to, side)...)
			for i, e := range f.edits { // an insertion has no lines on the old side, nor a removal on the new
				if !side && e.oldFrom == e.oldTo && e.oldFrom > d.from && e.oldFrom < d.to || side && e.newFrom == e.newTo && e.newFrom > d.from && e.newFrom < d.to {
					out[key] = append(out[key], i)
				}
			}
		}
	}
	return out
}

// sets are disjoint sets of numbers.
type sets []int

func newSets(n int) sets {
	s := make(sets, n)
	for i := range s {
		s[i] = i
	}
	return s
}

func (s sets) find(i int) int {
	for s[i] != i {
		s[i] = s[s[i]]
		i = s[i]
	}
	return i
}

// join makes one set of those that the numbers are in.
func (s sets) join(is []int) {
	for _, i := range is {
		a, b := s.find(is[0]), s.find(i)
		s[max(a, b)] = min(a, b)
	}
}

// list gives the sets in the order of their first numbers.
func (s sets) list() [][]int {
	var out [][]int
	at := make(map[int]int)
	for i := range s {
		r := s.find(i)
		if _, ok := at[r]; !ok {
			at[r] = len(out)
			out = append(out, nil)
		}
		out[at[r]] = append(out[at[r]], i)
	}
	return out
}

func (p *part) words() {
	p.added, p.removed, p.indirect, p.assigned = make(map[string]bool), make(map[string]bool), make(map[string]bool), make(map[string]bool)
	for _, i := range p.edits {
		e := p.file.edits[i]
		collect(p.removed, p.file.oldCode[e.oldFrom:e.oldTo])
		collect(p.added, p.file.newCode[e.newFrom:e.newTo])
		if p.file.cSource() {
			collect(p.indirect, statement(p.file.oldCode, e.oldFrom, e.oldTo))
			collect(p.indirect, statement(p.file.newCode, e.newFrom, e.newTo))
		}
	}
}

// statement widens changed lines to the statement or head that they are in: a
// call's name may stand lines above the argument that changes.
func statement(code []string, from, to int) []string {
	const far = 16
	if from >= to {
		return nil
	}
	ends := func(i int) bool {
		t := strings.TrimSpace(code[i])
		return t == "" || t[0] == '#' || strings.ContainsRune(";{}:", rune(t[len(t)-1]))
	}
	low, high := from, to
	for low > 0 && low > from-far && !ends(low-1) {
		low--
	}
	for high < len(code) && high < to+far && !ends(high-1) {
		high++
	}
	return code[low:high]
}

func collect(into map[string]bool, text []string) {
	for _, l := range text {
		for _, w := range ctext.Words(l) {
			into[w] = true
		}
	}
}

func withoutLiterals(l string) string {
	out := []byte(l)
	var quote byte
	for i := 0; i < len(out); i++ {
		c := out[i]
		switch {
		case quote == 0 && (c == '"' || c == '\''):
			quote = c
		case quote != 0:
			if c == '\\' && i+1 < len(out) {
				out[i+1] = ' '
			}
			if c == quote {
				quote = 0
			} else {
				out[i] = ' '
			}
		}
	}
	return string(out)
}

// findIndirect looks where functions whose signature changes are handed on:
// ".break_ctl = upd78f0730_break_ctl" does not change when the member's type
// does, and "walk(list, visit)" does not when visit's is.
func (p *part) findIndirect() {
	names := make(map[string]bool)
	for _, d := range p.defs {
		if d.change == redefined && (d.kind == function || d.kind == prototype) {
			names[d.name] = true
		}
	}
	if len(names) == 0 {
		return
	}
	for _, l := range p.file.newCode {
		if m, fn, ok := assignment(l); ok && names[fn] {
			p.assigned[m] = true
		}
		ws := ctext.Words(l)
		if slices.ContainsFunc(ws, func(w string) bool { return names[w] }) {
			for _, w := range ws {
				if !names[w] {
					p.indirect[w] = true
				}
			}
		}
	}
}

// assignment reads ".member = function," and "x->member = function;".
func assignment(l string) (member, function string, ok bool) {
	left, right, ok := strings.Cut(l, "=")
	if !ok {
		return "", "", false
	}
	left, right = strings.TrimSpace(left), strings.TrimRight(strings.TrimSpace(right), ",;&")
	i := strings.LastIndexAny(left, ".>")
	if i < 0 || len(ctext.Words(left[i+1:])) != 1 || len(ctext.Words(right)) != 1 || strings.Contains(right, "(") {
		return "", "", false
	}
	return ctext.Words(left[i+1:])[0], ctext.Words(right)[0], true
}
