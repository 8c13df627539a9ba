// SPDX-License-Identifier: Apache-2.0

package cli

import (
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
			o.Name = args[0]
			return ask(a, "operator", func(c *client.Client) (*api.OperatorMade, error) {
				return c.CreateOperator(cmd.Context(), o)
			}, func(made *api.OperatorMade) string { return made.Secret + "\n" })
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
			return askAll(a, "operators", func(c *client.Client, _ string) (*api.List[api.Operator], error) {
				return c.Operators(cmd.Context())
			}, func(all []api.Operator) string {
				rows := make([][]string, len(all))
				for i, o := range all {
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
