// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"os/exec"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// TestGuard: a thread that is raised and wakes before it can be told to stop is
// what it was again soon, without us.
func TestGuard(t *testing.T) {
	c := exec.Command("sleep", "600")
	qt.Assert(t, qt.IsNil(c.Start()))
	defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
	pid := c.Process.Pid
	s := newSession()
	defer s.end()
	policy := func() uint32 {
		a, err := unix.SchedGetAttr(pid, 0)
		qt.Assert(t, qt.IsNil(err))
		return a.Policy
	}
	var r raised
	for until := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		asleep := false
		s.do(func() {
			r = readyToRaise(pid, func(string) error { return nil })
			if asleep = s.beside(pid, &r); asleep {
				r.rise()
			}
		})
		if asleep {
			break
		}
		qt.Assert(t, qt.IsTrue(time.Now().Before(until)), qt.Commentf("it does not sleep"))
	}
	if !r.up {
		need.Allowed(t, "a real-time thread")
	}
	for until := time.Now().Add(time.Minute); policy() != unix.SCHED_NORMAL; time.Sleep(time.Millisecond) {
		qt.Assert(t, qt.IsTrue(time.Now().Before(until)), qt.Commentf("the guard has not come"))
	}
	// Told to stop, it stays raised: the guard has nothing to do any more.
	s.do(func() {
		ok, problem := s.seize(pid, pid, 0)
		qt.Check(t, qt.IsTrue(ok && problem == nil))
		r = readyToRaise(pid, func(string) error { return nil })
		qt.Check(t, qt.IsNil(s.interrupt(pid, &r, s.beside(pid, &r))))
	})
	qt.Check(t, qt.Equals(s.early.Load(), 0))
	time.Sleep(3 * overtaken)
	qt.Check(t, qt.Equals(policy(), unix.SCHED_FIFO))
	s.do(func() { r.lower() })
}
