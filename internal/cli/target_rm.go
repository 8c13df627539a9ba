// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/ui"
)

func newTargetRmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "rm NAME...",
		Aliases: []string{"remove"},
		Short:   "Remove kernels from the store",
		Long: `rm removes a target, and its source if no other target uses it. Downloaded
packages and cached objects stay.`,
		Args: cobra.MinimumNArgs(1),

		ValidArgsFunction: a.completeTargets,
		RunE: func(cmd *cobra.Command, args []string) error {
			store, err := a.store()
			if err != nil {
				return err
			}
			for _, name := range args {
				if err := store.Remove(cmd.Context(), name); err != nil {
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
