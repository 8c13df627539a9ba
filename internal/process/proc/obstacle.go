// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// failed makes a problem of an error that a look at a process has ended with.
// What is a problem or a context's end already stays as it is.
func failed(id ID, err error) error {
	if err == nil || code.Of(err) != "" {
		return err
	}
	switch {
	case errors.Is(err, unix.ESRCH), errors.Is(err, unix.ENOENT):
		return code.New("TS9601", id.String(), "")
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EPERM):
		if Yama() == 3 {
			return code.New("TS9606", id.String(), "kernel.yama.ptrace_scope is 3").With(err)
		}
		return code.New("TS9607", id.String(), Forbids(id.PID)).With(err)
	case errors.Is(err, unix.EINVAL):
		// pidfd_open: the number is one of a thread that leads no process
		return code.New("TS9601", id.String(), "the number is a thread's").With(err)
	}
	return err
}

// Obstacle tells what keeps the process from being stopped and patched now, as
// far as that can be seen from outside: TS9601, or one of TS9603 to TS9607. It
// is nil when nothing is seen; the attempt may still fail.
func (p *Process) Obstacle(ctx context.Context) *code.Problem {
	if err := p.obstacle(ctx); err != nil {
		return problem(p.id, err)
	}
	return nil
}

func (p *Process) obstacle(ctx context.Context) error {
	if err := p.Check(ctx); err != nil {
		return err
	}
	s, err := p.Status(ctx)
	if err != nil {
		return err
	}
	if s.TracerPID != 0 {
		why := "thread " + strconv.Itoa(s.TracerPID)
		if t, err := statOf(s.TracerPID); err == nil {
			why += ", " + strconv.Quote(t.comm)
		}
		return code.New("TS9605", p.id.String(), why)
	}
	if Yama() == 3 {
		return code.New("TS9606", p.id.String(), "kernel.yama.ptrace_scope is 3")
	}
	seen, err := p.sight(ctx)
	if err != nil {
		return err
	}
	// The program's own header tells what it is; the rest may wait.
	_, err = within(ctx, p.id, p.uid, func() (header, error) {
		maps, err := readMaps(seen.maps)
		if err != nil {
			return header{}, err
		}
		for i, m := range maps {
			if m.Contains(seen.image.code) {
				for i > 0 && maps[i].Offset != 0 && maps[i-1].Dev == m.Dev && maps[i-1].Inode == m.Inode {
					i--
				}
				return readHeader(seen.mem, maps[i].Start)
			}
		}
		return header{}, nil // it has moved its text; Objects will find what there is
	})
	switch {
	case errors.Is(err, errNot64):
		return code.New("TS9603", p.id.String(), "")
	case errors.Is(err, errNoELF), errors.Is(err, errBadELF), errors.Is(err, unix.EIO):
		return nil
	}
	return p.looked(err, false)
}

// Gone tells whether an error says that the process, or the program that it
// ran, has ended: nothing to worry about.
func Gone(err error) bool { return code.Of(err) == "TS9601" }

// Forbids names what there is on this system that may forbid this process to look
// into another, or to trace it: Yama's scope, and what AppArmor and SELinux hold
// the two for. It is "" when there is none of it.
func Forbids(pid int) string {
	var all []string
	if n := Yama(); n > 0 {
		all = append(all, "kernel.yama.ptrace_scope is "+strconv.Itoa(n))
	}
	label := func(pid, file string) string {
		text, _ := os.ReadFile("/proc/" + pid + "/attr/" + file)
		return strings.TrimSpace(strings.TrimRight(string(text), "\x00"))
	}
	other := strconv.Itoa(pid)
	if own := label("self", "apparmor/current"); own != "" && own != "unconfined" {
		all = append(all, fmt.Sprintf("AppArmor confines Tsugi by the profile %q, the process by %q", own, label(other, "apparmor/current")))
	}
	if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
		all = append(all, fmt.Sprintf("SELinux has Tsugi in the context %q, the process in %q", label("self", "current"), label(other, "current")))
	}
	return strings.Join(all, "; ")
}

// Yama is the ptrace scope of the Yama security module, 0 where it is not there.
func Yama() int {
	text, err := os.ReadFile("/proc/sys/kernel/yama/ptrace_scope")
	if err != nil {
		return 0
	}
	n, _ := number(strings.TrimSpace(string(text)))
	return n
}
