// SPDX-License-Identifier: Apache-2.0

// Package inside is what runs in the virtual machines of test/guest: process 1,
// which takes requests from the host as steps, and engines, its children, which
// start programs and patch them. An engine is a process of its own since
// process 1 takes note of whatever ends, and would take the stops of what is
// traced as well.
package inside

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"syscall"

	"github.com/tsugi-project/tsugi/internal/vm/guest"
)

// Verb is the verb of all steps: its argument is a Request, its result an Answer.
const Verb = "engine"

// Request is one thing that an engine is to do.
type Request struct {
	Engine Who    `json:"engine"`
	Do     string `json:"do"`
	Name   string `json:"name,omitempty"` // of the program, by which later requests call it
	PID    int    `json:"pid,omitempty"`  // of a process that the engine has not started
	Budget int    `json:"budget,omitempty"`
	// start
	Argv   []string `json:"argv,omitempty"`
	User   int      `json:"user,omitempty"`
	Spaces bool     `json:"spaces,omitempty"` // user, pid and mount namespaces of its own
	Label  string   `json:"label,omitempty"`  // what a security module confines it by
	// ask
	Line string `json:"line,omitempty"`
	// apply, find, watch
	Patch string `json:"patch,omitempty"`
	File  string `json:"file,omitempty"`
}

// Who is an engine: user and what a security module confines it by. The zero
// value is root's, unconfined.
type Who struct {
	User  int    `json:"user,omitempty"`
	Label string `json:"label,omitempty"`
}

// Answer is what came of a request.
type Answer struct {
	Error   string   `json:"error,omitempty"` // the request could not be fulfilled
	PID     int      `json:"pid,omitempty"`
	Text    string   `json:"text,omitempty"`
	Result  *Result  `json:"result,omitempty"`
	Threads []Thread `json:"threads,omitempty"`
	Found   []Found  `json:"found,omitempty"`
}

// Result is what was done to a process.
type Result struct {
	State string `json:"state"`
	Code  string `json:"code,omitempty"`
	Why   string `json:"why,omitempty"`
	Fix   string `json:"fix,omitempty"`
	Tries int    `json:"tries,omitempty"`
	Pause int64  `json:"pause_us,omitempty"`
	Took  int64  `json:"took_ms"`
}

// Thread is one thread of a process as /proc shows it.
type Thread struct {
	Name  string `json:"name"`
	Flags uint64 `json:"flags"`
}

// Found is a process that was found by what it maps.
type Found struct {
	PID    int     `json:"pid"`
	Code   string  `json:"code,omitempty"`
	Static bool    `json:"static,omitempty"`
	Source string  `json:"source,omitempty"` // of watch
	After  int64   `json:"after_ms,omitempty"`
	Result *Result `json:"result,omitempty"`
}

// Main turns this process into a guest or into an engine of one, and does not
// return then.
func Main() {
	if len(os.Args) > 1 && os.Args[1] == Verb {
		serve(os.Stdin, os.Stdout)
		os.Exit(0)
	}
	r := &relay{engines: map[Who]*engineProcess{}}
	guest.Main(map[string]guest.Verb{Verb: r.step})
}

// relay hands steps to engines.
type relay struct {
	engines map[Who]*engineProcess
}

type engineProcess struct {
	in  io.Writer
	out *bufio.Reader
}

func (r *relay) step(_ context.Context, _ *guest.Env, args json.RawMessage) (any, error) {
	var req Request
	if err := json.Unmarshal(args, &req); err != nil {
		return nil, err
	}
	e := r.engines[req.Engine]
	if e == nil {
		var err error
		if e, err = start(req.Engine); err != nil {
			return nil, err
		}
		r.engines[req.Engine] = e
	}
	if _, err := e.in.Write(append(args, '\n')); err != nil {
		return nil, err
	}
	line, err := e.out.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("the engine has ended: %w", err)
	}
	return json.RawMessage(line), nil
}

// start starts an engine. Nobody waits for it: it ends with the machine.
func start(w Who) (*engineProcess, error) {
	cmd := exec.Command("/init", Verb)
	cmd.Stderr = os.Stderr
	if w.User != 0 {
		cmd.SysProcAttr = as(w.User)
	}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := labelled(w.Label, cmd.Start); err != nil {
		return nil, err
	}
	return &engineProcess{in, bufio.NewReader(out)}, nil
}

func as(user int) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(user), Gid: uint32(user)}}
}

// labelled starts a program that a security module confines: by a profile of
// AppArmor's, or in a context of SELinux's. The kernel takes what the thread
// says that starts it, which then ends: others would have the same of it.
func labelled(label string, start func() error) error {
	if label == "" {
		return start()
	}
	done := make(chan error)
	go func() {
		runtime.LockOSThread()
		own := "/proc/self/task/" + strconv.Itoa(syscall.Gettid()) + "/attr/"
		file, text := own+"apparmor/exec", "exec "+label
		if _, err := os.Stat("/sys/fs/selinux/enforce"); err == nil {
			file, text = own+"exec", label
		}
		err := guest.WriteString(file, text)
		if err == nil {
			err = start()
		}
		done <- err
	}()
	return <-done
}
