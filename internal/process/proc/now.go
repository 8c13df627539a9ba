// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

// The files that are read here are answered at once, whatever the process does;
// so Go's scheduler is not told. A thread that has given its place away may wait
// long to have it back, and what it has stopped would wait with it.

func openNow(path string, flags int) (fd uintptr, err error) {
	name, err := unix.BytePtrFromString(path)
	if err != nil {
		return 0, err
	}
	dir := unix.AT_FDCWD
	fd, _, no := unix.RawSyscall6(unix.SYS_OPENAT, uintptr(dir), uintptr(unsafe.Pointer(name)), uintptr(flags|unix.O_CLOEXEC), 0, 0, 0)
	if no != 0 {
		return 0, no
	}
	return fd, nil
}

func closeNow(fd uintptr) { _, _, _ = unix.RawSyscall(unix.SYS_CLOSE, fd, 0, 0) }

// readNow reads a file that is a single record, as stat and status are, no longer
// than buf: it comes whole with the first read (fs/seq_file.c).
func readNow(path string, buf []byte) ([]byte, error) {
	fd, err := openNow(path, unix.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer closeNow(fd)
	for {
		n, _, no := unix.RawSyscall(unix.SYS_READ, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		switch no {
		case 0:
			return buf[:n], nil
		case unix.EINTR:
		default:
			return nil, no
		}
	}
}

// LastPID is the number that was given last to a thread of any process that is
// seen from here, by /proc/loadavg; 0 when it isn't known.
func LastPID() int {
	text, err := readNow("/proc/loadavg", make([]byte, 128))
	if err != nil {
		return 0
	}
	if f := strings.Fields(string(text)); len(f) == 5 {
		n, _ := strconv.Atoi(f[4])
		return max(n, 0)
	}
	return 0
}

// Tasks lists the threads of a process, in the order of the directory, into room
// that the caller has already.
func Tasks(pid int, into []int) ([]int, error) {
	return numbersNow("/proc/"+strconv.Itoa(pid)+"/task", into)
}

// PIDs lists all processes like Tasks, the kernel's own threads among them.
func PIDs(into []int) ([]int, error) { return numbersNow("/proc", into) }

func numbersNow(dir string, into []int) ([]int, error) {
	fd, err := openNow(dir, unix.O_RDONLY|unix.O_DIRECTORY)
	if err != nil {
		return into, err
	}
	defer closeNow(fd)
	buf := make([]byte, 4<<10)
	var names []string
	for len(into) < maxThreads {
		n, _, no := unix.RawSyscall(unix.SYS_GETDENTS64, fd, uintptr(unsafe.Pointer(&buf[0])), uintptr(len(buf)))
		switch {
		case no == unix.EINTR:
			continue
		case no != 0:
			return into, no
		case n == 0:
			return into, nil
		}
		_, _, names = unix.ParseDirent(buf[:n], -1, names[:0])
		for _, name := range names {
			if n, err := strconv.Atoi(name); err == nil {
				into = append(into, n)
			}
		}
	}
	return into, nil
}

// TaskMemory opens the memory that a thread has now, for reading and writing.
// Only opening it is done at once.
func TaskMemory(pid, tid int) (*os.File, error) {
	path := taskFile(pid, tid, "mem")
	fd, err := openNow(path, unix.O_RDWR)
	if err != nil {
		return nil, err
	}
	return os.NewFile(fd, path), nil
}
