// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Process holds one process, so that every later look is at the same one. It
// may be used by several goroutines at a time.
type Process struct {
	id    ID
	uid   uint32   // who owns /proc/PID: its effective user, or root where it is not dumpable
	pidfd *os.File // of the whole thread group
	dir   *os.File // /proc/PID

	mu   sync.Mutex
	seen *sight // what the memory is reached by; nil until it is needed
}

// Open takes hold of a process by its number.
func Open(ctx context.Context, pid int) (*Process, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	where := ID{PID: pid}
	if pid <= 0 {
		return nil, code.New("TS9601", where.String(), "no process has such a number")
	}
	// PIDFD_NONBLOCK only matters to waitid, which is not used here.
	fd, err := retry(func() (int, error) { return unix.PidfdOpen(pid, 0) })
	if err != nil {
		return nil, failed(where, err)
	}
	p := &Process{pidfd: os.NewFile(uintptr(fd), "pidfd")}
	if p.dir, err = openDir(pid); err != nil {
		p.Close()
		return nil, failed(where, err)
	}
	s, err := p.stat("stat")
	if err != nil {
		p.Close()
		return nil, failed(where, err)
	}
	p.id = ID{PID: pid, Start: s.start}
	if err := p.alive(); err != nil { // or the directory may be of a later process of this number
		p.Close()
		return nil, err
	}
	if s.kernel() {
		p.Close()
		return nil, code.New("TS9602", where.String(), s.comm)
	}
	var info unix.Stat_t
	if err := p.withDir(func(dir int) error { return unix.Fstat(dir, &info) }); err != nil {
		p.Close()
		return nil, failed(where, err)
	}
	p.uid = info.Uid
	return p, nil
}

// OpenID takes hold of the process that an earlier look has found. When the
// number has gone to another process it is TS9601.
func OpenID(ctx context.Context, id ID) (*Process, error) {
	p, err := Open(ctx, id.PID)
	if err != nil {
		return nil, err
	}
	if p.id != id {
		p.Close()
		return nil, code.New("TS9601", id.String(), "another process has its number now")
	}
	return p, nil
}

func openDir(pid int) (*os.File, error) {
	path := "/proc/" + strconv.Itoa(pid)
	fd, err := retry(func() (int, error) {
		return unix.Open(path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	})
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), path), nil
}

// Close lets go of the process. It changes nothing in it.
func (p *Process) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop()
	errs := []error{p.pidfd.Close()}
	if p.dir != nil {
		errs = append(errs, p.dir.Close())
	}
	return errors.Join(errs...)
}

// drop forgets the ways to the memory. A goroutine that still reads holds its
// own reference: the descriptor is closed when it comes back.
func (p *Process) drop() {
	if p.seen != nil {
		p.seen.mem.Close()
		p.seen.maps.Close()
		p.seen = nil
	}
}

// ID is the process's name.
func (p *Process) ID() ID { return p.id }

// PID is the process's number here. Between a [Process.Check] and its use it
// can only have gone to another process if this one has ended meanwhile.
func (p *Process) PID() int { return p.id.PID }

// Owner is who owns the process: its effective user, or root where it is not
// dumpable.
func (p *Process) Owner() uint32 { return p.uid }

// PIDFD is the descriptor of the whole thread group, for as long as the
// process is not closed. It is readable when all its threads have ended.
func (p *Process) PIDFD() int { return int(p.pidfd.Fd()) }

// alive tells whether the thread group has a thread left.
func (p *Process) alive() error {
	fds := []unix.PollFd{{Fd: int32(p.pidfd.Fd()), Events: unix.POLLIN}}
	if _, err := retry(func() (int, error) { return unix.Poll(fds, 0) }); err != nil {
		return failed(p.id, err)
	}
	if fds[0].Revents != 0 {
		return code.New("TS9601", p.id.String(), "")
	}
	return nil
}

// Check tells whether the process still runs, and still the program that was
// looked at first through this value. It is TS9601 otherwise.
func (p *Process) Check(ctx context.Context) error {
	if err := p.alive(); err != nil {
		return err
	}
	p.mu.Lock()
	seen := p.seen
	p.mu.Unlock()
	if seen == nil {
		return nil
	}
	_, now, err := p.living(ctx)
	if err != nil {
		return err
	}
	if now != seen.image {
		return code.New("TS9601", p.id.String(), "it runs another program now")
	}
	return nil
}

// withDir lends the descriptor of /proc/PID.
func (p *Process) withDir(f func(dir int) error) error {
	conn, err := p.dir.SyscallConn()
	if err != nil {
		return err
	}
	var inner error
	if err := conn.Control(func(fd uintptr) { inner = f(int(fd)) }); err != nil {
		return err
	}
	return inner
}

func (p *Process) stat(path string) (s stat, err error) {
	err = p.withDir(func(dir int) error {
		s, err = statAt(dir, path)
		return err
	})
	return s, err
}

// ReadFile reads a file below /proc/PID, such as "task/12/syscall", up to max
// bytes. More than that is an error.
func (p *Process) ReadFile(ctx context.Context, name string, max int) ([]byte, error) {
	text, err := within(ctx, p.id, p.uid, func() (text []byte, err error) {
		err = p.withDir(func(dir int) error {
			fd, err := retry(func() (int, error) { return unix.Openat(dir, name, unix.O_RDONLY|unix.O_CLOEXEC, 0) })
			if err != nil {
				return err
			}
			f := os.NewFile(uintptr(fd), name)
			defer f.Close()
			text, err = io.ReadAll(io.LimitReader(f, int64(max)+1))
			return err
		})
		return text, err
	})
	if err != nil {
		return nil, failed(p.id, err)
	}
	if len(text) > max {
		return nil, code.New("TS9604", p.id.String(), fmt.Sprintf("/proc/%d/%s is longer than %d bytes", p.id.PID, name, max))
	}
	return text, nil
}

// maxThreads bounds what one process can make us list; the kernel's own limit
// of the whole system is kernel.threads-max.
const maxThreads = 1 << 20

// Threads tells the numbers of the threads, ended ones that are not collected
// yet included, in rising order.
func (p *Process) Threads(ctx context.Context) ([]int, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	var tids []int
	err := p.withDir(func(dir int) error {
		fd, err := retry(func() (int, error) {
			return unix.Openat(dir, "task", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
		})
		if err != nil {
			return err
		}
		f := os.NewFile(uintptr(fd), "task")
		defer f.Close()
		for len(tids) < maxThreads {
			names, err := f.Readdirnames(1024)
			for _, name := range names {
				if tid, ok := number(name); ok {
					tids = append(tids, tid)
				}
			}
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, failed(p.id, err)
	}
	if len(tids) == 0 {
		return nil, code.New("TS9601", p.id.String(), "")
	}
	slices.Sort(tids)
	return tids, nil
}
