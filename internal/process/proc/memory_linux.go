// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Memory is a process's memory by its addresses. It is an io.ReaderAt and an
// io.WriterAt, for as long as its context; each call is limited by Limit.
// Writing reaches read-only pages too, and gives the process its own copy of a
// file's page. The process may run meanwhile.
type Memory struct {
	p   *Process
	ctx context.Context
}

// Memory gives the process's memory for the time of ctx.
func (p *Process) Memory(ctx context.Context) *Memory { return &Memory{p, ctx} }

// ReadAt reads len(b) bytes at an address. Where less can be read it says how
// much, with an error; io.EOF is not among them, since memory has no end.
func (m *Memory) ReadAt(b []byte, addr int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s, err := m.p.sight(m.ctx)
	if err != nil {
		return 0, err
	}
	type read struct {
		own []byte // a reader that is given up may still write here
		err error
	}
	if g := guardOf(m.ctx); g != nil { // nobody else has b then
		n, err := call(g, func() (int, error) { return s.mem.ReadAt(b, addr) })
		return n, m.judge(addr+int64(n), err)
	}
	r, err := within(m.ctx, m.p.id, m.p.uid, func() (read, error) {
		own := make([]byte, len(b))
		n, err := s.mem.ReadAt(own, addr)
		return read{own[:n], err}, nil
	})
	if err != nil {
		return 0, err
	}
	return copy(b, r.own), m.judge(addr+int64(len(r.own)), r.err)
}

// WriteAt writes b at an address. An error may leave a part of it written.
// unix.EIO means an address that is not mapped, or a kernel that forbids to
// write where the process itself may not (proc_mem.force_override).
func (m *Memory) WriteAt(b []byte, addr int64) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s, err := m.p.sight(m.ctx)
	if err != nil {
		return 0, err
	}
	type written struct {
		n   int
		err error
	}
	own := append([]byte(nil), b...) // a writer that is given up may still read it
	w, err := within(m.ctx, m.p.id, m.p.uid, func() (written, error) {
		n, err := s.mem.WriteAt(own, addr) // goes on after a part, and knows of signals
		return written{n, err}, nil
	})
	if err != nil {
		return 0, err
	}
	return w.n, m.judge(addr+int64(w.n), w.err)
}

// judge makes a problem of an address that can't be read or written.
func (m *Memory) judge(addr int64, err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // nothing is read or written
		return code.New("TS9601", m.p.id.String(), "its memory is gone")
	case errors.Is(err, unix.EIO), errors.Is(err, unix.EFAULT):
		return &AddressError{Process: m.p.id, Addr: uint64(addr), Err: err}
	}
	return failed(m.p.id, err)
}

// Piece is a range of a process's memory to read in one go with others.
type Piece struct {
	Addr uint64
	Data []byte // what to fill
	N    int    // how much of Data has been read
}

// vector is how many ranges one system call takes (UIO_MAXIOV).
const vector = 1024

// ReadPieces reads many ranges with few system calls, for the time in which the
// process is stopped: nothing is allocated per piece, and the time limit costs
// one handing over for all of them. N of a piece that can't be read is short;
// that is no error. After an error the pieces must not be used again, since
// the reader that was given up may still fill them.
//
// It goes by number, so the process must be one that cannot be collected:
// stopped by the caller's own tracing, for instance.
func (p *Process) ReadPieces(ctx context.Context, pieces []Piece) error {
	s, err := p.sight(ctx)
	if err != nil {
		return err
	}
	_, err = within(ctx, p.id, p.uid, func() (struct{}, error) {
		var none struct{}
		local := make([]unix.Iovec, 0, min(len(pieces), vector))
		remote := make([]unix.RemoteIovec, 0, min(len(pieces), vector))
		for i := 0; i < len(pieces); {
			local, remote = local[:0], remote[:0]
			for j := i; j < len(pieces) && len(local) < vector; j++ {
				v := unix.Iovec{}
				if n := len(pieces[j].Data); n > 0 {
					v.Base = unsafe.SliceData(pieces[j].Data)
					v.SetLen(n)
				}
				local = append(local, v)
				remote = append(remote, unix.RemoteIovec{Base: uintptr(pieces[j].Addr), Len: len(pieces[j].Data)})
			}
			got, err := retry(func() (int, error) { return unix.ProcessVMReadv(s.tid, local, remote, 0) })
			if err != nil && !errors.Is(err, unix.EFAULT) {
				return none, err
			}
			// The kernel stops at the first page that it can't read: that piece
			// stays short, and the next call goes on behind it.
			for got = max(got, 0); len(local) > 0; local = local[1:] {
				n := min(got, len(pieces[i].Data))
				short := n < len(pieces[i].Data)
				pieces[i].N = n
				got -= n
				i++
				if short {
					break
				}
			}
		}
		return none, nil
	})
	return p.looked(err, false)
}

// AddressError is an address of a process that can't be read or written.
type AddressError struct {
	Process ID
	Addr    uint64
	Err     error
}

func (e *AddressError) Error() string {
	return fmt.Sprintf("%s: address %#x: %v", e.Process, e.Addr, e.Err)
}

func (e *AddressError) Unwrap() error { return e.Err }
