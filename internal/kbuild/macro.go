// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

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
