// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/gob"
	"encoding/hex"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// includes is the include graph of a source tree: per file, what its #include
// lines say, whatever conditionals are around them.
type includes struct {
	Files map[string][]string // path -> operands, with their quotes: `"x.h"` or `<x/y.h>`

	byBase map[string][]string // base name -> files; see index
	uses   map[string][]use    // base name of the operand -> who includes it
}

// searchDirs are the directories of LINUXINCLUDE in the top Makefile, in their
// order. Generated headers come with the paths of their copies in the build
// directory, which are the same below it.
var searchDirs = []string{
	"arch/x86/include", "arch/x86/include/generated", "include", "arch/x86/include/uapi",
	"arch/x86/include/generated/uapi", "include/uapi", "include/generated/uapi",
}

// includeGraph reads the graph of a target's source from the cache, or scans
// the source for it, and adds the generated headers of the target.
func includeGraph(ctx context.Context, t *kernel.Target, rep progress.Reporter) (*includes, error) {
	sum := sha256.Sum256([]byte(t.Source + "\x00" + t.SourceVersion))
	file := filepath.Join(t.Home(), "objects", "includes-"+hex.EncodeToString(sum[:8]))
	g := &includes{}
	b, err := os.ReadFile(file)
	if t.Foreign || err != nil || gob.NewDecoder(bytes.NewReader(b)).Decode(g) != nil {
		if g.Files, err = scanTree(ctx, t.Source, []string{"."}, rep); err != nil {
			return nil, err
		}
		var buf bytes.Buffer
		if err := gob.NewEncoder(&buf).Encode(g); err != nil {
			return nil, err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			return nil, kernel.DiskError(file, err)
		}
		if err := renameio.WriteFile(file, buf.Bytes(), 0o644); err != nil {
			return nil, kernel.DiskError(file, err)
		}
	}
	generated, err := scanTree(ctx, t.Build, []string{"include/generated", "arch/x86/include/generated"}, progress.Discard)
	if err != nil {
		return nil, err
	}
	for p, inc := range generated {
		g.Files[p] = inc
	}
	return g, nil
}

func scanTree(ctx context.Context, root string, dirs []string, rep progress.Reporter) (_ map[string][]string, err error) {
	task := rep.Start("read includes", 0, progress.Files)
	defer func() { task.Done(err) }()
	files := make(map[string][]string)
	var mu sync.Mutex
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * runtime.NumCPU())
	for _, dir := range dirs {
		err := filepath.WalkDir(filepath.Join(root, dir), func(p string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			if !d.Type().IsRegular() || !isCode(p) {
				return nil
			}
			g.Go(func() error {
				if err := kernel.Interrupted(ctx); err != nil {
					return err
				}
				b, err := os.ReadFile(p)
				if err != nil {
					return err
				}
				rel, err := filepath.Rel(root, p)
				if err != nil {
					return err
				}
				inc := scanIncludes(b)
				mu.Lock()
				files[rel] = inc
				mu.Unlock()
				task.Add(1)
				return nil
			})
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return files, g.Wait()
}

// isCode tells the files that take part in the graph by their names.
func isCode(p string) bool {
	switch filepath.Ext(p) {
	case ".c", ".h", ".S", ".inc", ".lds", ".def", ".tbl":
		return true
	}
	return false
}

// scanIncludes finds the operands of #include lines. A computed include
// (#include MACRO) has none that could be read here; the files that
// include/trace/define_trace.h names so are named by their own users too.
func scanIncludes(b []byte) []string {
	var out []string
	for {
		i := bytes.Index(b, []byte("include"))
		if i < 0 {
			return out
		}
		j := i - 1
		for j >= 0 && (b[j] == ' ' || b[j] == '\t') {
			j--
		}
		ok := j >= 0 && b[j] == '#'
		b = b[i+len("include"):]
		if !ok {
			continue
		}
		rest := bytes.TrimLeft(b[:min(len(b), 512)], " \t")
		if len(rest) == 0 || rest[0] != '"' && rest[0] != '<' {
			continue
		}
		closing := byte('"')
		if rest[0] == '<' {
			closing = '>'
		}
		if end := bytes.IndexByte(rest[1:], closing); end > 0 && bytes.IndexByte(rest[:end], '\n') < 0 {
			if op := string(rest[:end+2]); !slices.Contains(out, op) {
				out = append(out, op)
			}
		}
	}
}

// resolve finds the file that an #include of another names, as gcc would with
// the directories of LINUXINCLUDE. Directories that makefiles add are not
// known here: an operand found nowhere is every file whose path ends in it.
func (g *includes) resolve(from, operand string) []string {
	name := operand[1 : len(operand)-1]
	if operand[0] == '"' {
		if p := path.Join(path.Dir(from), name); g.has(p) {
			return []string{p}
		}
	}
	for _, d := range searchDirs {
		if p := path.Join(d, name); g.has(p) {
			return []string{p}
		}
	}
	return g.bySuffix(strings.TrimLeft(name, "./"))
}

func (g *includes) has(p string) bool { _, ok := g.Files[p]; return ok }

// use is one #include: who includes, and by which operand.
type use struct{ from, operand string }

// index makes the graph searchable from included files to those that include
// them. It is done once, after all files are there.
func (g *includes) index() {
	if g.uses != nil {
		return
	}
	g.byBase = make(map[string][]string)
	g.uses = make(map[string][]use)
	for f, ops := range g.Files {
		g.byBase[path.Base(f)] = append(g.byBase[path.Base(f)], f)
		for _, op := range ops {
			b := path.Base(op[1 : len(op)-1])
			g.uses[b] = append(g.uses[b], use{f, op})
		}
	}
}

// bySuffix lists the files whose paths end in name.
func (g *includes) bySuffix(name string) []string {
	var out []string
	for _, f := range g.byBase[path.Base(name)] {
		if f == name || strings.HasSuffix(f, "/"+name) {
			out = append(out, f)
		}
	}
	return out
}

// includers lists the files that include any of the given ones, directly or
// through others, the given ones excepted.
func (g *includes) includers(changed []string) []string {
	g.index()
	seen := make(map[string]bool)
	todo := slices.Clone(changed)
	for _, c := range changed {
		seen[c] = true
	}
	var out []string
	all := false // sources include it without saying so
	for len(todo) > 0 {
		h := todo[0]
		todo = todo[1:]
		if !all && slices.Contains(implicit(), h) {
			all = true
			for f := range g.Files {
				if ext := path.Ext(f); (ext == ".c" || ext == ".S") && !seen[f] {
					seen[f] = true
					out = append(out, f)
					todo = append(todo, f)
				}
			}
		}
		for _, u := range g.uses[path.Base(h)] {
			if seen[u.from] || !slices.Contains(g.resolve(u.from, u.operand), h) {
				continue
			}
			seen[u.from] = true
			out = append(out, u.from)
			todo = append(todo, u.from)
		}
	}
	slices.Sort(out)
	return out
}
