// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
)

func newAccountTOTPCommand(a *app) *cobra.Command {
	return command.Parent("totp", "The second factor that is asked for beside one's password", "",
		newAccountTOTPAddCommand(a), newAccountTOTPRmCommand(a))
}

func newAccountTOTPAddCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "add",
		Short: "Add a second factor, and print the recovery codes, this once",
		Long: `add tells a secret to put into an authenticator and asks for the first code that
it shows. The recovery codes that are printed then take the place of a code,
each once: keep them where you do not keep the authenticator.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "totp", func(c *client.Client) (*api.RecoveryCodes, error) {
				begun, err := c.BeginTOTP(cmd.Context())
				if err != nil {
					return nil, err
				}
				// With --quiet too, for without it nobody can go on.
				fmt.Fprintf(a.Streams.Stderr, "Give this to your authenticator:\n  secret   %s\n  address  %s\n", begun.Secret, begun.URI)
				first, err := a.answer(cmd, "Code that it shows: ")
				if err != nil {
					return nil, err
				}
				return c.ConfirmTOTP(cmd.Context(), api.ConfirmTOTP{Ceremony: begun.Ceremony, Code: strings.TrimSpace(first)})
			}, func(t *api.RecoveryCodes) string {
				a.Term.Say("Recovery codes, each good once:")
				return strings.Join(t.Codes, "\n") + "\n"
			})
		},
	}
}

func newAccountTOTPRmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm",
		Short: "Remove one's second factor and its recovery codes",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "totp", func(c *client.Client) (done, error) {
				who, err := c.Account(cmd.Context())
				if err != nil {
					return done{}, err
				}
				return done{User: who.Name}, c.RemoveTOTP(cmd.Context())
			}, nothing)
		},
	}
}
