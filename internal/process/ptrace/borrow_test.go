// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

func TestACallIsMadeInTheProcess(t *testing.T) {
	for _, args := range [][]string{{"single"}, {"sleep", "300"}, {"idle", "10"}, {"compute", "1"}, {"compute", "3"}, {"signals"}, {"storm", "3"}, {"forks"}, {"calls"}} {
		t.Run(args[0], func(t *testing.T) {
			p := start(t, args...)
			for i := range 5 {
				l, err := ptrace.Borrow(t.Context(), p.target(), patient)
				if i > 0 && args[0] == "sleep" && code.Of(err) == "TS9601" {
					break // it has slept its time
				}
				qt.Assert(t, qt.IsNil(err))
				at := p.mmap(l)
				pid, err := l.Syscall(unix.SYS_GETPID)
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(int(pid), p.pid()))
				_, err = l.Syscall(unix.SYS_MUNMAP, at+1, 4096)
				qt.Check(t, qt.ErrorIs(err, error(unix.EINVAL)))
				_, err = l.Syscall(unix.SYS_MUNMAP, at, 4096)
				qt.Check(t, qt.IsNil(err))
				pause, err := l.Return()
				qt.Assert(t, qt.IsNil(err))
				t.Logf("pause %v", pause)
				p.untraced()
			}
			p.finish()
		})
	}
}

func TestCallsAreMadeInOneGo(t *testing.T) {
	for args, suits := range map[string]bool{"single": true, "idle 10": true, "compute 3": true, "signals": true, "storm 3": true, "calls": true, "sleep 300": false} {
		t.Run(args, func(t *testing.T) {
			p := start(t, strings.Fields(args)...)
			for i := range 5 {
				l, err := ptrace.Borrow(t.Context(), p.target(), patient)
				if i > 0 && args == "sleep 300" && code.Of(err) == "TS9601" {
					break // it has slept its time
				}
				qt.Assert(t, qt.IsNil(err))
				for range 2 {
					made, err := l.Chain(chain(1 << 34))
					qt.Assert(t, qt.IsNil(err))
					if suits {
						qt.Check(t, qt.IsTrue(made))
					}
					maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", p.pid()))
					qt.Assert(t, qt.IsNil(err))
					qt.Check(t, qt.Equals(made, strings.Contains(string(maps), "400000000-400001000 r--p")))
					qt.Check(t, qt.Equals(made, strings.Contains(string(maps), "400001000-400002000 r-xp")))
					_, err = l.Syscall(unix.SYS_MUNMAP, 1<<34, 8192)
					qt.Assert(t, qt.IsNil(err))
				}
				pause, err := l.Return()
				qt.Assert(t, qt.IsNil(err))
				t.Logf("pause %v", pause)
				p.untraced()
			}
			p.finish()
		})
	}
}

// Filters that let the calls pass or fail are no obstacle; one that kills for
// them is, for the tracer may die.
func TestSeccomp(t *testing.T) {
	for filter, want := range map[string]code.Code{"allow": "", "errno": "", "kill": "TS9616", "trap": "TS9616", "strict": "TS9616"} {
		t.Run(filter, func(t *testing.T) {
			if os.Getuid() != 0 {
				want = "TS9616" // filters are read with CAP_SYS_ADMIN only
			}
			p := start(t, "filter", filter)
			p.until("under its filter", func() bool {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
				return strings.Contains(string(b), "Seccomp:\t") && !strings.Contains(string(b), "Seccomp:\t0")
			})
			l, err := ptrace.Borrow(t.Context(), p.target(), patient)
			if err == nil {
				_, err = l.Syscall(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
				_, rerr := l.Return()
				qt.Check(t, qt.IsNil(rerr))
			}
			qt.Check(t, qt.Equals(code.Of(err), want), qt.Commentf("%v", err))
			if want == "" {
				qt.Check(t, qt.IsNil(err))
				for step := 1; tracer(t, "call", p, step); step++ {
				}
			}
			s, err := ptrace.Stop(t.Context(), p.target(), patient)
			qt.Assert(t, qt.IsNil(err))
			_, err = s.Resume()
			qt.Assert(t, qt.IsNil(err))
			p.untraced()
			p.finish()
		})
	}
}

// What a stop interrupts goes on although a filter kills the program, or fails
// the call, for what the kernel would go on by.
func TestWhoMayNotRestartCallsBeginsThemAnew(t *testing.T) {
	for _, filter := range []string{"allow", "errno", "kill"} {
		t.Run(filter, func(t *testing.T) {
			p := start(t, "waits", filter)
			for range 10 {
				s, err := ptrace.Stop(t.Context(), p.target(), patient)
				qt.Assert(t, qt.IsNil(err))
				_, err = s.Resume()
				qt.Assert(t, qt.IsNil(err))
				if os.Getuid() == 0 { // filters are read with CAP_SYS_ADMIN only
					l, err := ptrace.Borrow(t.Context(), p.target(), patient)
					qt.Assert(t, qt.IsNil(err))
					_, err = l.Chain(chain(1 << 34))
					qt.Check(t, qt.IsNil(err))
					_, err = l.Syscall(unix.SYS_GETPID)
					qt.Check(t, qt.IsNil(err))
					_, err = l.Return()
					qt.Assert(t, qt.IsNil(err))
				}
				time.Sleep(2 * time.Millisecond)
			}
			p.untraced()
			p.finish()
		})
	}
}

func TestAStaticProgramWillDo(t *testing.T) {
	p := startProgram(t, program(t, "-static"), "compute", "1")
	l, err := ptrace.Borrow(t.Context(), p.target(), patient)
	qt.Assert(t, qt.IsNil(err))
	p.mmap(l)
	_, err = l.Return()
	qt.Assert(t, qt.IsNil(err))
	for step := 1; tracer(t, "call", p, step); step++ {
	}
	p.finish()
}

// What lies below an alternate signal stack is not known, so nothing is put there.
func TestAThreadOnAnotherStackIsLeftAlone(t *testing.T) {
	p := start(t, "alternate")
	_, err := ptrace.Borrow(t.Context(), p.target(), patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9615"), qt.Commentf("%v", err))
	s, err := ptrace.Stop(t.Context(), p.target(), patient)
	qt.Assert(t, qt.IsNil(err))
	_, err = s.Resume()
	qt.Assert(t, qt.IsNil(err))
	p.finish()
}

// TestAGuardThatNoMappingShows: what lies below it is not the thread's.
func TestAGuardThatNoMappingShows(t *testing.T) {
	p := start(t, "guard")
	_, err := ptrace.Borrow(t.Context(), p.target(), patient)
	if code.Of(err) == "TS9601" {
		t.Skip("the kernel has no such guards")
	}
	qt.Assert(t, qt.Equals(code.Of(err), "TS9615"), qt.Commentf("%v", err))
	qt.Check(t, qt.ErrorMatches(err, ".*guard close below.*"))
}

// TestARestartableSequenceIsLeftAlone: it would not be begun anew after a call that
// is made in the midst of it.
func TestARestartableSequenceIsLeftAlone(t *testing.T) {
	p := start(t, "rseq")
	for range 5 {
		l, err := ptrace.Borrow(t.Context(), p.target(), patient)
		if err == nil { // between two of them
			_, err = l.Return()
			qt.Assert(t, qt.IsNil(err))
			continue
		}
		if code.Of(err) == "TS9601" {
			t.Skip("no restartable sequences here")
		}
		qt.Assert(t, qt.Equals(code.Of(err), "TS9615"), qt.Commentf("%v", err))
		qt.Check(t, qt.ErrorMatches(err, ".*restartable.*"))
		s, err := ptrace.Stop(t.Context(), p.target(), patient)
		qt.Assert(t, qt.IsNil(err))
		_, err = s.Resume()
		qt.Assert(t, qt.IsNil(err))
		return
	}
	t.Fatal("it was never in one")
}

// An alternate stack may be a part of the thread's own: a small one has no room
// for a frame of ours, and below lies what the thread works with.
func TestAHandlerOnASmallStackIsLeftAlone(t *testing.T) {
	for _, main := range []string{"0", "1"} {
		p := start(t, "nested", main)
		time.Sleep(5 * time.Millisecond)
		for range 2 {
			l, err := ptrace.Borrow(t.Context(), p.target(), patient)
			if err != nil {
				qt.Check(t, qt.Equals(code.Of(err), "TS9615"), qt.Commentf("%v", err))
				continue
			}
			_, err = l.Chain(chain(1 << 34))
			qt.Assert(t, qt.IsNil(err))
			p.mmap(l)
			_, err = l.Return()
			qt.Assert(t, qt.IsNil(err))
		}
		p.finish()
	}
}

func TestASetuidProgramWillDo(t *testing.T) {
	if os.Getuid() != 0 {
		t.Skip("not root")
	}
	b, err := os.ReadFile(program(t))
	qt.Assert(t, qt.IsNil(err))
	dir, err := os.MkdirTemp("", "tsugi-setuid-")
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "target")
	qt.Assert(t, qt.IsNil(os.Chmod(dir, 0o755)))
	qt.Assert(t, qt.IsNil(os.WriteFile(path, b, 0o755)))
	qt.Assert(t, qt.IsNil(os.Chmod(path, 0o755|os.ModeSetuid)))
	p := startAs(t, 65534, path, "compute", "1")
	l, err := ptrace.Borrow(t.Context(), p.target(), patient)
	qt.Assert(t, qt.IsNil(err))
	p.mmap(l)
	_, err = l.Return()
	qt.Assert(t, qt.IsNil(err))
	p.finish()
}
