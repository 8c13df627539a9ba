// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

// The test program is its own tracer that dies: "PID STEP", in this variable,
// has it trace and kill itself at that step.
const suicide = "TSUGI_TEST_PTRACE_SUICIDE"

func TestMain(m *testing.M) {
	if job := os.Getenv(suicide); job != "" {
		die(job)
	}
	dir, err := os.MkdirTemp("", "tsugi-ptrace-")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	compiled.dir, compiled.all = dir, map[string]string{}
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// chain maps two pages side by side, each by a call.
func chain(at uintptr) []ptrace.Call {
	const flags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED
	return []ptrace.Call{
		{Number: unix.SYS_MMAP, Args: [6]uintptr{at, 4096, unix.PROT_READ, flags, ^uintptr(0)}},
		{Number: unix.SYS_GETPID},
		{Number: unix.SYS_MMAP, Args: [6]uintptr{at + 4096, 4096, unix.PROT_READ | unix.PROT_EXEC, flags, ^uintptr(0)}},
	}
}

// die makes system calls in a process, or stops it, and dies at a step. It ends
// with 0 when it got to the end alive.
func die(job string) {
	var pid, at int
	var how string
	if _, err := fmt.Sscanf(job, "%s %d %d", &how, &pid, &at); err != nil {
		panic(err)
	}
	n := 0
	opt := patient
	opt.Hook = func(ptrace.Step) {
		if n++; n == at {
			_ = unix.Kill(unix.Getpid(), unix.SIGKILL)
			select {}
		}
	}
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
	}
	t := ptrace.Target{PID: pid}
	switch how {
	case "stop":
		s, err := ptrace.Stop(context.Background(), t, opt)
		fail(err)
		_, err = s.Resume()
		fail(err)
	case "call":
		l, err := ptrace.Borrow(context.Background(), t, opt)
		fail(err)
		for range 2 {
			at, err := l.Syscall(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
			fail(err)
			_, err = l.Syscall(unix.SYS_MUNMAP, at, 4096)
			fail(err)
		}
		_, err = l.Return()
		fail(err)
	case "chain":
		l, err := ptrace.Borrow(context.Background(), t, opt)
		fail(err)
		for range 2 {
			_, err = l.Chain(chain(1 << 34))
			fail(err)
			_, err = l.Syscall(unix.SYS_MUNMAP, 1<<34, 8192)
			fail(err)
		}
		_, err = l.Return()
		fail(err)
	}
	os.Exit(0)
}
