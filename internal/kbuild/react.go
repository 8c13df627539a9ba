// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"
)

// react tells which names of a declaration change their meaning when a name
// that it mentions does, or that whoever reads it may notice.
func (n *narrowing) react(d *decl, x name) (names []name, everyone bool) {
	if slices.ContainsFunc(d.names, func(b name) bool { return b.word == x.word }) {
		return nil, false // it does not use the name, it brings it
	}
	if x.kind == tagName && d.kind != opaque && !n.usesTag(d.under+" "+d.text, x.word) {
		return nil, false
	}
	if x.kind == memberName && (d.kind == typeDecl || d.kind == protoDecl || d.kind == enumDecl) &&
		!strings.Contains(d.text, "offsetof") && !strings.Contains(d.text, "sizeof") && !strings.Contains(d.text, "typeof") {
		return nil, false // another member or parameter of that name
	}
	switch d.kind {
	case inert:
		return nil, false
	case opaque, includeDecl:
		return nil, true
	case macroDecl, inlineDecl, varDecl, enumDecl:
		return d.names, false
	}
	if x.kind == plainName || x.kind == memberName || mentions([]byte(d.under), x.word) {
		return d.names, false
	}
	toks := withoutAttributes(tokens(withoutConds(d.text)))
	switch {
	case mentionsInConds(d.text, x.word):
		return d.names, false
	case d.kind == protoDecl || !slices.Contains(toks, "{"):
		if u := usageOf(toks, x); u == byPointer {
			return nil, false // only parameters have it, behind an asterisk
		}
		return d.names, false
	}
	return d.members(toks, x)
}

// usesTag tells whether a text has a word as the tag of a type: behind struct,
// union or enum, or anywhere beside a macro that puts it there.
func (n *narrowing) usesTag(text, word string) bool {
	before, bare := "", false
	found := false
	eachWord([]byte(text), func(w []byte) {
		switch {
		case string(w) == word && isAggregate(before):
			found = true
		case string(w) == word:
			bare = true
		}
		before = string(w)
	})
	if found || !bare {
		return found
	}
	eachWord([]byte(text), func(w []byte) { found = found || n.taggers[string(w)] })
	return found
}

// usage is how a declaration uses a type.
type usage uint8

const (
	unused    usage = iota // the word stands for something else
	byPointer              // parameters point to it
	carries                // what is declared leads to it
	byValue                // its layout is part of what is declared
)

// usageOf tells how one declaration, or the declaration of one member, uses a type.
func usageOf(toks []string, x name) usage {
	most := unused
	depth, call := 0, []bool{} // whether each open parenthesis has parameters in it
	for i, t := range toks {
		switch t {
		case "(":
			depth++
			call = append(call, i > 0 && (toks[i-1] == ")" || isName(toks[i-1])))
			continue
		case ")":
			if depth--; depth >= 0 {
				call = call[:depth]
			} else {
				depth = 0
			}
			continue
		}
		if t != x.word || x.kind == tagName && (i == 0 || !isAggregate(toks[i-1])) && (depth == 0 || call[depth-1]) {
			continue
		}
		k := i + 1
		for k < len(toks) && (toks[k] == "const" || toks[k] == "volatile") {
			k++
		}
		u := byValue
		switch {
		case k < len(toks) && toks[k] == "*" && depth == 0:
			u = carries
		case k < len(toks) && toks[k] == "*" && call[depth-1]:
			u = byPointer
		}
		most = max(most, u)
	}
	return most
}

// members tells what becomes of a struct, union or typedef of one when a type
// changes that it mentions: a member that points to the type leads to it, one
// that holds it changes the layout.
func (d *decl) members(toks []string, x name) (names []name, everyone bool) {
	start := 0
	for i, t := range toks {
		if t != ";" && t != "{" && t != "}" {
			continue
		}
		member := toks[start:i]
		start = i + 1
		if !slices.Contains(member, x.word) {
			continue
		}
		// A macro that declares members may do anything with its arguments.
		macro := len(member) > 1 && isName(member[0]) && member[1] == "("
		switch u := usageOf(member, x); {
		case macro, u == byValue:
			return d.names, false
		case u == carries:
			found := declarators(member)
			if len(found) == 0 {
				return d.names, false
			}
			names = append(names, named(memberName, found...)...)
		}
	}
	return names, false
}

// mentionsInConds tells whether a conditional inside of a declaration has a
// word.
func mentionsInConds(text, word string) bool {
	for i := 1; ; i += 2 {
		c, ok := between(text, i)
		if !ok {
			return false
		}
		if mentions([]byte(c), word) {
			return true
		}
	}
}

// between is the n-th part of a text that is cut at condMark.
func between(text string, n int) (string, bool) {
	start := 0
	for i := 0; i < len(text); i++ {
		if text[i] != condMark[0] {
			continue
		}
		if n == 0 {
			return text[start:i], true
		}
		n--
		start = i + 1
	}
	return "", false
}
