// SPDX-License-Identifier: Apache-2.0

package ptrace

import "golang.org/x/sys/unix"

// The kernel's own error numbers (include/linux/errno.h): a system call that a
// signal or a stop has interrupted is made again when no handler runs.
const (
	restartSys     = -512
	restartNoIntr  = -513
	restartNoHand  = -514
	restartBlock   = -516
	sysRestart     = unix.SYS_RESTART_SYSCALL
	interrupted    = -int64(unix.EINTR)
	syscallLength  = 2 // of the instruction
	userCodeSelect = 0x33

	compatCodeSelect = 0x23 // of 32-bit code, which counts its calls otherwise
)

// inSyscall is the number of the system call that a stopped thread is in.
func inSyscall(r *unix.PtraceRegs) int {
	if nr := int32(r.Orig_rax); nr >= 0 {
		return int(nr)
	}
	return -1
}

// wouldRestart tells whether the kernel makes the call again by itself.
func wouldRestart(r *unix.PtraceRegs) bool {
	if inSyscall(r) < 0 {
		return false
	}
	switch int64(r.Rax) {
	case restartSys, restartNoIntr, restartNoHand, restartBlock:
		return true
	}
	return false
}

// keepWaiting changes the result of a call that ends with EINTR for any stop,
// signal(7) has the list, to one with which the kernel makes the call again
// unless a handler runs: then EINTR is what the program sees, as it would have
// without the stop. It tells whether it changed anything. Calls with a timeout
// of their own begin it anew.
func keepWaiting(r *unix.PtraceRegs) bool {
	if int64(r.Rax) != interrupted || r.Cs == compatCodeSelect {
		return false
	}
	switch inSyscall(r) {
	case unix.SYS_EPOLL_WAIT, unix.SYS_EPOLL_PWAIT, unix.SYS_EPOLL_PWAIT2,
		unix.SYS_SEMOP, unix.SYS_SEMTIMEDOP,
		unix.SYS_RT_SIGTIMEDWAIT,
		unix.SYS_IO_GETEVENTS, unix.SYS_IO_URING_ENTER,
		// sockets with SO_RCVTIMEO or SO_SNDTIMEO
		unix.SYS_READ, unix.SYS_READV, unix.SYS_WRITE, unix.SYS_WRITEV,
		unix.SYS_RECVFROM, unix.SYS_RECVMSG, unix.SYS_RECVMMSG,
		unix.SYS_SENDTO, unix.SYS_SENDMSG, unix.SYS_SENDMMSG,
		unix.SYS_ACCEPT, unix.SYS_ACCEPT4, unix.SYS_CONNECT:
	default:
		return false
	}
	r.Rax = ^uint64(-restartNoHand - 1)
	return true
}

// resumed is where a thread goes on when nothing but its registers is put back:
// what the kernel does for a call that it makes again, done by hand. A call
// that waits for a time (-516) would go on by restart_syscall, which
// rt_sigreturn turns off; it is made again from its beginning instead. Where it
// has been restarted once already its number is lost, and it ends with EINTR.
func resumed(r unix.PtraceRegs) unix.PtraceRegs {
	if wouldRestart(&r) {
		r.Rip -= syscallLength
		r.Rax = r.Orig_rax
	}
	r.Orig_rax = ^uint64(0)
	return r
}
