// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// item is one declaration or definition at the top level of preprocessed C,
// its white space made even. A struct's closing brace ends one too, which
// does no harm: the rest of its line is then an item.
type item string

// items cuts preprocessed text. Linemarkers and empty lines are dropped, so
// text that only moved is the same.
func items(text []byte) []item {
	var out []item
	var b strings.Builder
	braces, parens := 0, 0
	space := false
	flush := func() {
		if b.Len() > 0 {
			out = append(out, item(b.String()))
		}
		b.Reset()
		space = false
	}
	for line := range bytes.Lines(text) {
		if len(line) > 2 && line[0] == '#' && line[1] == ' ' && line[2] >= '0' && line[2] <= '9' {
			continue
		}
		for i := 0; i < len(line); i++ {
			c := line[i]
			switch c {
			case ' ', '\t', '\n', '\r', '\f', '\v':
				space = b.Len() > 0
				continue
			}
			if space {
				b.WriteByte(' ')
				space = false
			}
			b.WriteByte(c)
			switch c {
			case '"', '\'':
				for i++; i < len(line); i++ {
					b.WriteByte(line[i])
					if line[i] == '\\' && i+1 < len(line) {
						i++
						b.WriteByte(line[i])
					} else if line[i] == c {
						break
					}
				}
			case '(':
				parens++
			case ')':
				parens--
			case '{':
				braces++
			case '}':
				if braces--; braces <= 0 && parens <= 0 {
					braces, parens = 0, 0
					flush()
				}
			case ';':
				if braces == 0 && parens <= 0 {
					flush()
				}
			}
		}
	}
	flush()
	return out
}

// function names an item that declares a function or defines one that leaves
// no trace in the object when nothing calls it (static inline).
func (it item) function() (name string, ok bool) {
	s := string(it)
	if strings.HasPrefix(s, "typedef") || strings.HasPrefix(s, "struct") && !strings.Contains(s, "(") {
		return "", false
	}
	body := strings.IndexByte(s, '{')
	head := s
	if body >= 0 {
		head = s[:body]
	}
	if strings.Contains(head, "=") {
		return "", false
	}
	words := ctext.Words(head)
	if body >= 0 && !(slices.Contains(words, "static") && (slices.Contains(words, "inline") || slices.Contains(words, "__inline") || slices.Contains(words, "__inline__"))) {
		return "", false
	}
	depth := 0
	for i := 0; i < len(head); i++ {
		switch head[i] {
		case '(':
			if depth == 0 {
				before := strings.TrimRight(head[:i], " ")
				j := len(before)
				for j > 0 && ctext.IsWord(before[j-1]) {
					j--
				}
				switch w := before[j:]; w {
				case "__attribute__", "__attribute", "__asm__", "asm", "typeof", "__typeof__", "__extension__", "_Alignas", "__alignof__":
				case "", "_Static_assert":
					return "", false
				default:
					return w, true
				}
			}
			depth++
		case ')':
			depth--
		}
	}
	return "", false
}

// differ tells whether two preprocessed texts can give different objects.
// They can not when they differ only in declarations of functions and in
// static inline functions that, through whatever other static inline
// functions, nothing else in the text uses.
func differ(a, b []byte) bool {
	x, y := items(a), items(b)
	if slices.Equal(x, y) {
		return false
	}
	count := make(map[item]int)
	for _, it := range x {
		count[it]++
	}
	for _, it := range y {
		count[it]--
	}
	tainted := make(map[string]bool)
	moved := true
	for it, n := range count {
		if n == 0 {
			continue
		}
		moved = false
		name, ok := it.function()
		if !ok {
			return true
		}
		tainted[name] = true
	}
	if moved {
		return true
	}
	common := slices.DeleteFunc(x, func(it item) bool { return count[it] != 0 })
	words := make([][]string, len(common))
	for i, it := range common {
		words[i] = ctext.Words(string(it))
	}
	for again := true; again; {
		again = false
		for i, it := range common {
			if !slices.ContainsFunc(words[i], func(w string) bool { return tainted[w] }) {
				continue
			}
			name, ok := it.function()
			if !ok {
				return true
			}
			if !tainted[name] {
				tainted[name] = true
				again = true
			}
		}
	}
	return false
}
