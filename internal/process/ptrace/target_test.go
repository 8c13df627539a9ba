// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// target is a running testdata/target.c.
type target struct {
	*exec.Cmd
	t   testing.TB
	in  io.WriteCloser
	out *bufio.Reader
}

var compiled struct {
	sync.Mutex
	dir string
	all map[string]string
}

// program compiles the C program, once per set of flags.
func program(t testing.TB, flags ...string) string {
	t.Helper()
	cc := need.Program(t, "gcc")
	compiled.Lock()
	defer compiled.Unlock()
	key := strings.Join(flags, " ")
	if path := compiled.all[key]; path != "" {
		return path
	}
	path := filepath.Join(compiled.dir, fmt.Sprintf("target%d", len(compiled.all)))
	args := append([]string{"-O1", "-Wall", "-pthread", "-o", path, "testdata/target.c"}, flags...)
	out, err := exec.CommandContext(t.Context(), cc, args...).CombinedOutput()
	if err != nil && len(flags) > 0 {
		need.Allowed(t, key, ": ", string(out))
	}
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	compiled.all[key] = path
	return path
}

// start runs the program and waits until it is ready.
func start(t testing.TB, args ...string) *target {
	t.Helper()
	return startProgram(t, program(t), args...)
}

func startProgram(t testing.TB, path string, args ...string) *target {
	t.Helper()
	return startAs(t, os.Getuid(), path, args...)
}

func startAs(t testing.TB, uid int, path string, args ...string) *target {
	t.Helper()
	r := &target{Cmd: exec.Command(path, args...), t: t}
	if uid != os.Getuid() {
		r.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	}
	r.Stderr = os.Stderr
	var err error
	r.in, err = r.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	out, err := r.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	r.out = bufio.NewReader(out)
	qt.Assert(t, qt.IsNil(r.Start()))
	t.Cleanup(func() { _ = r.Process.Kill(); _ = r.Wait() })
	r.expect("ready")
	return r
}

func (r *target) pid() int { return r.Process.Pid }

func (r *target) target() ptrace.Target { return ptrace.Target{PID: r.pid()} }

// expect reads a line of the program, in time.
func (r *target) expect(prefix string) string {
	r.t.Helper()
	type answer struct {
		line string
		err  error
	}
	got := make(chan answer, 1)
	go func() {
		line, err := r.out.ReadString('\n')
		got <- answer{strings.TrimSpace(line), err}
	}()
	select {
	case a := <-got:
		qt.Assert(r.t, qt.IsTrue(strings.HasPrefix(a.line, prefix)), qt.Commentf("%q, %v", a.line, a.err))
		return strings.TrimSpace(strings.TrimPrefix(a.line, prefix))
	case <-time.After(time.Minute):
		state, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.pid()))
		r.t.Fatalf("no answer of the program; its state:\n%s", state)
	}
	return ""
}

// finish ends the program, which says that all went right.
func (r *target) finish() string {
	r.t.Helper()
	_, err := r.in.Write([]byte("x"))
	qt.Assert(r.t, qt.IsNil(err))
	n := r.expect("done")
	qt.Check(r.t, qt.IsNil(r.Wait()))
	return n
}

// until waits for the program to be where a test wants it.
func (r *target) until(what string, is func() bool) {
	r.t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		qt.Assert(r.t, qt.IsTrue(time.Now().Before(end)), qt.Commentf("the program is never %s", what))
	}
}

// untraced demands that nobody traces any thread of the process.
func (r *target) untraced() {
	r.t.Helper()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", r.pid()))
	for _, task := range tasks {
		b, err := os.ReadFile(task)
		if err != nil {
			continue
		}
		qt.Check(r.t, qt.IsTrue(strings.Contains(string(b), "TracerPid:\t0\n")), qt.Commentf("%s", b))
		qt.Check(r.t, qt.IsFalse(strings.Contains(string(b), "State:\tt")), qt.Commentf("%s", b))
	}
}

// patient allows for a busy machine.
var patient = ptrace.Options{Grace: 3 * time.Second}

func (r *target) mmap(l *ptrace.Loan) uintptr {
	r.t.Helper()
	at, err := l.Syscall(unix.SYS_MMAP, 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS, ^uintptr(0), 0)
	qt.Assert(r.t, qt.IsNil(err))
	return at
}
