// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// hurry makes the session's thread come before all that is not real-time too,
// from the first order to stop until the work that it was given is done: what
// is stopped waits for it, and nothing else does. It is the lowest of the
// real-time priorities. All waits in a stop sleep and have an end, so it can't
// keep a processor; the kernel's own limit (kernel.sched_rt_runtime_us) stays.
// Where it is not allowed the thread has its niceness.
func (s *session) hurry() {
	if !s.hurried {
		s.hurried = setScheduler(unix.SCHED_FIFO, 1) == nil
	}
}

// relax gives that back.
func (s *session) relax() {
	if s.hurried && setScheduler(unix.SCHED_NORMAL, 0) == nil {
		s.hurried = false
	}
}

// setScheduler is for the calling thread. Threads that come of it are usual ones.
func setScheduler(policy, priority int32) error {
	_, _, no := unix.RawSyscall(unix.SYS_SCHED_SETSCHEDULER, 0, uintptr(policy|unix.SCHED_RESET_ON_FORK), uintptr(unsafe.Pointer(&priority)))
	if no != 0 {
		return no
	}
	return nil
}
