// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/pagemap"
)

// Still is the memory of a process while the caller keeps it stopped: only what
// is there is touched, and nothing is waited for, handed over or allocated.
// What it can't do so it leaves, and says so; [Process.ReadPieces] and
// [Memory] can be asked then. It is for one goroutine at a time.
type Still struct {
	s     *sight
	pages *pagemap.File
	// Absent tells that something was asked for that is not there.
	Absent bool
	local  []unix.Iovec
	remote []unix.RemoteIovec
}

// Still prepares for a stop in which up to so many pieces are read together. It
// must be closed.
func (p *Process) Still(ctx context.Context, pieces int) (*Still, error) {
	s, err := p.sight(ctx)
	if err != nil {
		return nil, err
	}
	pieces = max(pieces, 1)
	m := &Still{s: s, local: make([]unix.Iovec, 0, pieces), remote: make([]unix.RemoteIovec, 0, pieces)}
	m.pages, _ = pagemap.Open(p.id.PID, s.tid) // without it nothing is there
	return m, nil
}

// Close gives back what it has opened.
func (m *Still) Close() {
	m.pages.Close()
	m.pages = nil
}

var errAbsent = errors.New("a page is not there")

// ReadPieces reads all pieces, and tells whether it did.
func (m *Still) ReadPieces(pieces []Piece) bool {
	if len(pieces) == 0 {
		return true
	}
	if len(pieces) > min(cap(m.local), vector) {
		return false
	}
	m.local, m.remote = m.local[:0], m.remote[:0]
	want := 0
	for i := range pieces {
		b := pieces[i].Data
		if m.pages.Readable(pieces[i].Addr, uint64(len(b))) < uint64(len(b)) {
			m.Absent = true
			return false
		}
		m.local = append(m.local, unix.Iovec{Base: unsafe.SliceData(b), Len: uint64(len(b))})
		m.remote = append(m.remote, unix.RemoteIovec{Base: uintptr(pieces[i].Addr), Len: len(b)})
		want += len(b)
	}
	if m.readv() != want {
		return false
	}
	for i := range pieces {
		pieces[i].N = len(pieces[i].Data)
	}
	return true
}

func (m *Still) readv() int {
	n, _, no := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(m.s.tid),
		uintptr(unsafe.Pointer(unsafe.SliceData(m.local))), uintptr(len(m.local)),
		uintptr(unsafe.Pointer(unsafe.SliceData(m.remote))), uintptr(len(m.remote)), 0)
	if no != 0 {
		return 0
	}
	return int(n)
}

// ReadAt reads what is there of len(b) bytes at an address.
func (m *Still) ReadAt(b []byte, addr int64) (int, error) {
	n := m.pages.Readable(uint64(addr), uint64(len(b)))
	if n < uint64(len(b)) {
		m.Absent = true
	}
	if n == 0 {
		return 0, errAbsent
	}
	m.local = append(m.local[:0], unix.Iovec{Base: unsafe.SliceData(b), Len: n})
	m.remote = append(m.remote[:0], unix.RemoteIovec{Base: uintptr(addr), Len: int(n)})
	got := m.readv()
	if got < len(b) {
		return got, errAbsent
	}
	return got, nil
}

// WriteAt writes b at an address where that can be done at once, and tells
// whether it did. The error is of a try that failed: nothing is written then.
func (m *Still) WriteAt(b []byte, addr uint64) (bool, error) {
	if m.pages.Writable(addr, uint64(len(b))) < uint64(len(b)) {
		m.Absent = true
		return false, nil
	}
	_, err := m.s.mem.WriteAt(b, int64(addr))
	return err == nil, err
}
