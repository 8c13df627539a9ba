// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"path"
	"runtime"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// A header that changes is included by thousands of objects, and matters to
// few. Which, its names tell: what changes in it has names, a text that can
// notice has to say one of them, or the name of something whose declaration
// does. narrow follows names from the changed declarations through all headers
// that an object reads until its own source says one, or none is left.
//
// A change that has no name that could be followed (an #include, a macro that
// defines things) matters to all. So the objects that are left out can't see
// the change, while those that stay only may: they are preprocessed.
type narrowing struct {
	t       *kernel.Target
	w       *words
	changed map[string]*headerChange
	stop    func() error // says that nobody waits for it any more

	mu    sync.Mutex
	glued map[string][]shape
	owned map[string][]glue

	taggers map[string]bool // macros that make the tag of a type of an argument
	pasters map[string]bool // macros that make words of parts
	shadows []uint32        // files of the names of created ones
}

// headerChange is what changes in one file.
type headerChange struct {
	everyone bool // whoever reads it may notice
	seeds    []name
	table    *declTable // of both of its states
}

// declTable are the declarations of a file by the words in them.
type declTable struct {
	once   sync.Once
	err    error
	decls  []decl
	byWord map[uint32][]int32
}

func newTable(decls []decl) *declTable {
	t := &declTable{}
	t.fill(decls)
	return t
}

func (t *declTable) fill(decls []decl) {
	t.decls, t.byWord = decls, make(map[uint32][]int32)
	for i, d := range decls {
		if d.kind == inert {
			continue
		}
		for _, s := range []string{d.text, d.under} {
			eachWord([]byte(s), func(w []byte) {
				h := hashWord(w)
				if l := t.byWord[h]; len(l) == 0 || l[len(l)-1] != int32(i) {
					t.byWord[h] = append(l, int32(i))
				}
			})
		}
	}
}

func newNarrowing(t *kernel.Target, w *words, changes []fix.Change) *narrowing {
	n := &narrowing{
		t: t, w: w, changed: make(map[string]*headerChange), stop: func() error { return nil },
		glued: make(map[string][]shape), owned: make(map[string][]glue), taggers: make(map[string]bool), pasters: make(map[string]bool),
	}
	for _, p := range w.Pastes {
		if p.Shape == tagger {
			n.taggers[p.Macro] = true
		} else {
			n.pasters[p.Macro] = true
		}
	}
	created := make(map[string]bool)
	for _, c := range changes {
		if c.Created {
			created[path.Base(c.Path)] = true
			continue
		}
		if !isHeader(c.Path) || c.Deleted {
			n.changed[c.Path] = &headerChange{everyone: true, table: newTable(nil)}
			continue
		}
		old, now := declarations(c.Old), declarations(c.New)
		h := &headerChange{table: newTable(append(slices.Clone(old), now...))}
		h.seeds, h.everyone = seeds(old, now)
		n.changed[c.Path] = h
	}
	for i, f := range w.Names {
		if created[path.Base(f)] {
			n.shadows = append(n.shadows, uint32(i))
		}
	}
	return n
}

// seeds are the names of what differs between two states of a header.
func seeds(old, now []decl) (names []name, everyone bool) {
	type state struct{ text, under string }
	count := make(map[state]int)
	for _, d := range now {
		count[state{d.text, d.under}]++
	}
	for _, d := range old {
		count[state{d.text, d.under}]--
	}
	var differ [2][]decl
	for i, side := range [][]decl{old, now} {
		for _, d := range side {
			if count[state{d.text, d.under}] != 0 && d.kind != inert {
				differ[i] = append(differ[i], d)
			}
		}
	}
	for i, side := range differ {
		for _, d := range side {
			if d.kind == opaque || d.kind == includeDecl {
				return nil, true
			}
			skip := 0
			if d.kind == enumDecl {
				skip = stays(d, differ[1-i])
			}
			for k, n := range d.names {
				if k >= skip {
					names = append(names, n)
				}
			}
		}
	}
	return names, false
}

// stays counts the names of an enum that have the same meaning in its other
// state: its tag and the constants in front of the first change, when what
// follows does not make the type another one (a negative or a large value).
func stays(d decl, others []decl) int {
	if strings.Contains(d.text, condMark) || !simpleEnum(d.text) {
		return 0
	}
	best := 0
	for _, o := range others {
		if o.kind != enumDecl || o.under != d.under || !simpleEnum(o.text) || strings.Contains(o.text, condMark) {
			continue
		}
		a, b := tokens(d.text), tokens(o.text)
		same := 0
		for same < len(a) && same < len(b) && a[same] == b[same] {
			same++
		}
		// A constant that is the same up to its end, whichever that is, stays.
		ends := func(t []string) bool { return same < len(t) && (t[same] == "," || t[same] == "}") }
		for same > 0 && a[same-1] != "," && a[same-1] != "{" && !(ends(a) && ends(b)) {
			same--
		}
		brace := slices.Index(a, "{")
		if same <= brace {
			continue
		}
		n := len(d.names) - len(constants(a[brace:])) // the tag
		n += len(constants(append(slices.Clone(a[brace:same]), "}")))
		best = max(best, n)
	}
	return best
}

// simpleEnum tells that each constant is one more than the one before it, or a
// small decimal number: then its type is unsigned int, whatever is added.
func simpleEnum(text string) bool {
	t := tokens(text)
	for i, w := range t {
		if w == "=" && (i+2 >= len(t) || len(t[i+1]) > 6 || strings.Trim(t[i+1], "0123456789") != "" || t[i+2] != "," && t[i+2] != "}") {
			return false
		}
		if w == "(" {
			return false
		}
	}
	return true
}

// table is the table of an unchanged file.
func (n *narrowing) table(file uint32) (*declTable, error) { return n.w.table(n.t, file) }

// maxTables bounds how much text of headers is kept as tables: they take some
// six times as much.
const maxTables = 64 << 20

// table is the table of a file as the source has it.
func (w *words) table(target *kernel.Target, file uint32) (*declTable, error) {
	w.mu.Lock()
	t := w.tables[file]
	if t == nil {
		t = &declTable{}
		w.tables[file] = t
	}
	w.mu.Unlock()
	t.once.Do(func() {
		b, err := readIndexed(target, w.Names[file])
		if err != nil {
			t.err = err
			return
		}
		t.fill(declarations(b))
		w.mu.Lock()
		defer w.mu.Unlock()
		if w.held += len(b); w.held > maxTables {
			w.held = 0
			clear(w.tables)
		}
	})
	return t, t.err
}

// notices tells whether an object that reads these files may notice the
// changes.
func (n *narrowing) notices(source string, reads bitset) (bool, error) {
	root, ok := n.w.number[source]
	if !ok {
		return true, nil
	}
	f := follow{n: n, root: root, reads: reads, seen: make(map[name]bool), alias: make(map[string][]string)}
	for p, c := range n.changed {
		k, ok := n.w.number[p]
		if !ok || !reads.has(k) {
			continue
		}
		if c.everyone {
			return true, nil
		}
		f.tables = append(f.tables, c.table)
		f.add(c.seeds)
	}
	for len(f.todo) > 0 {
		next := f.todo[len(f.todo)-1]
		f.todo = f.todo[:len(f.todo)-1]
		if err := f.n.stop(); err != nil {
			return false, err
		}
		if yes, err := f.step(next); yes || err != nil {
			return yes, err
		}
	}
	return false, nil
}

// follow goes from names to those that depend on them, for one object.
type follow struct {
	n      *narrowing
	root   uint32 // the object's own source
	reads  bitset
	tables []*declTable // of the changed headers that it reads
	seen   map[name]bool
	todo   []name
	alias  map[string][]string
}

func (f *follow) add(names []name) {
	for _, x := range names {
		if !f.seen[x] && !f.seen[name{x.word, plainName}] {
			f.seen[x] = true
			f.todo = append(f.todo, x)
		}
	}
}

func (f *follow) step(x name) (notices bool, err error) {
	hash := hashWord(x.word)
	files := f.n.w.files(hash)
	if _, ok := slices.BinarySearch(files, f.root); ok {
		if yes, err := f.n.rootUses(f.root, x); yes || err != nil {
			return yes, err
		}
	}
	tables := f.tables
	for _, k := range files {
		if !f.reads.has(k) || k == f.root {
			continue
		}
		name := f.n.w.Names[k]
		if f.n.changed[name] != nil {
			continue // among the tables already
		}
		if !isHeader(name) {
			return true, nil // code of another file
		}
		t, err := f.n.table(k)
		if err != nil {
			return false, err
		}
		tables = append(tables[:len(tables):len(tables)], t)
	}
	for _, t := range tables {
		for _, i := range t.byWord[hash] {
			names, everyone := f.n.react(&t.decls[i], x)
			if everyone {
				return true, nil
			}
			f.add(names)
		}
	}
	return f.assembled(x.word)
}

// rootUses tells whether an object's own source, which has the word, uses it as
// what it is.
func (n *narrowing) rootUses(root uint32, x name) (bool, error) {
	if x.kind != tagName {
		return true, nil
	}
	b, err := readIndexed(n.t, n.w.Names[root])
	if err != nil {
		return false, err
	}
	return n.usesTag(string(withoutComments(b)), x.word), nil
}

// narrow drops the candidates that can't notice the changes.
func (s *search) narrow(ctx context.Context) (err error) {
	w, err := s.tree.index(ctx, s.rep)
	if err != nil {
		return err
	}
	c, err := newCompilation(s.m.t, s.changes, Options{})
	if err != nil {
		return err
	}
	n := newNarrowing(s.m.t, w, s.changes)
	task := s.rep.Start("follow names", int64(len(s.candidates)), progress.Files)
	defer func() { task.Done(err) }()
	stay := make([]bool, len(s.candidates))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	n.stop = func() error { return kernel.Interrupted(gctx) }
	for i, cand := range s.candidates {
		if s.seen[cand.Object] {
			stay[i] = true
			continue
		}
		g.Go(func() (err error) {
			defer task.Add(1)
			if err := kernel.Interrupted(gctx); err != nil {
				return err
			}
			reads, known := n.readsOf(c, cand.Object)
			if !known {
				stay[i] = true
				return nil
			}
			stay[i], err = n.notices(cand.Source, reads)
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return kernel.OrInterrupted(ctx, err)
	}
	var left []candidate
	for i, cand := range s.candidates {
		if stay[i] {
			left = append(left, cand)
		}
	}
	s.candidates = left
	return nil
}

// readsOf is the set of files that an object reads: those of its compilation
// if there was one, else all that the include graph allows. It is not known
// when a file is not among the indexed ones, or a created one takes the place
// of another.
func (n *narrowing) readsOf(c *compilation, o Object) (bitset, bool) {
	r := n.w.readings.of(o, func() (reading, bool) {
		b, err := c.readCommand(o)
		if err != nil {
			return reading{}, false
		}
		list, err := c.parseCommand(o, b)
		if err != nil {
			return reading{}, false
		}
		reads := newBitset(len(n.w.Names))
		for _, f := range list {
			k, ok := n.w.number[f]
			if !ok && !strings.HasPrefix(f, "include/config/") && isCode(f) {
				return reading{}, true
			}
			if ok {
				reads.add(k)
			}
		}
		return reading{reads, true}, true
	}, func() bitset { return n.w.mayRead(o.Source) })
	return r.files, r.known && !r.files.any(n.shadows)
}
