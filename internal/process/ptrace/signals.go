// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// quiet keeps the kernel from sending this program a SIGCHLD for each stop of a
// tracee (SA_NOCLDSTOP): one of our threads would run to take it, at the very
// moment at which the target waits for the processor. Stops are asked for here,
// and Go's own handling of SIGCHLD stays as it is.
func quiet() {
	const size = 8 // of the set of signals
	var a struct {
		handler, flags, restorer uintptr
		mask                     uint64
	}
	_, _, no := unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), 0, uintptr(unsafe.Pointer(&a)), size, 0, 0)
	const noStops = 1 // SA_NOCLDSTOP
	if no == 0 && a.flags&noStops == 0 {
		a.flags |= noStops
		_, _, _ = unix.RawSyscall6(unix.SYS_RT_SIGACTION, uintptr(unix.SIGCHLD), uintptr(unsafe.Pointer(&a)), 0, size, 0, 0)
	}
}
