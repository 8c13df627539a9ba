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

// batch is how many runs a build root is entered for. What a batch made is kept
// before the next begins, so that an interrupted build goes on where it was.
const batch = 48

// runAll runs compilers in the build root, several at a time. made is told of
// each what it wrote on the host, or failed what it said: in order, once for
// each task until one returns an error. scratch stands over the sources, if
// not "".
func (b *job) runAll(ctx context.Context, scratch string, tasks []task, made func(i int, file string) error, failed func(i int, log string) error) error {
	dir, remove, err := b.workDir()
	if err != nil {
		return err
	}
	defer remove()
	jobs := b.req.Jobs
	if jobs <= 0 {
		jobs = 2
	}
	for first := 0; first < len(tasks); first += batch {
		last := min(first+batch, len(tasks))
		var script strings.Builder
		for i := first; i < last; i++ {
			if err := tasks[i].script(dir, i); err != nil {
				return err
			}
			fmt.Fprintf(&script, "%s/%d.sh\n", out, i)
		}
		run := userland.Run{
			Argv: []string{"xargs", "-P", fmt.Sprint(jobs), "-n", "1", "sh"}, Stdin: strings.NewReader(script.String()),
			Scratch: scratch, Out: dir, Env: []string{"TSUGI_STUB="},
		}
		if _, err := b.t.Run(ctx, run); err != nil {
			return err
		}
		for i := first; i < last; i++ {
			file := filepath.Join(dir, fmt.Sprintf("%d.out", i))
			if _, err := os.Stat(filepath.Join(dir, fmt.Sprintf("%d.failed", i))); err == nil {
				log, _ := os.ReadFile(filepath.Join(dir, fmt.Sprintf("%d.log", i)))
				if err := failed(i, strings.TrimSpace(string(log[:min(len(log), 8<<10)]))); err != nil {
					return err
				}
				continue
			}
			if err := made(i, file); err != nil {
				return err
			}
			_ = os.Remove(file) // or it goes with the directory
		}
	}
	return nil
}

// task is one run of a compiler in the build root.
type task struct {
	dir  string
	argv []string // without -o
}

// script writes the run as a file of its own, so that xargs needs no quoting.
func (t task) script(dir string, i int) error {
	text := "cd " + quote(t.dir) + " || exit 1\n"
	for k, a := range t.argv {
		if k > 0 {
			text += " "
		}
		text += quote(a)
	}
	text += fmt.Sprintf(" -o %s/%d.out >%s/%d.log 2>&1 || echo $? >%s/%d.failed\n", out, i, out, i, out, i)
	file := filepath.Join(dir, fmt.Sprintf("%d.sh", i))
	return kernel.DiskError(file, os.WriteFile(file, []byte(text), 0o644))
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

// indexFile is where the index of the target's include directives is kept.
func (b *job) indexFile() string {
	return b.cacheFile(&unit{}, "includes")
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
	tasks := make([]task, len(missing))
	for i, u := range missing {
		tasks[i] = task{dir: u.Dir, argv: append(withoutOutput(u.Argv), "-M", "-MT", "x")}
	}
	return b.runAll(ctx, "", tasks, func(i int, file string) error {
		u := missing[i]
		rule, err := os.ReadFile(file)
		if err != nil {
			return code.New("TS3512", u.Source, "").With(err)
		}
		u.reads = b.reading(u, rule)
		t.Add(1)
		return keep(file, b.cacheFile(u, "deps"))
	}, func(i int, log string) error {
		return code.New("TS3512", missing[i].Source, "the compiler can't tell what it reads").With(errors.New(log))
	})
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
			tasks = append(tasks, task{dir: u.Dir, argv: argv})
			kept = append(kept, file)
		}
	}
	t := b.rep.Start("compile", int64(len(tasks)+len(b.units)), progress.Files)
	defer func() { t.Done(err) }()
	err = b.runAll(ctx, "", tasks, func(i int, file string) error {
		t.Add(1)
		return keep(file, kept[i])
	}, func(i int, log string) error {
		return code.New("TS3102", tasks[i].argv[len(tasks[i].argv)-1], "").With(errors.New(log))
	})
	if err != nil {
		return err
	}
	return b.compilePatched(ctx, t)
}

func (b *job) compilePatched(ctx context.Context, t progress.Task) error {
	dir, remove, err := b.workDir()
	if err != nil {
		return err
	}
	defer remove()
	for _, c := range b.changes {
		if err := b.put(filepath.Join(dir, "upper"), c); err != nil {
			return err
		}
	}
	h := sha256.New()
	for _, c := range b.changes {
		fmt.Fprintf(h, "%q %d %d\n%s", c.Path, len(c.New), len(c.Old), c.New)
	}
	sum := hex.EncodeToString(h.Sum(nil))[:24]
	tasks := make([]task, len(b.units))
	for i, u := range b.units {
		tasks[i] = task{dir: u.Dir, argv: split(u)}
		u.patched = b.cacheFile(u, sum+".o")
	}
	return b.runAll(ctx, dir, tasks, func(i int, file string) error {
		t.Add(1)
		return keep(file, b.units[i].patched)
	}, func(i int, log string) error {
		return code.New("TS3101", b.units[i].source, firstError(log)).With(errors.New(log))
	})
}

// firstError is the line of a compiler's messages that says what was wrong first.
func firstError(log string) string {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "error: ") {
			return strings.TrimSpace(line)
		}
	}
	return ""
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
		own, err := b.own(c.Path)
		if err != nil {
			return err
		}
		at = filepath.FromSlash(own)
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
