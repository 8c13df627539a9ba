// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// keepOn makes the interrupted call of a stopped thread go on that the stop
// would end otherwise, with EINTR or with the whole program. It is for each
// thread that stops, as soon as it has.
func (s *session) keepOn(pid, tid int, r *unix.PtraceRegs) error {
	if keepWaiting(r) || s.beginAnew(pid, tid, r) {
		return setRegs(tid, r)
	}
	return nil
}

// beginAnew is for a call that waits for a time, such as poll or nanosleep: the
// kernel goes on with it by restart_syscall, of which seccomp filters are asked
// like of any other. One that lists what its program calls, as sshd's does, may
// lack it and kill for it. There the call is made again from its beginning, as
// the program has made it, and may wait the longer. It tells whether it changed
// anything.
func (s *session) beginAnew(pid, tid int, r *unix.PtraceRegs) bool {
	nr := inSyscall(r)
	if nr < 0 || int64(r.Rax) != restartBlock || r.Cs != userCodeSelect || s.mayRestart(pid, tid, r) {
		return false
	}
	result := int64(restartNoHand)
	if nr == sysRestart { // its number is lost
		result = interrupted
	}
	r.Rax = uint64(result)
	return true
}

// mayRestart asks the thread's filters for restart_syscall. Where they can't be
// read it may not, if there are any.
func (s *session) mayRestart(pid, tid int, r *unix.PtraceRegs) bool {
	var data []byte
	for i := range maxFilters {
		f, err := getFilter(tid, i, s.filter)
		switch {
		case err == unix.ENOENT, err == unix.EINVAL && i == 0: // no more, none at all
			return true
		case err != nil:
			status, ok := proc.TaskStatus(pid, tid)
			return ok && status.Seccomp == 0
		}
		if data == nil {
			data = call{sysRestart, r.Rip, [6]uint64{r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9}}.data()
		}
		if v, err := evaluate(f, data); err != nil || v&actionBits != actAllow && v&actionBits != actLog {
			return false
		}
	}
	return false
}
