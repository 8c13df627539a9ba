// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"slices"
	"strconv"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// A process may share its memory with one that is no thread of it: a vfork
// child, and the child of any clone with CLONE_VM. It would run the code that
// is being changed. It is looked for among the kin and all others before the
// stop, and among all that was born since in the stop.

// alone refuses a process that shares its memory.
func (s *Stopped) alone() error {
	pid := s.target.PID
	st, ok := proc.TaskStat(pid, pid)
	switch {
	case !ok:
		return ended(pid, "")
	case st.Kernel:
		return code.New("TS9612", where(pid), "it is the kernel's own")
	}
	if err := s.childless(st.Parent); err != nil {
		return err
	}
	if other := everybody.other(pid, s.living); other != 0 {
		return shared(pid, other)
	}
	return nil
}

// childless compares the memory with the parent's and the children's.
func (s *Stopped) childless(parent int) error {
	pid := s.target.PID
	s.living = 0  // a dead thread has no memory, as little as a dead child
	for range 4 { // each may make the next one and end
		var err error
		if s.listed, err = proc.Tasks(pid, s.listed[:0]); err != nil {
			return s.missing(err)
		}
		for _, tid := range s.listed {
			if st, ok := proc.TaskStat(pid, tid); ok && !st.State.Ended() {
				if st.Killed {
					return ended(pid, "a signal ends it")
				}
				s.living = tid
				break
			}
		}
		if s.living != 0 {
			break
		}
	}
	if s.living == 0 {
		return ended(pid, "it has no living thread")
	}
	if parent > 1 && shares(s.living, parent) {
		return shared(pid, parent)
	}
	for _, tid := range s.listed {
		// None when it is gone, or in a kernel without CONFIG_PROC_CHILDREN.
		for _, f := range strings.Fields(proc.TaskFile(pid, tid, "children")) {
			if child, err := strconv.Atoi(f); err == nil && shares(s.living, child) {
				return shared(pid, child)
			}
		}
	}
	return nil
}

// maxBorn is how many numbers are looked at one by one in a stop. For more, and
// where the numbers have begun anew, the processes that there are.
var maxBorn = 2048 // tests lower it

// nobodyElse refuses a process that got company since before, a number that
// LastPID gave. The threads that are stopped are known by then.
func (s *Stopped) nobodyElse(before int) error {
	i := slices.IndexFunc(s.order, func(t *tracee) bool { return t.state == halted })
	if i < 0 {
		return nil // report tells
	}
	tid, after := s.order[i].tid, proc.LastPID()
	if before > 0 && before <= after && after-before <= maxBorn {
		for pid := before + 1; pid <= after; pid++ {
			if s.known[pid] == nil && sameMemory(tid, pid) && !proc.TaskWorker(s.target.PID, pid) {
				return shared(s.target.PID, pid)
			}
		}
		return nil
	}
	all, err := proc.PIDs(nil)
	if err != nil {
		return code.New("TS9612", where(s.target.PID), "").With(err)
	}
	for _, pid := range all {
		if pid != s.target.PID && born(pid, before, after) && shares(tid, pid) {
			return shared(s.target.PID, pid)
		}
	}
	return nil
}

// born tells whether a number may have been given since before, when after is the
// last that was: they begin anew after the highest.
func born(pid, before, after int) bool {
	if before <= after {
		return before < pid && pid <= after
	}
	return pid > before || pid <= after
}

func shared(pid, other int) *code.Problem {
	return code.New("TS9614", where(pid), "process "+strconv.Itoa(other)+" uses the same memory")
}
