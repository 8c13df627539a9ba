// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

func where(pid int) string { return "process " + strconv.Itoa(pid) }

func ended(pid int, why string) *code.Problem { return code.New("TS9610", where(pid), why) }

// unstopped says of each thread that has not stopped in time what it does.
func unstopped(pid int, late []int) *code.Problem {
	var why []string
	for _, tid := range late[:min(len(late), 4)] {
		why = append(why, doing(pid, tid))
	}
	if more := len(late) - len(why); more > 0 {
		why = append(why, fmt.Sprintf("and %d more", more))
	}
	return code.New("TS9611", where(pid), strings.Join(why, "; "))
}

// doing tells what a thread that does not stop does.
func doing(pid, tid int) string {
	what := "thread " + strconv.Itoa(tid)
	st, ok := readStat(pid, tid)
	if !ok {
		return what + " is ending"
	}
	what += " (" + st.comm + ")"
	call := readSyscall(pid, tid)
	chan_ := readWchan(pid, tid)
	switch {
	case makesProcess(call.nr) && strings.Contains(chan_, "vfork"), call.nr == unix.SYS_VFORK:
		return what + " waits until its vfork child starts a program"
	case st.state == 'D':
		what += " waits for a device or a file system"
	case st.state == 'R':
		what += " has had no processor"
	default:
		what += " is in state " + string(st.state)
	}
	if call.nr >= 0 {
		what += " in system call " + strconv.Itoa(call.nr)
	}
	if chan_ != "" {
		what += " at " + chan_
	}
	return what
}

func makesProcess(nr int) bool {
	return nr == unix.SYS_VFORK || nr == unix.SYS_CLONE || nr == unix.SYS_CLONE3
}

// refused makes a problem of a thread that could not be seized. Ignore is true
// where there is nothing to seize: it is dead or dying. Ours is true where it
// is traced by the session already, as one that was born from a traced thread.
func (s *session) refused(pid, tid int, err error) (ours, ignore bool, problem *code.Problem) {
	if errors.Is(err, unix.ESRCH) {
		return false, true, nil
	}
	status, ok := readStatus(pid, tid)
	switch {
	case !ok, status.state == 'Z', status.state == 'X':
		return false, true, nil
	case status.tracer == s.tid:
		return true, false, nil
	case status.tracer != 0:
		return false, false, code.New("TS9613", where(pid), "process "+strconv.Itoa(status.tracer)+" traces it")
	}
	if st, ok := readStat(pid, tid); !ok || st.flags&pfExiting != 0 {
		return false, true, nil
	}
	why := ""
	if scope := readWord("/proc/sys/kernel/yama/ptrace_scope"); scope != "" && scope != "0" {
		why = "kernel.yama.ptrace_scope is " + scope
	}
	return false, false, code.New("TS9612", where(pid), why).With(err)
}
