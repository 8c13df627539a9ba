// SPDX-License-Identifier: Apache-2.0

// Package pagemap tells which pages of a process are in memory, from
// /proc/PID/pagemap (Documentation/admin-guide/mm/pagemap.rst).
//
// A page that is there can be read at once. One that is not may have to come
// from a file system that is dead, or from a program that hands pages out
// (userfaultfd) and that may be the very process that is stopped: whoever
// traces it must not wait for such a page. So the thread that keeps a process
// stopped touches pages that are there, and leaves others to a goroutine that
// it can do without.
//
// Between the question and the use the kernel may take a page away when memory
// runs short; it takes those that were used lately last.
package pagemap

import (
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

const (
	pageSize = 4096
	present  = 1 << 63
	guarded  = 1 << 57 // written pages are handed to a program (userfaultfd)
	guard    = 1 << 58 // MADV_GUARD_INSTALL, since Linux 6.15
	batch    = 64
)

// File is the pagemap of a process's memory, of the program that it ran when
// this was opened. It is for one goroutine at a time.
type File struct {
	fd      int
	entries [batch]uint64
}

// Open opens the pagemap of a thread. The error means that nothing can be told
// of its pages.
func Open(pid, tid int) (*File, error) {
	path := "/proc/" + strconv.Itoa(pid) + "/task/" + strconv.Itoa(tid) + "/pagemap"
	fd, err := unix.Open(path, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return &File{fd: fd}, nil
}

// Close closes it. Nil may be closed.
func (f *File) Close() {
	if f != nil {
		_ = unix.Close(f.fd)
	}
}

// Readable is how many of the size bytes from an address on lie in pages that
// are there. Of a nil File nothing is known: 0.
func (f *File) Readable(addr, size uint64) uint64 { return f.there(addr, size, present, present) }

// Writable is Readable for writing.
func (f *File) Writable(addr, size uint64) uint64 {
	return f.there(addr, size, present|guarded, present)
}

// Guards tells whether one of these pages is a guard that no mapping shows
// (MADV_GUARD_INSTALL), as below the stacks of threads since glibc 2.42.
func (f *File) Guards(addr, size uint64) bool {
	return f != nil && f.there(addr, size, guard, 0) < size
}

func (f *File) there(addr, size, mask, want uint64) uint64 {
	if f == nil || size == 0 || addr+size < addr || addr >= 1<<63 {
		return 0
	}
	first, last := addr/pageSize, (addr+size-1)/pageSize
	for at := first; at <= last; {
		n := min(last-at+1, batch)
		// It returns at once, so Go's scheduler is not told: see ptrace.
		got, _, no := unix.RawSyscall6(unix.SYS_PREAD64, uintptr(f.fd), uintptr(unsafe.Pointer(&f.entries)), uintptr(n*8), uintptr(at*8), 0, 0)
		if no != 0 || got != uintptr(n*8) {
			n = 0
		}
		for i := range n {
			if f.entries[i]&mask != want {
				return bytesUpTo(addr, at+i)
			}
		}
		if n == 0 {
			return bytesUpTo(addr, at)
		}
		at += n
	}
	return size
}

// bytesUpTo is how many bytes lie from an address to the start of a page.
func bytesUpTo(addr, page uint64) uint64 {
	return page*pageSize - min(addr, page*pageSize)
}
