// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"regexp"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/layout"
)

// moveMembers moves declarations inside a struct's definition in C source, and
// takes those that are kept from the old source. It is false when the source does not define the struct, or not in a form in
// which a declaration can be moved: with conditional parts, or several members
// in one declaration.
func moveMembers(old, src, typ string, moves []layout.Move) (string, bool) {
	plain := blankDefines(blankComments(src))
	start, end, ok := structBody(plain, typ)
	if !ok {
		return "", false
	}
	body, blank := src[start:end], plain[start:end]
	for _, m := range moves {
		var text, hidden string
		if m.Kept {
			was := blankDefines(blankComments(old))
			from, to, ok := structBody(was, typ)
			d, found := declaration(was[max(from, 0):max(to, 0)], m.Member)
			if !ok || !found || d.shared {
				return "", false
			}
			hidden = was[from+d.start : from+d.end]
			text = hidden // its comment would be about what is no more
		} else {
			from, ok := declaration(blank, m.Member)
			if !ok || from.shared {
				return "", false
			}
			text, hidden = body[from.start:from.end], blank[from.start:from.end]
			if strings.Contains(text, "#") {
				return "", false // what it defines would move, too
			}
			body, blank = body[:from.start]+body[from.end:], blank[:from.start]+blank[from.end:]
		}
		to, ok := span{}, true
		if m.After != "" {
			to, ok = declaration(blank, m.After)
		}
		if !ok {
			return "", false
		}
		body, blank = body[:to.end]+text+body[to.end:], blank[:to.end]+hidden+blank[to.end:]
	}
	return src[:start] + body + src[end:], true
}

// structBody finds what is between the braces of a struct's definition, by its
// tag or by the typedef that names it, when nothing in it is conditional.
func structBody(plain, typ string) (start, end int, ok bool) {
	name := strings.TrimPrefix(typ, "struct ")
	if loc := regexp.MustCompile(`\bstruct\s+` + regexp.QuoteMeta(name) + `\s*\{`).FindStringIndex(plain); loc != nil {
		start, end = loc[1], closing(plain, loc[1])
	} else {
		named := regexp.MustCompile(`^\}\s*` + regexp.QuoteMeta(name) + `\s*;`)
		for _, loc := range regexp.MustCompile(`\btypedef\s+struct\s*\{`).FindAllStringIndex(plain, -1) {
			if e := closing(plain, loc[1]); e >= 0 && named.MatchString(plain[e:]) {
				start, end = loc[1], e
				break
			}
		}
	}
	if start == 0 || end < 0 || strings.Contains(plain[start:end], "#") {
		return 0, 0, false
	}
	return start, end, true
}

// span is a declaration in the body of a struct, with the line breaks before
// it and without the one behind.
type span struct {
	start, end int
	shared     bool // it declares several members
}

// declaration finds the one that declares a member, in a body without comments.
func declaration(body, member string) (span, bool) {
	name := regexp.MustCompile(`\b` + regexp.QuoteMeta(member) + `\s*(:\s*\w+\s*$|\[[^;{}]*\]\s*|\)\s*\([^;{}]*\)\s*|__\w+(\([^;{}]*\))?\s*)*$`)
	depth, start := 0, 0
	for i := range len(body) {
		switch body[i] {
		case '{':
			depth++
		case '}':
			depth--
		case ';':
			if depth > 0 {
				continue
			}
			text := body[start:i]
			outer := text
			if k := strings.LastIndexByte(text, '}'); k >= 0 {
				outer = text[k:]
			}
			list := topLevel(outer)
			for _, d := range list {
				if name.MatchString(d) {
					return span{start, i + 1, len(list) > 1}, true
				}
			}
			start = i + 1
		}
	}
	return span{}, false
}

// topLevel splits declarators at commas that no parenthesis encloses.
func topLevel(text string) []string {
	var out []string
	depth, start := 0, 0
	for i := range len(text) {
		switch text[i] {
		case '(', '[':
			depth++
		case ')', ']':
			depth--
		case ',':
			if depth == 0 {
				out = append(out, text[start:i])
				start = i + 1
			}
		}
	}
	return append(out, text[start:])
}

// closing is where the brace closes that was opened before an offset, or -1.
func closing(src string, at int) int {
	depth := 1
	for i := at; i < len(src); i++ {
		switch src[i] {
		case '{':
			depth++
		case '}':
			if depth--; depth == 0 {
				return i
			}
		}
	}
	return -1
}

// blankDefines replaces macros' definitions by blanks, which may stand between
// the members of a struct.
func blankDefines(plain string) string {
	return regexp.MustCompile(`(?m)^[ \t]*#[ \t]*define\b(?:.*\\\n)*.*$`).ReplaceAllStringFunc(plain, func(d string) string {
		return regexp.MustCompile(`[^\n]`).ReplaceAllString(d, " ")
	})
}

// blankComments replaces comments, strings and characters by blanks: every
// other byte stays where it is.
func blankComments(src string) string {
	out := []byte(src)
	blank := func(from, to int) {
		for i := from; i < min(to, len(out)); i++ {
			if out[i] != '\n' {
				out[i] = ' '
			}
		}
	}
	upTo := func(from int, mark string) int {
		if n := strings.Index(src[from:], mark); n >= 0 {
			return from + n + len(mark)
		}
		return len(src)
	}
	for i := 0; i < len(src); {
		next := i + 1
		switch {
		case strings.HasPrefix(src[i:], "/*"):
			next = upTo(i+2, "*/")
			blank(i, next)
		case strings.HasPrefix(src[i:], "//"):
			next = upTo(i, "\n")
			blank(i, next)
		case src[i] == '"' || src[i] == '\'':
			for next < len(src) && src[next] != src[i] && src[next] != '\n' {
				if src[next] == '\\' {
					next++
				}
				next++
			}
			next = min(next+1, len(src))
			blank(i, next)
		}
		i = next
	}
	return string(slices.Clip(out))
}
