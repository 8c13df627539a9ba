// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
)

// Results that are no failures, as docs/exit-codes.md explains them.
const (
	exitRefused = 2 // the verdict is reboot
	exitNothing = 3 // nothing changes, nothing needs patching
)

const exitHelp = `Exit codes:
  0    done; the fix can be live
  1    an error: the command could not do its work
  2    refused: the fix needs a reboot
  3    nothing changes: there is nothing to patch
  4    the command line is not understood
  130  interrupted`

// nothingToPatch are the codes that say that a fix has no effect on a target.
func nothingToPatch(c code.Code) bool {
	switch c {
	case "TS1104", "TS1107", "TS3109", "TS3111":
		return true
	}
	return false
}

// exitCode is the exit status of a problem where it is a result.
func exitCode(c code.Code) (int, bool) {
	if e, ok := code.Lookup(c); ok && e.Kind == code.KindRefusal {
		return exitRefused, true
	}
	return exitNothing, nothingToPatch(c)
}

// outcome is how a command ends that came to a verdict.
func outcome[V ~string](verdict V) error {
	switch builder.Verdict(verdict) {
	case builder.Reboot:
		return command.Outcome(exitRefused)
	case builder.NotAffected:
		return command.Outcome(exitNothing)
	}
	return nil
}
