// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// A macro that makes a word of parts (##) makes others do the same that call
// it, each with less to choose: __PASTE(a, b) makes anything, but
// STATIC_CALL_KEY(name) nothing that does not begin with __SCK__. shaped works
// that out from macro to macro, so that only those are followed that can make
// the word in question, and only to texts that bring the parts which are left.

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
	maxShaped  = 1 << 18
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

// shape is one pattern of one macro.
type shape struct {
	File  uint32
	Macro string
	Pat   pattern
}

// macroDef is a macro's definition.
type macroDef struct {
	Name     string
	Function bool
	Params   []string
	Variadic bool // the last one takes the rest
	Body     []string
}

// defined reads "# define NAME(a, b...) body".
func defined(d *decl) (m macroDef, ok bool) {
	rest, ok := strings.CutPrefix(d.text, "# define ")
	if !ok || d.kind != macroDecl {
		return m, false
	}
	return parseDefine(rest)
}

func parseDefine(rest string) (m macroDef, ok bool) {
	m.Name = firstWord(rest)
	rest = rest[len(m.Name):]
	if strings.HasPrefix(rest, "(") {
		m.Function = true
		list, after, ok := strings.Cut(rest[1:], ")")
		if !ok {
			return m, false
		}
		rest = after
		for p := range strings.SplitSeq(list, ",") {
			p = strings.TrimSpace(p)
			if name, more := strings.CutSuffix(p, "..."); more {
				m.Variadic = true
				if p = strings.TrimSpace(name); p == "" {
					p = "__VA_ARGS__"
				}
			}
			m.Params = append(m.Params, p)
		}
	}
	m.Body = tokens(rest)
	return m, m.Name != ""
}

// definitions reads the macros of a header without comments, but those that
// stand for a number.
func definitions(text []byte) (all []macroDef) {
	lines := slices.Collect(strings.Lines(string(text)))
	for i := 0; i < len(lines); i++ {
		l := strings.TrimSpace(lines[i])
		if !strings.HasPrefix(l, "#") {
			continue
		}
		for strings.HasSuffix(l, `\`) && i+1 < len(lines) {
			i++
			l = strings.TrimSuffix(l, `\`) + " " + strings.TrimSpace(lines[i])
		}
		rest, ok := strings.CutPrefix(strings.TrimSpace(l[1:]), "define")
		if !ok {
			continue
		}
		m, ok := parseDefine(strings.Join(strings.Fields(rest), " "))
		if ok && (m.Function || len(m.Body) != 1 || isName(m.Body[0])) {
			all = append(all, m)
		}
	}
	return all
}

// word is one token of a macro's body as a piece.
func (m *macroDef) word(t string) piece {
	if i := slices.Index(m.Params, t); i >= 0 {
		if m.Variadic && i == len(m.Params)-1 {
			return piece{Kind: whatever}
		}
		return piece{Kind: param, Param: i}
	}
	return piece{Kind: literal, Text: t}
}

// pasted finds the chains A ## B ## C of a body. Whole tells that the body is
// one chain and nothing else.
func (m *macroDef) pasted() (all []pattern, whole bool) {
	t := m.Body
	glue := func(i int) bool { return i+1 < len(t) && t[i] == "#" && t[i+1] == "#" }
	for i := 0; i < len(t); i++ {
		if !ctext.IsWord(t[i][0]) || !glue(i+1) || i > 1 && glue(i-2) {
			continue
		}
		start, p := i, pattern{m.word(t[i])}
		for glue(i+1) && i+3 < len(t) && ctext.IsWord(t[i+3][0]) {
			i += 3
			p = append(p, m.word(t[i]))
		}
		if len(p) > 1 {
			all = append(all, p.tidy())
			whole = start == 0 && i == len(t)-1
		}
	}
	return all, whole
}

// calls finds what a body passes to a macro. A macro that is named without
// being called is called by others, with nobody knows what: nil.
func calls(body []string, macro string) (all [][][]string) {
	for i, t := range body {
		if t != macro {
			continue
		}
		if i+1 >= len(body) || body[i+1] != "(" {
			all = append(all, nil)
			continue
		}
		args, depth, start := [][]string{}, 0, i+2
		for k := i + 1; k < len(body); k++ {
			switch body[k] {
			case "(", "[", "{":
				depth++
			case ")", "]", "}":
				depth--
			}
			if depth == 0 || depth == 1 && body[k] == "," {
				args = append(args, body[start:k])
				start = k + 1
			}
			if depth == 0 {
				break
			}
		}
		all = append(all, args)
	}
	return all
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
// macros of all files that stand for something else than a number. Too many is told as any.
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
