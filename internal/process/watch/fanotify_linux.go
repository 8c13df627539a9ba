// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// opens tells which processes open marked files (man 7 fanotify). Nobody waits
// for us: it is told, not asked.
type opens struct {
	file *os.File
	conn syscall.RawConn
	self int
}

// openOpens makes an empty set of marks.
func openOpens() (*opens, error) {
	fd, err := unix.FanotifyInit(unix.FAN_CLASS_NOTIF|unix.FAN_CLOEXEC|unix.FAN_NONBLOCK, unix.O_RDONLY|unix.O_CLOEXEC|unix.O_LARGEFILE|unix.O_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("fanotify_init: %w", err)
	}
	f := os.NewFile(uintptr(fd), "fanotify")
	conn, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, err
	}
	return &opens{f, conn, os.Getpid()}, nil
}

// mark adds a file. The mark stays with the file, whatever it is called later.
func (o *opens) mark(path string) error {
	var inner error
	err := o.conn.Control(func(fd uintptr) {
		inner = unix.FanotifyMark(int(fd), unix.FAN_MARK_ADD, unix.FAN_OPEN, unix.AT_FDCWD, path)
	})
	if err = errors.Join(err, inner); err != nil {
		return fmt.Errorf("fanotify_mark %s: %w", path, err)
	}
	return nil
}

const fanHeader = 24 // struct fanotify_event_metadata

// next waits for events and gives them to f.
func (o *opens) next(buf []byte, f func(happening)) error {
	n := 0
	var inner error
	err := o.conn.Read(func(fd uintptr) bool {
		for {
			n, inner = unix.Read(int(fd), buf)
			if !errors.Is(inner, unix.EINTR) {
				return !errors.Is(inner, unix.EAGAIN)
			}
		}
	})
	if err = errors.Join(err, inner); err != nil {
		return err
	}
	now := time.Now()
	for b := buf[:max(n, 0)]; len(b) >= fanHeader; {
		le := binary.LittleEndian
		size, mask, fd, pid := le.Uint32(b), le.Uint64(b[8:]), int32(le.Uint32(b[16:])), int(int32(le.Uint32(b[20:])))
		if size < fanHeader || int(size) > len(b) || b[4] != unix.FANOTIFY_METADATA_VERSION {
			return errors.New("fanotify: unexpected form of an event")
		}
		b = b[size:]
		if fd >= 0 {
			unix.Close(int(fd))
		}
		switch {
		case mask&unix.FAN_Q_OVERFLOW != 0:
			f(happening{what: lost, at: now})
		case pid > 0 && pid != o.self:
			f(happening{what: Mapped, pid: pid, at: now})
		}
	}
	return nil
}

// close ends a next that waits.
func (o *opens) close() error { return o.file.Close() }
