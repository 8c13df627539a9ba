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
reader looks, worker does builds. People sign in as users: tsugictl user.`,
		newOperatorNewCommand(a), list(a, "operators", "List the operators", (*client.Client).Operators, operatorTable),
		toEach(a, "revoke OPERATOR...", "End operators", "revoked", (*client.Client).RevokeOperator))
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

func operatorTable(all []api.Operator) string {
	rows := make([][]string, len(all))
	for i, o := range all {
		revoked := ""
		if o.Revoked != 0 {
			revoked = ui.Dim("revoked")
		}
		rows[i] = []string{o.Name, o.ID, o.Role, when(o.Created), revoked}
	}
	return ui.Table([]string{"name", "operator", "role", "created", ""}, rows)
}
