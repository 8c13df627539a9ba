// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

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

// Thread numbers change hands while a program is started: what could not be
// seized and yet lives is asked again before it is told so.
const seizeTries = 4

// seize traces a thread. With no problem, ok tells whether there is anything to
// trace: a dead thread is not. A thread that was born from a traced thread is
// traced already.
func (s *session) seize(pid, tid int, options uintptr) (ok bool, problem *code.Problem) {
	for try := 1; ; try++ {
		err := seize(tid, options)
		if err == nil {
			return true, nil
		}
		if errors.Is(err, unix.ESRCH) {
			return false, nil
		}
		status, alive := readStatus(pid, tid)
		switch {
		case !alive, status.state == 'Z', status.state == 'X':
			return false, nil
		case status.tracer == s.tid:
			return true, nil
		case status.tracer != 0:
			return false, code.New("TS9613", where(pid), "process "+strconv.Itoa(status.tracer)+" traces it")
		}
		if st, alive := readStat(pid, tid); !alive || st.flags&pfExiting != 0 {
			return false, nil
		}
		if try < seizeTries {
			nap(100 * time.Microsecond)
			continue
		}
		why := ""
		if scope := readWord("/proc/sys/kernel/yama/ptrace_scope"); scope != "" && scope != "0" {
			why = "kernel.yama.ptrace_scope is " + scope
		}
		return false, code.New("TS9612", where(pid), why).With(err)
	}
}
