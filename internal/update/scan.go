// SPDX-License-Identifier: Apache-2.0

package update

import (
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// kind is what a declaration of C source is.
type kind uint8

const (
	other kind = iota
	function
	prototype
	macro
	aggregate // struct, union, enum
	variable
	include
	conditional // #if and its like
)

// decl is one declaration at the top level of a source file, or a directive.
type decl struct {
	kind     kind
	name     string // "" where none is found
	head     string // what users depend on: signature, parameters, type; white space made even
	static   bool   // not visible outside of its file (never of a header)
	from, to int    // lines [from, to), from 0
}

// scan cuts C source into its declarations. It follows braces, literals and
// comments, not the preprocessor: of an #if with branches, each begins with
// the depth that the first began with, and a brace in the first column ends
// what is open, as the kernel's style has it.
func scan(lines []string) []decl {
	s := scanner{lines: lines, start: -1}
	for i := 0; i < len(lines); i++ {
		i = s.line(i)
	}
	s.end(len(lines))
	return s.out
}

type scanner struct {
	lines   []string
	out     []decl
	start   int // first line of the open declaration, or -1
	text    strings.Builder
	depth   int // braces
	parens  int
	comment bool
	body    bool // the open declaration has a function's body
	saved   []state
}

type state struct{ depth, parens int }

// line reads the line at i and returns the last line that it took.
func (s *scanner) line(i int) int {
	l := s.lines[i]
	if t := strings.TrimLeft(l, " \t"); !s.comment && strings.HasPrefix(t, "#") {
		return s.directive(i, strings.TrimLeft(t[1:], " \t"))
	}
	if !s.comment && s.start >= 0 && strings.HasPrefix(l, "{") && s.depth > 0 {
		s.depth, s.parens = 0, 0
	}
	if !s.comment && strings.HasPrefix(l, "}") {
		s.depth, s.parens = min(s.depth, 1), 0
	}
	for j := 0; j < len(l); j++ {
		c := l[j]
		if s.comment {
			if c == '*' && j+1 < len(l) && l[j+1] == '/' {
				s.comment = false
				j++
			}
			continue
		}
		if c == '/' && j+1 < len(l) && l[j+1] == '*' {
			s.comment = true
			j++
			continue
		}
		if c == '/' && j+1 < len(l) && l[j+1] == '/' {
			break
		}
		if s.start < 0 {
			if c == ' ' || c == '\t' || c == '\n' || c == '\r' || c == ';' || c == '}' {
				continue
			}
			s.start, s.body = i, false
			s.text.Reset()
		}
		j = s.char(i, j, c, l)
	}
	if s.start >= 0 && s.depth == 0 {
		s.text.WriteByte(' ')
		if s.parens == 0 && !s.comment && (i+1 == len(s.lines) || strings.TrimSpace(s.lines[i+1]) == "") && invocation(s.text.String()) {
			s.end(i + 1)
		}
	}
	return i
}

// invocation tells a macro that stands at the top level without a semicolon:
// DEFINE_LOCK_GUARD_0(…).
func invocation(text string) bool {
	n := 0
	for n < len(text) && ctext.IsWord(text[n]) {
		n++
	}
	return n > 2 && n < len(text) && text[n] == '(' && text[:n] == strings.ToUpper(text[:n]) && strings.HasSuffix(strings.TrimSpace(text), ")")
}

func (s *scanner) char(i, j int, c byte, l string) int {
	keep := s.depth == 0
	switch c {
	case '"', '\'':
		k := j + 1
		for k < len(l) && l[k] != c {
			if l[k] == '\\' {
				k++
			}
			k++
		}
		if keep {
			s.text.WriteString(`""`)
		}
		return k
	case '(':
		s.parens++
	case ')':
		s.parens--
	case '{':
		if s.depth == 0 && s.parens <= 0 {
			s.body = isFunctionHead(s.text.String())
		}
		s.depth++
	case '}':
		s.depth = max(0, s.depth-1)
		keep = s.depth == 0
		if keep && s.body {
			s.end(i + 1)
			return j
		}
	case ';':
		if s.depth == 0 && s.parens <= 0 {
			s.end(i + 1)
			return j
		}
	}
	if keep {
		s.text.WriteByte(c)
	}
	return j
}

// end closes the open declaration before line to.
func (s *scanner) end(to int) {
	if s.start < 0 {
		return
	}
	d := describe(s.text.String(), s.body)
	d.from, d.to = s.start, to
	s.out = append(s.out, d)
	s.start, s.parens, s.depth = -1, 0, 0
}

func (s *scanner) directive(i int, t string) int {
	last := i
	for last+1 < len(s.lines) && strings.HasSuffix(strings.TrimRight(s.lines[last], " \t\r\n"), `\`) {
		last++
	}
	word := t[:len(t)-len(strings.TrimLeft(t, "abcdefghijklmnopqrstuvwxyz"))]
	switch word {
	case "if", "ifdef", "ifndef":
		s.saved = append(s.saved, state{s.depth, s.parens})
	case "else", "elif":
		if n := len(s.saved); n > 0 {
			s.depth, s.parens = s.saved[n-1].depth, s.saved[n-1].parens
		}
	case "endif":
		if n := len(s.saved); n > 0 {
			s.saved = s.saved[:n-1]
		}
	}
	s.openComment(i, last)
	if s.start >= 0 { // within a declaration
		return last
	}
	d := decl{kind: conditional, from: i, to: last + 1}
	rest := strings.TrimSpace(t[len(word):])
	switch word {
	case "define", "undef":
		d.kind = macro
		n := 0
		for n < len(rest) && ctext.IsWord(rest[n]) {
			n++
		}
		d.name = rest[:n]
		if n < len(rest) && rest[n] == '(' {
			if k := strings.IndexByte(rest, ')'); k > 0 {
				d.head = strings.Join(strings.Fields(rest[n:k+1]), "")
			}
		}
	case "include":
		d.kind, d.name = include, strings.TrimSpace(rest)
	}
	s.out = append(s.out, d)
	return last
}

// openComment follows a comment that a directive's last line leaves open.
func (s *scanner) openComment(from, to int) {
	text := strings.Join(s.lines[from:to+1], "")
	if k := strings.LastIndex(text, "/*"); k >= 0 && !strings.Contains(text[k:], "*/") {
		s.comment = true
	}
}

// isFunctionHead tells a function's head from that of a struct or of a
// variable with an initialiser.
func isFunctionHead(head string) bool {
	head = strings.TrimSpace(head)
	if !strings.HasSuffix(head, ")") {
		// attributes without parentheses may follow: "int f(void) __must_hold"
		if k := strings.LastIndexByte(head, ')'); k < 0 || strings.ContainsAny(head[k:], "=,") {
			return false
		}
		for _, w := range []string{"struct", "union", "enum", "typedef"} {
			if strings.HasPrefix(head, w+" ") && !strings.Contains(head, "(") {
				return false
			}
		}
	}
	return !hasAssignment(head)
}

func hasAssignment(head string) bool {
	parens := 0
	for _, c := range head {
		switch c {
		case '(':
			parens++
		case ')':
			parens--
		case '=':
			if parens == 0 {
				return true
			}
		}
	}
	return false
}
