// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"errors"
	"io/fs"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Exit codes, as docs/exit-codes.md explains them.
const (
	exitOK          = 0
	exitError       = 1   // the command could not do its work
	exitRefused     = 2   // it did: the verdict is reboot
	exitNothing     = 3   // it did: nothing changes, nothing needs patching
	exitUsage       = 4   // the command line is not understood
	exitInterrupted = 130 // SIGINT or SIGTERM
)

const exitHelp = `Exit codes:
  0    done; the fix can be live
  1    an error: the command could not do its work
  2    refused: the fix needs a reboot
  3    nothing changes: there is nothing to patch
  4    the command line is not understood
  130  interrupted`

// outcome ends a command whose result is already on the terminal with an exit
// code of its own.
type outcome int

func (o outcome) Error() string {
	switch o {
	case exitRefused:
		return "refused"
	case exitNothing:
		return "nothing changes"
	}
	return "failed"
}

// told reports whether the terminal has shown the error already.
func told(err error) bool {
	_, ok := errors.AsType[outcome](err)
	return ok
}

// nothingToPatch are the codes that say that a fix has no effect on a target.
func nothingToPatch(c code.Code) bool {
	switch c {
	case "TS1104", "TS1107", "TS3109", "TS3111":
		return true
	}
	return false
}

func exitCode(ctx context.Context, err error) int {
	if err == nil {
		return exitOK
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return exitInterrupted
	}
	if o, ok := errors.AsType[outcome](err); ok {
		return int(o)
	}
	c := code.Of(err)
	if e, ok := code.Lookup(c); ok && e.Kind == code.KindRefusal {
		return exitRefused
	}
	switch {
	case c == "TS9102":
		return exitInterrupted
	case c == "TS1901":
		return exitUsage
	case nothingToPatch(c):
		return exitNothing
	}
	return exitError
}

// fileProblem is a problem with a file that the user named. The path is told
// once: the error of the os package repeats it.
func fileProblem(c code.Code, path string, err error) *code.Problem {
	why := err
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		why = pe.Err
	}
	return code.New(c, path, why.Error())
}

func usage(command, why string) *code.Problem {
	return code.New("TS1901", "", why).WithFix(command + " --help shows how it is used")
}
