// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// A thread has to run to be stopped, and to make calls for us. Where others want
// its processor it would wait for its turn, and its program with it; so while it
// is ours it is a real-time thread of the lowest priority, and our thread sits on
// the processor that it ran on last. The kernel goes from one to the other and
// back then, and neither waits for a third, nor for an idle processor that a
// hypervisor has to wake.
//
// One that sleeps is raised just before it is told to stop: as another it would
// be woken on an idle processor, and not on ours. What it runs then is the
// kernel's way into the stop and the calls that it makes for us, not the
// program's code, which might keep the processor from us and from all others.
// Should it wake by itself in that instant, it comes before us until it sleeps
// again, or until a guard has given it back what it was. Any other is raised when
// it has stopped.
//
// A tracer that is killed leaves it so; what it was before is noted where the
// next one finds it: see [Options.Note] and [Lower].

// raised is a thread that was made a real-time thread, and what it was. The
// zero value is none.
type raised struct {
	tid    int
	policy uint32 // SCHED_OTHER, SCHED_BATCH or SCHED_IDLE, and SCHED_RESET_ON_FORK
	up     bool   // it is one now
}

// ours is what nobody else is likely to have: this priority, and that children
// have none, so that what is raised stays one thread.
const (
	ours         = unix.SCHED_FIFO | unix.SCHED_RESET_ON_FORK
	oursPriority = 1
)

// setSched changes the class. Niceness and the length of slices stay, which
// sched_setattr would set anew.
func setSched(tid int, policy uint32, priority int32) error {
	_, _, no := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, uintptr(tid), uintptr(policy), uintptr(unsafe.Pointer(&priority)))
	if no != 0 {
		return no
	}
	return nil
}

// fair tells whether a class is one of those that share.
func fair(policy uint32) bool {
	return policy == unix.SCHED_NORMAL || policy == unix.SCHED_BATCH || policy == unix.SCHED_IDLE
}

// readyToRaise reads and notes what a thread is, before it is told to stop. The
// zero value is for one that may not be raised, or is a real-time thread itself.
func readyToRaise(tid int, note func(string) error) raised {
	if note == nil {
		return raised{}
	}
	was, err := unix.SchedGetAttr(tid, 0)
	if err != nil || !fair(was.Policy) {
		return raised{}
	}
	r := raised{tid: tid, policy: was.Policy}
	if was.Flags&unix.SCHED_FLAG_RESET_ON_FORK != 0 {
		r.policy |= unix.SCHED_RESET_ON_FORK
	}
	if note(r.String()) != nil {
		return raised{}
	}
	return r
}

// rise makes the thread a real-time thread.
func (r *raised) rise() {
	r.up = r.up || r.tid != 0 && setSched(r.tid, ours, oursPriority) == nil
}

// lower gives a thread back what it was.
func (r *raised) lower() {
	if r.up {
		_ = setSched(r.tid, r.policy, 0) // it fails when the thread is dead
	}
	*r = raised{}
}

// String is the note for [Lower].
func (r *raised) String() string { return fmt.Sprintf("%d %d", r.tid, r.policy) }

// Lower gives a thread of a process back what it was when a note was made of it
// (see [Options.Note]), if it still is what its killed tracer has made of it.
// Nobody may trace the process meanwhile.
func Lower(target Target, note string) error {
	var r raised
	if _, err := fmt.Sscanf(note, "%d %d", &r.tid, &r.policy); err != nil {
		return fmt.Errorf("note %.40q: %w", note, err)
	}
	if r.tid <= 0 || !fair(r.policy&^unix.SCHED_RESET_ON_FORK) {
		return fmt.Errorf("note %.40q: no such thread or policy", note)
	}
	main, ok := proc.TaskStat(target.PID, target.PID)
	if !ok || main.Start != target.Start {
		return nil // it has ended
	}
	if _, ok := proc.TaskStat(target.PID, r.tid); !ok {
		return nil
	}
	now, err := unix.SchedGetAttr(r.tid, 0)
	if err == nil && now.Policy == unix.SCHED_FIFO && now.Priority == oursPriority && now.Flags&unix.SCHED_FLAG_RESET_ON_FORK != 0 {
		r.up = true
		r.lower()
	}
	return nil
}

// overtaken is for how long a thread that wakes when it is raised may come before
// us.
const overtaken = 2 * time.Millisecond

// settling is how often a thread is looked at before it is told to stop.
const settling = 4

// beside moves our thread to the processor that a thread sleeps on. It tells
// whether the thread may be raised now, before it is told to stop; then the guard
// is set.
func (s *session) beside(pid int, r *raised) bool {
	if r.tid == 0 {
		return false
	}
	for range settling {
		st, ok := proc.TaskStat(pid, r.tid)
		switch {
		case !ok || st.CPU < 0:
			return false
		case st.State != proc.Sleeping:
			nap(longest) // let it do what it has to, if that isn't more
			continue
		case s.cpu == st.CPU:
			s.early.Store(uint64(r.tid)<<32 | uint64(r.policy))
			s.guard.Reset(overtaken)
			return true
		}
		s.near(st.CPU)
	}
	return false
}

// interrupt tells a thread to stop; one that sleeps beside us is raised for it.
func (s *session) interrupt(tid int, r *raised, asleep bool) error {
	if asleep {
		r.rise()
	}
	err := request(unix.PTRACE_INTERRUPT, tid, 0, 0)
	if asleep {
		s.early.Store(0)
		s.guard.Stop()
	}
	return err
}

// giveBack is the guard: it runs in any thread of ours, and does nothing once the
// thread has been told to stop.
func (s *session) giveBack() {
	if v := s.early.Swap(0); v != 0 {
		_ = setSched(int(v>>32), uint32(v), 0)
	}
}

// near moves the session's thread to a processor, -1 for any. It is called there.
func (s *session) near(cpu int) {
	if cpu < 0 || !s.all.IsSet(cpu) {
		cpu = -1
	}
	if cpu == s.cpu {
		return
	}
	set := s.all
	if cpu >= 0 {
		set.Zero()
		set.Set(cpu)
	}
	if unix.SchedSetaffinity(0, &set) == nil {
		s.cpu = cpu
	}
}
