// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// store opens the store of this machine, or ends the test.
func store(t *testing.T) *userland.Store {
	t.Helper()
	if os.Getenv("TSUGI_TEST_USERLAND") == "" {
		t.Skip("it prepares and patches real packages: make userland runs it")
	}
	if os.Geteuid() != 0 {
		t.Skip("build roots and other processes are for root")
	}
	home, err := kernel.Home()
	qt.Assert(t, qt.IsNil(err))
	s, err := userland.OpenStore(home)
	qt.Assert(t, qt.IsNil(err))
	return s
}

// target prepares a target, which takes long when it is not there yet.
func target(t *testing.T, name string) *userland.Target {
	t.Helper()
	x, err := store(t).Add(t.Context(), name, userland.AddOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	return x
}

// patchOf reads a patch of a source package's series, as it lies in a target's
// source.
func patchOf(t *testing.T, from *userland.Target, name string) *fix.Fix {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(from.Build, "debian/patches", name))
	qt.Assert(t, qt.IsNil(err))
	f, err := fix.Parse(name, text)
	qt.Assert(t, qt.IsNil(err))
	return f
}

// libraries puts the files of a package, as shipped, into one directory under
// the names that programs look for.
func libraries(t *testing.T, of *userland.Target) string {
	t.Helper()
	dir := t.TempDir()
	for _, f := range of.Files {
		b, err := os.ReadFile(f.File)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, f.Name), b, 0o755)))
	}
	return dir
}

// compile makes a program of a file of testdata.
func compile(t *testing.T, source string, flags ...string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), strings.TrimSuffix(filepath.Base(source), ".c"))
	args := append([]string{"-O1", "-Wall", "-Werror", "-Wno-deprecated-declarations", "-o", out, filepath.Join("testdata", source)}, flags...)
	said, err := exec.Command("gcc", args...).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", said))
	return out
}

// live builds a live patch, or ends the test.
func live(t *testing.T, of *userland.Target, fixes ...*fix.Fix) *build.Report {
	t.Helper()
	return requested(t, build.Request{Target: of, Fixes: fixes})
}

func requested(t *testing.T, req build.Request) *build.Report {
	t.Helper()
	r, err := build.Build(t.Context(), req, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Verdict, build.Live), qt.Commentf("%v", r.Refusals))
	return r
}

// changed are the names of the functions that a live patch replaces.
func changed(r *build.Report) []string {
	var names []string
	for _, f := range r.Replaced {
		names = append(names, f.Name)
	}
	return names
}

// talker is a program that answers each line on its standard input by one on
// its standard output.
type talker struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	out chan string
}

// limit is how long an answer may take.
const limit = 2 * time.Minute

func talk(t *testing.T, env []string, argv ...string) *talker {
	t.Helper()
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	out, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	p := &talker{t: t, cmd: cmd, in: in, out: make(chan string, 16)}
	go func() {
		defer close(p.out)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.out <- s.Text()
		}
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return p
}

func (p *talker) pid() int { return p.cmd.Process.Pid }

func (p *talker) ask(what string) string {
	p.t.Helper()
	_, err := io.WriteString(p.in, what+"\n")
	qt.Assert(p.t, qt.IsNil(err))
	select {
	case l, ok := <-p.out:
		if !ok {
			p.t.Fatalf("%s: the process ended: %v", what, p.cmd.Wait())
		}
		return l
	case <-time.After(limit):
		p.t.Fatalf("%s: no answer", what)
	}
	return ""
}

// quit ends the process in good order: it has to be able to.
func (p *talker) quit() {
	p.t.Helper()
	qt.Assert(p.t, qt.IsNil(p.in.Close()))
	for range p.out {
	}
	qt.Check(p.t, qt.IsNil(p.cmd.Wait()))
}

// engine waits longer for a thread to stop than is good for a process, since
// tests run beside others.
func engine() *process.Engine {
	return process.New(process.Config{Ptrace: ptrace.Options{Grace: 3 * time.Second}})
}

// budget is how long a busy process is tried again.
const budget = 30 * time.Second

// patchFrom is what the engine takes of a live patch.
func patchFrom(t *testing.T, r *build.Report) process.Patch {
	t.Helper()
	patch := process.Patch{ID: r.Name}
	for _, f := range r.Artifact.Manifest.Files {
		b, ok := r.Artifact.Splice(f)
		qt.Assert(t, qt.IsTrue(ok))
		s, err := splice.Decode(b)
		qt.Assert(t, qt.IsNil(err))
		patch.Files = append(patch.Files, s)
	}
	return patch
}

// into puts a live patch into a process.
func into(t *testing.T, pid int, r *build.Report) {
	t.Helper()
	patch := patchFrom(t, r)
	p, err := proc.Open(t.Context(), pid)
	qt.Assert(t, qt.IsNil(err))
	defer p.Close()
	got, err := engine().Apply(t.Context(), p, patch, process.Options{Budget: budget})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got.State, process.Applied), qt.Commentf("%v after %d tries", got.Reason, got.Tries))
	t.Logf("applied: stopped for %v, %d tries", got.Pause, got.Tries)
}

// outOf takes it out again.
func outOf(t *testing.T, pid int) {
	t.Helper()
	p, err := proc.Open(t.Context(), pid)
	qt.Assert(t, qt.IsNil(err))
	defer p.Close()
	got, err := engine().Revert(t.Context(), p, process.Selection{}, process.Options{Budget: budget})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got.State, process.Reverted), qt.Commentf("%v after %d tries", got.Reason, got.Tries))
	t.Logf("reverted: stopped for %v, %d tries", got.Pause, got.Tries)
}
