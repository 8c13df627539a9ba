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

func newTokenCommand(a *app) *cobra.Command {
	return command.Parent("token", "The tokens that machines enrol with",
		`A token enrols machines into a tier and a group, until it expires, is revoked
or its limit is reached. Each machine gets a credential of its own, so that
a revoked token leaves the machines that came with it enrolled.`,
		newTokenNewCommand(a), list(a, "tokens", "List the tokens and their uses", (*client.Client).Tokens, tokenTable),
		toEach(a, "revoke TOKEN...", "Stop tokens; their machines stay enrolled", "revoked", (*client.Client).RevokeToken))
}

func newTokenNewCommand(a *app) *cobra.Command {
	var t api.NewToken
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a token, and the command that enrols a machine",
		Long: `new prints the command to run on a machine. The word in it holds the server's
URL, the token, and the digests of the server's CA and of its first TUF root,
so that the machine believes nobody else. It is told this once.`,
		Example: "  tsugictl token new web --tier stable --group web --limit 50 --expires 720h",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			t.Name = args[0]
			if life > 0 {
				t.Expires = time.Now().Add(life).UnixMilli()
			}
			return ask(a, "token", func(c *client.Client) (*api.TokenMade, error) {
				return c.CreateToken(cmd.Context(), t)
			}, func(made *api.TokenMade) string {
				a.Term.Say("On each machine, as root:")
				return "tsugi enroll " + made.Enroll + "\n"
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&t.Tier, "tier", "", "tier of the machines (default the last one)")
	f.StringVar(&t.Group, "group", "", "group of the machines")
	f.IntVar(&t.Limit, "limit", 0, "machines that it may enrol (default only the plan's limit)")
	f.DurationVar(&life, "expires", 0, "how long it is good for, such as 24h (default for ever)")
	return cmd
}

func tokenTable(tokens []api.Token) string {
	rows := make([][]string, len(tokens))
	for i, t := range tokens {
		limit := "-"
		if t.Limit > 0 {
			limit = strconv.Itoa(t.Limit)
		}
		state := ui.Good("good")
		switch {
		case t.Revoked != 0:
			state = ui.Dim("revoked")
		case t.Expires != 0 && t.Expires < time.Now().UnixMilli():
			state = ui.Dim("expired")
		case t.Limit > 0 && t.Uses >= t.Limit:
			state = ui.Warn("used up")
		}
		expires := "-"
		if t.Expires != 0 {
			expires = when(t.Expires)
		}
		rows[i] = []string{t.Name, t.ID, t.Tier, t.Group, strconv.Itoa(t.Uses), limit, expires, when(t.LastUsed), state}
	}
	return ui.Table([]string{"name", "token", "tier", "group", "uses", "limit", "expires", "last used", ""}, rows, 4, 5)
}
