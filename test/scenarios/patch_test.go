// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"os"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// needs skips where the tools or rights are missing.
func needs(t *testing.T) {
	t.Helper()
	for _, tool := range []string{"gcc", "g++", "strip"} {
		need.Program(t, tool)
	}
}

// within is how long an apply may try again.
const within = 10 * time.Second

// engine waits longer for a thread to stop than is good for a process, since
// tests run beside others. Figures are taken with the usual time.
func engine() *process.Engine {
	c := process.Config{}
	if os.Getenv("TSUGI_BENCH_USERLAND") == "" {
		c.Ptrace = ptrace.Options{Grace: 3 * time.Second}
	}
	return process.New(c)
}

// open finds a process by its number.
func open(t *testing.T, pid int) *proc.Process {
	t.Helper()
	p, err := proc.Open(t.Context(), pid)
	qt.Assert(t, qt.IsNil(err))
	return p
}

// apply puts splices into a process. A budget of 0 is one try.
func apply(t *testing.T, pid int, id string, budget time.Duration, files ...*splice.File) process.Result {
	t.Helper()
	p := open(t, pid)
	defer p.Close()
	r, err := engine().Apply(t.Context(), p, process.Patch{ID: id, Files: files}, process.Options{Budget: budget})
	qt.Assert(t, qt.IsNil(err))
	return r
}

func revert(t *testing.T, pid int, budget time.Duration) process.Result {
	t.Helper()
	p := open(t, pid)
	defer p.Close()
	r, err := engine().Revert(t.Context(), p, process.Selection{}, process.Options{Budget: budget})
	qt.Assert(t, qt.IsNil(err))
	return r
}

// becomes asserts what came of an apply or a revert.
func becomes(t *testing.T, r process.Result, want process.State) {
	t.Helper()
	qt.Assert(t, qt.Equals(r.State, want), qt.Commentf("%v after %d tries", r.Reason, r.Tries))
	if want == process.Applied || want == process.Reverted {
		t.Logf("%s: pause %v, tries %d", want, r.Pause, r.Tries)
	}
}

// made is a program in its original version, and what leads to a level.
type made struct {
	*local.Result
	build build
	dir   string
}

func (b build) make(t *testing.T, level int) made {
	t.Helper()
	dir := t.TempDir()
	r, err := b.at(t, dir, level)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNotNil(r.Splice))
	return made{r, b, dir}
}

// level makes what leads to another level of the same file.
func (m made) level(t *testing.T, level int) *splice.File {
	t.Helper()
	other := m.build.make(t, level)
	qt.Assert(t, qt.Equals(other.BuildID, m.BuildID))
	return other.Splice
}

func program1(name string, kind local.Kind, files ...string) build {
	return build{name: name, kind: kind, files: files, same: []string{"control.c"}, ldflags: []string{"-ldl", "-lpthread"}}
}

func splices(all ...made) []*splice.File {
	var out []*splice.File
	for _, m := range all {
		out = append(out, m.Splice)
	}
	return out
}
