// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// schedOf is what the scheduler knows of a thread: class, children's, niceness,
// real-time priority.
func schedOf(t *testing.T, tid int) [4]int {
	t.Helper()
	a, err := unix.SchedGetAttr(tid, 0)
	qt.Assert(t, qt.IsNil(err))
	return [4]int{int(a.Policy), int(a.Flags) & unix.SCHED_FLAG_RESET_ON_FORK, int(a.Nice), int(a.Priority)}
}

func setSched(t *testing.T, tid int, want [4]int) {
	t.Helper()
	a := &unix.SchedAttr{Policy: uint32(want[0]), Flags: uint64(want[1]), Nice: int32(want[2]), Priority: uint32(want[3])}
	if a.Policy == unix.SCHED_DEADLINE {
		a.Runtime, a.Deadline, a.Period = 1e6, 1e8, 1e8
	}
	switch err := unix.SchedSetAttr(tid, a, 0); {
	case err != nil && a.Policy == unix.SCHED_DEADLINE:
		t.Skip("deadlines: ", err) // in a set of processors, or where they are promised already
	case err != nil:
		need.Allowed(t, "a thread's scheduling: ", err)
	}
}

var ours = [4]int{unix.SCHED_FIFO, 1, 0, 1}

// TestScheduling: a thread that is held is a real-time thread, whatever it was,
// but for one that is one already, and afterwards it is what it was. When its
// tracer is killed the note says what.
func TestScheduling(t *testing.T) {
	for name, c := range map[string]struct {
		was    [4]int
		raised bool
	}{
		"as most are":           {[4]int{unix.SCHED_NORMAL, 0, 0, 0}, true},
		"nice":                  {[4]int{unix.SCHED_NORMAL, 0, 7, 0}, true},
		"urgent, children none": {[4]int{unix.SCHED_NORMAL, 1, -5, 0}, true},
		"batch":                 {[4]int{unix.SCHED_BATCH, 0, 3, 0}, true},
		"idle":                  {[4]int{unix.SCHED_IDLE, 0, 0, 0}, true},
		"a real-time thread":    {[4]int{unix.SCHED_RR, 0, 0, 4}, false},
		"one with deadlines":    {[4]int{unix.SCHED_DEADLINE, 0, 0, 0}, false},
	} {
		t.Run(name, func(t *testing.T) {
			p := start(t, "single")
			st, _ := proc.TaskStat(p.pid(), p.pid())
			target := ptrace.Target{PID: p.pid(), Start: st.Start}
			setSched(t, p.pid(), c.was)
			c.was[2] = schedOf(t, p.pid())[2] // idle threads keep what they had
			held := c.was
			if c.raised {
				held = ours
			}
			notes := ""
			opt := patient
			opt.Note = func(s string) error { notes = s; return nil }
			tracers := &ptrace.Tracers{}
			defer tracers.Close()
			_, err := tracers.Borrow(t.Context(), target, opt, func(l *ptrace.Loan) error {
				p.mmap(l)
				got := schedOf(t, p.pid())
				got[2] = held[2] // the kernel tells no niceness of real-time threads
				qt.Check(t, qt.Equals(got, held))
				return nil
			})
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(schedOf(t, p.pid()), c.was))
			tracers.Do(opt, func(opt ptrace.Options) {
				s, err := ptrace.Stop(t.Context(), target, opt)
				qt.Assert(t, qt.IsNil(err))
				_, err = s.Resume()
				qt.Check(t, qt.IsNil(err))
			})
			qt.Check(t, qt.Equals(schedOf(t, p.pid()), c.was))
			qt.Check(t, qt.Equals(notes != "", c.raised))
			if !c.raised {
				return
			}
			// Killed: what it was is known, and what the program chose itself stays.
			left := ours
			left[2] = c.was[2]
			setSched(t, p.pid(), left)
			qt.Check(t, qt.IsNil(ptrace.Lower(ptrace.Target{PID: p.pid(), Start: st.Start + 1}, notes)))
			qt.Check(t, qt.Equals(schedOf(t, p.pid())[0], unix.SCHED_FIFO), qt.Commentf("another process"))
			qt.Check(t, qt.IsNil(ptrace.Lower(target, notes)))
			got := schedOf(t, p.pid())
			got[2] = c.was[2]
			qt.Check(t, qt.Equals(got, c.was))
			own := [4]int{unix.SCHED_FIFO, 0, 0, 9}
			setSched(t, p.pid(), own)
			qt.Check(t, qt.IsNil(ptrace.Lower(target, notes)))
			qt.Check(t, qt.Equals(schedOf(t, p.pid()), own))
		})
	}
	for _, bad := range []string{"", "x", "0 0", "-1 0", "1 1", "1 6", "7"} {
		qt.Check(t, qt.IsNotNil(ptrace.Lower(ptrace.Target{PID: 1}, bad)), qt.Commentf("%q", bad))
	}
}
