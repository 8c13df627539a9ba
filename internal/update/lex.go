// SPDX-License-Identifier: Apache-2.0

package update

import (
	"path"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// token is one of C's, or a whole directive, and the white space and comments
// in front of it.
type token struct {
	key       string // what it says: the same for the same token, however it is laid out
	from, to  int    // its bytes
	directive bool   // it reaches behind the end of its line
}

// Spelled tells whether Respell knows the tokens of a file: of C, of C++, and of
// what such files are made of ("bio.h.in").
func Spelled(name string) bool {
	switch path.Ext(strings.TrimSuffix(name, ".in")) {
	case ".c", ".h", ".inc", ".cc", ".cpp", ".cxx", ".hh", ".hpp", ".hxx":
		return true
	}
	return false
}

// lex cuts C into its tokens. What is none of C's is a token of one byte.
// Between "{-" and "-}" of a template stands another language: one token as it is.
func lex(name, s string) []token {
	template := strings.HasSuffix(name, ".in")
	var out []token
	fresh := true // nothing but white space on this line
	for i := 0; i < len(s); {
		c := s[i]
		switch {
		case c == '\n':
			fresh = true
			i++
			continue
		case c == ' ' || c == '\t' || c == '\r' || c == '\f' || c == '\v':
			i++
			continue
		case strings.HasPrefix(s[i:], "/*"):
			i = behind(s, i+2, "*/")
			continue
		case strings.HasPrefix(s[i:], "//"):
			i = logicalLine(s, i)
			continue
		}
		from := i
		t := token{from: from}
		switch {
		case template && strings.HasPrefix(s[i:], "{-"):
			i = behind(s, i, "-}")
		case c == '#' && fresh:
			i = directiveEnd(s, i)
			t.directive = true
			t.key = directiveKey(s[from:i])
		case c == '"' || c == '\'':
			i = literal(s, i)
		case ctext.IsWord(c) || c >= 0x80 || c == '.' && i+1 < len(s) && s[i+1] >= '0' && s[i+1] <= '9':
			i = wordEnd(s, i)
			if i < len(s) && s[i] == '"' && strings.HasSuffix(s[from:i], "R") { // R"x(...)x"
				if k := strings.IndexByte(s[i:], '('); k > 0 && k <= 17 {
					i = behind(s, i, ")"+s[i+1:i+k]+`"`)
				}
			}
		case strings.HasPrefix(s[i:], "\\\n"):
			i += 2
		default:
			i += punctuator(s[i:])
		}
		t.to = i
		if t.key == "" {
			t.key = s[from:i]
		}
		fresh = t.directive
		out = append(out, t)
	}
	return out
}

// behind is the place behind the next end from i on, or the end of all.
func behind(s string, i int, end string) int {
	if k := strings.Index(s[i:], end); k >= 0 {
		return i + k + len(end)
	}
	return len(s)
}

// logicalLine is the newline that ends the line at i, or the end of all.
func logicalLine(s string, i int) int {
	for ; i < len(s) && s[i] != '\n'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
			if s[i] == '\r' && i+1 < len(s) && s[i+1] == '\n' {
				i++
			}
		}
	}
	return min(i, len(s))
}

// directiveEnd is the place behind the newline that ends a directive: a comment
// may reach over several lines.
func directiveEnd(s string, i int) int {
	for i < len(s) {
		switch {
		case s[i] == '\n':
			return i + 1
		case s[i] == '\\':
			i += 2
			if i <= len(s) && s[i-1] == '\r' {
				i++
			}
		case strings.HasPrefix(s[i:], "/*"):
			i = behind(s, i+2, "*/")
		case strings.HasPrefix(s[i:], "//"):
			i = logicalLine(s, i)
		case s[i] == '"' || s[i] == '\'':
			i = literal(s, i)
		default:
			i++
		}
	}
	return len(s)
}

// directiveKey is a directive's tokens. A parenthesis right behind the name of a
// macro makes it one with parameters. What #error says is taken as it is.
func directiveKey(s string) string {
	body := strings.TrimLeft(s[1:], " \t")
	word := body[:wordEnd(body, 0)]
	if word == "error" || word == "warning" {
		return "#" + strings.TrimSpace(body)
	}
	body = strings.NewReplacer("\\\r\n", " ", "\\\n", " ").Replace(body)
	var b strings.Builder
	b.WriteByte('#')
	ts := lex("", body)
	for n, t := range ts {
		if n != 2 || word != "define" || t.from != ts[1].to {
			b.WriteByte(' ')
		}
		b.WriteString(t.key)
	}
	return b.String()
}

// literal is the place behind a string or character. One without an end ends
// with its line.
func literal(s string, i int) int {
	quote := s[i]
	for i++; i < len(s); i++ {
		switch s[i] {
		case quote:
			return i + 1
		case '\n':
			return i
		case '\\':
			i++
		}
	}
	return len(s)
}

// wordEnd is the end of an identifier or a number ("0x1p-3", "1'000").
func wordEnd(s string, i int) int {
	number := i < len(s) && (s[i] == '.' || s[i] >= '0' && s[i] <= '9')
	for i < len(s) {
		c := s[i]
		switch {
		case ctext.IsWord(c) || c >= 0x80:
		case number && c == '.':
		case number && (c == '+' || c == '-') && strings.IndexByte("eEpP", s[i-1]) >= 0:
		case number && c == '\'' && i+1 < len(s) && ctext.IsWord(s[i+1]) && ctext.IsWord(s[i-1]):
		default:
			return i
		}
		i++
	}
	return i
}

var punctuators = []string{"<<=", ">>=", "...", "->*", "##", "->", "++", "--", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "*=", "/=", "%=", "+=", "-=", "&=", "^=", "|=", "::"}

func punctuator(s string) int {
	for _, p := range punctuators {
		if strings.HasPrefix(s, p) {
			return len(p)
		}
	}
	return 1
}
