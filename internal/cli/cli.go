// SPDX-License-Identifier: Apache-2.0

// Package cli is tsugictl's command tree: flags in, packages called, results
// out. Commands hold no logic of their own: what they know how to do is in
// the packages below, and what they print is made in package ui.
//
// Every command has a file, a constructor newXCommand and a thin RunE. Exit
// codes are in exit.go and docs/exit-codes.md.
package cli

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/google/renameio/v2"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// program is the name that errors and help go by.
const program = "tsugictl"

// Streams are a process's ends.
type Streams struct {
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	Environ        []string
}

// app is what commands share: the terminal as the global flags want it, and
// the store. It is filled before a command runs.
type app struct {
	streams Streams
	term    *ui.Terminal
	flags   struct {
		json, quiet, stats bool
		home               string
	}
}

// Main runs tsugictl and returns its exit code.
func Main(ctx context.Context, args []string, streams Streams) int {
	start := time.Now()
	a := &app{streams: streams}
	a.flags.json = slices.Contains(args, "--json") // for errors before the flags are read
	a.term = a.newTerminal()
	root := newRootCommand(a)
	root.SetArgs(args)
	root.SetIn(streams.Stdin)
	root.SetOut(streams.Stdout)
	root.SetErr(streams.Stderr)
	err := root.ExecuteContext(ctx)
	a.term.Close()
	exit := exitCode(ctx, err)
	if exit == exitInterrupted {
		err = code.New("TS9102", "", "") // one clear line, whatever the stages said
	}
	if err != nil && !told(err) {
		a.term.Fail(program, err, exit)
	}
	if a.flags.stats {
		fmt.Fprintf(streams.Stderr, "%s: %.2f s, peak memory %.1f MB\n", program, time.Since(start).Seconds(), float64(peakMemory())/1e6)
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

func (a *app) newTerminal() *ui.Terminal {
	return ui.New(a.streams.Stdout, a.streams.Stderr, a.streams.Environ, ui.Options{JSON: a.flags.json, Quiet: a.flags.quiet})
}

func (a *app) progress() progress.Reporter { return a.term.Progress() }

// store opens the store of --home, or of the environment.
func (a *app) store() (*kernel.Store, error) {
	home := a.flags.home
	if home == "" {
		h, err := kernel.Home()
		if err != nil {
			return nil, err
		}
		home = h
	}
	return kernel.OpenStore(home)
}

// readFile reads a file that the user named; "-" is standard input.
func (a *app) readFile(path string) ([]byte, error) {
	var b []byte
	var err error
	if path == "-" {
		b, err = io.ReadAll(a.streams.Stdin)
	} else {
		b, err = os.ReadFile(path)
	}
	if err != nil {
		return nil, fileProblem("TS1902", path, err)
	}
	return b, nil
}

// checkOutput finds out before minutes of work that a result could not be
// written where it is wanted.
func checkOutput(paths ...string) error {
	for _, p := range nonEmpty(paths...) {
		if info, err := os.Stat(filepath.Dir(p)); err != nil {
			return fileProblem("TS1903", p, err)
		} else if !info.IsDir() {
			return code.New("TS1903", p, filepath.Dir(p)+" is no directory")
		}
	}
	return nil
}

// writeFile writes a result whole or not at all.
func writeFile(path string, b []byte) error {
	err := renameio.WriteFile(path, b, 0o644)
	if err == nil {
		return nil
	}
	if p := kernel.DiskError(path, err); p != err {
		return p
	}
	return fileProblem("TS1903", path, err)
}

// show prints a result: as JSON if that is wanted, else as text.
func (a *app) show(kind string, v any, text func() string) error {
	if a.term.JSON() {
		return a.term.WriteJSON(kind, v)
	}
	a.term.Print(text())
	return nil
}
