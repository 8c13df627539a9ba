// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/ui"
	"github.com/tsugi-project/tsugi/internal/userland"
)

func newTargetRmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME...",
		Aliases: []string{"remove"},
		Short:   "Remove targets from the store",
		Long: `rm removes a target, and its source if no other target uses it; of a package,
its build and build root too. Downloaded packages and cached objects stay.`,
		Args: cobra.MinimumNArgs(1),

		ValidArgsFunction: a.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			pkgs, err := a.packages()
			if err != nil {
				return err
			}
			for _, name := range args {
				remove := store.Remove
				if userland.IsName(name) {
					remove = pkgs.Remove
				}
				if err := remove(cmd.Context(), name); err != nil {
					return err
				}
				a.Term.Say("%s %s removed", ui.Good("✓"), name)
			}
			if a.Term.JSON() {
				return a.Term.WriteJSON("removed", args)
			}
			return nil
		},
	}
}
