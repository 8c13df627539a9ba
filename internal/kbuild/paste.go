// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// paste is a place where a macro makes one word of several (##). A name may
// come to be in a text that holds only parts of it.
type paste struct {
	File  uint32
	Macro string
	Shape string // the words that the macro brings, with hole for each that its user brings
}

const hole = "\x00"

// pastesOf finds the places in a text without comments.
func pastesOf(text []byte, file uint32) []paste {
	var out []paste
	seen := make(map[paste]bool)
	text = bytes.ReplaceAll(text, []byte("\\\n"), []byte("  "))
	for line := range bytes.Lines(text) {
		l := strings.TrimSpace(string(line))
		if !strings.HasPrefix(l, "#") || !strings.Contains(l, "##") && !strings.Contains(l, "struct ") && !strings.Contains(l, "union ") && !strings.Contains(l, "enum ") {
			continue
		}
		rest, ok := strings.CutPrefix(strings.TrimSpace(l[1:]), "define")
		if !ok {
			continue
		}
		rest = strings.TrimSpace(rest)
		n := 0
		for n < len(rest) && ctext.IsWord(rest[n]) {
			n++
		}
		name, body := rest[:n], rest[n:]
		params := map[string]bool{"__VA_ARGS__": true}
		if strings.HasPrefix(body, "(") {
			list, after, ok := strings.Cut(body[1:], ")")
			if !ok {
				continue
			}
			for p := range strings.SplitSeq(list, ",") {
				params[strings.TrimSuffix(strings.TrimSpace(p), "...")] = true
			}
			body = after
		}
		for _, shape := range append(shapes(body, params), tagShape(body, params)...) {
			if p := (paste{file, name, shape}); !seen[p] {
				seen[p] = true
				out = append(out, p)
			}
		}
	}
	return out
}

// tagger is the shape of a macro that makes the tag of a struct, union or enum
// of an argument.
const tagger = ""

func tagShape(body string, params map[string]bool) []string {
	before := ""
	var out []string
	eachWord([]byte(body), func(w []byte) {
		if isAggregate(before) && params[string(w)] {
			out = []string{tagger}
		}
		before = string(w)
	})
	return out
}

// shapes reads the chains A ## B ## C of a macro's body.
func shapes(body string, params map[string]bool) []string {
	parts := strings.Split(body, "##")
	var out []string
	var chain strings.Builder
	words, holes := 0, 0
	flush := func() {
		if words > 1 && holes > 0 {
			out = append(out, chain.String())
		}
		chain.Reset()
		words, holes = 0, 0
	}
	add := func(w string) {
		if w == "" {
			flush() // not a word on that side: , ## __VA_ARGS__
			return
		}
		words++
		if params[w] {
			holes++
			w = hole
		}
		chain.WriteString(w)
	}
	for i, p := range parts {
		p = strings.TrimSpace(p)
		switch {
		case i == 0:
			add(lastWord(p))
		case i == len(parts)-1:
			add(firstWord(p))
			flush()
		case len(firstWord(p)) == len(p):
			add(p)
		default:
			add(firstWord(p))
			flush()
			add(lastWord(p))
		}
	}
	return out
}

func firstWord(s string) string {
	n := 0
	for n < len(s) && ctext.IsWord(s[n]) {
		n++
	}
	return s[:n]
}

func lastWord(s string) string {
	n := len(s)
	for n > 0 && ctext.IsWord(s[n-1]) {
		n--
	}
	return s[n:]
}

// fillings lists what users can put into the holes of a shape so that it
// becomes a word; a filling may be empty, else it is one that is known. More
// than the bound is told as ok with nothing in it: anything may do.
func fillings(shape, word string, known func(string) bool) (all [][]string, ok bool) {
	const bound = 256
	steps := 0
	var fill func(shape, word string, have []string)
	fill = func(shape, word string, have []string) {
		if steps++; steps > 100*bound || len(all) > bound {
			return
		}
		literal, rest, more := strings.Cut(shape, hole)
		if !strings.HasPrefix(word, literal) {
			return
		}
		word = word[len(literal):]
		if !more {
			if word == "" {
				all = append(all, append([]string(nil), have...))
			}
			return
		}
		from := 0
		if !strings.Contains(rest, hole) { // the last hole takes what is left
			if from = len(word) - len(rest); from < 0 {
				return
			}
		}
		for n := from; n <= len(word); n++ {
			if n == 0 || known(word[:n]) {
				fill(rest, word[n:], append(have, word[:n]))
			}
			if from > 0 {
				return
			}
		}
	}
	fill(shape, word, nil)
	if steps > 100*bound || len(all) > bound {
		return nil, true
	}
	return all, len(all) > 0
}
