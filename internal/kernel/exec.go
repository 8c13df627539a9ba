// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Command is one run of a program of the host.
type Command struct {
	Dir    string   // working directory, "" for the current one
	Env    []string // added to the clean environment of [Command.Run]
	Name   string
	Args   []string
	Stdin  io.Reader
	Stdout io.Writer // nil: collected and returned
	Merge  bool      // collect standard error with standard output
	Files  []*os.File
}

// ExitError tells that a program ran and ended with a non-zero status.
type ExitError struct {
	Command string // program and first arguments
	Status  int
	Output  []byte // standard error, after collected standard output; the last 64 KiB
}

func (e *ExitError) Error() string {
	return fmt.Sprintf("%s: exit status %d", e.Command, e.Status)
}

// Run runs the program in a process group of its own and an environment that
// holds nothing a kernel build could pick up by accident: no MAKEFLAGS, ARCH,
// CROSS_COMPILE, KCFLAGS or locale of the caller. When ctx ends the whole
// group is told to terminate, so that make removes what it has half written,
// and is killed after three seconds.
//
// It returns standard output, and as error a *code.Problem when the program
// is missing or ctx ended, or an *ExitError.
func (c Command) Run(ctx context.Context) ([]byte, error) {
	if err := Interrupted(ctx); err != nil {
		return nil, err
	}
	path := c.Name
	if !strings.Contains(path, "/") { // else it is relative to Dir, as os/exec has it
		var err error
		if path, err = exec.LookPath(c.Name); err != nil {
			return nil, missingTool(c.Name).With(err)
		}
	}
	cmd := exec.CommandContext(ctx, path, c.Args...)
	cmd.Args[0] = c.Name
	cmd.Dir = c.Dir
	cmd.Env = append(cleanEnv(), c.Env...)
	cmd.Stdin = c.Stdin
	cmd.ExtraFiles = c.Files
	// A program of a process that was killed must not work on in directories
	// whose locks are free now. Told to terminate, make ends its compilers too.
	// The signal belongs to the thread that forked (prctl(2)): it is kept.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.WaitDelay = 3 * time.Second

	var stdout bytes.Buffer
	stderr := &tail{limit: 64 << 10}
	cmd.Stdout, cmd.Stderr = io.MultiWriter(&stdout, stderr), stderr
	switch {
	case c.Stdout != nil:
		cmd.Stdout = c.Stdout
	case c.Merge:
		cmd.Stderr = cmd.Stdout // one writer: os/exec then keeps the order
	}
	err := cmd.Run()
	if ctx.Err() != nil {
		if cmd.Process != nil {
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		}
		return nil, Interrupted(ctx)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return stdout.Bytes(), &ExitError{Command: c.String(), Status: exit.ExitCode(), Output: stderr.Bytes()}
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	return stdout.Bytes(), nil
}

// String shows the program and as many arguments as a message can carry.
func (c Command) String() string {
	s := strings.Join(append([]string{c.Name}, c.Args...), " ")
	if len(s) > 100 {
		s = s[:100] + "…"
	}
	return s
}

// Interrupted turns the end of a context into the problem that tells so.
func Interrupted(ctx context.Context) error {
	if ctx.Err() == nil {
		return nil
	}
	return code.New("TS9102", "", "").With(ctx.Err())
}

// OrInterrupted returns err, or that ctx ended if it did: what failed then
// failed because of it.
func OrInterrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return Interrupted(ctx)
	}
	return err
}

// DiskError gives an error of writing its own problem when the disk is full.
func DiskError(path string, err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return code.New("TS9103", path, "").With(err)
	}
	return err
}

// toolPackages names the Debian package of each program that the chain runs.
var toolPackages = map[string]string{
	"apt-cache": "apt", "apt-get": "apt", "make": "make", "xz": "xz-utils", "zstd": "zstd",
	"gcc": "gcc", "gcc-12": "gcc-12", "ld": "binutils", "flex": "flex", "bison": "bison", "bc": "bc",
	"pahole": "dwarves", "perl": "perl", "cpio": "cpio", "sh": "dash",
}

func missingTool(name string) *code.Problem {
	pkg, ok := toolPackages[name]
	if !ok {
		pkg = name
	}
	return code.New("TS9101", name, "").WithFix("apt-get install " + pkg)
}

func cleanEnv() []string {
	env := []string{"LC_ALL=C", "TZ=UTC", "DEBIAN_FRONTEND=noninteractive"}
	for _, k := range []string{"PATH", "HOME", "TMPDIR", "http_proxy", "https_proxy", "no_proxy"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// tail keeps the last bytes written to it, by standard output and standard
// error at the same time.
type tail struct {
	limit int
	mu    sync.Mutex
	buf   []byte
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, p...)
	if len(t.buf) > 2*t.limit {
		t.buf = append(t.buf[:0], t.buf[len(t.buf)-t.limit:]...)
	}
	return len(p), nil
}

func (t *tail) Bytes() []byte { return t.buf[max(0, len(t.buf)-t.limit):] }
