// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// A macro that makes a word of parts (##) makes others do the same that call
// it, each with less to choose: __PASTE(a, b) makes anything, but
// STATIC_CALL_KEY(name) nothing that does not begin with __SCK__. shapesOf
// works that out from macro to macro, so that only those are followed that can
// make the word in question, and only to texts that bring the parts which are left.

// maxShaped is how many shapes are too many to be of use.
const maxShaped = 1 << 18

// shape is one pattern of one macro.
type shape struct {
	File  uint32
	Macro string
	Pat   pattern
}

// shaper finds the patterns of macros.
type shaper struct {
	expand func(word string) pattern // what a word is where macros are expanded
	defs   []macroDef
	named  map[string][]int // definitions of a name
	wholes map[string][]pattern
	// ofSources are macros without parameters that sources define: headers that
	// they include use them.
	ofSources map[string]bool
}

// put is a pattern with what a caller passes in place of the parameters.
func (s *shaper) put(p pattern, m *macroDef, args [][]string) pattern {
	var out pattern
	for _, x := range p {
		switch {
		case x.Kind != param:
			out = append(out, x)
		case args == nil:
			out = append(out, piece{Kind: whatever})
		case x.Param < len(args):
			out = append(out, s.argument(m, args[x.Param], x.Expands)...)
		}
	}
	return out.tidy()
}

// argument is what one argument of a call contributes to a word.
func (s *shaper) argument(m *macroDef, toks []string, expands bool) pattern {
	switch {
	case len(toks) == 0:
		return nil
	case len(toks) == 1 && ctext.IsWord(toks[0][0]):
		switch x := m.word(toks[0]); {
		case x.Kind == param:
			x.Expands = true // it is passed on
			return pattern{x}
		case x.Kind == literal && expands:
			switch x.Text {
			case "__COUNTER__", "__LINE__", "__INCLUDE_LEVEL__":
				return pattern{{Kind: digits}}
			}
			return s.expand(x.Text)
		default:
			return pattern{x}
		}
	}
	inner := *m
	inner.Body = toks
	if all, whole := inner.pasted(); whole && len(all) == 1 {
		return all[0]
	}
	if s.defs != nil && expands && len(toks) > 2 && isName(toks[0]) && toks[1] == "(" && closing(toks, 1) == len(toks)-1 {
		if all := s.whole(toks[0]); len(all) == 1 {
			return s.put(all[0], m, calls(toks, toks[0])[0])
		}
	}
	return pattern{{Kind: whatever}}
}

// expanded is what a word becomes where macros are expanded: another word, if
// it is a macro that stands for just that.
func (s *shaper) expanded(word string) pattern {
	if s.ofSources[word] {
		return pattern{{Kind: whatever}}
	}
	out, found := pattern{{Kind: literal, Text: word}}, 0
	for _, i := range s.named[word] {
		m := &s.defs[i]
		if m.Function {
			continue
		}
		switch found++; {
		case found == 1 && len(m.Body) == 1:
			out = pattern{{Kind: literal, Text: m.Body[0]}}
		case len(m.Body) == 1 && len(out) == 1 && out[0].Text == m.Body[0]:
		default:
			out = pattern{{Kind: whatever}}
		}
	}
	return out
}

// whole are the patterns of a macro that makes one word and nothing else.
func (s *shaper) whole(macro string) (all []pattern) {
	if found, ok := s.wholes[macro]; ok {
		return found
	}
	s.wholes[macro] = nil // one that calls itself
	for _, i := range s.named[macro] {
		m := &s.defs[i]
		if found, whole := m.pasted(); whole && len(found) == 1 {
			all = append(all, found[0])
			continue
		}
		if b := m.Body; len(b) > 2 && isName(b[0]) && b[1] == "(" && closing(b, 1) == len(b)-1 {
			if inner := s.whole(b[0]); len(inner) == 1 {
				all = append(all, s.put(inner[0], m, calls(b, b[0])[0]))
			}
		}
	}
	keys := make(map[string]bool)
	for _, p := range all {
		keys[p.key()] = true
	}
	switch {
	case len(all) != len(s.named[macro]): // one of them is something else
		all = nil
	case len(keys) == 1:
		all = all[:1]
	}
	s.wholes[macro] = all
	return all
}

// shapesOf finds the patterns of all macros of headers, by the number of the
// file, from those that have ## themselves to those that call them; and the
// macros of all files that stand for something else than a number. Too many is
// told as any.
func shapesOf(names []string, files [][]macroDef) (out []shape, macros []uint32, any bool) {
	s := shaper{named: make(map[string][]int), ofSources: make(map[string]bool), wholes: make(map[string][]pattern)}
	s.expand = s.expanded
	var file []uint32
	for k, defs := range files {
		for _, m := range defs {
			if !m.Function && len(m.Body) > 0 {
				macros = append(macros, hashWord(m.Name))
			}
			if !isHeader(names[k]) {
				s.ofSources[m.Name] = s.ofSources[m.Name] || !m.Function
				continue
			}
			s.named[m.Name] = append(s.named[m.Name], len(s.defs))
			s.defs, file = append(s.defs, m), append(file, uint32(k))
		}
	}
	slices.Sort(macros)
	macros = slices.Compact(macros)
	callers := make(map[string][]int)
	for i := range s.defs {
		m := &s.defs[i]
		for k, t := range m.Body {
			if isName(t) && s.named[t] != nil && t != m.Name && slices.Index(m.Body, t) == k {
				callers[t] = append(callers[t], i)
			}
		}
	}
	seen := make(map[string]bool)
	add := func(x shape) {
		k := strconv.Itoa(int(x.File)) + " " + x.Macro + "\x00" + x.Pat.key()
		if len(x.Pat) > 0 && !seen[k] {
			seen[k] = true
			out = append(out, x)
		}
	}
	for i := range s.defs {
		all, _ := s.defs[i].pasted()
		for _, p := range all {
			add(shape{file[i], s.defs[i].Name, p})
		}
	}
	for i := 0; i < len(out); i++ {
		if len(out) > maxShaped {
			return nil, macros, true
		}
		x := out[i]
		if !x.Pat.open() {
			continue // whoever uses it makes this word
		}
		for _, k := range callers[x.Macro] {
			m := &s.defs[k]
			for _, args := range calls(m.Body, x.Macro) {
				add(shape{file[k], m.Name, s.put(x.Pat, m, args)})
			}
		}
	}
	return out, macros, false
}
