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

func newRolloutLogCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "log ROLLOUT",
		Short: "What a rollout decided, and why, the newest first",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askAll(a, "rollout-steps", func(c *client.Client, after string) (*api.List[api.RolloutStep], error) {
				return c.RolloutSteps(cmd.Context(), args[0], after)
			}, func(all []api.RolloutStep) string {
				rows := make([][]string, len(all))
				for i, s := range all {
					rows[i] = []string{time.UnixMilli(s.Time).UTC().Format(time.DateTime), s.Actor, s.What, some(s.Wave), some(s.Machines), s.Why}
				}
				return ui.Table([]string{"time (UTC)", "who", "what", "wave", "machines", "why"}, rows, 3, 4)
			})
		},
	}
}

// some is a number that is of no interest when it is 0.
func some(n int) string {
	if n == 0 {
		return ""
	}
	return strconv.Itoa(n)
}

func newRolloutMachinesCommand(a *app) *cobra.Command {
	var status string
	var wave int
	cmd := &cobra.Command{
		Use:   "machines ROLLOUT",
		Short: "List the machines that were offered it, and what became of it",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return askAll(a, "rollout-machines", func(c *client.Client, after string) (*api.List[api.RolloutMachine], error) {
				return c.RolloutMachines(cmd.Context(), args[0], status, wave, after)
			}, func(all []api.RolloutMachine) string {
				rows := make([][]string, len(all))
				for i, m := range all {
					failure := m.Failure
					if m.Forgiven {
						failure = ui.Dim(failure + " (forgiven)")
					}
					rows[i] = []string{m.Hostname, m.Machine, some(m.Wave), m.Status, when(m.Offered), failure}
				}
				return ui.Table([]string{"host", "machine", "wave", "", "offered", ""}, rows, 2)
			})
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "only those with this status")
	cmd.Flags().IntVar(&wave, "wave", 0, "only those of this wave; 1 is the first")
	return cmd
}

func newRolloutLadderCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ladder",
		Short: "Where live patches stand between tiers, and what they wait for",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "promotions", func(c *client.Client, _ string) (*api.List[api.Promotion], error) {
				return c.Promotions(cmd.Context())
			}, func(all []api.Promotion) string {
				rows := make([][]string, len(all))
				for i, p := range all {
					ready := ui.Warn("waits")
					if p.Ready {
						ready = ui.Good("ready")
					}
					if p.To == "" {
						ready = ui.Dim("at the end")
					}
					rows[i] = []string{p.LivePatch, p.Tier, p.To, ready, p.Why}
				}
				return ui.Table([]string{"live patch", "in tier", "next", "", "why"}, rows)
			})
		},
	}
}
