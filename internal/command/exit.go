// SPDX-License-Identifier: Apache-2.0

package command

import (
	"context"
	"errors"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Exit statuses that mean the same in every program, as docs/exit-codes.md
// explains them. 2 and 3 are results, and each program says which.
const (
	OK          = 0
	Failed      = 1   // the command could not do its work
	BadUsage    = 4   // the command line is not understood
	Interrupted = 130 // SIGINT or SIGTERM
)

// Outcome ends a command whose result is already on the terminal with an exit
// status of its own.
type Outcome int

func (o Outcome) Error() string { return "exit status " + strconv.Itoa(int(o)) }

// told reports whether the terminal has shown the error already.
func told(err error) bool {
	_, ok := errors.AsType[Outcome](err)
	return ok
}

func (a *App) status(ctx context.Context, err error) int {
	if err == nil {
		return OK
	}
	if ctx.Err() != nil || errors.Is(err, context.Canceled) {
		return Interrupted
	}
	if o, ok := errors.AsType[Outcome](err); ok {
		return int(o)
	}
	c := code.Of(err)
	if a.Exit != nil {
		if s, ok := a.Exit(c); ok {
			return s
		}
	}
	switch c {
	case "TS9102":
		return Interrupted
	case "TS1901":
		return BadUsage
	}
	return Failed
}
