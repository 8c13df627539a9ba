// SPDX-License-Identifier: Apache-2.0

package fix

import "strings"

// lexer follows C source line by line just far enough to know where a
// directive may be put. Its zero value stands before the first line.
type lexer struct {
	comment   bool // inside /* */
	continued bool // the last line ended in a backslash
	directive bool // the continued line is a directive
	quote     byte // open literal, only over a continued line
	slashes   bool // a continued // comment
	parens    int  // open parentheses outside of directives
	depth     int  // open conditionals
	closed    int  // depth of the branch that the last line ended (#else, #elif…, #endif), or 0
	saved     []int
}

// safe tells whether a directive may stand before the next line.
func (l *lexer) safe() bool { return !l.comment && !l.continued && l.parens == 0 }

// line reads one line with its newline.
func (l *lexer) line(s string) {
	s = strings.TrimRight(s, "\r\n")
	if !l.continued {
		l.quote, l.slashes, l.directive, l.closed = 0, false, false, 0
		if t := strings.TrimLeft(s, " \t\f\v"); !l.comment && strings.HasPrefix(t, "#") {
			l.directive = true
			l.conditional(strings.TrimLeft(t[1:], " \t"))
		} else if !l.comment && strings.HasPrefix(s, "}") {
			l.parens = 0 // a function ends here, whatever conditionals made of the count
		}
	}
	l.scan(s)
	l.continued = strings.HasSuffix(s, `\`)
}

func (l *lexer) scan(s string) {
	for i := 0; i < len(s); i++ {
		c := s[i]
		two := s[i:min(i+2, len(s))]
		switch {
		case l.slashes:
			return
		case l.comment:
			if two == "*/" {
				l.comment = false
				i++
			}
		case l.quote != 0:
			if c == '\\' {
				i++
			} else if c == l.quote {
				l.quote = 0
			}
		case two == "/*":
			l.comment = true
			i++
		case two == "//":
			l.slashes = true
			return
		case c == '"' || c == '\'':
			l.quote = c
		case l.directive:
		case c == '(':
			l.parens++
		case c == ')' && l.parens > 0:
			l.parens--
		}
	}
}

// conditional follows #if … #endif. Branches often open the same parenthesis
// twice, so each begins with the count that the first began with.
func (l *lexer) conditional(s string) {
	name := s[:len(s)-len(strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz"))]
	switch name {
	case "if", "ifdef", "ifndef":
		l.depth++
		l.saved = append(l.saved, l.parens)
	case "else", "elif", "elifdef", "elifndef":
		l.closed = l.depth
		if n := len(l.saved); n > 0 {
			l.parens = l.saved[n-1]
		}
	case "endif":
		l.closed = l.depth
		if n := len(l.saved); n > 0 {
			l.saved = l.saved[:n-1]
			l.depth--
		}
	}
}
