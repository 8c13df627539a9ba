// SPDX-License-Identifier: Apache-2.0

// Package guest is the program that runs as process 1 in a virtual machine:
// it mounts what programs expect, executes a plan (package wire) and tells
// the host over the second serial port what happened. It needs nothing in the
// guest but the kernel; scripts need the busybox that the host puts beside it.
//
// A program becomes a guest by calling Main first thing. On any other machine
// Main does nothing: it acts only in a process 1 that finds a plan, or when it
// is called under the name modprobe next to one, which is how the kernel asks
// for a module.
package guest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// Verb does one kind of step. Its result becomes the Data of the step's Done
// event, also when it returns an error. The context ends with the step's time
// limit.
type Verb func(ctx context.Context, env *Env, args json.RawMessage) (result any, err error)

// Main turns this process into a guest when it was started as one, and then
// does not return. The verbs of the plan are the package's own and extra.
func Main(extra map[string]Verb) {
	if _, err := os.Lstat(wire.PlanPath); err != nil {
		return
	}
	if filepath.Base(os.Args[0]) == "modprobe" {
		os.Exit(modprobeMain(os.Args[1:]))
	}
	if os.Getpid() != 1 {
		return
	}
	if err := mountAll(); err != nil {
		fmt.Fprintln(os.Stderr, "tsugi guest:", err)
	}
	cmdline, _ := os.ReadFile("/proc/cmdline")
	if !strings.Contains(" "+strings.TrimSpace(string(cmdline))+" ", " "+wire.CmdlineMark+" ") {
		return
	}
	if err := run(extra); err != nil {
		fmt.Fprintln(os.Stderr, "tsugi guest:", err)
	}
	unix.Sync()
	// With -no-reboot QEMU exits when the machine restarts, which needs no
	// ACPI in the guest.
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART)
	select {}
}

func run(extra map[string]Verb) (err error) {
	port, err := openPort("/dev/ttyS1")
	if err != nil {
		return err
	}
	defer port.Close()
	env := &Env{port: port}
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic: %v", p)
		}
		if err != nil {
			env.Note("guest: " + err.Error())
		}
	}()

	b, err := os.ReadFile(wire.PlanPath)
	if err != nil {
		return err
	}
	plan, err := wire.ParsePlan(b)
	if err != nil {
		return err
	}
	env.plan = plan
	env.Emit(wire.Event{Kind: wire.Hello, Data: raw(greeting())})

	ctx, stop := context.WithCancel(context.Background())
	defer stop()
	env.log = followLog(ctx, env, plan.LogLevel)
	go env.reap(ctx)

	verbs := maps.Clone(builtin())
	maps.Copy(verbs, extra)
	for _, s := range plan.Steps {
		if !env.step(ctx, verbs, s) && !s.KeepGoing {
			break
		}
	}
	if plan.Serve {
		if err := env.serve(ctx, verbs); err != nil {
			return err
		}
	}
	env.log.mark("bye")
	env.Emit(wire.Event{Kind: wire.Bye})
	return unix.IoctlSetInt(int(port.Fd()), unix.TCSBRK, 1) // tcdrain
}

// step runs one step and tells whether it succeeded.
func (e *Env) step(ctx context.Context, verbs map[string]Verb, s wire.Step) bool {
	e.log.mark("begin " + s.ID)
	e.Emit(wire.Event{Kind: wire.Begin, Step: s.ID})
	verb, ok := verbs[s.Do]
	if !ok {
		e.Emit(wire.Event{Kind: wire.Done, Step: s.ID, Error: fmt.Sprintf("verb %q: unknown", s.Do)})
		return false
	}
	if s.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Duration(s.Timeout))
		defer cancel()
	}
	result, err := guard(ctx, e, verb, s.Args)
	done := wire.Event{Kind: wire.Done, Step: s.ID, Data: raw(result)}
	if err != nil {
		done.Error, done.Errno = err.Error(), errnoName(err)
	}
	done.Time = Now()
	e.log.mark("end " + s.ID)
	e.Emit(done)
	return err == nil
}

// guard keeps a verb's panic from ending process 1, which would look like a
// crash of the kernel.
func guard(ctx context.Context, e *Env, verb Verb, args json.RawMessage) (result any, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("panic in the guest program: %v", p)
		}
	}()
	return verb(ctx, e, args)
}

func errnoName(err error) string {
	if no, ok := errors.AsType[unix.Errno](err); ok {
		return unix.ErrnoName(no)
	}
	return ""
}

func raw(v any) json.RawMessage {
	if v == nil {
		return nil
	}
	b, err := json.Marshal(v)
	if err != nil {
		b, _ = json.Marshal("result that is not JSON: " + err.Error())
	}
	return b
}
