// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"

	"github.com/google/renameio/v2"
	"github.com/klauspost/compress/zstd"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Object is one object file of a kernel build.
type Object struct {
	Path   string // as make names it, "fs/ext4/mballoc.o"
	Source string // "fs/ext4/mballoc.c"
	Module string // the module it is linked into, "ext4" with underscores; "" for vmlinux
}

// Pair holds the files of one object, compiled three times.
type Pair struct {
	Object
	Plain     string // as kbuild makes it, without debug information
	Orig      string // the original source with one section per symbol
	Patched   string // the fixed source with one section per symbol
	Identical bool   // Orig and Patched are the same, but for the order of types in .BTF
	// Err tells why there is no Patched; only with [Options.KeepGoing]. It is
	// a *code.Problem TS3101; [Missing] reads its Why.
	Err error
}

// Options of Compile.
type Options struct {
	IncludeDirs []string // searched for headers that a fix includes, in addition
	Jobs        int      // compilers at a time; 0 for one per processor
	// Tree, if not nil, is what the target's makefiles and source say.
	Tree *Tree
	// KeepGoing tells what does not compile with the fix in Pair.Err, and goes
	// on with the others. Without it the first such object ends Compile.
	KeepGoing bool
	// Shared, if not nil, is asked for a missing object before it is compiled,
	// and given what was compiled.
	Shared Cache
}

// splitSections are the arguments that make each symbol a section of its own,
// the unit of the differ. DWARF changes no code and costs time, so it is left
// out. BTF, which gcc writes since version 12, costs next to nothing and tells
// how types lie.
func splitSections(t *kernel.Target) []string {
	debug := "-g0"
	if v, err := strconv.Atoi(t.Config()["CONFIG_GCC_VERSION"]); err == nil && v >= 120000 {
		debug = typeInformation
	}
	return []string{debug, "-ffunction-sections", "-fdata-sections"}
}

const typeInformation = "-gbtf"

// Compile compiles objects with and without a fix. Plain and Orig are made
// once per target and kept; Patched is kept under the contents of the changed
// files that the object's compiler reads, so that it is there for every
// selection of fixes that are the same to this object. The files belong to the
// cache: read them, don't write.
//
// It returns one Pair per object, in their order. An object whose two
// compilations are the same is Identical; if all are, the fix has no effect
// on this target, which is for the caller to say.
func Compile(ctx context.Context, t *kernel.Target, f *fix.Fix, objs []Object, opt Options, rep progress.Reporter) ([]Pair, error) {
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.NumCPU()
	}
	relevant, _, err := Relevant(t, f)
	if err != nil {
		return nil, err
	}
	changes, err := relevant.Apply(readSource(t))
	if err != nil {
		return nil, err
	}
	c, err := newCompilation(t, changes, opt)
	if err != nil {
		return nil, err
	}
	if err := c.plain(ctx, objs, rep); err != nil {
		return nil, err
	}
	pairs := make([]Pair, len(objs))
	for i, o := range objs {
		pairs[i] = Pair{Object: o, Plain: c.file(o, "plain.o"), Orig: c.file(o, "orig.o")}
	}
	if err := c.split(ctx, pairs, rep); err != nil {
		return nil, err
	}
	return pairs, c.identical(ctx, pairs)
}

// identical finds the pairs whose two compilations are the same.
func (c *compilation) identical(ctx context.Context, pairs []Pair) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(c.opt.Jobs)
	for i := range pairs {
		p := &pairs[i]
		if p.Orig == p.Patched || p.Err != nil {
			p.Identical = p.Err == nil
			continue
		}
		g.Go(func() (err error) {
			if err := kernel.Interrupted(ctx); err != nil {
				return err
			}
			p.Identical, err = sameObject(p.Orig, p.Patched)
			return err
		})
	}
	return g.Wait()
}

// readSource reads files of a target's pristine source.
func readSource(t *kernel.Target) func(string) ([]byte, error) {
	return func(path string) ([]byte, error) { return os.ReadFile(filepath.Join(t.Source, path)) }
}

// compilation is what the compilers of one call share.
type compilation struct {
	t        *kernel.Target
	opt      Options
	changes  []fix.Change // with #line directives
	written  []fix.Change // as the author wrote them
	dir      string       // of the target's objects in the cache
	contents *contents

	enc *zstd.Encoder // of preprocessed text, while prune runs
	dec *zstd.Decoder
}

func newCompilation(t *kernel.Target, changes []fix.Change, opt Options) (*compilation, error) {
	c := &compilation{t: t, opt: opt, written: changes}
	for _, ch := range changes {
		if !ch.Created && !ch.Deleted {
			ch.New = fix.KeepLines(ch.Old, ch.New)
		}
		c.changes = append(c.changes, ch)
	}
	key, err := targetKey(t)
	if err != nil {
		return nil, err
	}
	c.dir = filepath.Join(t.Home(), "objects", key)
	h := sha256.New()
	for _, d := range opt.IncludeDirs {
		if err := hashDir(h, d); err != nil {
			return nil, err
		}
	}
	c.contents = newContents(c.changes, hex.EncodeToString(h.Sum(nil)))
	return c, nil
}

// targetKey names everything that the original objects depend on beside their
// own command. The source of a tree target may change under it, so the time
// of its last build is part of its key.
func targetKey(t *kernel.Target) (string, error) {
	h := sha256.New()
	fmt.Fprintln(h, "2", t.BuildID, t.ConfigDigest, t.Compiler, t.Release, t.SourceVersion, t.Source, t.Build)
	if t.Foreign {
		st, err := os.Stat(t.Vmlinux)
		if err != nil {
			return "", err
		}
		fmt.Fprintln(h, st.ModTime().UnixNano(), st.Size())
	}
	return t.Release + "-" + hex.EncodeToString(h.Sum(nil)[:8]), nil
}

func hashDir(h io.Writer, dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(h, "%q %d\n%s", path, len(b), b)
		return err
	})
}

// file is where a file of an object is kept.
func (c *compilation) file(o Object, name string) string {
	return filepath.Join(c.dir, strings.ReplaceAll(o.Path, "..", "__"), name)
}

// plain makes the missing Plain objects.
func (c *compilation) plain(ctx context.Context, objs []Object, rep progress.Reporter) (err error) {
	missing := c.withoutCommand(objs)
	if len(missing) == 0 {
		return nil // without a wait for another program that makes its own
	}
	unlock, err := kernel.Lock(ctx, filepath.Join(c.t.Home(), "locks", "build-"+filepath.Base(c.dir)), "build directory", true)
	if err != nil {
		return err
	}
	defer unlock()
	if missing, err = c.sharedPlain(ctx, c.withoutCommand(missing)); err != nil || len(missing) == 0 {
		return err
	}
	task := rep.Start("compile originals", int64(len(missing)), progress.Files)
	defer func() { task.Done(err) }()
	// What a batch made is kept, so an interrupted run goes on where it was.
	for batch := range slices.Chunk(missing, plainBatch) {
		args := []string{fmt.Sprintf("-j%d", c.opt.Jobs), "KCFLAGS=-g0"}
		for _, o := range batch {
			task.Note(o.Path)
			args = append(args, o.Path)
		}
		if _, err := c.t.Make(ctx, args...); err != nil {
			return buildProblem("TS3102", c.t.Name, err, c.t.Source)
		}
		for _, o := range batch {
			if err := c.keepPlain(o); err != nil {
				return err
			}
			c.share(ctx, o, "plain.o", "cmd")
			task.Add(1)
		}
	}
	return nil
}

// withoutCommand lists the objects whose Plain has not been made, each once.
func (c *compilation) withoutCommand(objs []Object) []Object {
	var missing []Object
	seen := make(map[string]bool)
	for _, o := range objs {
		if seen[o.Path] {
			continue
		}
		seen[o.Path] = true
		if _, err := os.Stat(c.file(o, "cmd")); err != nil {
			missing = append(missing, o)
		}
	}
	return missing
}

// plainBatch is how many objects one call of make compiles: it walks down the
// directories for some seconds before the first.
const plainBatch = 96

// keepPlain copies an object and its command into the cache; the command last.
func (c *compilation) keepPlain(o Object) error {
	made := filepath.Join(c.t.Build, o.Path)
	dir, base := filepath.Split(made)
	cmd, err := os.ReadFile(dir + "." + base + ".cmd")
	if err != nil {
		return code.New("TS3108", o.Path, "").With(err)
	}
	if _, err := parseCmd(cmd, o.Path); err != nil {
		return code.New("TS3108", o.Path, "").With(err)
	}
	obj, err := os.ReadFile(made)
	if err != nil {
		return code.New("TS3102", o.Path, "").With(err)
	}
	if err := os.MkdirAll(c.file(o, ""), 0o755); err != nil {
		return kernel.DiskError(c.dir, err)
	}
	if err := renameio.WriteFile(c.file(o, "plain.o"), obj, 0o644); err != nil {
		return kernel.DiskError(c.dir, err)
	}
	return kernel.DiskError(c.dir, renameio.WriteFile(c.file(o, "cmd"), cmd, 0o644))
}

// replay runs the recorded commands of an object with one section per symbol.
// It returns the files that the compiler read.
func (c *compilation) replay(ctx context.Context, o Object, w *workspace, out string) (reads []string, err error) {
	r, err := c.recorded(o)
	if err != nil {
		return nil, err
	}
	tmp, err := os.MkdirTemp(filepath.Dir(out), ".tmp-*")
	if err != nil {
		return nil, kernel.DiskError(out, err)
	}
	defer os.RemoveAll(tmp)
	p := c.paths(o, w)
	p.out = filepath.Join(tmp, filepath.Base(o.Path))
	p.dependencies = filepath.Join(tmp, "reads")
	p.extra = splitSections(c.t)
	commands := [][]string{r.compiler(p)}
	if !delaysObjtool(c.t) {
		commands = append(commands, r.objtool(p))
	}
	for _, command := range commands {
		if err := run(ctx, c.cwd(w), command); err != nil {
			return nil, err
		}
	}
	if reads, err = c.ruleReads(p.dependencies, w); err != nil {
		return nil, err
	}
	return reads, os.Rename(p.out, out)
}

// ruleReads reads the rule that gcc wrote for make.
func (c *compilation) ruleReads(file string, w *workspace) ([]string, error) {
	rule, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	source := c.t.Source
	if w != nil {
		source = w.tree()
	}
	reads, err := parseRule(rule, source)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return reads, nil
}

// delaysObjtool tells whether kbuild runs objtool on linked objects only
// (delay-objtool in scripts/Makefile.lib). It still runs it on the object of a
// module made of one; the differ gets all objects of such a kernel in the
// state before, and the module that comes out of it is linked and seen by
// objtool as a whole.
func delaysObjtool(t *kernel.Target) bool {
	return t.HasConfig("CONFIG_X86_KERNEL_IBT") || t.HasConfig("CONFIG_LTO_CLANG")
}

func (c *compilation) recorded(o Object) (*recorded, error) {
	b, err := os.ReadFile(c.file(o, "cmd"))
	if err != nil {
		return nil, code.New("TS3108", o.Path, "").With(err)
	}
	r, err := parseCmd(b, o.Path)
	if err != nil {
		return nil, code.New("TS3108", o.Path, "").With(err)
	}
	return r, nil
}

// paths for a compilation in a workspace, or of the original if w is nil.
func (c *compilation) paths(o Object, w *workspace) paths {
	p := paths{object: o.Path, source: c.t.Source}
	if w != nil {
		p.workspace = w.tree()
		p.includes = c.opt.IncludeDirs
	}
	return p
}

// cwd is where commands run: the build directory, to which they are relative.
// A kernel built in its source directory names its sources relatively too, so
// the copy of it is the directory then.
func (c *compilation) cwd(w *workspace) string {
	if w != nil && c.t.Build == c.t.Source {
		return w.tree()
	}
	return c.t.Build
}

func run(ctx context.Context, dir string, command []string) error {
	if len(command) == 0 {
		return nil
	}
	_, err := kernel.Command{Dir: dir, Name: command[0], Args: command[1:]}.Run(ctx)
	return err
}

// sameObject tells whether two objects are the same but for the order in
// which gcc writes types to .BTF: that follows addresses in its own memory and
// is another each time.
func sameObject(a, b string) (bool, error) {
	x, err := elf.Open(a)
	if err != nil {
		return false, fmt.Errorf("%s: %w", a, err)
	}
	defer x.Close()
	y, err := elf.Open(b)
	if err != nil {
		return false, fmt.Errorf("%s: %w", b, err)
	}
	defer y.Close()
	if len(x.Sections) != len(y.Sections) {
		return false, nil
	}
	for i, s := range x.Sections {
		h, k := s.SectionHeader, y.Sections[i].SectionHeader
		h.Offset, k.Offset = 0, 0
		if h.Name == ".BTF" {
			h.Size, k.Size, h.FileSize, k.FileSize = 0, 0, 0, 0
		}
		if h != k {
			return false, nil
		}
		if s.Type == elf.SHT_NOBITS || s.Type == elf.SHT_NULL || s.Name == ".BTF" {
			continue
		}
		d, err := s.Data()
		if err != nil {
			return false, fmt.Errorf("%s: section %s: %w", a, s.Name, err)
		}
		e, err := y.Sections[i].Data()
		if err != nil {
			return false, fmt.Errorf("%s: section %s: %w", b, s.Name, err)
		}
		if !bytes.Equal(d, e) {
			return false, nil
		}
	}
	return true, nil
}
