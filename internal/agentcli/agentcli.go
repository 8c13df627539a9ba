// SPDX-License-Identifier: Apache-2.0

// Package agentcli is the command tree of tsugi: the agent of a machine, and
// what a person on the machine can ask of it. Commands speak to the agent
// that runs, through its socket; where none runs, root's commands do the work
// themselves, under the same lock.
//
// Every command has a file, a constructor newXCommand and a thin RunE.
package agentcli

import (
	"context"
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/agent/host"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/kload"
)

// Program is the name that errors and help go by.
const Program = "tsugi"

// Exit statuses beside the common ones; docs/exit-codes.md explains them.
const (
	exitRefused = 2 // not protected, not able, or a rule forbids it
	exitNothing = 3 // nothing is to be done
)

const exitHelp = `Exit codes:
  0    done; the machine has what it should have
  1    an error: the command could not do its work
  2    not protected (status, apply), not able (check), or refused by a rule
  3    nothing to do: no such live patch is applied, or it is applied already
  4    the command line is not understood
  130  interrupted`

// app is what the commands share.
type app struct {
	*command.App
	dir, config, socket string
	timeout             time.Duration
}

// Main runs tsugi and returns its exit code.
func Main(ctx context.Context, args []string, streams command.Streams) int {
	a := &app{App: command.New(Program, streams)}
	a.Exit = exitOf
	return a.Run(ctx, newRootCommand(a), args)
}

// Commands are the agent's commands, for what writes of them: none of them runs.
func Commands() *cobra.Command {
	return newRootCommand(&app{App: command.New(Program, command.Streams{})})
}

func exitOf(c code.Code) (int, bool) {
	switch c {
	case "TS9418", "TS9421", "TS9664":
		return exitNothing, true
	case "TS9415", "TS9420", "TS9422", "TS9423", "TS9424", "TS9663", "TS9666":
		return exitRefused, true
	}
	return 0, false
}

func newRootCommand(a *app) *cobra.Command {
	root := a.Root("Keep this machine protected by live patches", `tsugi is the agent of a machine: it takes live patches from the server that the
machine is enrolled with, verifies them, applies them to the running kernel and
watches their health.

  tsugi check                  can this machine be protected at all?
  tsugi enroll WORD            the word comes from: tsugictl token new
  tsugi status                 how it stands
  tsugi revert                 takes the live patch out again, live

`+exitHelp)
	f := root.PersistentFlags()
	f.StringVar(&a.dir, "dir", agent.StateDir, "directory of the agent's state")
	f.StringVar(&a.config, "config", agent.ConfigFile, "the agent's configuration")
	f.StringVar(&a.socket, "socket", agent.Socket, "socket of the agent that runs")
	f.DurationVar(&a.timeout, "timeout", 0, "give up after this time (default 5s for questions, 10m for changes)")
	command.Group(root, "Looking:", newStatusCommand(a), newCheckCommand(a), newCVEsCommand(a), newLogsCommand(a), a.Version())
	command.Group(root, "Enrolment:", newEnrollCommand(a), newUnenrollCommand(a))
	command.Group(root, "Changing:", newRefreshCommand(a), newApplyCommand(a), newRevertCommand(a), newHoldCommand(a), newUnholdCommand(a), newClearCommand(a))
	command.Group(root, "Running:", newAgentCommand(a), newKeepCommand(a), newConfigCommand(a), a.Codes())
	return command.Finish(root)
}

const (
	readTime   = 5 * time.Second
	changeTime = 10 * time.Minute
)

// within bounds a command.
func (a *app) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if a.timeout > 0 {
		d = a.timeout
	}
	return context.WithTimeout(ctx, d)
}

// change runs f against the agent, and tells it when time is over.
func (a *app) change(ctx context.Context, f func(context.Context, agent.Control) error) error {
	limited, cancel := a.within(ctx, changeTime)
	defer cancel()
	c, done, err := a.control(limited, true)
	if err != nil {
		return err
	}
	defer done()
	err = f(limited, c)
	if err != nil && ctx.Err() == nil && errors.Is(limited.Err(), context.DeadlineExceeded) {
		return code.New("TS9430", "", "")
	}
	return err
}

// starting is how long an agent may take from its lock to its socket.
const starting = 4 * time.Second

// control finds the agent that runs, or opens its state. An agent that has
// the state and no socket is starting: it is waited for.
func (a *app) control(ctx context.Context, change bool) (agent.Control, func(), error) {
	none := func() {}
	for end := time.Now().Add(starting); ; {
		l, err := agent.Dial(ctx, a.socket)
		if err == nil {
			return l, none, nil
		}
		if os.Geteuid() != 0 {
			if change {
				return nil, none, code.New("TS9426", "", "")
			}
			if _, serr := os.ReadDir(a.dir); serr != nil {
				return nil, none, err
			}
		}
		ag, err := a.open(ctx, agent.Options{Log: slog.New(slog.DiscardHandler), Patience: 100 * time.Millisecond})
		switch {
		case err == nil:
			ag.Look(ctx)
			return agent.Direct{A: ag}, func() { _ = ag.Close() }, nil
		case code.Of(err) != "TS9408" || time.Now().After(end) || ctx.Err() != nil:
			return nil, none, err
		}
	}
}

// open opens the state with what is real.
func (a *app) open(ctx context.Context, o agent.Options) (*agent.Agent, error) {
	cfg, err := agent.LoadConfig(a.config)
	if err != nil {
		return nil, err
	}
	o.Dir, o.Config, o.Version = a.dir, cfg, command.Build().Version
	o.System, o.Kernel, o.Crypt = host.System{Dir: a.dir}, host.Kernel{Loader: kload.New(kload.Options{})}, host.Crypt{}
	o.Link = host.Link{Dir: filepath.Join(a.dir, "tuf"), Proxy: cfg.Proxy, CAFile: cfg.CAFile, Version: o.Version}
	o.Run, o.Large, o.Modules = runCommand, large, host.Modules{Memo: &host.Memo{}}
	o.Keeper = host.NewKeeper(a.dir)
	return agent.Open(ctx, o)
}

// runCommand runs the health command. What it prints is bounded.
func runCommand(ctx context.Context, argv []string) (string, error) {
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	cmd.WaitDelay = time.Second
	var out tail
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	if ctx.Err() != nil {
		err = errors.New("it did not end in time")
	}
	return strings.TrimSpace(string(out)), err
}

// tail keeps the end of what is written.
type tail []byte

func (t *tail) Write(b []byte) (int, error) {
	const most = 2000
	*t = append(*t, b...)
	if n := len(*t) - most; n > 0 {
		*t = append((*t)[:0], (*t)[n:]...)
	}
	return len(b), nil
}
