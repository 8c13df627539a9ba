// SPDX-License-Identifier: Apache-2.0

package guest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Script is the argument of the verb "script": a shell script that is run
// with -e not set, from /tmp, with the kernel's environment.
type Script struct {
	Text     string   `json:"text"`
	Env      []string `json:"env,omitempty"`
	MustPass bool     `json:"must_pass,omitempty"` // another exit status than 0 fails the step
}

// ScriptResult tells how a script ended.
type ScriptResult struct {
	Exit     int    `json:"exit"`             // -1 when it did not exit by itself
	Signal   string `json:"signal,omitempty"` // that ended it
	TimedOut bool   `json:"timed_out,omitempty"`
	// Stuck says that it was still there after it was killed: a task that the
	// kernel does not let go. Stacks shows where its processes hang.
	Stuck   bool   `json:"stuck,omitempty"`
	Stacks  string `json:"stacks,omitempty"`
	Output  string `json:"output"` // stdout and stderr; the middle is cut when long
	Elapsed int64  `json:"ns"`
}

// DefaultScriptTime limits a script whose step has no time limit.
const DefaultScriptTime = 2 * time.Minute

// preamble is put before a script's first line, on the same line so that
// line numbers in messages hold: Debian's busybox shell prefers its own
// modprobe, which wants the files of depmod.
const preamble = `modprobe() { /sbin/modprobe "$@"; }; `

const killGrace = 3 * time.Second

func script(ctx context.Context, env *Env, args json.RawMessage) (any, error) {
	var a Script
	if err := json.Unmarshal(args, &a); err != nil {
		return nil, err
	}
	r, err := RunScript(ctx, env, a)
	if err == nil && a.MustPass && r.Exit != 0 {
		err = fmt.Errorf("script ended with status %d%s", r.Exit, r.Signal)
	}
	return r, err
}

// RunScript runs a script in a session of its own and kills all of that when
// the context ends.
func RunScript(ctx context.Context, env *Env, a Script) (*ScriptResult, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, DefaultScriptTime)
		defer cancel()
	}
	f, err := os.CreateTemp("/tmp", "script-*.sh")
	if err != nil {
		return nil, err
	}
	defer os.Remove(f.Name())
	_, err = f.WriteString(preamble + a.Text)
	if err = errors.Join(err, f.Close()); err != nil {
		return nil, err
	}

	out := &tail{limit: 64 << 10}
	cmd := exec.Command("/bin/sh", f.Name())
	cmd.Dir = "/tmp"
	cmd.Env = append(os.Environ(), a.Env...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	cmd.WaitDelay = time.Second // a daemon that it left may hold the pipe
	start := time.Now()
	if err := env.start(cmd); err != nil {
		return nil, err
	}
	pid := cmd.Process.Pid
	defer env.forget(cmd)

	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	r := &ScriptResult{Exit: -1}
	select {
	case <-ended:
	case <-ctx.Done():
		r.TimedOut = true
		r.Stacks = sessionStacks(pid)
		killSession(pid)
		select {
		case <-ended:
			r.Stacks = ""
		case <-time.After(killGrace):
			r.Stuck = true
		}
	}
	r.Elapsed = time.Since(start).Nanoseconds()
	r.Output = out.String()
	if !r.Stuck {
		if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
			r.Signal = unix.SignalName(ws.Signal())
		} else {
			r.Exit = cmd.ProcessState.ExitCode()
		}
	}
	return r, nil
}

// session lists the processes of a session, which survive their leader.
func session(sid int) []int {
	var pids []int
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, d := range dirs {
		pid, err := strconv.Atoi(filepath.Base(d))
		if err != nil {
			continue
		}
		if s, err := unix.Getsid(pid); err == nil && s == sid {
			pids = append(pids, pid)
		}
	}
	return pids
}

func killSession(sid int) {
	for range 3 { // a process may fork while the list is made
		for _, p := range session(sid) {
			_ = unix.Kill(p, unix.SIGKILL)
		}
	}
}

func sessionStacks(sid int) string {
	var b bytes.Buffer
	for _, p := range session(sid) {
		if b.Len() > 16<<10 {
			break
		}
		fmt.Fprintf(&b, "%d %s\n%s\n", p, ReadLine(fmt.Sprintf("/proc/%d/comm", p)), ReadLine(fmt.Sprintf("/proc/%d/stack", p)))
	}
	return b.String()
}

// tail keeps the first and the last limit/2 bytes of what is written to it.
type tail struct {
	mu    sync.Mutex
	limit int
	head  []byte
	last  []byte
	cut   int64
}

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := len(p)
	half := t.limit / 2
	if room := half - len(t.head); room > 0 {
		k := min(room, len(p))
		t.head, p = append(t.head, p[:k]...), p[k:]
	}
	t.last = append(t.last, p...)
	if over := len(t.last) - half; over > 0 {
		t.cut += int64(over)
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return n, nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.cut == 0 {
		return string(t.head) + string(t.last)
	}
	return fmt.Sprintf("%s\n[%d bytes cut]\n%s", t.head, t.cut, t.last)
}
