// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newAccountCommand(a *app) *cobra.Command {
	return command.Parent("account", "One's own account: password, second factor, sessions, API keys",
		`These commands are for who signed in with tsugictl login --user or --link: an
API key, which may lie in many places, changes nothing of its owner's account
(TS8205). What could let somebody else in asks for the password once more, if
it was not given a moment ago.

A passkey is made in the console, for only a browser can, and so is the
connection of one's account with that of another provider.`,
		newAccountShowCommand(a), newAccountChangeCommand(a), newAccountPasswordCommand(a), newAccountTOTPCommand(a),
		newAccountPasskeyCommand(a), newAccountSessionCommand(a), newAccountKeyCommand(a))
}

func newAccountShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show",
		Short: "Show who is signed in, how, and what they may",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "account", func(c *client.Client) (*api.Account, error) {
				return c.Account(cmd.Context())
			}, accountText)
		},
	}
}

func accountText(u *api.Account) string {
	var elsewhere []string
	for _, x := range u.Identities {
		elsewhere = append(elsewhere, x.Issuer)
	}
	return userText(&u.User) + ui.Pairs(
		[2]string{"may", strings.Join(u.Permissions, ", ")},
		[2]string{"known at", strings.Join(elsewhere, ", ")},
		[2]string{"language", u.Settings.Language},
		[2]string{"theme", u.Settings.Theme},
		[2]string{"session", u.Session.ID + " by " + u.Session.Method + ", until " + minute(u.Session.Expires)},
	)
}

func newAccountChangeCommand(a *app) *cobra.Command {
	var display string
	var s api.AccountSettings
	cmd := &cobra.Command{
		Use:     "change",
		Short:   "Change one's own name to show, and the console's language and theme",
		Example: "  tsugictl account change --display 'Alice A.' --language ja",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var change api.AccountChange
			set := cmd.Flags().Changed
			if set("display") {
				change.Display = &display
			}
			settings := set("language") || set("theme")
			if change.Display == nil && !settings {
				return command.Usage(cmd.CommandPath(), "nothing to change is given")
			}
			return ask(a, "account", func(c *client.Client) (*api.Account, error) {
				if settings {
					now, err := c.Account(cmd.Context())
					if err != nil {
						return nil, err
					}
					if !set("language") {
						s.Language = now.Settings.Language
					}
					if !set("theme") {
						s.Theme = now.Settings.Theme
					}
					change.Settings = &s
				}
				return c.ChangeAccount(cmd.Context(), change)
			}, accountText)
		},
	}
	f := cmd.Flags()
	f.StringVar(&display, "display", "", "name to show")
	f.StringVar(&s.Language, "language", "", "en or ja; empty: the browser's")
	f.StringVar(&s.Theme, "theme", "", "auto, light or dark")
	return cmd
}

func newAccountPasswordCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "password",
		Short: "Change one's own password; one's other sessions end",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "password", func(c *client.Client) (done, error) {
				who, err := c.Account(cmd.Context())
				if err != nil {
					return done{}, err
				}
				password, err := a.newPassword(cmd, who.Name)
				if err != nil {
					return done{}, err
				}
				return done{User: who.Name}, c.ChangePassword(cmd.Context(), password)
			}, nothing)
		},
	}
}

// done is the result of what has none but that it is done.
type done struct {
	User string `json:"user"`
}

func newAccountPasskeyCommand(a *app) *cobra.Command {
	return command.Parent("passkey", "One's own passkeys, which are made in the console", "",
		list(a, "passkeys", "List one's passkeys", (*client.Client).Passkeys, func(all []api.Passkey) string {
			rows := make([][]string, len(all))
			for i, k := range all {
				rows[i] = []string{k.Name, k.ID, when(k.Created), when(k.LastUsed)}
			}
			return ui.Table([]string{"name", "passkey", "made", "last used"}, rows)
		}),
		toEach(a, "rm PASSKEY...", "Remove passkeys, by their ids", "removed", (*client.Client).RemovePasskey))
}

func newAccountSessionCommand(a *app) *cobra.Command {
	return command.Parent("session", "Where one is signed in", "",
		list(a, "sessions", "List one's sessions, the last used first", (*client.Client).OwnSessions, func(all []api.Session) string {
			rows := make([][]string, len(all))
			for i, s := range all {
				this := ""
				if s.Current {
					this = ui.Dim("this one")
				}
				rows[i] = append(sessionRow(s), this)
			}
			return ui.Table(append(sessionHead(), ""), rows)
		}),
		toEach(a, "end SESSION...", "End sessions of one's own", "ended", (*client.Client).EndOwnSession))
}

func newAccountKeyCommand(a *app) *cobra.Command {
	return command.Parent("key", "One's own API keys", "",
		newAccountKeyNewCommand(a),
		list(a, "api-keys", "List one's API keys", (*client.Client).OwnKeys, keyTable),
		toEach(a, "revoke KEY...", "End API keys of one's own, by their ids", "revoked", (*client.Client).RevokeOwnKey))
}

func newAccountKeyNewCommand(a *app) *cobra.Command {
	var k api.NewKey
	var life time.Duration
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make an API key of one's own and print it, this once",
		Long: `new makes a key that can do what you can, at every moment; with --scope only a
part of that. Scopes are permissions: ` + scopeWords() + `.`,
		Example: "  tsugictl account key new backup-host --scope look --expires 720h >token",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			k.Name = args[0]
			if life > 0 {
				k.Expires = time.Now().Add(life).UnixMilli()
			}
			return ask(a, "api-key", func(c *client.Client) (*api.KeyMade, error) {
				return c.CreateOwnKey(cmd.Context(), k)
			}, func(made *api.KeyMade) string {
				a.Term.Say("%s is good until %s; the key is told this once:", made.Name, minute(made.Expires))
				return made.Secret + "\n"
			})
		},
	}
	cmd.Flags().StringSliceVar(&k.Scopes, "scope", nil, "permissions that it shall have (default all of yours)")
	cmd.Flags().DurationVar(&life, "expires", 0, "how long it is good for, such as 24h (default 90 days)")
	return cmd
}

func scopeWords() string {
	var words []string
	for _, p := range authz.Permissions() {
		words = append(words, string(p))
	}
	// A line of help has 80 columns.
	half := len(words) / 2
	return "\n" + strings.Join(words[:half], ", ") + ",\n" + strings.Join(words[half:], ", ")
}
