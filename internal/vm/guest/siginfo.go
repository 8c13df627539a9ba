// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// siginfoPid reads si_pid: after si_signo, si_errno, si_code and, on 64-bit
// machines, padding to the union's alignment (include/uapi/asm-generic/siginfo.h).
func siginfoPid(info *unix.Siginfo) int {
	off := 3 * unsafe.Sizeof(int32(0))
	align := unsafe.Sizeof(uintptr(0))
	off = (off + align - 1) &^ (align - 1)
	return int(*(*int32)(unsafe.Add(unsafe.Pointer(info), off)))
}
