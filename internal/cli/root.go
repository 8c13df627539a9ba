// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/command/man"
)

func newRootCommand(a *app) *cobra.Command {
	cmd := a.Root("Make and prove live patches for Linux kernels",
		`tsugictl makes live patches from source fixes, for the exact kernel that a
distribution ships, and proves them in a virtual machine.

A fix goes the whole way in four commands:

  tsugictl target add debian:6.1.0-55-amd64
  tsugictl fix derive debian:6.1.0-55-amd64 6.1.192-2 fs/ext4 -o ext4.diff
  tsugictl build ext4.diff --target debian:6.1.0-55-amd64
  tsugictl prove ext4.tsugi

`+exitHelp)
	cmd.PersistentFlags().StringVar(&a.home, "home", "", "directory of the caches (default $TSUGI_HOME or ~/.cache/tsugi)")
	command.Group(cmd, "From a fix to a proven live patch:",
		newTargetCommand(a), newFixCommand(a), newBuildCommand(a), newRebuildCommand(a), newProveCommand(a))
	command.Group(cmd, "Looking at things:",
		newSurveyCommand(a), newShowCommand(a), newDiffCommand(a), a.Codes(), a.Version())
	addFleetCommands(cmd, a)
	addKeyCommands(cmd, a)
	cmd.AddCommand(man.Command())
	return command.Finish(cmd)
}
