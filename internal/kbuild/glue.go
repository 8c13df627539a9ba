// SPDX-License-Identifier: Apache-2.0

package kbuild

import "slices"

// grouped puts shapes of the same pattern together.
func grouped(all []shape) (groups [][]shape) {
	index := make(map[string]int)
	for _, x := range all {
		k := x.Pat.key()
		i, ok := index[k]
		if !ok {
			i = len(groups)
			index[k] = i
			groups = append(groups, nil)
		}
		groups[i] = append(groups[i], x)
	}
	return groups
}

// longNumber tells what is not kept among the words.
func longNumber(p string) bool { return p[0] >= '0' && p[0] <= '9' && len(p) > maxNumber }

// known tells whether any file has a word.
func (w *words) known(p string) bool { return longNumber(p) || len(w.files(hashWord(p))) > 0 }

// glues lists the macros that can make a word of parts. A word that comes whole
// from who uses the macro, with nothing beside it, stands in a text that is
// asked for that word anyway (of a tag, see usesTag).
func (n *narrowing) glues(word string) []shape {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g, ok := n.glued[word]; ok {
		return g
	}
	var out []shape
	for _, group := range n.w.groups {
		all, ok := group[0].Pat.fill(word, n.w.known)
		if !ok {
			continue
		}
		many := len(all) == 0
		all = slices.DeleteFunc(all, func(f []string) bool { return slices.Contains(f, word) })
		if len(all) > 0 || many {
			out = append(out, group...)
		}
	}
	n.glued[word] = out
	return out
}

// assembled follows the macros that may make a word of parts to the texts that
// call them with these parts.
func (f *follow) assembled(word string) (notices bool, err error) {
	if f.n.w.Any {
		return true, nil
	}
	for _, g := range f.n.glues(word) {
		switch {
		case !f.reads.has(g.File):
		case !g.Pat.open():
			f.add(named(plainName, g.Macro)) // whoever uses it
		default:
			if yes, err := f.called(g, word); yes || err != nil {
				return yes, err
			}
		}
	}
	return f.madeInSources(word)
}

// called finds who calls a macro so that it makes a word.
func (f *follow) called(g shape, word string) (notices bool, err error) {
	hash := hashWord(g.Macro)
	for _, k := range f.n.w.files(hash) {
		if !f.reads.has(k) {
			continue
		}
		if err := f.n.stop(); err != nil {
			return false, err
		}
		header := isHeader(f.n.w.Names[k])
		table, err := f.n.tableOf(k)
		if err != nil {
			return false, err
		}
		for _, i := range table.byWord[hash] {
			d := &table.decls[i]
			if header && d.kind == macroDecl { // it is among the shapes, if it makes the word
				continue
			}
			if !f.n.makes(g, d, word) {
				continue
			}
			if !header {
				return true, nil // code: the object's own, or another's that it includes
			}
			names, everyone := f.n.react(d, name{g.Macro, plainName})
			if everyone {
				return true, nil
			}
			f.add(names)
		}
	}
	return false, nil
}

// makes tells whether a declaration calls a macro so that it makes a word.
func (n *narrowing) makes(g shape, d *decl, word string) bool {
	m, ok := defined(d)
	if !ok {
		m = macroDef{Body: tokens(d.text)}
	}
	s := shaper{expand: n.w.expanded}
	for _, args := range calls(m.Body, g.Macro) {
		p := s.put(g.Pat, &m, args)
		if _, ok := p.fill(word, anyWord); ok {
			return true
		}
	}
	return false
}

func anyWord(string) bool { return true }

// expanded is what is known without a look at its definitions of what a word
// becomes where macros are expanded.
func (w *words) expanded(word string) pattern {
	if _, ok := slices.BinarySearch(w.Macros, hashWord(word)); ok {
		return pattern{{Kind: whatever}}
	}
	return pattern{{Kind: literal, Text: word}}
}

// tableOf is the table of a file as it is before the fix, and after it.
func (n *narrowing) tableOf(k uint32) (*declTable, error) {
	if h := n.changed[n.w.Names[k]]; h != nil && isHeader(n.w.Names[k]) {
		return h.table, nil
	}
	return n.table(k)
}

// madeInSources follows the macros of sources that may make a word: these are
// called there, or in a header that they include to that end.
func (f *follow) madeInSources(word string) (notices bool, err error) {
	for _, g := range f.n.own(word) {
		if !f.reads.has(g.file) {
			continue
		}
		for _, k := range f.n.w.files(hashWord(g.macro)) {
			if !f.reads.has(k) {
				continue
			}
			if isHeader(f.n.w.Names[k]) || len(g.parts) == 0 {
				return true, nil
			}
			has := func(p string) bool {
				_, ok := slices.BinarySearch(f.n.w.files(hashWord(p)), k)
				return ok
			}
			for _, parts := range g.parts {
				if f.all(parts, has) {
					return true, nil
				}
			}
		}
	}
	return false, nil
}

// glue is a macro of a source that can make a word of parts.
type glue struct {
	file  uint32
	macro string
	parts [][]string // what its user has to bring: one of these lists; none: anything
}

// own lists the macros of sources that can make a word.
func (n *narrowing) own(word string) []glue {
	n.mu.Lock()
	defer n.mu.Unlock()
	if g, ok := n.owned[word]; ok {
		return g
	}
	var out []glue
	for shape, pastes := range n.w.shapes {
		if shape == tagger {
			continue
		}
		all, ok := fillings(shape, word, n.w.known)
		if !ok {
			continue
		}
		many := len(all) == 0
		all = slices.DeleteFunc(all, func(f []string) bool { return slices.Contains(f, word) })
		if len(all) == 0 && !many {
			continue
		}
		var parts [][]string
		for _, f := range all {
			parts = append(parts, slices.DeleteFunc(f, func(p string) bool { return p == "" || longNumber(p) }))
		}
		for _, i := range pastes {
			out = append(out, glue{n.w.Pastes[i].File, n.w.Pastes[i].Macro, parts})
		}
	}
	n.owned[word] = out
	return out
}

// declarations calls do for each declaration of the headers that the object
// reads with a word in it, until it says no.
func (f *follow) declarations(word string, do func(t *declTable, d *decl) bool) error {
	hash := hashWord(word)
	tables := slices.Clone(f.tables)
	for _, k := range f.n.w.files(hash) {
		if name := f.n.w.Names[k]; !f.reads.has(k) || k == f.root || f.n.changed[name] != nil || !isHeader(name) {
			continue
		}
		t, err := f.n.table(k)
		if err != nil {
			return err
		}
		tables = append(tables, t)
	}
	for _, t := range tables {
		for _, i := range t.byWord[hash] {
			if !do(t, &t.decls[i]) {
				return nil
			}
		}
	}
	return nil
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
	_ = f.declarations(word, func(_ *declTable, d *decl) bool {
		if d.kind == macroDecl && d.text == "# define "+d.names[0].word+" "+word {
			out = append(append(out, d.names[0].word), f.aliases(d.names[0].word)...)
		}
		return true
	})
	f.alias[word] = out
	return out
}
