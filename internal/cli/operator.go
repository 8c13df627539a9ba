// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newOperatorCommand(a *app) *cobra.Command {
	return command.Parent("operator", "Who may use the server: people and programs",
		`An operator is a name, a role and a secret. Roles: admin decides everything,
reader looks, worker does builds.`,
		newOperatorNewCommand(a), newOperatorLsCommand(a), newOperatorRevokeCommand(a))
}

func newOperatorNewCommand(a *app) *cobra.Command {
	var o api.NewOperator
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make an operator and print the secret, this once",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			o.Name = args[0]
			made, err := c.CreateOperator(cmd.Context(), o)
			if err != nil {
				return err
			}
			return a.Show("operator", made, func() string { return made.Secret + "\n" })
		},
	}
	cmd.Flags().StringVar(&o.Role, "role", "reader", "admin, reader or worker")
	return cmd
}

func newOperatorLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the operators",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			l, err := c.Operators(cmd.Context())
			if err != nil {
				return err
			}
			return a.Show("operators", l.Items, func() string {
				rows := make([][]string, len(l.Items))
				for i, o := range l.Items {
					revoked := ""
					if o.Revoked != 0 {
						revoked = ui.Dim("revoked")
					}
					rows[i] = []string{o.Name, o.ID, o.Role, when(o.Created), revoked}
				}
				return ui.Table([]string{"name", "operator", "role", "created", ""}, rows)
			})
		},
	}
}

func newOperatorRevokeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "revoke OPERATOR...",
		Short: "End operators",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, "revoked", args, (*client.Client).RevokeOperator)
		},
	}
}

func newSettingsCommand(a *app) *cobra.Command {
	var machines int
	var interval time.Duration
	cmd := &cobra.Command{
		Use:     "settings",
		Short:   "Show or change what holds for the whole fleet",
		Example: "  tsugictl settings\n  tsugictl settings --machines 500 --interval 30m",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			var change api.SettingsChange
			if cmd.Flags().Changed("machines") {
				change.PlanMachines = &machines
			}
			if cmd.Flags().Changed("interval") {
				seconds := int64(interval / time.Second)
				change.Interval = &seconds
			}
			var s *api.Settings
			if change == (api.SettingsChange{}) {
				s, err = c.Settings(cmd.Context())
			} else {
				s, err = c.ChangeSettings(cmd.Context(), change)
			}
			if err != nil {
				return err
			}
			return a.Show("settings", s, func() string {
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

func newAuditCommand(a *app) *cobra.Command {
	var limit int
	cmd := &cobra.Command{
		Use:   "audit",
		Short: "List who decided what, the newest first",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.server()
			if err != nil {
				return err
			}
			l, err := c.Audit(cmd.Context(), "", limit)
			if err != nil {
				return err
			}
			return a.Show("audit", l.Items, func() string {
				rows := make([][]string, len(l.Items))
				for i, e := range l.Items {
					rows[i] = []string{time.UnixMilli(e.Time).UTC().Format(time.DateTime), e.Actor, e.Action, e.Object, ui.Dim(e.Detail)}
				}
				return ui.Table([]string{"time (UTC)", "who", "what", "on", ""}, rows)
			})
		},
	}
	cmd.Flags().IntVarP(&limit, "lines", "n", 50, "entries to show")
	return cmd
}

func newBundleCommand(a *app) *cobra.Command {
	var tier, output string
	var ids, machines []string
	cmd := &cobra.Command{
		Use:   "bundle --tier TIER -o FILE",
		Short: "Write a file that carries live patches to machines without a network",
		Long: `bundle gets the signed metadata of the repository, the encrypted live patches of
a tier and their keys, wrapped for the machines named. On such a machine, tsugi
apply FILE verifies it as if it came from the server.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := command.CheckOutput(output); err != nil {
				return err
			}
			c, err := a.server()
			if err != nil {
				return err
			}
			b, err := c.Bundle(cmd.Context(), tier, ids, machines)
			if err != nil {
				return err
			}
			if err := command.WriteFile(output, b); err != nil {
				return err
			}
			return a.Show("bundle", bundleResult{File: output, Size: int64(len(b))}, func() string {
				return output + ", " + ui.Size(int64(len(b))) + "\n"
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&tier, "tier", "", "tier of the machines (needed)")
	f.StringVarP(&output, "output", "o", "", "file to write (needed)")
	f.StringArrayVar(&ids, "livepatch", nil, "live patch to carry (may be repeated; default all of the tier)")
	f.StringArrayVar(&machines, "machine", nil, "machine that may read it (needed; may be repeated)")
	for _, name := range []string{"tier", "output", "machine"} {
		must(cmd.MarkFlagRequired(name))
	}
	return cmd
}

type bundleResult struct {
	File string `json:"file"`
	Size int64  `json:"size"`
}
