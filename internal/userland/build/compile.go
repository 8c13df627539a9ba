// SPDX-License-Identifier: Apache-2.0

package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// out is where runs of the compiler write to, as they see it.
const out = "/tsugi/out"

// task is one run of a compiler in the build root.
type task struct {
	dir  string
	argv []string // without -o
	file string   // below out, what it writes
}

// runAll runs compilers in the build root, several at a time, and says of each
// what it wrote on the host. scratch stands over the sources, if not "". An
// error of one run is in its log, which is returned in failed by its index.
func (b *job) runAll(ctx context.Context, dir, scratch string, tasks []task) (failed map[int]string, err error) {
	var script strings.Builder
	for i, t := range tasks {
		// One file for each run, so that xargs needs no quoting.
		text := "cd " + quote(t.dir) + " || exit 1\n"
		for k, a := range t.argv {
			if k > 0 {
				text += " "
			}
			text += quote(a)
		}
		text += fmt.Sprintf(" -o %s >%s/%d.log 2>&1 || echo $? >%s/%d.failed\n", quote(out+"/"+t.file), out, i, out, i)
		if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.sh", i)), []byte(text), 0o644); err != nil {
			return nil, kernel.DiskError(dir, err)
		}
		fmt.Fprintf(&script, "%s/%d.sh\n", out, i)
	}
	jobs := b.req.Jobs
	if jobs <= 0 {
		jobs = 2
	}
	run := userland.Run{
		Argv: []string{"xargs", "-P", fmt.Sprint(jobs), "-n", "1", "sh"}, Stdin: strings.NewReader(script.String()),
		Scratch: scratch, Out: dir, Env: []string{"TSUGI_STUB="},
	}
	if _, err := b.t.Run(ctx, run); err != nil {
		return nil, err
	}
	failed = map[int]string{}
	for i := range tasks {
		if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%d.failed", i))); err == nil {
			log, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.log", i)))
			failed[i] = strings.TrimSpace(string(log[:min(len(log), 8<<10)]))
		}
	}
	return failed, nil
}

func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// cacheFile is where something is kept that follows from the target and a
// command alone.
func (b *job) cacheFile(u *unit, what string) string {
	h := sha256.New()
	fmt.Fprintln(h, 1, what, b.t.Source, b.t.SourceVersion, b.t.BuildPath, b.t.Compiler, b.t.Root)
	for _, p := range b.t.Packages {
		fmt.Fprintln(h, p.Name, p.Digest)
	}
	fmt.Fprintf(h, "%q %q %q %q\n", u.Dir, u.Argv, u.Source, u.Object)
	sum := hex.EncodeToString(h.Sum(nil))
	return filepath.Join(b.t.Home(), "userland", "objects", sum[:2], sum[2:40]+"."+what)
}

// workDir is a directory that goes when the build is over.
func (b *job) workDir() (string, func(), error) {
	top := filepath.Join(b.t.Home(), "userland", "work")
	if err := os.MkdirAll(top, 0o755); err != nil {
		return "", nil, kernel.DiskError(top, err)
	}
	dir, err := os.MkdirTemp(top, "build-*")
	if err != nil {
		return "", nil, kernel.DiskError(top, err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		return "", nil, err
	}
	return dir, func() { os.RemoveAll(dir) }, nil
}

// keep puts a file into the cache.
func keep(from, to string) error {
	data, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(to), 0o755); err != nil {
		return kernel.DiskError(to, err)
	}
	return kernel.DiskError(to, renameio.WriteFile(to, data, 0o644))
}

// dependencies asks the compiler what the units read, and keeps the answers.
func (b *job) dependencies(ctx context.Context, units []*unit) (err error) {
	var missing []*unit
	for _, u := range units {
		rule, err := os.ReadFile(b.cacheFile(u, "deps"))
		if errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, u)
			continue
		}
		if err != nil {
			return err
		}
		u.reads = b.reading(u, rule)
	}
	if len(missing) == 0 {
		return nil
	}
	t := b.rep.Start("what units read", int64(len(missing)), progress.Files)
	defer func() { t.Done(err) }()
	dir, remove, err := b.workDir()
	if err != nil {
		return err
	}
	defer remove()
	tasks := make([]task, len(missing))
	for i, u := range missing {
		tasks[i] = task{dir: u.Dir, argv: append(withoutOutput(u.Argv), "-M", "-MT", "x"), file: fmt.Sprintf("%d.d", i)}
	}
	failed, err := b.runAll(ctx, dir, "", tasks)
	if err != nil {
		return err
	}
	for i, u := range missing {
		if log, bad := failed[i]; bad {
			return code.New("TS3512", u.Source, "the compiler can't tell what it reads").With(errors.New(log))
		}
		file := filepath.Join(dir, tasks[i].file)
		rule, err := os.ReadFile(file)
		if err != nil {
			return code.New("TS3512", u.Source, "").With(err)
		}
		u.reads = b.reading(u, rule)
		if err := keep(file, b.cacheFile(u, "deps")); err != nil {
			return err
		}
		t.Add(1)
	}
	return nil
}

// reading is what a unit reads: the prerequisites and the source itself, which
// assemblers do not tell.
func (b *job) reading(u *unit, rule []byte) map[string]bool {
	m := parseRule(rule, u.Dir, b.t.BuildPath)
	if rel, ok := strings.CutPrefix(u.Source, b.t.BuildPath+"/"); ok {
		m[rel] = true
	}
	return m
}

// split makes each symbol a section of its own, the unit of the differ. BTF,
// which gcc writes for C since version 12, tells how types lie; of C++ DWARF does.
func split(u *unit) []string {
	args := append(withoutOutput(u.Argv), "-c", "-ffunction-sections", "-fdata-sections")
	switch {
	case isAssembly(u.Source):
		return append(withoutOutput(u.Argv), "-c")
	case isCPlusPlus(u.Source):
		return append(args, "-g", "-femit-class-debug-always")
	}
	return append(args, "-gbtf")
}

// compile makes the objects of the units: plain and original, which are kept,
// and the patched one.
func (b *job) compile(ctx context.Context) (err error) {
	if len(b.units) == 0 {
		return nil
	}
	var tasks []task
	var kept []string
	for _, u := range b.units {
		for _, what := range []string{"plain", "orig"} {
			file := b.cacheFile(u, what+".o")
			argv := append(withoutOutput(u.Argv), "-c", "-g0")
			if what == "plain" {
				u.plain = file
			} else {
				u.orig, argv = file, split(u)
			}
			if _, err := os.Stat(file); err == nil {
				continue
			}
			tasks = append(tasks, task{dir: u.Dir, argv: argv, file: fmt.Sprintf("%d.o", len(tasks))})
			kept = append(kept, file)
		}
	}
	t := b.rep.Start("compile", int64(len(tasks)+len(b.units)), progress.Files)
	defer func() { t.Done(err) }()
	dir, remove, err := b.workDir()
	if err != nil {
		return err
	}
	defer remove()
	if len(tasks) > 0 {
		failed, err := b.runAll(ctx, dir, "", tasks)
		if err != nil {
			return err
		}
		for i, file := range kept {
			if log, bad := failed[i]; bad {
				return code.New("TS3102", tasks[i].argv[len(tasks[i].argv)-1], "").With(errors.New(log))
			}
			if err := keep(filepath.Join(dir, tasks[i].file), file); err != nil {
				return err
			}
			t.Add(1)
		}
	}
	return b.compilePatched(ctx, t)
}

func (b *job) compilePatched(ctx context.Context, t progress.Task) error {
	dir, remove, err := b.workDir()
	if err != nil {
		return err
	}
	defer remove()
	scratch, objects := filepath.Join(dir, "scratch"), filepath.Join(dir, "out")
	for _, d := range []string{scratch, objects} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return kernel.DiskError(d, err)
		}
	}
	for _, c := range b.changes {
		if err := b.put(filepath.Join(scratch, "upper"), c); err != nil {
			return err
		}
	}
	tasks := make([]task, len(b.units))
	for i, u := range b.units {
		tasks[i] = task{dir: u.Dir, argv: split(u), file: fmt.Sprintf("%d.o", i)}
	}
	failed, err := b.runAll(ctx, objects, scratch, tasks)
	if err != nil {
		return err
	}
	h := sha256.New()
	for _, c := range b.changes {
		fmt.Fprintf(h, "%q %d %d\n%s", c.Path, len(c.New), len(c.Old), c.New)
	}
	for i, u := range b.units {
		if log, bad := failed[i]; bad {
			return code.New("TS3101", u.source, "").With(errors.New(log))
		}
		u.patched = b.cacheFile(u, hex.EncodeToString(h.Sum(nil))[:24]+".o")
		if err := keep(filepath.Join(objects, tasks[i].file), u.patched); err != nil {
			return err
		}
		t.Add(1)
	}
	return nil
}

// put writes a changed file where it stands over the build's: over the file
// itself, when links lead to it. Unchanged code keeps its line numbers, which
// errors and assertions have in them.
func (b *job) put(upper string, c fix.Change) error {
	if c.Deleted { // nothing that compilers read
		return nil
	}
	at := filepath.FromSlash(c.Path)
	text := c.New
	if !c.Created {
		top, err := filepath.EvalSymlinks(b.t.Build)
		if err != nil {
			return err
		}
		real, err := filepath.EvalSymlinks(filepath.Join(top, at))
		if err != nil {
			return err
		}
		if at, err = filepath.Rel(top, real); err != nil || !filepath.IsLocal(at) {
			return code.New("TS3512", c.Path, "it leads out of the source")
		}
		if !isAssembly(c.Path) {
			text = fix.KeepLines(c.Old, c.New)
		}
	}
	file := filepath.Join(upper, at)
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		return kernel.DiskError(file, err)
	}
	return kernel.DiskError(file, os.WriteFile(file, text, 0o644))
}
