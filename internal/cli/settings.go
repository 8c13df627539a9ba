// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newSettingsCommand(a *app) *cobra.Command {
	var machines int
	var interval time.Duration
	cmd := &cobra.Command{
		Use:     "settings",
		Short:   "Show or change what holds for the whole fleet",
		Example: "  tsugictl settings\n  tsugictl settings --machines 500 --interval 30m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var change api.SettingsChange
			if cmd.Flags().Changed("machines") {
				change.PlanMachines = &machines
			}
			if cmd.Flags().Changed("interval") {
				seconds := int64(interval / time.Second)
				change.Interval = &seconds
			}
			return ask(a, "settings", func(c *client.Client) (*api.Settings, error) {
				if change == (api.SettingsChange{}) {
					return c.Settings(cmd.Context())
				}
				return c.ChangeSettings(cmd.Context(), change)
			}, func(s *api.Settings) string {
				limit := strconv.Itoa(s.PlanMachines)
				if s.PlanMachines == 0 {
					limit = "no limit"
				}
				return ui.Pairs(
					[2]string{"machines", limit},
					[2]string{"check-in every", roughly(time.Duration(s.Interval) * time.Second)},
				)
			})
		},
	}
	cmd.Flags().IntVar(&machines, "machines", 0, "machines that may be enrolled; 0 for no limit")
	cmd.Flags().DurationVar(&interval, "interval", 0, "time between the check-ins of a machine")
	return cmd
}
