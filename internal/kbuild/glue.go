// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"fmt"
	"slices"
)

// glue is a macro that can make a word of parts.
type glue struct {
	file  uint32
	macro string
	parts [][]string // what its user has to bring: one of these lists; none: anything
}

// glues lists the macros that can make a word.
func (n *narrowing) glues(word string) []glue {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g, ok := n.glued[word]; ok {
		return g
	}
	var out []glue
	for shape, pastes := range n.w.shapes {
		if shape == tagger {
			continue
		}
		all, ok := fillings(shape, word)
		if !ok {
			continue
		}
		var parts [][]string
		for _, f := range all {
			parts = append(parts, slices.DeleteFunc(f, func(p string) bool {
				return p == "" || p[0] >= '0' && p[0] <= '9' && len(p) > maxNumber // not among the words
			}))
		}
		for _, i := range pastes {
			out = append(out, glue{n.w.Pastes[i].File, n.w.Pastes[i].Macro, parts})
		}
	}
	n.glued[word] = out
	return out
}

// assembled follows the macros that may make a word of parts, from each to
// those that use it, until a text has the macro and the parts.
func (f *follow) assembled(word string) (notices bool, err error) {
	for _, g := range f.n.glues(word) {
		if !f.reads.has(g.file) {
			continue
		}
		if len(g.parts) == 0 {
			f.add(named(plainName, g.macro))
		}
		for _, parts := range g.parts {
			missing := func(p string) bool { return !f.reads.any(f.n.w.files(hashWord(p))) }
			if slices.ContainsFunc(parts, missing) {
				continue
			}
			if yes, err := f.uses(g.macro, parts); yes || err != nil {
				return yes, err
			}
		}
	}
	return false, nil
}

// uses finds who uses a macro with words.
func (f *follow) uses(macro string, parts []string) (notices bool, err error) {
	type user struct {
		macro string
		parts []string
	}
	todo := []user{{macro, parts}}
	seen := make(map[string]bool)
	for len(todo) > 0 {
		u := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		if key := fmt.Sprintf("%q %q", u.macro, u.parts); seen[key] {
			continue
		} else {
			seen[key] = true
		}
		hash := hashWord(u.macro)
		tables := slices.Clone(f.tables)
		for _, k := range f.n.w.files(hash) {
			name := f.n.w.Names[k]
			if !f.reads.has(k) || f.n.changed[name] != nil {
				continue
			}
			if k == f.root || !isHeader(name) {
				has := func(p string) bool {
					_, ok := slices.BinarySearch(f.n.w.files(hashWord(p)), k)
					return ok
				}
				if f.all(u.parts, has) {
					return true, nil
				}
				continue
			}
			t, err := f.n.table(k)
			if err != nil {
				return false, err
			}
			tables = append(tables, t)
		}
		for _, t := range tables {
			for _, i := range t.byWord[hash] {
				d := &t.decls[i]
				if d.kind == macroDecl {
					if d.names[0].word != u.macro {
						rest := slices.DeleteFunc(slices.Clone(u.parts), func(p string) bool { return t.has(i, p) })
						todo = append(todo, user{d.names[0].word, rest})
					}
					continue
				}
				if !f.all(u.parts, func(p string) bool { return t.has(i, p) }) {
					continue
				}
				names, everyone := f.n.react(d, name{u.macro, plainName})
				if everyone {
					return true, nil
				}
				f.add(names)
			}
		}
	}
	return false, nil
}

// has tells whether a declaration of the table has a word.
func (t *declTable) has(i int32, word string) bool {
	_, ok := slices.BinarySearch(t.byWord[hashWord(word)], i)
	return ok
}

// all tells whether a text has all parts, or other names for them.
func (f *follow) all(parts []string, has func(string) bool) bool {
	return !slices.ContainsFunc(parts, func(p string) bool { return !has(p) && !slices.ContainsFunc(f.aliases(p), has) })
}

// aliases are the macros that stand for just this word.
func (f *follow) aliases(word string) []string {
	if a, ok := f.alias[word]; ok {
		return a
	}
	f.alias[word] = nil // a macro of its own name
	var out []string
	hash := hashWord(word)
	tables := slices.Clone(f.tables)
	for _, k := range f.n.w.files(hash) {
		name := f.n.w.Names[k]
		if !f.reads.has(k) || f.n.changed[name] != nil || !isHeader(name) {
			continue
		}
		if t, err := f.n.table(k); err == nil {
			tables = append(tables, t)
		}
	}
	for _, t := range tables {
		for _, i := range t.byWord[hash] {
			d := t.decls[i]
			if d.kind == macroDecl && d.text == "# define "+d.names[0].word+" "+word {
				out = append(append(out, d.names[0].word), f.aliases(d.names[0].word)...)
			}
		}
	}
	f.alias[word] = out
	return out
}
