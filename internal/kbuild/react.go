// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"regexp"
	"slices"
	"strings"
)

// tagCall is where a macro's call makes the tag of a type.
var tagCall = regexp.MustCompile(`\b(struct|union|enum)\s+\w+\s*\(`)

// react tells which names of a declaration change their meaning when a name
// that it mentions does, or that whoever reads it may notice.
func (n *narrowing) react(d *decl, x name) (names []name, everyone bool) {
	if slices.ContainsFunc(d.names, func(b name) bool { return b.word == x.word }) {
		return n.stands(d, x) // it does not use the name, it brings it
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
	if x.kind == plainName || x.kind == macroName || x.kind == memberName || mentions([]byte(d.under), x.word) {
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

// stands tells what a macro means for a declaration that has its name: then
// another name is declared, the one that the macro stands for. "#define
// mtype_add IPSET_TOKEN(MTYPE, _add)" makes of "static int mtype_add(…)" a
// function that nobody calls mtype_add. A macro of its own name only says that
// there is one, and one with parameters is the other branch of an #if, unless
// it makes words of parts.
func (n *narrowing) stands(d *decl, x name) (names []name, everyone bool) {
	if d.kind != macroDecl || x.kind == macroName {
		return nil, false
	}
	body, ok := strings.CutPrefix(d.text, "# define "+x.word)
	switch {
	case !ok:
		return nil, false
	case strings.HasPrefix(body, "("):
		return nil, n.pastes(body)
	}
	toks := tokens(body)
	for len(toks) > 2 && toks[0] == "(" && closing(toks, 0) == len(toks)-1 {
		toks = toks[1 : len(toks)-1]
	}
	switch {
	case len(toks) == 1 && isName(toks[0]) && toks[0] != x.word:
		return named(plainName, toks[0]), false
	}
	return nil, len(toks) > 1 && isName(toks[0]) && toks[1] == "("
}

// pastes tells whether a text makes words of parts, itself or by a macro in it.
func (n *narrowing) pastes(text string) bool {
	found := strings.Contains(text, "##")
	eachWord([]byte(text), func(w []byte) { found = found || n.pasters[string(w)] })
	return found
}

// usesTag tells whether a text has a word as the tag of a type: behind struct,
// union or enum, or anywhere beside a macro that puts it there, or a macro's
// call that stands behind struct.
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
	return found || tagCall.MatchString(text)
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
