// SPDX-License-Identifier: Apache-2.0

package command

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Root starts a command tree: help when nothing is asked, the global flags,
// and errors that Run prints. Finish it with Finish.
func (a *App) Root(short, long string) *cobra.Command {
	cmd := Parent(a.Name, short, long)
	cmd.SilenceUsage, cmd.SilenceErrors = true, true
	cmd.PersistentPreRunE = func(*cobra.Command, []string) error {
		a.Term = a.terminal()
		return nil
	}
	flags := cmd.PersistentFlags()
	flags.BoolVar(&a.json, "json", false, "print the result, and an error, as JSON")
	flags.BoolVarP(&a.quiet, "quiet", "q", false, "no progress and no remarks")
	flags.BoolVar(&a.stats, "stats", false, "tell at the end how long it took and how much memory it needed")
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return Usage(cmd.CommandPath(), err.Error())
	})
	return cmd
}

// Group adds commands under a heading of the help.
func Group(root *cobra.Command, title string, cmds ...*cobra.Command) {
	root.AddGroup(&cobra.Group{ID: title, Title: title})
	for _, c := range cmds {
		c.GroupID = title
		root.AddCommand(c)
	}
}

// Finish gives cobra's complaints about arguments and flags their code and exit status.
func Finish(cmd *cobra.Command) *cobra.Command {
	if check := cmd.Args; check != nil {
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			for _, err := range []error{check(cmd, args), cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()} {
				if err != nil {
					return Usage(cmd.CommandPath(), err.Error())
				}
			}
			return nil
		}
	}
	for _, c := range cmd.Commands() {
		Finish(c)
	}
	return cmd
}

// Usage is the problem of a command line that is not understood.
func Usage(command, why string) *code.Problem {
	return code.New("TS1901", "", why).WithFix(command + " --help shows how it is used")
}

// Parent is a command that only holds others.
func Parent(use, short, long string, children ...*cobra.Command) *cobra.Command {
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
