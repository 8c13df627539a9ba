// SPDX-License-Identifier: Apache-2.0

// Package command is what the command trees of tsugi, tsugictl and
// tsugi-server share: streams, global flags, exit codes, files that a person
// names, and the commands that every program has. What a program can do
// stands in its own package: cli, agentcli, servercli.
package command

import (
	"context"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// Streams are a process's ends.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string
}

// App is what the commands of a program share. Term is as the global flags
// want it from the moment that a command runs.
type App struct {
	Name    string // of the program, as errors and help say it
	Streams Streams
	Term    *ui.Terminal
	// Exit gives the codes of a program an exit status of its own; nil, or
	// false, leaves it to the common rules.
	Exit func(code.Code) (int, bool)

	json, quiet, stats bool
}

// New makes the App of a program.
func New(name string, streams Streams) *App {
	a := &App{Name: name, Streams: streams}
	a.Term = a.terminal()
	return a
}

func (a *App) terminal() *ui.Terminal {
	return ui.New(a.Streams.Stdout, a.Streams.Stderr, a.Streams.Environ, ui.Options{JSON: a.json, Quiet: a.quiet})
}

// Run runs a command tree that Root finished and returns the exit status.
func (a *App) Run(ctx context.Context, root *cobra.Command, args []string) int {
	start := time.Now()
	a.json = slices.Contains(args, "--json") // for errors before the flags are read
	a.Term = a.terminal()
	root.SetArgs(args)
	root.SetIn(a.Streams.Stdin)
	root.SetOut(a.Streams.Stdout)
	root.SetErr(a.Streams.Stderr)
	err := root.ExecuteContext(ctx)
	a.Term.Close()
	exit := a.status(ctx, err)
	if exit == Interrupted {
		err = code.New("TS9102", "", "") // one clear line, whatever the stages said
	}
	if err != nil && !told(err) {
		a.Term.Fail(a.Name, err, exit)
	}
	if a.stats {
		fmt.Fprintf(a.Streams.Stderr, "%s: %.2f s, peak memory %.1f MB\n", a.Name, time.Since(start).Seconds(), float64(peakMemory())/1e6)
	}
	return exit
}

// peakMemory is the most memory that this process had resident, in bytes;
// compilers and virtual machines count for themselves.
func peakMemory() int64 {
	var r unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &r); err != nil {
		return 0
	}
	return r.Maxrss * 1024
}

// Progress is where packages tell how far they are.
func (a *App) Progress() progress.Reporter { return a.Term.Progress() }

// Show prints a result: as JSON if that is wanted, else as text.
func (a *App) Show(kind string, v any, text func() string) error {
	if a.Term.JSON() {
		return a.Term.WriteJSON(kind, v)
	}
	a.Term.Print(text())
	return nil
}
