// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"sync"
)

// glue is a macro that can make a word of parts.
type glue struct {
	file  uint32
	macro string
	parts [][]string // what its user has to bring: one of these lists; none: anything
}

// glues lists the macros that can make a word of parts. A word that comes whole
// from who uses the macro, with nothing beside it, stands in a text that is
// asked for that word anyway (of a tag, see usesTag).
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
	n.glued[word] = out
	return out
}

// longNumber tells what is not kept among the words.
func longNumber(p string) bool { return p[0] >= '0' && p[0] <= '9' && len(p) > maxNumber }

// known tells whether any file has a word.
func (w *words) known(p string) bool { return longNumber(p) || len(w.files(hashWord(p))) > 0 }

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

// uses finds who uses a macro, through others or not, with words. A word that
// one of these macros may bring itself need not be with them.
func (f *follow) uses(macro string, parts []string) (notices bool, err error) {
	chain, err := f.n.chainOf(macro)
	if err != nil {
		return false, err
	}
	var need []string
	for _, p := range parts {
		brought := false
		err := f.declarations(p, func(_ *declTable, d *decl) bool {
			brought = brought || d.kind == macroDecl && chain.has(d.names[0].word)
			return !brought
		})
		if err != nil {
			return false, err
		}
		if !brought {
			need = append(need, p)
		}
	}
	if len(need) == 0 {
		f.add(named(plainName, macro))
		return false, nil
	}
	rarest := slices.MinFunc(need, func(a, b string) int { return len(f.n.w.files(hashWord(a))) - len(f.n.w.files(hashWord(b))) })
	for _, word := range append([]string{rarest}, f.aliases(rarest)...) {
		for _, k := range f.n.w.files(hashWord(word)) {
			if !f.reads.has(k) || k != f.root && isHeader(f.n.w.Names[k]) {
				continue
			}
			has := func(p string) bool {
				_, ok := slices.BinarySearch(f.n.w.files(hashWord(p)), k)
				return ok
			}
			if f.all(need, has) && (chain.any || slices.ContainsFunc(chain.list, has)) {
				return true, nil
			}
		}
		everyone := false
		err := f.declarations(word, func(t *declTable, d *decl) bool {
			if d.kind == macroDecl || !chain.in(d) || !f.all(need, func(p string) bool { return mentions([]byte(d.text), p) }) {
				return true
			}
			var names []name
			names, everyone = f.n.react(d, name{macro, plainName})
			f.add(names)
			return !everyone
		})
		if everyone || err != nil {
			return everyone, err
		}
	}
	return false, nil
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

// chain are the macros that use a macro, through others or not, with itself.
type chain struct {
	once sync.Once
	err  error
	any  bool // so many that it may be any
	list []string
	set  map[uint32]bool // their hashes
}

// maxChain is how many macros a chain has before it may be any.
const maxChain = 2000

func (c *chain) has(macro string) bool { return c.any || c.set[hashWord(macro)] }

// in tells whether a declaration uses one of the macros.
func (c *chain) in(d *decl) bool {
	found := c.any
	if !found {
		eachWord([]byte(d.text), func(w []byte) { found = found || c.set[hashWord(w)] })
	}
	return found
}

// chainOf finds the chain of a macro, in all headers.
func (n *narrowing) chainOf(macro string) (*chain, error) {
	n.mu.Lock()
	c := n.chains[macro]
	if c == nil {
		c = &chain{}
		n.chains[macro] = c
	}
	n.mu.Unlock()
	c.once.Do(func() { c.err = n.fillChain(c, macro) })
	return c, c.err
}

func (n *narrowing) fillChain(c *chain, macro string) error {
	c.list, c.set = []string{macro}, map[uint32]bool{hashWord(macro): true}
	for i := 0; i < len(c.list); i++ {
		hash := hashWord(c.list[i])
		for _, k := range n.w.files(hash) {
			if !isHeader(n.w.Names[k]) {
				continue // a macro of a source has the word in the source
			}
			var t *declTable
			if h := n.changed[n.w.Names[k]]; h != nil {
				t = h.table
			} else {
				var err error
				if t, err = n.table(k); err != nil {
					return err
				}
			}
			for _, j := range t.byWord[hash] {
				if d := &t.decls[j]; d.kind == macroDecl && !c.set[hashWord(d.names[0].word)] {
					c.set[hashWord(d.names[0].word)] = true
					c.list = append(c.list, d.names[0].word)
				}
			}
		}
		if len(c.list) > maxChain {
			c.any = true
			return nil
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
