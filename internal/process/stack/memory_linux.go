// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"io"

	"golang.org/x/sys/unix"
)

// Memory reads the memory of a process by process_vm_readv: one system call for
// each read, as many bytes as there are.
type Memory struct{ PID int }

// ReadAt implements io.ReaderAt; the offset is an address.
func (m Memory) ReadAt(p []byte, addr int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	local := []unix.Iovec{{Base: &p[0], Len: uint64(len(p))}}
	n, err := unix.ProcessVMReadv(m.PID, local, []unix.RemoteIovec{{Base: uintptr(addr), Len: len(p)}}, 0)
	if err == nil && n < len(p) {
		err = io.ErrUnexpectedEOF
	}
	return max(n, 0), err
}
