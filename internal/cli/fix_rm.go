// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newFixRmCommand(a *app) *cobra.Command {
	var place fixChoice
	var name string
	cmd := &cobra.Command{
		Use:     "rm ID...",
		Aliases: []string{"remove"},
		Short:   "Take fixes out of the catalogue",
		Long: `rm takes fixes out of a series. A fix that another one of the series requires
stays. Fixes of an update are left out by a policy, not removed.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			cat, _, err := a.catalogue(place.catalogue)
			if err != nil {
				return err
			}
			if err := cat.Remove(cmd.Context(), name, args); err != nil {
				return err
			}
			return a.Show("changed", fixChange{Series: name, Removed: args}, func() string {
				text := ""
				for _, id := range args {
					text += ui.Good("✓") + " " + id + " removed from " + name + "\n"
				}
				return text
			})
		},
	}
	place.place(cmd)
	cmd.Flags().StringVar(&name, "series", catalogue.Own, "the series that they are in")
	return cmd
}
