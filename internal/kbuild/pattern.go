// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"
)

// piece is a part of the word that a macro makes.
type piece struct {
	Kind pieceKind
	Text string // of a literal
	// Param is the number of the parameter that brings it. Expands: what its
	// user writes there is expanded first, if that is a macro.
	Param   int
	Expands bool
}

type pieceKind uint8

const (
	literal  pieceKind = iota
	param              // a word that its user brings
	digits             // __COUNTER__ and the like
	whatever           // nobody knows
)

// pattern is how a macro's words look.
type pattern []piece

const (
	maxPieces  = 12
	maxLiteral = 128 // no name of the kernel is longer
)

// key names a pattern for comparison.
func (p pattern) key() string {
	var b strings.Builder
	for _, x := range p {
		b.WriteByte('0' + byte(x.Kind))
		if x.Expands {
			b.WriteByte('x')
		}
		b.WriteByte(byte('a' + x.Param%26))
		b.WriteString(x.Text)
		b.WriteByte(0)
	}
	return b.String()
}

// open tells whether users have a say in it.
func (p pattern) open() bool {
	return slices.ContainsFunc(p, func(x piece) bool { return x.Kind == param })
}

// tidy joins what belongs together, and gives up on what is too long.
func (p pattern) tidy() pattern {
	var out pattern
	long := 0
	for _, x := range p {
		n := len(out)
		long += len(x.Text)
		switch {
		case x.Kind == literal && x.Text == "":
		case n > 0 && x.Kind == literal && out[n-1].Kind == literal:
			out[n-1].Text += x.Text
		case n > 0 && x.Kind == whatever && out[n-1].Kind == whatever:
		default:
			out = append(out, x)
		}
	}
	if len(out) > maxPieces || long > maxLiteral {
		return pattern{{Kind: whatever}}
	}
	return out
}

// fill lists what users of a macro have to bring so that it makes a word: the
// words in place of its parameters, of which some may be empty. More than the
// bound is told as ok with nothing in it: anything may do.
func (p pattern) fill(word string, known func(string) bool) (all [][]string, ok bool) {
	const bound = 256
	steps := 0
	var do func(p pattern, word string, have []string)
	do = func(p pattern, word string, have []string) {
		if steps++; steps > 100*bound || len(all) > bound {
			return
		}
		if len(p) == 0 {
			if word == "" {
				all = append(all, slices.Clone(have))
			}
			return
		}
		switch x := p[0]; x.Kind {
		case literal:
			if rest, ok := strings.CutPrefix(word, x.Text); ok {
				do(p[1:], rest, have)
			}
		default:
			from := 0
			if x.Kind == digits {
				from = 1
			}
			last := len(p) == 1
			if last {
				from = max(from, len(word))
			}
			for n := from; n <= len(word); n++ {
				w := word[:n]
				switch {
				case x.Kind == digits && strings.Trim(w, "0123456789") != "":
					return
				case x.Kind == param && w != "" && !known(w):
				case x.Kind == param && w != "":
					do(p[1:], word[n:], append(have, w))
				default:
					do(p[1:], word[n:], have)
				}
			}
		}
	}
	if p.ends(word) {
		do(p, word, nil)
	}
	if steps > 100*bound || len(all) > bound {
		return nil, true
	}
	return all, len(all) > 0
}

// ends is a quick look at both ends.
func (p pattern) ends(word string) bool {
	first, last := p[0], p[len(p)-1]
	return (first.Kind != literal || strings.HasPrefix(word, first.Text)) && (last.Kind != literal || strings.HasSuffix(word, last.Text))
}
