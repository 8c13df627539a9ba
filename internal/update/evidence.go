// SPDX-License-Identifier: Apache-2.0

package update

import (
	"cmp"
	"fmt"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
	"github.com/tsugi-project/tsugi/internal/series"
)

// Of a package, what is told of a vulnerability is a sentence or two, and seldom
// says which code was wrong. A guess would have a live patch called the fix of
// what it does not fix. So only functions that the texts name are evidence, and
// only where they agree on one fix; what else may fit is named for a person to
// look at, and is attributed to nothing.

// witness holds what the fixes of a package's update do to functions.
type witness struct {
	of      []*Group
	changed map[string][]int // groups that change a function
	defined map[string][]int // groups that change a file that has it
	named   map[string][]int // groups by the words of their names, for hints
	stems   map[string]bool  // functions that their file is named after
}

func newWitness(groups []*Group) *witness {
	w := &witness{of: groups, changed: make(map[string][]int), defined: make(map[string][]int), named: make(map[string][]int), stems: make(map[string]bool)}
	put := func(m map[string][]int, name string, g int) {
		if in := m[name]; len(in) == 0 || in[len(in)-1] != g {
			m[name] = append(in, g)
		}
	}
	for i, g := range groups {
		for _, p := range g.Files {
			stem := strings.TrimSuffix(p.file.base(), path.Ext(p.Path))
			for _, word := range append(pieces(stem), strings.ToLower(stem)) {
				put(w.named, strings.TrimRight(word, "0123456789"), i)
			}
			if !p.file.cSource() || p.file.header() {
				continue
			}
			for _, d := range slices.Concat(p.file.oldDecls, p.file.newDecls) {
				if name := d.function(); name != "" {
					put(w.defined, name, i)
					w.stems[name] = w.stems[name] || name == stem
				}
			}
			for _, f := range p.functionsChanged() {
				put(w.changed, f, i)
				for _, word := range append(pieces(f), strings.ToLower(f)) {
					put(w.named, strings.TrimRight(word, "0123456789"), i)
				}
			}
		}
	}
	return w
}

// functionsChanged are the functions whose definitions a piece changes.
func (p Piece) functionsChanged() []string {
	var out []string
	for _, i := range p.edits {
		e := p.file.edits[i]
		for _, d := range p.file.oldDecls {
			// What is put between two lines is in a function that has both.
			if overlaps(e.oldFrom, e.oldTo, d.from, d.to) || e.oldFrom == e.oldTo && d.from < e.oldFrom && e.oldFrom < d.to {
				out = append(out, d.function())
			}
		}
		for _, d := range p.file.newDecls {
			if overlaps(e.newFrom, e.newTo, d.from, d.to) {
				out = append(out, d.function())
			}
		}
	}
	return slices.DeleteFunc(uniq(out), func(name string) bool { return name == "" })
}

// function is the name of a function's definition, or "". A macro that stands in
// front of it without a semicolon (libc_hidden_def (x)) is not it.
func (d decl) function() string {
	if d.kind != function {
		return ""
	}
	name, depth := d.name, 0
	for i := 0; i < len(d.head); i++ {
		switch d.head[i] {
		case '(':
			if before := ctext.Words(d.head[:i]); depth == 0 && len(before) > 0 && !strings.HasPrefix(before[len(before)-1], "__attribute") {
				name = before[len(before)-1]
			}
			depth++
		case ')':
			depth--
		}
	}
	return name
}

// nameForm finds what may be a function's name, and what stands behind it.
var nameForm = regexp.MustCompile(`([A-Za-z_][A-Za-z0-9_]*)(\(\))?`)

// functionsNamed are the words of a text that are functions of the changed
// files. A word that may be one of English counts only where a file has its
// name from that function (regcomp.c).
func (w *witness) functionsNamed(text string) []string {
	var out []string
	for _, m := range nameForm.FindAllStringSubmatch(text, -1) {
		name := m[1]
		if len(w.changed[name])+len(w.defined[name]) == 0 {
			continue
		}
		low := strings.ToLower(name)
		if evident := strings.Contains(strings.Trim(name, "_"), "_") || strings.HasPrefix(name, "_") || m[2] != ""; evident ||
			w.stems[name] && len(name) > 5 && !common(low) && !ofSecurity(low) {
			out = append(out, name)
		}
	}
	return uniq(out)
}

// point finds the fixes that the functions named in a text are in: those that
// change them, and those that change their files.
func (w *witness) point(names []string) (changing, beside map[int][]string) {
	changing, beside = make(map[int][]string), make(map[int][]string)
	for _, n := range names {
		for _, g := range w.changed[n] {
			changing[g] = append(changing[g], n)
		}
		if len(w.changed[n]) == 0 {
			for _, g := range w.defined[n] {
				beside[g] = append(beside[g], n)
			}
		}
	}
	return changing, beside
}

// judge says of an entry which fix is that of its CVEs, with the reason, or -1
// and why none is.
func (w *witness) judge(e series.Entry, news string) (int, series.Entry) {
	title := w.functionsNamed(e.Subject)
	changing, _ := w.point(title)
	if len(changing) == 1 {
		for g, names := range changing {
			e.Confidence, e.Why = series.Possible, "the entry names "+strings.Join(names, ", ")+", which only this fix changes"
			if len(e.CVEs) == 1 && slices.ContainsFunc(names, func(n string) bool { return saysWhere(e.Subject, n) }) && !w.elsewhere(g, news) {
				e.Confidence = series.Certain
			}
			return g, e
		}
	}
	changing, beside := w.point(w.functionsNamed(e.Subject + "\n" + news))
	all := slices.Sorted(maps.Keys(changing))
	for _, g := range slices.Sorted(maps.Keys(beside)) {
		if changing[g] == nil {
			all = append(all, g)
		}
	}
	e.Confidence = series.Possible
	switch {
	case len(all) == 0:
		e.Why = "not attributed: what is told of it names no function that the update changes" + w.hint(e.Subject)
		return -1, e
	case len(all) > 1:
		e.Why = fmt.Sprintf("not attributed: what is told of it names functions of %d fixes", len(all)) + w.hint(e.Subject)
		return -1, e
	case changing[all[0]] != nil:
		e.Why = "what is told of it names " + strings.Join(changing[all[0]], ", ") + ", which only this fix changes"
	default:
		e.Why = "what is told of it names " + strings.Join(beside[all[0]], ", ") + ", of a file that only this fix changes"
	}
	return all[0], e
}

// saysWhere tells whether a text has a mistake in a function, and not only a
// call of it ("in f_x", "in the f_x() function", "f_x: …"). A word that is one of
// English as well may be meant as that.
func saysWhere(text, name string) bool {
	if !strings.Contains(strings.Trim(name, "_"), "_") {
		return false
	}
	before := []string{}
	for _, word := range strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(" \t\n`'\"", r) }) {
		if rest, ok := strings.CutPrefix(word, name); ok && (rest == "" || !ctext.IsWord(rest[0])) {
			for len(before) > 0 && slices.Contains([]string{"the", "function", "static"}, before[len(before)-1]) {
				before = before[:len(before)-1]
			}
			if len(before) == 0 && strings.HasPrefix(strings.TrimPrefix(rest, "()"), ":") ||
				len(before) > 0 && slices.Contains([]string{"in", "inside", "within"}, before[len(before)-1]) {
				return true
			}
		}
		before = append(before, strings.ToLower(word))
	}
	return false
}

// elsewhere tells whether the news name a function that other fixes change than
// this one: there may be the other half of it.
func (w *witness) elsewhere(g int, news string) bool {
	changing, _ := w.point(w.functionsNamed(news))
	delete(changing, g)
	return len(changing) > 0
}

// hint names the fixes to look at first: those whose files and functions have
// most of the words that a subject has and few others have.
func (w *witness) hint(text string) string {
	const few = 6
	score := make(map[int]float64)
	for _, word := range uniq(ctext.Words(strings.ToLower(text))) {
		in := w.named[strings.TrimRight(word, "0123456789")]
		if len(word) < 3 || common(word) || ofSecurity(word) || len(in) > few {
			continue
		}
		for _, g := range in {
			score[g] += 1 / float64(len(in))
		}
	}
	found := slices.Collect(maps.Keys(score))
	slices.SortFunc(found, func(x, y int) int { return cmp.Or(cmp.Compare(score[y], score[x]), cmp.Compare(x, y)) })
	var names []string
	for _, g := range found[:min(2, len(found))] {
		names = append(names, w.of[g].main().Path)
	}
	if len(names) == 0 {
		return ""
	}
	return "; look at " + strings.Join(names, " and ") + " first"
}

// byEvidence attributes entries that have CVEs. One whose fix makes the same
// edit elsewhere belongs there too: half of it would not do.
func byEvidence(groups []*Group, entries []Item, news map[string]string, found map[int][]series.Entry) []series.Entry {
	w, twins := newWitness(groups), twinGroups(groups)
	told := make(map[string]int) // entries by CVE: one that has several may need several fixes
	for _, it := range entries {
		for _, id := range it.CVEs {
			told[id]++
		}
	}
	var left []series.Entry
	for _, it := range entries {
		text := ""
		for _, id := range it.CVEs {
			text += news[id]
		}
		g, e := w.judge(series.Entry{Subject: it.Subject, CVEs: it.CVEs}, text)
		if g < 0 {
			left = append(left, e)
			continue
		}
		if e.Confidence == series.Certain && told[e.CVEs[0]] > 1 {
			e.Confidence, e.Why = series.Possible, e.Why+"; other entries tell of the same CVE"
		}
		found[g] = append(found[g], e)
		for _, t := range slices.Sorted(maps.Keys(twins[g])) {
			e.Confidence, e.Why = series.Possible, "it is the same edit as in "+twins[g][t]
			found[t] = append(found[t], e)
		}
	}
	return left
}

// ofSecurity tells words that say what kind of mistake a CVE is, and not where.
func ofSecurity(w string) bool {
	switch w {
	case "buffer", "overflow", "underflow", "stack", "integer", "double", "corruption", "uninitialized", "failure",
		"allocation", "assert", "assertion", "crash", "denial", "service", "validation", "verification", "confusion",
		"truncation", "length", "contents", "content", "message", "messages", "string", "strings", "input", "inputs", "output",
		"client", "server", "processing", "parsing", "parse", "function", "functions", "conversion", "response", "responses", "request",
		"requests", "process", "search", "result", "results", "encryption", "decryption", "incorrect", "improper", "reading", "writing",
		"print", "printing", "convert", "converting", "binary", "binaries", "character", "names", "attack", "remote", "local",
		"connect", "accept", "select", "signal", "system", "listen", "bytes", "byte", "type", "types", "code", "usage", "calls", "level",
		"rename", "format", "random", "header", "headers", "certificate":
		return true
	}
	return false
}
