// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestMeddlers: others stop the process, send it signals and trace it while it is
// patched again and again. It computes on, and is as it was in the end.
func TestMeddlers(t *testing.T) {
	v2, v3 := patches(t)
	long := time.Second / 4
	if testenv.IsLong() {
		long = 20 * time.Second
	}
	signal := func(signals ...unix.Signal) func(context.Context, int) {
		return func(ctx context.Context, pid int) {
			for i := 0; ctx.Err() == nil; i++ {
				_ = unix.Kill(pid, signals[i%len(signals)])
				time.Sleep(time.Duration(rand.IntN(2000)) * time.Microsecond)
			}
		}
	}
	for name, meddle := range map[string]func(context.Context, int){
		"job control": signal(unix.SIGSTOP, unix.SIGCONT),
		"signals":     signal(unix.SIGCHLD, unix.SIGWINCH, unix.SIGURG),
		"a tracer": func(ctx context.Context, pid int) {
			for ctx.Err() == nil {
				c, cancel := context.WithTimeout(ctx, time.Duration(rand.IntN(100))*time.Millisecond)
				cmd := exec.CommandContext(c, "strace", "-f", "-qq", "-o", "/dev/null", "-p", fmt.Sprint(pid))
				// What strace forks to try out ptrace(2) outlives it otherwise.
				cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
				cmd.Cancel = func() error { return unix.Kill(-cmd.Process.Pid, unix.SIGKILL) }
				_ = cmd.Run()
				cancel()
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, g := engine(t), program(t, "l", "s", "s", "s")
			pid := g.cmd.Process.Pid
			e.config.Ptrace.Grace = 20 * time.Millisecond
			ctx, cancel := context.WithTimeout(t.Context(), long)
			defer cancel()
			var over sync.WaitGroup
			over.Go(func() { meddle(ctx, pid) })
			codes, done := map[string]int{}, 0
			for i := 0; ctx.Err() == nil; i++ {
				var r Result
				var err error
				switch opt := (Options{Budget: 100 * time.Millisecond, Share: 1}); i % 3 {
				case 0:
					r, err = e.Apply(t.Context(), g.p, v2, opt)
				case 1:
					r, err = e.Apply(t.Context(), g.p, v3, opt)
				case 2:
					r, err = e.Revert(t.Context(), g.p, Selection{}, opt)
				}
				qt.Assert(t, qt.IsNil(err))
				if r.Reason != nil {
					codes[string(r.Reason.Code)]++
				} else {
					done++
				}
			}
			over.Wait()
			_ = unix.Kill(pid, unix.SIGCONT)
			t.Logf("%d done, %v", done, codes)
			applied(t, e, g, v2, Options{Budget: 20 * time.Second})
			qt.Check(t, qt.Equals(g.ask("v"), "201 202"))
			for _, status := range glob(t, fmt.Sprintf("/proc/%d/task/*/status", pid)) {
				for _, want := range []string{"\nTracerPid:\t0\n", "\nSigBlk:\t0000000000000000\n"} {
					qt.Check(t, qt.IsTrue(strings.Contains(status, want)), qt.Commentf("%s", status))
				}
			}
			for _, stat := range glob(t, fmt.Sprintf("/proc/%d/task/*/stat", pid)) {
				f := strings.Fields(stat[strings.LastIndexByte(stat, ')')+1:])
				qt.Check(t, qt.IsTrue(f[0] == "S" || f[0] == "R"), qt.Commentf("%s", stat))
				qt.Check(t, qt.Equals(f[41-3], "0"), qt.Commentf("%s", stat)) // its policy
			}
		})
	}
}

// glob reads files.
func glob(t *testing.T, pattern string) []string {
	t.Helper()
	names, err := filepath.Glob(pattern)
	qt.Assert(t, qt.IsNil(err))
	var all []string
	for _, name := range names {
		if b, err := os.ReadFile(name); err == nil {
			all = append(all, string(b))
		}
	}
	return all
}
