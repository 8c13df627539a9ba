// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

func TestAllThreadsAreStoppedAndGoOn(t *testing.T) {
	for _, n := range []int{1, 11, 101} {
		t.Run(strconv.Itoa(n)+" threads", func(t *testing.T) {
			p := start(t, "idle", strconv.Itoa(n-1))
			for range 3 {
				s, err := ptrace.Stop(t.Context(), p.target(), patient)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.HasLen(s.Threads(), n+1)) // and the one that reads
				for _, th := range s.Threads() {
					qt.Check(t, qt.IsTrue(th.Regs.Rip != 0 && th.Regs.Rsp != 0 && !th.Worker && !th.JobStopped))
				}
				pause, err := s.Resume()
				qt.Assert(t, qt.IsNil(err))
				t.Logf("pause %v", pause)
				p.untraced()
			}
			p.finish()
		})
	}
}

// Processes that change all the time: stopped often, none of their work is lost
// or doubled.
func TestAProcessUnderWayGoesOnRight(t *testing.T) {
	for _, args := range [][]string{{"compute", "3"}, {"signals"}, {"calls"}, {"storm", "4"}, {"relay", "2"}, {"forks"}} {
		t.Run(args[0], func(t *testing.T) {
			p := start(t, args...)
			stops, busy := 0, 0
			begun := time.Now()
			// On a busy machine the few that are demanded may take longer.
			for time.Since(begun) < 700*time.Millisecond || stops < 3 && time.Since(begun) < time.Minute {
				s, err := ptrace.Stop(t.Context(), p.target(), patient)
				if err != nil {
					qt.Assert(t, qt.IsTrue(code.Of(err) == "TS9611" || code.Of(err) == "TS9614"), qt.Commentf("%v", err))
					busy++
					continue
				}
				if stops++; stops%10 == 0 || args[0] == "relay" {
					frozen(t, p, s)
				}
				_, err = s.Resume()
				qt.Assert(t, qt.IsNil(err))
				time.Sleep(time.Millisecond)
			}
			t.Logf("%d stops, %d busy", stops, busy)
			qt.Check(t, qt.IsTrue(stops >= 3))
			p.untraced()
			p.finish()
		})
	}
}

// frozen demands that every thread of a stopped process is among those told,
// and that none runs.
func frozen(t *testing.T, p *target, s *ptrace.Stopped) {
	t.Helper()
	told := map[string]bool{}
	for _, th := range s.Threads() {
		told[strconv.Itoa(th.TID)] = true
	}
	tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", p.pid()))
	qt.Assert(t, qt.IsNil(err))
	for _, task := range tasks {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%s/stat", p.pid(), task.Name()))
		if err != nil {
			continue
		}
		state := string(b[strings.LastIndexByte(string(b), ')')+2])
		if state == "Z" || state == "X" {
			continue
		}
		qt.Check(t, qt.IsTrue(told[task.Name()]), qt.Commentf("thread %s is not told: %s", task.Name(), b))
		qt.Check(t, qt.Equals(state, "t"), qt.Commentf("%s", b))
	}
}

func TestAJobThatIsStoppedStaysStopped(t *testing.T) {
	p := start(t, "compute", "3")
	qt.Assert(t, qt.IsNil(p.Process.Signal(unix.SIGSTOP)))
	stopped := func() bool {
		for range 12000 {
			all := true
			tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", p.pid()))
			for _, task := range tasks {
				b, _ := os.ReadFile(task)
				all = all && strings.Contains(string(b), ") T ")
			}
			if all {
				return true
			}
			time.Sleep(5 * time.Millisecond)
		}
		return false
	}
	qt.Assert(t, qt.IsTrue(stopped()))
	// On a machine that is slow the dead are looked for while threads are seized:
	// that must not take the stops of the living.
	slow := patient
	slow.Hook = func(step ptrace.Step) {
		if step == ptrace.Seized {
			time.Sleep(10 * time.Millisecond)
		}
	}
	for i := range 5 {
		opt := patient
		if i%2 == 1 {
			opt = slow
		}
		s, err := ptrace.Stop(t.Context(), p.target(), opt)
		qt.Assert(t, qt.IsNil(err))
		for _, th := range s.Threads() {
			qt.Check(t, qt.IsTrue(th.JobStopped))
		}
		_, err = s.Resume()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(stopped()))
		l, err := ptrace.Borrow(t.Context(), p.target(), patient)
		qt.Assert(t, qt.IsNil(err))
		p.mmap(l)
		_, err = l.Return()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(stopped()))
	}
	for step := 1; tracer(t, "call", p, step); step++ {
		qt.Assert(t, qt.IsTrue(stopped()))
	}
	qt.Assert(t, qt.IsNil(p.Process.Signal(unix.SIGCONT)))
	p.untraced()
	p.finish()
}

func TestSharedMemoryIsBusy(t *testing.T) {
	p := start(t, "vfork", "60")
	child := 0
	p.until("waiting for its child", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", p.pid(), p.pid()))
		child, _ = strconv.Atoi(strings.TrimSpace(string(b)))
		return child != 0
	})
	_, err := ptrace.Stop(t.Context(), p.target(), patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9614"), qt.Commentf("%v", err))
	l, err := ptrace.Borrow(t.Context(), p.target(), patient)
	qt.Assert(t, qt.IsNil(err)) // its other thread, which reads, will do
	p.mmap(l)
	_, err = l.Return()
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(unix.Kill(child, unix.SIGTERM)), qt.Commentf("the end of the child was waited for"))
	p.expect("done")
}

// TestSiblingsOfOneMemory: neither child nor parent, born before or after the look
// at all processes, whether their first thread lives or not.
func TestSiblingsOfOneMemory(t *testing.T) {
	for _, c := range []struct {
		before bool
		how    string
	}{{false, "1"}, {true, "1"}, {false, "2"}, {true, "2"}} {
		other := start(t, "idle", "1")
		s, err := ptrace.Stop(t.Context(), other.target(), patient) // which looks
		qt.Assert(t, qt.IsNil(err))
		_, err = s.Resume()
		qt.Assert(t, qt.IsNil(err))
		p := start(t, "share", c.how)
		sibling, err := strconv.Atoi(p.expect("shared"))
		qt.Assert(t, qt.IsTrue(err == nil && sibling > 0))
		if c.how == "2" {
			p.until("without the other's first thread", func() bool {
				b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", sibling))
				return strings.Contains(string(b), ") Z ")
			})
		}
		if c.before {
			ptrace.LookAgain()
		}
		_, err = ptrace.Stop(t.Context(), p.target(), patient)
		qt.Check(t, qt.Equals(code.Of(err), "TS9614"), qt.Commentf("%v", err))
		if who := strconv.Itoa(sibling); c.how == "1" { // else a thread of it
			qt.Check(t, qt.ErrorMatches(err, ".*process "+who+" uses.*"))
		}
		qt.Assert(t, qt.IsNil(unix.Kill(sibling, unix.SIGKILL)))
		_, err = unix.Wait4(sibling, nil, 0, nil)
		qt.Assert(t, qt.IsNil(err))
		s, err = ptrace.Stop(t.Context(), p.target(), patient)
		qt.Assert(t, qt.IsNil(err))
		_, err = s.Resume()
		qt.Assert(t, qt.IsNil(err))
		p.finish()
		other.finish()
	}
}

// TestCompanyThatIsBornMeanwhile: between the looks before the stop and the stop,
// whatever number of others is born as well.
func TestCompanyThatIsBornMeanwhile(t *testing.T) {
	for _, most := range []int{2048, 0} {
		defer ptrace.OneByOne(most)()
		p := start(t, "share", "3")
		tids, err := proc.Tasks(p.pid(), nil)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(tids, 2))
		sibling := 0
		opt := patient
		opt.Hook = func(step ptrace.Step) {
			if step == ptrace.Seized && sibling == 0 { // the first of two threads
				qt.Check(t, qt.IsNil(unix.Tgkill(p.pid(), tids[1], unix.SIGUSR1)))
				sibling, _ = strconv.Atoi(p.expect("shared"))
			}
		}
		_, err = ptrace.Stop(t.Context(), p.target(), opt)
		qt.Assert(t, qt.IsTrue(sibling > 0))
		qt.Check(t, qt.Equals(code.Of(err), "TS9614"), qt.Commentf("%v", err))
		qt.Check(t, qt.ErrorMatches(err, fmt.Sprintf(".*process %d uses.*", sibling)))
		qt.Assert(t, qt.IsNil(unix.Kill(sibling, unix.SIGKILL)))
		_, err = unix.Wait4(sibling, nil, 0, nil)
		qt.Assert(t, qt.IsNil(err))
		p.finish()
	}
}

func TestTheMainThreadMayHaveEnded(t *testing.T) {
	p := start(t, "zombie", "3")
	p.until("without its main thread", func() bool {
		b, _ := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/stat", p.pid(), p.pid()))
		return strings.Contains(string(b), ") Z ")
	})
	for range 3 {
		s, err := ptrace.Stop(t.Context(), p.target(), patient)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(s.Threads(), 4))
		_, err = s.Resume()
		qt.Assert(t, qt.IsNil(err))
		l, err := ptrace.Borrow(t.Context(), p.target(), patient)
		qt.Assert(t, qt.IsNil(err))
		p.mmap(l)
		_, err = l.Return()
		qt.Assert(t, qt.IsNil(err))
	}
	p.finish()
}

func TestAnotherTracerIsNamed(t *testing.T) {
	p := start(t, "idle", "2")
	first, err := ptrace.Stop(t.Context(), p.target(), patient)
	qt.Assert(t, qt.IsNil(err))
	_, err = ptrace.Stop(t.Context(), p.target(), patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9605"), qt.Commentf("%v", err))
	_, err = ptrace.Borrow(t.Context(), p.target(), patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9605"), qt.Commentf("%v", err))
	_, err = first.Resume()
	qt.Check(t, qt.IsNil(err))
	p.finish()
}

func TestAProcessThatIsGoneOrAnotherIsSo(t *testing.T) {
	p := start(t, "single")
	_, err := ptrace.Stop(t.Context(), ptrace.Target{PID: p.pid(), Start: 1}, patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9601"), qt.Commentf("%v", err))
	_, err = ptrace.Borrow(t.Context(), ptrace.Target{PID: p.pid(), Start: 1}, patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9601"), qt.Commentf("%v", err))
	p.untraced()
	p.finish()
	_, err = ptrace.Stop(t.Context(), p.target(), patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9601"), qt.Commentf("%v", err))
	_, err = ptrace.Borrow(t.Context(), p.target(), patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9601"), qt.Commentf("%v", err))
	_, err = ptrace.Stop(t.Context(), ptrace.Target{PID: os.Getpid()}, patient)
	qt.Check(t, qt.Equals(code.Of(err), "TS9612"), qt.Commentf("%v", err))
	_, err = ptrace.Stop(t.Context(), ptrace.Target{PID: 2}, patient) // kthreadd
	qt.Check(t, qt.Equals(code.Of(err), "TS9612"), qt.Commentf("%v", err))
}

// exec and exit at any moment of stops. While a program is started only root
// may trace.
func TestTheProcessMayStartAnotherProgramOrEnd(t *testing.T) {
	for range 8 {
		for _, end := range []string{"exec", "exit"} {
			args := []string{"exec", "20"}
			if end == "exit" {
				args = []string{"idle", "20"}
			}
			p := start(t, args...)
			_, err := p.in.Write([]byte("x"))
			qt.Assert(t, qt.IsNil(err))
			began := time.Now()
			for time.Since(began) < 8*time.Millisecond {
				s, err := ptrace.Stop(t.Context(), p.target(), patient)
				if err == nil {
					_, err = s.Resume()
				}
				qt.Check(t, qt.IsTrue(err == nil || code.Of(err) == "TS9601" || code.Of(err) == "TS9614" || mayNot(err)), qt.Commentf("%v", err))
				l, err := ptrace.Borrow(t.Context(), p.target(), patient)
				if err == nil {
					_, err = l.Syscall(unix.SYS_GETPID)
					if code.Of(err) != "TS9601" {
						qt.Check(t, qt.IsNil(err))
					}
					_, err = l.Return()
				}
				qt.Check(t, qt.IsTrue(err == nil || code.Of(err) == "TS9601" || code.Of(err) == "TS9615" || mayNot(err)), qt.Commentf("%v", err))
			}
			if end == "exec" {
				p.expect("execd")
				p.untraced()
				_, err = p.in.Write([]byte("x"))
				qt.Assert(t, qt.IsNil(err))
			} else {
				p.expect("done")
			}
			qt.Check(t, qt.IsNil(p.Wait()))
		}
	}
}

// A program that a fault ends is not interrupted: its core dump, which may go
// through a pipe, would be cut short.
func TestAProcessThatWritesItsCoreIsLeftAlone(t *testing.T) {
	dir := t.TempDir()
	p := start(t, "dump", "16", dir)
	opt := patient
	opt.Hook = func(s ptrace.Step) { qt.Check(t, qt.Equals(s, ptrace.Seized)) }
	for {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid()))
		if err != nil || strings.Contains(string(b), "State:\tZ") {
			break
		}
		if !strings.Contains(string(b), "CoreDumping:\t1") {
			continue // it will, or there is no place for a core here
		}
		_, err = ptrace.Stop(t.Context(), p.target(), opt)
		qt.Check(t, qt.Equals(code.Of(err), "TS9601"), qt.Commentf("%v", err))
		_, err = ptrace.Borrow(t.Context(), p.target(), opt)
		qt.Check(t, qt.Equals(code.Of(err), "TS9601"), qt.Commentf("%v", err))
	}
}

func mayNot(err error) bool { return os.Getuid() != 0 && code.Of(err) == "TS9612" }
