// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strconv"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newTierCommand(a *app) *cobra.Command {
	return command.Parent("tier", "The ordered stages of trust",
		`Live patches are published to the first tier and promoted upwards; a machine
gets what its tier holds. A new server has edge, beta, candidate and stable.`,
		list(a, "tiers", "List the tiers in order", (*client.Client).Tiers, tierTable), newTierAddCommand(a),
		toEach(a, "rm NAME...", "Remove tiers that have no machines", "removed", (*client.Client).DeleteTier))
}

func tierTable(tiers []api.Tier) string {
	rows := make([][]string, len(tiers))
	for i, t := range tiers {
		rows[i] = []string{t.Name, strconv.Itoa(t.Rank), strconv.Itoa(t.Machines), strconv.Itoa(t.Patches)}
	}
	return ui.Table([]string{"tier", "rank", "machines", "live patches"}, rows, 1, 2, 3)
}

func newTierAddCommand(a *app) *cobra.Command {
	var t api.NewTier
	cmd := &cobra.Command{
		Use:   "add NAME",
		Short: "Add a tier",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t.Name = args[0]
			return ask(a, "tier", func(c *client.Client) (*api.Tier, error) {
				return c.CreateTier(cmd.Context(), t)
			}, func(made *api.Tier) string { return made.Name + " is number " + strconv.Itoa(made.Rank) + "\n" })
		},
	}
	cmd.Flags().StringVar(&t.After, "after", "", "tier that it comes after (default: it becomes the first)")
	return cmd
}
