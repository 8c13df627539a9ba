// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/ctext"
)

// classify finds out what a declaration is and which names it brings. Where
// that is not certain it stays opaque.
func (d *decl) classify() {
	if strings.Contains(d.text, "__used") || strings.Contains(d.text, "section") && strings.Contains(d.text, "=") {
		return // it is in the object though nothing names it
	}
	toks := tokens(withoutConds(d.text))
	if len(toks) == 0 || len(toks) == 1 && toks[0] == ";" {
		d.kind = inert
		return
	}
	if toks[0] == "static_assert" || toks[0] == "_Static_assert" {
		d.kind = inert
		return
	}
	if toks[0] == "." || toks[0] == "#" || slices.Contains(toks, "macro") {
		return // assembly
	}
	if word, ok := declaredByMacro(toks); ok {
		d.kind, d.names = varDecl, named(plainName, word)
		return
	}
	toks = withoutAttributes(toks)
	brace := slices.Index(toks, "{")
	switch {
	case toks[0] == "typedef":
		d.typedef(toks)
	case brace >= 0 && isBody(d.text):
		d.function(toks[:brace])
		if d.kind == protoDecl {
			d.kind = inlineDecl
			if !slices.Contains(toks[:brace], "static") {
				d.kind, d.names = opaque, nil
			}
		}
	case brace > 0 && !slices.Contains(toks[:brace], "=") && slices.ContainsFunc(toks[:brace], isAggregate):
		d.aggregate(toks)
	case slices.Contains(toks, "="):
		if slices.Contains(toks, "static") {
			d.variable(toks[:slices.Index(toks, "=")])
		}
	case len(toks) == 3 && isAggregate(toks[0]) && isName(toks[1]) && toks[2] == ";":
		d.kind = inert
	case slices.Contains(toks, "("):
		d.function(toks[:len(toks)-1])
	case toks[0] == "extern":
		d.variable(toks[:len(toks)-1])
	}
}

// declaredByMacro knows the macros that declare just what they are given.
func declaredByMacro(toks []string) (word string, ok bool) {
	if len(toks) < 5 || toks[1] != "(" || closing(toks, 1) != len(toks)-2 || toks[len(toks)-1] != ";" {
		return "", false
	}
	args := toks[2 : len(toks)-2]
	switch toks[0] {
	case "DECLARE_STATIC_KEY_FALSE", "DECLARE_STATIC_KEY_TRUE":
		return args[0], len(args) == 1
	case "DECLARE_PER_CPU", "DECLARE_PER_CPU_SHARED_ALIGNED", "DECLARE_PER_CPU_ALIGNED", "DECLARE_PER_CPU_READ_MOSTLY", "DECLARE_PER_CPU_FIRST":
		n := len(args)
		return args[n-1], n >= 3 && args[n-2] == "," && isName(args[n-1])
	}
	return "", false
}

// function names what stands before the parentheses of a declaration's
// parameters: "int name(void)", "int (*name)(void)".
func (d *decl) function(toks []string) {
	var names []string
	for i := 0; i < len(toks); i++ {
		if toks[i] != "(" {
			continue
		}
		end := closing(toks, i)
		switch {
		case i > 0 && (toks[i-1] == "typeof" || toks[i-1] == "__typeof__"):
		case i > 0 && isName(toks[i-1]):
			names = append(names, toks[i-1])
			if i == 1 { // a macro that makes something, and no type before it
				return
			}
			if end+1 < len(toks) && toks[end+1] == "(" { // a macro that makes the name
				return
			}
		case i+2 < len(toks) && toks[i+1] == "*" && isName(toks[i+2]):
			names = append(names, toks[i+2])
		}
		// What follows parameters is an attribute, or this is more than one
		// declaration: a macro without a semicolon before it.
		if end+1 < len(toks) && ctext.IsWord(toks[end+1][0]) && i > 0 && !strings.HasPrefix(toks[end+1], "__") && isName(toks[i-1]) {
			return
		}
		i = end
	}
	if len(names) > 0 {
		d.kind, d.names = protoDecl, named(plainName, names...)
	}
}

// aggregate names a struct, union or enum, those inside of it, and the
// constants of enums.
func (d *decl) aggregate(toks []string) {
	end := closing(toks, slices.Index(toks, "{"))
	for _, t := range toks[min(end+1, len(toks)):] {
		if t != ";" && !strings.HasPrefix(t, "__") {
			return // it declares a variable as well
		}
	}
	for _, t := range toks[:slices.Index(toks, "{")] {
		if !isAggregate(t) && !isName(t) {
			return
		}
	}
	d.kind = typeDecl
	if toks[0] == "enum" {
		d.kind = enumDecl
	}
	d.names = typeNames(toks)
}

// typeNames are the tags of all types that are defined in a text, and the
// constants of its enums.
func typeNames(toks []string) []name {
	var names []name
	for i := 0; i+1 < len(toks); i++ {
		if !isAggregate(toks[i]) {
			continue
		}
		body := i + 1
		for body < len(toks) && isName(toks[body]) {
			body++
		}
		if body >= len(toks) || toks[body] != "{" {
			continue
		}
		names = append(names, named(tagName, toks[i+1:body]...)...)
		if toks[i] == "enum" {
			names = append(names, named(plainName, constants(toks[body:closing(toks, body)+1])...)...)
		}
	}
	return names
}

// constants are the names at the beginning of each part of an enum's body.
func constants(body []string) []string {
	var names []string
	for i := 1; i < len(body)-1; i++ {
		if prev := body[i-1]; (prev == "{" || prev == ",") && isName(body[i]) {
			names = append(names, body[i])
			if i+1 < len(body) && body[i+1] == "(" { // made by a macro: its arguments too
				for _, t := range body[i+2 : closing(body, i+1)] {
					if isName(t) {
						names = append(names, t)
					}
				}
			}
		}
	}
	return names
}

// typedef names a type: the last word before the semicolon, an array's bound
// or parameters, or that behind an asterisk in parentheses.
func (d *decl) typedef(toks []string) {
	rest := toks[1 : len(toks)-1]
	d.names = typeNames(rest)
	if b := slices.Index(rest, "{"); b >= 0 {
		rest = rest[min(closing(rest, b)+1, len(rest)):]
	}
	if names := declarators(rest); len(names) > 0 {
		d.kind, d.names = typeDecl, append(d.names, named(typeName, names...)...)
	} else {
		d.names = nil
	}
}

func (d *decl) variable(toks []string) {
	for i := range toks[1:] {
		if toks[i+1] == "(" && isName(toks[i]) { // a macro that makes the name
			return
		}
	}
	if names := declarators(toks); len(names) > 0 {
		d.kind, d.names = varDecl, named(plainName, names...)
	}
}

// declarators are the words that a list of declarators can declare: the one
// before each comma, bound, width or end, or in parentheses behind an asterisk.
func declarators(toks []string) []string {
	var names []string
	for i := 0; i < len(toks); i++ {
		next := ";"
		if i+1 < len(toks) {
			next = toks[i+1]
		}
		switch {
		case toks[i] == "(":
			end := closing(toks, i)
			for j := i + 1; j < end && (toks[j] == "*" || isKeyword(toks[j])); j++ {
				if isName(toks[j+1]) && toks[j] == "*" {
					names = append(names, toks[j+1])
				}
			}
			i = end
		case toks[i] == "[":
			i = closing(toks, i)
		case isName(toks[i]) && (next == ";" || next == "," || next == "[" || next == ":" || next == "=" || next == "("):
			names = append(names, toks[i])
			if strings.HasPrefix(toks[i], "__") && i > 0 && isName(toks[i-1]) { // perhaps an attribute
				names = append(names, toks[i-1])
			}
		}
	}
	return names
}
