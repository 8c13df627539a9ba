// SPDX-License-Identifier: Apache-2.0

package ui

import (
	"strings"
	"unicode/utf8"
)

// clean is text as a terminal may get it. Much of what is printed was written by
// others: names of machines and people, reasons, logs. A terminal would obey
// what it finds there (move its cursor, answer as if somebody typed), so of
// control characters only line feeds, tabs and this package's own colours are
// left, and nothing turns the direction of the text. The rest is made visible.
func clean(s string) string {
	if strings.IndexFunc(s, func(r rune) bool { return shown(r) != r || r == utf8.RuneError }) < 0 {
		return s
	}
	var b strings.Builder
	for i := 0; i < len(s); {
		if n := colour(s[i:]); n > 0 {
			b.WriteString(s[i : i+n])
			i += n
			continue
		}
		r, n := utf8.DecodeRuneInString(s[i:])
		b.WriteRune(shown(r))
		i += n
	}
	return b.String()
}

// shown is the character that stands for one: itself, if it does nothing.
func shown(r rune) rune {
	switch {
	case r == '\n' || r == '\t':
	case r < ' ':
		return '\u2400' + r // the picture of it: ␛
	case r == 0x7f:
		return '\u2421'
	case r >= 0x80 && r <= 0x9f, r >= '\u202a' && r <= '\u202e', r >= '\u2066' && r <= '\u2069':
		return utf8.RuneError
	}
	return r
}

// colour is how long the sequence is with which s begins and which sets one of
// the styles of this package, or none; 0 if it is another, or none at all.
func colour(s string) int {
	codes, ok := strings.CutPrefix(s, "\x1b[")
	end := strings.IndexByte(codes, 'm')
	if !ok || end < 0 {
		return 0
	}
	for code := range strings.SplitSeq(codes[:end], ";") {
		switch code {
		case "", "0", "1", "2", "31", "32", "33":
		default:
			return 0
		}
	}
	return len("\x1b[") + end + len("m")
}
