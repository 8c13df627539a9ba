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
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

func where(pid int) string { return "process " + strconv.Itoa(pid) }

func ended(pid int, why string) *code.Problem { return code.New("TS9601", where(pid), why) }

// unstopped says of each thread that has not stopped in time what it does.
func unstopped(pid int, late []int) *code.Problem {
	var why []string
	for _, tid := range late[:min(len(late), 4)] {
		why = append(why, doing(pid, tid))
	}
	if more := len(late) - len(why); more > 0 {
		why = append(why, fmt.Sprintf("and %d more", more))
	}
	if len(why) == 0 {
		why = append(why, "its threads come and go")
	}
	return code.New("TS9611", where(pid), strings.Join(why, "; "))
}

// doing tells what a thread that does not stop does.
func doing(pid, tid int) string {
	what := "thread " + strconv.Itoa(tid)
	st, ok := proc.TaskStat(pid, tid)
	if !ok {
		return what + " is ending"
	}
	what += " (" + st.Name + ")"
	call := proc.TaskCall(pid, tid)
	chan_ := wchan(pid, tid)
	switch {
	case makesProcess(call.Number) && strings.Contains(chan_, "vfork"), call.Number == unix.SYS_VFORK:
		return what + " waits until its vfork child starts a program"
	case st.State == proc.Waiting:
		what += " waits for a device or a file system"
	case st.State == proc.Running:
		what += " has had no processor"
	default:
		what += " is in state " + string(st.State)
	}
	if call.Number >= 0 {
		what += " in system call " + strconv.Itoa(call.Number)
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
		status, alive := proc.TaskStatus(pid, tid)
		switch {
		case !alive, status.State.Ended():
			return false, nil
		case status.TracerPID == s.tid:
			return true, nil
		case status.TracerPID != 0:
			return false, code.New("TS9605", where(pid), "process "+strconv.Itoa(status.TracerPID)+" traces it")
		}
		if st, alive := proc.TaskStat(pid, tid); !alive || st.Exiting {
			return false, nil
		}
		if try < seizeTries {
			nap(100 * time.Microsecond)
			continue
		}
		return false, forbidden(pid).With(err)
	}
}

// forbidden is why the kernel does not let a process be traced.
func forbidden(pid int) *code.Problem {
	if proc.Yama() == 3 {
		return code.New("TS9606", where(pid), "kernel.yama.ptrace_scope is 3")
	}
	return code.New("TS9612", where(pid), proc.Forbids(pid))
}
