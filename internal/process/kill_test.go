// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// patcherEnv makes the test binary a patcher that dies: pid, what it does, at
// which step it kills itself, whether ptrace's steps count, the directory of
// locks, and the splice.
const patcherEnv = "TSUGI_TEST_PATCHER"

// patcher is that program. It says how many steps there were when it did not die.
func patcher() bool {
	args := strings.Fields(os.Getenv(patcherEnv))
	if len(args) == 0 {
		return false
	}
	pid, _ := strconv.Atoi(args[0])
	at, _ := strconv.Atoi(args[2])
	steps := 0
	step := func() {
		if steps == at {
			_ = unix.Kill(os.Getpid(), unix.SIGKILL)
			select {}
		}
		steps++
	}
	c := Config{Locks: args[4], Ptrace: patient}
	if args[3] == "all" {
		c.Ptrace.Hook = func(ptrace.Step) { step() }
	}
	e := New(c)
	e.step = func(string) { step() }
	ctx := context.Background()
	p, err := proc.Open(ctx, pid)
	if err == nil {
		var r Result
		opt := Options{Budget: 20 * time.Second, Share: 1}
		if args[1] == "revert" {
			r, err = e.Revert(ctx, p, Selection{}, opt)
		} else {
			var raw []byte
			var f *splice.File
			if raw, err = os.ReadFile(args[5]); err == nil {
				f, err = splice.Decode(raw)
			}
			if err == nil {
				r, err = e.Apply(ctx, p, Patch{args[1], []*splice.File{f}}, opt)
			}
		}
		if err == nil && r.Reason != nil {
			err = r.Reason
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(steps)
	return true
}

// killed runs a patcher that dies at a step. It returns false when it did not
// come that far.
func killed(t *testing.T, env string) bool {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), patcherEnv+"="+env)
	cmd.Stderr = os.Stderr
	err := cmd.Run()
	if err == nil {
		return false
	}
	status := cmd.ProcessState.Sys().(interface{ Signaled() bool })
	qt.Assert(t, qt.IsTrue(status.Signaled()), qt.Commentf("%s: %v", env, err))
	return true
}

func encoded(t *testing.T, p Patch) string {
	t.Helper()
	raw, err := p.Files[0].Encode()
	qt.Assert(t, qt.IsNil(err))
	path := filepath.Join(t.TempDir(), "splice")
	qt.Assert(t, qt.IsNil(os.WriteFile(path, raw, 0o600)))
	return path
}

// TestPatcherIsKilledAtEveryStep: the target always runs on and answers right,
// and who comes next finishes what was begun.
func TestPatcherIsKilledAtEveryStep(t *testing.T) {
	v2, v3 := patches(t)
	which := "engine"
	if long() {
		which = "all"
	}
	files := map[string]string{"v2": encoded(t, v2), "v3": encoded(t, v3)}
	for _, tt := range []struct {
		name, does string
		before     []Patch
		old, new   string
	}{
		{"apply", "v2", nil, "1 2", "201 202"},
		{"replace", "v3", []Patch{v2}, "201 202", "1 302"},
		{"revert", "revert", []Patch{v2}, "201 202", "1 2"},
		{"back to what was replaced", "v2", []Patch{v2, v3}, "1 302", "201 202"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			locks := t.TempDir()
			e := New(Config{Locks: locks, Ptrace: patient})
			opt := Options{Budget: 20 * time.Second, Share: 1}
			step := 0
			for died := true; died; step++ {
				g := start(t, filepath.Join(fixtures.dir, "program"))
				g.ask("l")
				g.ask("s")
				for _, p := range tt.before {
					r, err := e.Apply(t.Context(), g.p, p, opt)
					qt.Assert(t, qt.IsTrue(err == nil && r.State == Applied), qt.Commentf("step %d: %v %v", step, err, r.Reason))
				}
				qt.Assert(t, qt.Equals(g.ask("v"), tt.old))
				died = killed(t, fmt.Sprintf("%d %s %d %s %s %s", g.cmd.Process.Pid, tt.does, step, which, locks, files[tt.does]))
				for _, v := range strings.Fields(g.ask("v")) { // maybe one of each
					n, err := strconv.Atoi(v)
					qt.Assert(t, qt.IsTrue(err == nil && (n%100 == 1 || n%100 == 2)), qt.Commentf("%s", v))
				}
				r, err := e.Heal(t.Context(), g.p, opt)
				qt.Assert(t, qt.IsTrue(err == nil && (r.State == Healed || r.State == NotAffected)), qt.Commentf("step %d: %v %v %v", step, err, r.State, r.Reason))
				asScheduled(t, g)
				now := g.ask("v")
				qt.Assert(t, qt.IsTrue(now == tt.new || died && now == tt.old), qt.Commentf("step %d: %s", step, now))
				r, err = e.Revert(t.Context(), g.p, Selection{}, opt)
				qt.Assert(t, qt.IsTrue(err == nil && (r.State == Reverted || r.State == NotAffected)), qt.Commentf("step %d: %v %v", step, err, r.Reason))
				qt.Assert(t, qt.Equals(g.ask("v"), "1 2"))
				g.stop()
			}
			t.Logf("killed at %d steps", step)
			qt.Assert(t, qt.IsTrue(step > 8))
		})
	}
}

// asScheduled demands that no thread is what a patcher made of it while it held
// it.
func asScheduled(t *testing.T, g *target) {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", g.cmd.Process.Pid))
	qt.Assert(t, qt.IsTrue(err == nil && len(tasks) > 0))
	for _, task := range tasks {
		tid, _ := strconv.Atoi(filepath.Base(task))
		a, err := unix.SchedGetAttr(tid, 0)
		if errors.Is(err, unix.ESRCH) {
			continue
		}
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(a.Policy, unix.SCHED_NORMAL), qt.Commentf("thread %d", tid))
	}
}

func long() bool { return os.Getenv("TSUGI_TEST_LONG") != "" }

// TestPatcherIsKilledAtRandom: a thousand times, under load, whatever it does.
func TestPatcherIsKilledAtRandom(t *testing.T) {
	if !long() {
		t.Skip("set TSUGI_TEST_LONG=1 for a thousand kills")
	}
	v2, v3 := patches(t)
	locks := t.TempDir()
	e, g := New(Config{Locks: locks, Ptrace: patient}), start(t, filepath.Join(fixtures.dir, "program"))
	for _, letter := range []string{"l", "l", "s", "s", "a"} {
		g.ask(letter)
	}
	does := []string{"v2 %d none " + locks + " " + encoded(t, v2), "v3 %d none " + locks + " " + encoded(t, v3), "revert %d none " + locks}
	for i := range 1000 {
		cmd := exec.Command(os.Args[0])
		env := fmt.Sprintf(does[rand.IntN(len(does))], 1<<30)
		cmd.Env = append(os.Environ(), fmt.Sprintf("%s=%d %s", patcherEnv, g.cmd.Process.Pid, env))
		qt.Assert(t, qt.IsNil(cmd.Start()))
		time.Sleep(rand.N(60 * time.Millisecond))
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		for _, v := range strings.Fields(g.ask("v")) {
			n, err := strconv.Atoi(v)
			qt.Assert(t, qt.IsTrue(err == nil && (n%100 == 1 || n%100 == 2)), qt.Commentf("after %d: %s", i, v))
		}
	}
	r, err := e.Revert(t.Context(), g.p, Selection{}, Options{Budget: time.Minute})
	qt.Assert(t, qt.IsTrue(err == nil && (r.State == Reverted || r.State == NotAffected)), qt.Commentf("%v %v", err, r.Reason))
	qt.Assert(t, qt.Equals(g.ask("v"), "1 2"))
	asScheduled(t, g)
	t.Logf("%d areas", len(r.Objects))
}
