// SPDX-License-Identifier: Apache-2.0

package update

import (
	"strings"

	"github.com/tsugi-project/tsugi/internal/fix"
)

// Respell gives what the text of a file says now as its older text would have
// it laid out: where both say the same, white space and comments are those of
// the old one. A file that was only formatted anew comes out as it was. What
// compilers make of the outcome is what they make of new, but for the numbers
// of lines and for white space in macro arguments that become strings.
//
// Files that are neither C nor C++ stay as they are.
func Respell(name string, old, new []byte) []byte {
	if !Spelled(name) || old == nil || new == nil {
		return new
	}
	was, is := string(old), string(new)
	a, b := phrases(name, was), phrases(name, is)
	var out strings.Builder
	put := func(text string, directive bool) {
		if directive && !onOwnLine(out.String(), text) {
			out.WriteByte('\n')
		}
		out.WriteString(text)
	}
	tail := is[end(b):]
	if len(b) == 0 && len(a) == 0 {
		tail = was
	}
	i, j := 0, 0
	for _, e := range append(fix.Compare(keys(a), keys(b)), fix.Edit{OldFrom: len(a), OldTo: len(a), NewFrom: len(b), NewTo: len(b)}) {
		for ; i < e.OldFrom; i, j = i+1, j+1 {
			put(a[i].text, a[i].directive)
			tail = was[end(a):]
		}
		for ; j < e.NewTo; j++ {
			put(b[j].text, b[j].directive)
			tail = is[end(b):]
		}
		i = e.OldTo
	}
	out.WriteString(tail)
	text := out.String()
	if !sameTokens(lex(name, text), lex(name, is)) {
		return new
	}
	return []byte(text)
}

// onOwnLine tells whether a directive that is put behind a text begins a line.
func onOwnLine(before, text string) bool {
	k := strings.IndexByte(text, '#')
	if strings.Contains(text[:max(k, 0)], "\n") {
		return true
	}
	line := before[strings.LastIndexByte(before, '\n')+1:]
	return strings.Trim(line, " \t") == ""
}

func sameTokens(a, b []token) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].key != b[i].key {
			return false
		}
	}
	return true
}

// phrase is a run of tokens that is compared as one: a statement, an element of
// a list, a directive.
type phrase struct {
	key, text string
	directive bool
	to        int
}

// phrases cuts a text behind each semicolon and comma that no parenthesis
// holds, each brace and each directive.
func phrases(name, s string) []phrase {
	var out []phrase
	from, parens := 0, 0
	var key strings.Builder
	done := func(to int, directive bool) {
		out = append(out, phrase{key: key.String(), text: s[from:to], directive: directive, to: to})
		from = to
		key.Reset()
	}
	ts := lex(name, s)
	for n, t := range ts {
		if t.directive && key.Len() > 0 {
			done(ts[n-1].to, false)
		}
		key.WriteString(t.key)
		key.WriteByte(0)
		switch t.key {
		case "(", "[":
			parens++
		case ")", "]":
			parens = max(0, parens-1)
		case "{", "}":
			parens = 0
			done(t.to, false)
			continue
		}
		if t.directive || parens == 0 && (t.key == ";" || t.key == ",") || strings.HasPrefix(t.key, "{-") {
			done(t.to, t.directive)
		}
	}
	if key.Len() > 0 {
		done(ts[len(ts)-1].to, false)
	}
	return out
}

func keys(ps []phrase) []string {
	out := make([]string, len(ps))
	for i, p := range ps {
		out[i] = p.key
	}
	return out
}

func end(ps []phrase) int {
	if len(ps) == 0 {
		return 0
	}
	return ps[len(ps)-1].to
}
