// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"encoding/gob"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/ctext"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// words tells which files of a target's source mention a name. Names are known
// by a hash: two that share one are taken for each other, so that an answer
// may have a file too many and never one too few.
type words struct {
	Names  []string // of the files, sorted
	Hashes []uint32 // of all words, ascending
	Ends   []uint32 // where the files of each end in Files
	Files  []uint32 // indices of Names, ascending for each word
	Pastes []paste  // what macros glue words together of
	Shapes []shape  // how the words look that macros of headers glue
	Any    bool     // there are too many of these to know
	Macros []uint32 // hashes of macros without parameters that stand for more than a number, ascending

	number map[string]uint32
	shapes map[string][]int // shape -> indices of Pastes, of files that are no headers
	groups [][]shape        // Shapes of the same pattern
	edges  [][]uint32       // what each file includes

	readings readings

	mu     sync.Mutex
	tables map[uint32]*declTable
	held   int // bytes of text in tables
}

// readings keeps which files objects read, for one fix after the other.
type readings struct {
	mu   sync.Mutex
	read map[string]reading // what their compiler read
	may  map[string]bitset  // what sources that were not compiled yet may read
}

type reading struct {
	files bitset
	known bool
}

// of returns what an object reads; exact finds what its compiler did, if it
// ran already, and may what is possible.
func (r *readings) of(o Object, exact func() (reading, bool), may func() bitset) reading {
	r.mu.Lock()
	found, ok := r.read[o.Path]
	r.mu.Unlock()
	if ok {
		return found
	}
	if found, ok = exact(); ok {
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.read == nil {
			r.read = make(map[string]reading)
		}
		r.read[o.Path] = found
		delete(r.may, o.Source)
		return found
	}
	r.mu.Lock()
	files, ok := r.may[o.Source]
	r.mu.Unlock()
	if !ok {
		files = may()
		r.mu.Lock()
		defer r.mu.Unlock()
		if r.may == nil {
			r.may = make(map[string]bitset)
		}
		r.may[o.Source] = files
	}
	return reading{files, true}
}

// hashWord is FNV-1a.
func hashWord[T string | []byte](w T) uint32 {
	h := uint32(2166136261)
	for i := range len(w) {
		h = (h ^ uint32(w[i])) * 16777619
	}
	return h
}

// maxNumber is how long a number may be to be kept as a word: macros glue
// short ones to names.
const maxNumber = 4

// eachWord calls f for each word of a text without comments, those in literals
// too: assembly names symbols there.
func eachWord(text []byte, f func(word []byte)) {
	for i := 0; i < len(text); {
		if !ctext.IsWord(text[i]) {
			i++
			continue
		}
		j := i
		for j < len(text) && ctext.IsWord(text[j]) {
			j++
		}
		if c := text[i]; c < '0' || c > '9' || j-i <= maxNumber {
			f(text[i:j])
		}
		i = j
	}
}

// files lists the files with a word.
func (w *words) files(hash uint32) []uint32 {
	i, ok := slices.BinarySearch(w.Hashes, hash)
	if !ok {
		return nil
	}
	start := uint32(0)
	if i > 0 {
		start = w.Ends[i-1]
	}
	return w.Files[start:w.Ends[i]]
}

// implicit are the headers that the top makefile includes into every source.
func implicit() []string {
	return []string{"include/linux/compiler-version.h", "include/linux/kconfig.h", "include/linux/compiler_types.h"}
}

// words reads the index of words from the cache, or makes it.
func (tree *Tree) index(ctx context.Context, rep progress.Reporter) (*words, error) {
	g, err := tree.includes(ctx, rep)
	if err != nil {
		return nil, err
	}
	objs, err := tree.m.index(ctx, rep)
	if err != nil {
		return nil, err
	}
	tree.mu.Lock()
	defer tree.mu.Unlock()
	if tree.words != nil {
		return tree.words, nil
	}
	file := filepath.Join(tree.m.dir, "words")
	w := &words{}
	if tree.t.Foreign || w.load(file) != nil {
		w = &words{}
		if err := w.make(ctx, tree.t, g.fromSources(objs), rep); err != nil {
			return nil, err
		}
		if err := w.save(file); err != nil {
			return nil, kernel.DiskError(file, err)
		}
	}
	w.connect(g)
	tree.words = w
	return w, nil
}

// fromSources lists the files that built objects may read, and code that is
// part of the kernel's image and not of the running kernel, sorted.
func (g *includes) fromSources(objs map[string][]Object) []string {
	seen := make(map[string]bool)
	var todo []string
	add := func(f string) {
		if g.has(f) && !seen[f] {
			seen[f] = true
			todo = append(todo, f)
		}
	}
	for o := range objs {
		base := strings.TrimSuffix(o, ".o")
		add(base + ".c")
		if !g.has(base + ".c") {
			add(base + ".S")
		}
	}
	for _, f := range implicit() {
		add(f)
	}
	for f := range g.Files {
		if ext := path.Ext(f); (ext == ".c" || ext == ".S") && runsBeside(f) {
			add(f)
		}
	}
	for i := 0; i < len(todo); i++ {
		for _, op := range g.Files[todo[i]] {
			for _, f := range g.resolve(todo[i], op) {
				add(f)
			}
		}
	}
	slices.Sort(todo)
	return todo
}

// connect prepares the index for questions.
func (w *words) connect(g *includes) {
	w.number = make(map[string]uint32, len(w.Names))
	for i, n := range w.Names {
		w.number[n] = uint32(i)
	}
	w.tables = make(map[uint32]*declTable)
	w.shapes = make(map[string][]int)
	for i, p := range w.Pastes {
		if !isHeader(w.Names[p.File]) {
			w.shapes[p.Shape] = append(w.shapes[p.Shape], i)
		}
	}
	w.groups = grouped(w.Shapes)
	w.edges = make([][]uint32, len(w.Names))
	for i, n := range w.Names {
		for _, op := range g.Files[n] {
			for _, f := range g.resolve(n, op) {
				if k, ok := w.number[f]; ok {
					w.edges[i] = append(w.edges[i], k)
				}
			}
		}
	}
}

// mayRead is the set of files that a source can read, by the include graph.
func (w *words) mayRead(source string) bitset {
	s := newBitset(len(w.Names))
	var todo []uint32
	for _, f := range append(implicit(), source) {
		if n, ok := w.number[f]; ok && !s.has(n) {
			s.add(n)
			todo = append(todo, n)
		}
	}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		for _, k := range w.edges[n] {
			if !s.has(k) {
				s.add(k)
				todo = append(todo, k)
			}
		}
	}
	return s
}

// bitset is a set of file numbers.
type bitset []uint64

func newBitset(n int) bitset         { return make(bitset, (n+63)/64) }
func (s bitset) add(n uint32)        { s[n/64] |= 1 << (n % 64) }
func (s bitset) has(n uint32) bool   { return s[n/64]&(1<<(n%64)) != 0 }
func (s bitset) any(l []uint32) bool { return slices.ContainsFunc(l, s.has) }

// readIndexed reads a file of the source, or a generated one of the build.
func readIndexed(t *kernel.Target, name string) ([]byte, error) {
	b, err := os.ReadFile(filepath.Join(t.Source, name))
	if os.IsNotExist(err) {
		b, err = os.ReadFile(filepath.Join(t.Build, name))
	}
	return b, err
}

func (w *words) make(ctx context.Context, t *kernel.Target, names []string, rep progress.Reporter) (err error) {
	task := rep.Start("index words", int64(len(names)), progress.Files)
	defer func() { task.Done(err) }()
	w.Names = names
	var mu sync.Mutex
	var pairs []uint64 // word, file
	pastes := make([][]paste, len(names))
	defs := make([][]macroDef, len(names))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	for i, name := range names {
		g.Go(func() error {
			defer task.Add(1)
			if err := kernel.Interrupted(gctx); err != nil {
				return err
			}
			b, err := readIndexed(t, name)
			if err != nil {
				return fmt.Errorf("index of words: %w", err)
			}
			text := withoutComments(b)
			seen := make(map[uint32]struct{}, 512)
			eachWord(text, func(word []byte) { seen[hashWord(word)] = struct{}{} })
			pastes[i] = pastesOf(text, uint32(i))
			defs[i] = definitions(text)
			own := make([]uint64, 0, len(seen))
			for h := range seen {
				own = append(own, uint64(h)<<32|uint64(i))
			}
			mu.Lock()
			pairs = append(pairs, own...)
			mu.Unlock()
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return kernel.OrInterrupted(ctx, err)
	}
	slices.Sort(pairs)
	w.Files = make([]uint32, len(pairs))
	for i, p := range pairs {
		w.Files[i] = uint32(p)
		if h := uint32(p >> 32); len(w.Hashes) == 0 || w.Hashes[len(w.Hashes)-1] != h {
			w.Hashes = append(w.Hashes, h)
			w.Ends = append(w.Ends, 0)
		}
		w.Ends[len(w.Ends)-1] = uint32(i + 1)
	}
	w.Pastes = slices.Concat(pastes...)
	w.Shapes, w.Macros, w.Any = shapesOf(names, defs)
	return nil
}

const wordsFormat = "tsugi-words-4\n"

func (w *words) save(file string) error {
	var b bytes.Buffer
	b.WriteString(wordsFormat)
	enc, err := zstd.NewWriter(&b, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		return err
	}
	if err := gob.NewEncoder(enc).Encode(w); err != nil {
		return err
	}
	if err := enc.Close(); err != nil {
		return err
	}
	return renameio.WriteFile(file, b.Bytes(), 0o644)
}

// maxWords bounds the index when it is unpacked.
const maxWords = 2 << 30

func (w *words) load(file string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	frame, ok := bytes.CutPrefix(b, []byte(wordsFormat))
	if !ok {
		return fmt.Errorf("%s: not an index of words", file)
	}
	dec, err := zstd.NewReader(bytes.NewReader(frame), zstd.WithDecoderMaxMemory(maxWords))
	if err != nil {
		return err
	}
	defer dec.Close()
	if err := gob.NewDecoder(dec).Decode(w); err != nil {
		return err
	}
	return w.check()
}

// check finds an index whose numbers do not fit together.
func (w *words) check() error {
	ok := len(w.Hashes) == len(w.Ends) && slices.IsSorted(w.Hashes) && slices.IsSorted(w.Ends) && slices.IsSorted(w.Names) && slices.IsSorted(w.Macros)
	if n := len(w.Ends); ok && n > 0 {
		ok = int(w.Ends[n-1]) == len(w.Files)
	}
	outside := func(f uint32) bool { return int(f) >= len(w.Names) }
	if !ok || slices.ContainsFunc(w.Files, outside) || slices.ContainsFunc(w.Pastes, func(p paste) bool { return outside(p.File) }) ||
		slices.ContainsFunc(w.Shapes, func(x shape) bool { return outside(x.File) || len(x.Pat) == 0 }) {
		return fmt.Errorf("index of words: its parts do not fit together")
	}
	return nil
}

// isHeader tells a file whose declarations can be told apart from one that is
// code to whoever includes it.
func isHeader(name string) bool { return path.Ext(name) == ".h" }
