// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
)

func newRootCommand(a *app) *cobra.Command {
	cmd := &cobra.Command{
		Use:   program,
		Short: "Make and prove live patches for Linux kernels",
		Long: `tsugictl makes live patches from source fixes, for the exact kernel that a
distribution ships, and proves them in a virtual machine.

A fix goes the whole way in four commands:

  tsugictl target add debian:6.1.0-55-amd64
  tsugictl fix derive debian:6.1.0-55-amd64 6.1.192-2 fs/ext4 -o ext4.diff
  tsugictl build ext4.diff --target debian:6.1.0-55-amd64
  tsugictl prove ext4.tsugi

` + exitHelp,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          onlyCommands,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			a.term = a.newTerminal()
			return nil
		},
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags := cmd.PersistentFlags()
	flags.BoolVar(&a.flags.json, "json", false, "print the result, and an error, as JSON")
	flags.BoolVarP(&a.flags.quiet, "quiet", "q", false, "no progress and no remarks")
	flags.BoolVar(&a.flags.stats, "stats", false, "tell at the end how long it took and how much memory it needed")
	flags.StringVar(&a.flags.home, "home", "", "directory of the caches (default $TSUGI_HOME or ~/.cache/tsugi)")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return usage(cmd.CommandPath(), err.Error())
	})
	cmd.AddGroup(
		&cobra.Group{ID: "pipeline", Title: "From a fix to a proven live patch:"},
		&cobra.Group{ID: "look", Title: "Looking at things:"},
	)
	group := func(id string, cmds ...*cobra.Command) {
		for _, c := range cmds {
			c.GroupID = id
			cmd.AddCommand(c)
		}
	}
	group("pipeline", newTargetCommand(a), newFixCommand(a), newBuildCommand(a), newProveCommand(a))
	group("look", newShowCommand(a), newDiffCommand(a), newCodesCommand(a), newVersionCommand(a))
	cmd.AddCommand(newManCommand(a))
	usageErrors(cmd)
	return cmd
}

// usageErrors gives cobra's complaints about arguments their code and exit.
func usageErrors(cmd *cobra.Command) {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usage(cmd.CommandPath(), err.Error())
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		usageErrors(c)
	}
}

// parent is a command that only holds others.
func parent(use, short, long string, children ...*cobra.Command) *cobra.Command {
	cmd := &cobra.Command{
		Use: use, Short: short, Long: long,
		Args: onlyCommands,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(children...)
	return cmd
}

// onlyCommands refuses a word that names no command, with what is near it.
func onlyCommands(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	cmd.SuggestionsMinimumDistance = min(2, len(args[0])/2)
	if near := cmd.SuggestionsFor(args[0]); len(near) > 0 {
		return fmt.Errorf("no command %q; did you mean %s?", args[0], strings.Join(near, " or "))
	}
	return fmt.Errorf("no command %q", args[0])
}
