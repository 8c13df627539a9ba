// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The calls of this file return at once, so they are made without telling Go's
// scheduler: a thread that has given its place away may wait long to have it
// back, and the target would wait with it. Seizing is the exception: it waits
// for an exec that is under way.

func request(req, tid int, addr, data uintptr) error {
	_, _, no := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, data, 0, 0)
	if no != 0 {
		return no
	}
	return nil
}

// exchange is request where data is memory of ours.
func exchange(req, tid int, addr uintptr, data unsafe.Pointer) error {
	_, _, no := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(tid), addr, uintptr(data), 0, 0)
	if no != 0 {
		return no
	}
	return nil
}

func seize(tid int, options uintptr) error {
	_, _, no := unix.Syscall6(unix.SYS_PTRACE, unix.PTRACE_SEIZE, uintptr(tid), 0, options, 0, 0)
	if no != 0 {
		return no
	}
	return nil
}

func getRegs(tid int, regs *unix.PtraceRegs) error {
	return exchange(unix.PTRACE_GETREGS, tid, 0, unsafe.Pointer(regs))
}

func setRegs(tid int, regs *unix.PtraceRegs) error {
	return exchange(unix.PTRACE_SETREGS, tid, 0, unsafe.Pointer(regs))
}

func getSigmask(tid int) (uint64, error) {
	var mask uint64
	err := exchange(unix.PTRACE_GETSIGMASK, tid, 8, unsafe.Pointer(&mask))
	return mask, err
}

func setSigmask(tid int, mask uint64) error {
	return exchange(unix.PTRACE_SETSIGMASK, tid, 8, unsafe.Pointer(&mask))
}

// maxXstate is far above what any processor's XSAVE area takes today (11 KiB).
const maxXstate = 64 << 10

// getXstate reads the thread's floating point and vector registers, in the
// layout of XSAVE.
func getXstate(tid int, buf []byte) ([]byte, error) {
	const ntX86Xstate = 0x202
	iov := unix.Iovec{Base: &buf[0], Len: maxXstate}
	if err := exchange(unix.PTRACE_GETREGSET, tid, ntX86Xstate, unsafe.Pointer(&iov)); err != nil {
		return nil, err
	}
	return buf[:min(iov.Len, maxXstate)], nil
}

// rseqConfig is struct ptrace_rseq_configuration.
type rseqConfig struct {
	Pointer         uint64
	Size, Signature uint32
	Flags, _        uint32
}

func getRseq(tid int) (rseqConfig, error) {
	var c rseqConfig
	err := exchange(unix.PTRACE_GET_RSEQ_CONFIGURATION, tid, unsafe.Sizeof(c), unsafe.Pointer(&c))
	return c, err
}

// dispatchOn tells whether the thread's system calls go to its own handler
// (PR_SET_SYSCALL_USER_DISPATCH), as Wine's do.
func dispatchOn(tid int) bool {
	var c struct{ Mode, Selector, Offset, Len uint64 }
	err := exchange(unix.PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG, tid, unsafe.Sizeof(c), unsafe.Pointer(&c))
	return err == nil && c.Mode != 0
}

// getFilter reads the thread's seccomp filter of this index, newest first, into
// buf, which has room for the longest: the kernel writes as much as there is.
func getFilter(tid, index int, buf []instruction) ([]instruction, error) {
	n, _, no := unix.RawSyscall6(unix.SYS_PTRACE, unix.PTRACE_SECCOMP_GET_FILTER, uintptr(tid), uintptr(index), uintptr(unsafe.Pointer(&buf[:maxFilter][0])), 0, 0)
	switch {
	case no != 0:
		return nil, no
	case n == 0 || n > maxFilter:
		return nil, unix.EMSGSIZE
	}
	return buf[:n], nil
}

func poke(tid int, addr uint64, word uint64) error {
	return request(unix.PTRACE_POKEDATA, tid, uintptr(addr), uintptr(word))
}

func peek(tid int, addr uint64) (uint64, error) {
	var word uint64 // the raw call writes the word, unlike the C library's
	err := exchange(unix.PTRACE_PEEKDATA, tid, uintptr(addr), unsafe.Pointer(&word))
	return word, err
}

// report is what a tracee's stop says: its signal, and the event above it.
type report struct {
	stopped bool
	exited  bool
	signal  unix.Signal
	event   int
}

// ask asks once, without waiting, what has become of a tracee. A stop is looked
// at and not taken (WNOWAIT): the signal of a signal-delivery-stop that was
// taken would be lost if the tracer died. The end of a process is its parent's
// to take note of, which may be this program; so only its other threads are
// asked for theirs.
func ask(pid, tid int) (report, error) {
	var info struct {
		signo, errno, code, _ int32
		pid, uid              int32
		status                int32
		_                     [100]byte
	}
	options := unix.WSTOPPED | unix.WALL | unix.WNOHANG | unix.WNOWAIT
	if tid != pid {
		options |= unix.WEXITED
	}
	_, _, no := unix.RawSyscall6(unix.SYS_WAITID, unix.P_PID, uintptr(tid), uintptr(unsafe.Pointer(&info)), uintptr(options), 0, 0)
	switch {
	case no != 0:
		return report{}, no
	case info.pid == 0:
		return report{}, nil
	case info.code == cldTrapped || info.code == cldStopped:
		return report{stopped: true, signal: unix.Signal(info.status & 0xff), event: int(info.status) >> 8}, nil
	}
	// It is dead: taking note of it, from whatever thread of ours, takes no stop.
	_ = unix.Waitid(unix.P_PID, tid, nil, unix.WEXITED|unix.WNOHANG|unix.WALL, nil)
	return report{exited: true}, nil
}

const (
	cldTrapped = 4
	cldStopped = 5
)

func nap(d time.Duration) {
	ts := unix.NsecToTimespec(int64(d))
	if d < 50*time.Microsecond { // too short to give our place away for
		_, _, _ = unix.RawSyscall(unix.SYS_NANOSLEEP, uintptr(unsafe.Pointer(&ts)), 0, 0)
		return
	}
	_ = unix.Nanosleep(&ts, nil)
}

// sameMemory tells whether two processes share their address space. What can't
// be compared doesn't.
func sameMemory(a, b int) bool {
	order, ok := compareMemory(a, b)
	return ok && order == 0
}

// compareMemory is the order of two processes' address spaces, 0 for the same one,
// and whether they could be compared.
func compareMemory(a, b int) (int, bool) {
	const kcmpVM = 1
	r, _, no := unix.RawSyscall6(unix.SYS_KCMP, uintptr(a), uintptr(b), kcmpVM, 0, 0, 0)
	switch {
	case no != 0 || r > 2:
		return 0, false
	case r == 1:
		return -1, true
	case r == 2:
		return 1, true
	}
	return 0, true
}
