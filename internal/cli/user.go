// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newUserCommand(a *app) *cobra.Command {
	return command.Parent("user", "The people who may sign in, and their roles",
		`A user has roles, each for the whole fleet or for some groups of machines, and
comes in with a link that is good once. Programs have keys of their own:
tsugictl operator.

Not all of this can be done with an API key. Who makes a link for a user, resets
or unlocks one, could sign in as them: a server lets only a person do that who
is signed in (tsugictl login --user) and has proved a moment ago who they are.
tsugi-server user does it on the server's own machine. One's own password,
second factor, sessions and API keys: tsugictl account.`,
		newUserNewCommand(a), newUserLsCommand(a), newUserShowCommand(a), newUserChangeCommand(a),
		newUserLinkCommand(a), newUserResetCommand(a), newUserUnlockCommand(a))
}

// userNamed finds a user by name or by id.
func userNamed(ctx context.Context, c *client.Client, name string) (*api.User, error) {
	all, err := c.Users(ctx)
	if err != nil {
		return nil, err
	}
	wanted := strings.ToLower(strings.TrimSpace(name))
	for i, u := range all.Items {
		if u.Name == wanted || u.ID == name {
			return &all.Items[i], nil
		}
	}
	return nil, code.New("TS8226", name, "").WithFix("tsugictl user ls")
}

// ofUser does something to a user who is given by name.
func ofUser[T any](ctx context.Context, name string, do func(*client.Client, *api.User) (T, error)) func(*client.Client) (T, error) {
	return func(c *client.Client) (T, error) {
		u, err := userNamed(ctx, c, name)
		if err != nil {
			var none T
			return none, err
		}
		return do(c, u)
	}
}

func grantsOf(texts []string) ([]api.Grant, error) {
	grants := []api.Grant{}
	for _, text := range texts {
		g, err := authz.ParseGrant(text)
		if err != nil {
			return nil, err
		}
		grants = append(grants, api.Grant{Role: string(g.Role), Groups: g.Groups})
	}
	return grants, nil
}

func rolesText(grants []api.Grant) string {
	var roles []string
	for _, g := range grants {
		roles = append(roles, authz.Grant{Role: authz.Role(g.Role), Groups: g.Groups}.String())
	}
	return strings.Join(roles, "; ")
}

const roleNote = "role, as ROLE or ROLE:GROUP,GROUP; may be repeated"

func newUserNewCommand(a *app) *cobra.Command {
	var n api.NewUser
	var roles []string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a user and print the link that they come in with",
		Long: `new makes a user. They open the link in a browser, choose a password there, and
are signed in; the link is good once and is told this once.

A role is viewer, operator, author, release-manager or admin, for the whole
fleet, or with groups of machines behind a colon. Without any they see their
own account and nothing else.`,
		Example: "  tsugictl user new alice --role release-manager\n  tsugictl user new bob --role viewer --role operator:web,db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			grants, err := grantsOf(roles)
			if err != nil {
				return err
			}
			n.Name, n.Grants = args[0], grants
			return ask(a, "user", func(c *client.Client) (*api.UserMade, error) {
				return c.CreateUser(cmd.Context(), n)
			}, func(made *api.UserMade) string {
				a.Term.Say("%s comes in with this link, once, until %s:", made.Name, minute(made.Expires))
				return made.Link + "\n"
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&roles, "role", nil, roleNote)
	f.StringVar(&n.Display, "display", "", "name to show")
	f.StringVar(&n.Email, "email", "", "e-mail address")
	return cmd
}

func minute(ms int64) string { return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04 UTC") }

func newUserLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the users and their roles",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "users", func(c *client.Client, _ string) (*api.List[api.User], error) {
				return c.Users(cmd.Context())
			}, func(all []api.User) string {
				rows := make([][]string, len(all))
				for i, u := range all {
					rows[i] = []string{u.Name, u.Display, rolesText(u.Grants), when(u.LastSeen), userState(u)}
				}
				return ui.Table([]string{"name", "", "roles", "last seen", ""}, rows)
			})
		},
	}
}

func userState(u api.User) string {
	switch {
	case u.Disabled != 0:
		return ui.Dim("disabled")
	case u.LockedUntil > time.Now().UnixMilli():
		return ui.Warn("locked until " + minute(u.LockedUntil))
	case u.LastSeen == 0:
		return ui.Dim("never came in")
	}
	return ui.Good("active")
}

func newUserShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show NAME",
		Short: "Show a user: roles, and what they sign in with",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "user", ofUser(cmd.Context(), args[0], func(c *client.Client, u *api.User) (*api.User, error) {
				return c.User(cmd.Context(), u.ID) // with what lists leave out
			}), userText)
		},
	}
}

func userText(u *api.User) string {
	var ways []string
	if u.Password {
		ways = append(ways, "password")
	}
	if u.TOTP {
		ways = append(ways, "second factor, with "+ui.Count(u.RecoveryCodes, "recovery code"))
	}
	if u.Passkeys > 0 {
		ways = append(ways, ui.Count(u.Passkeys, "passkey"))
	}
	return ui.Pairs(
		[2]string{"user", ui.Bold(u.Name) + "  " + ui.Dim(u.ID)},
		[2]string{"name", u.Display},
		[2]string{"e-mail", u.Email},
		[2]string{"roles", rolesText(u.Grants)},
		[2]string{"state", userState(*u)},
		[2]string{"signs in with", strings.Join(ways, "; ")},
		[2]string{"created", strings.TrimSpace(when(u.Created) + " by " + u.CreatedBy)},
		[2]string{"last seen", when(u.LastSeen)},
	)
}

func newUserChangeCommand(a *app) *cobra.Command {
	var roles []string
	var display, email string
	var disable, enable bool
	cmd := &cobra.Command{
		Use:   "change NAME",
		Short: "Change a user's roles, name or address, disable or enable them",
		Long: `change changes what is given and leaves the rest. The roles that are given with
--role take the place of all that the user has; --no-roles takes them away.
Roles count at once, for sessions and API keys too. Who is disabled can't sign
in, and their sessions and keys are worth nothing.`,
		Example: "  tsugictl user change bob --role viewer --role operator:web\n  tsugictl user change bob --disable",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var change api.UserChange
			set := cmd.Flags().Changed
			if set("role") || set("no-roles") {
				grants, err := grantsOf(roles)
				if err != nil {
					return err
				}
				change.Grants = &grants
			}
			if set("display") {
				change.Display = &display
			}
			if set("email") {
				change.Email = &email
			}
			if disable || enable {
				change.Disabled = &disable
			}
			if change == (api.UserChange{}) {
				return command.Usage(cmd.CommandPath(), "nothing to change is given")
			}
			return ask(a, "user", ofUser(cmd.Context(), args[0], func(c *client.Client, u *api.User) (*api.User, error) {
				return c.ChangeUser(cmd.Context(), u.ID, change)
			}), userText)
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&roles, "role", nil, roleNote)
	f.Bool("no-roles", false, "take all roles away")
	f.StringVar(&display, "display", "", "name to show")
	f.StringVar(&email, "email", "", "e-mail address")
	f.BoolVar(&disable, "disable", false, "let them in no more")
	f.BoolVar(&enable, "enable", false, "let them in again")
	cmd.MarkFlagsMutuallyExclusive("disable", "enable")
	cmd.MarkFlagsMutuallyExclusive("role", "no-roles")
	return cmd
}

const onlyFresh = `A server lets only a person do this who is signed in (tsugictl login --user) and
has proved a moment ago who they are: with an API key it answers TS8205. On the
server's own machine there is `

func newUserLinkCommand(a *app) *cobra.Command {
	var signIn bool
	cmd := &cobra.Command{
		Use:   "link NAME",
		Short: "Make a link for a user, for a new password or to sign in once",
		Long: `link makes a link in the place of those that the user has. It sets a new
password; with --sign-in it signs in once, as it is.

` + onlyFresh + `tsugi-server user link.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			purpose := "welcome"
			if signIn {
				purpose = "sign-in"
			}
			return ask(a, "link", ofUser(cmd.Context(), args[0], func(c *client.Client, u *api.User) (*api.LinkMade, error) {
				return c.CreateLink(cmd.Context(), u.ID, purpose)
			}), a.linkText)
		},
	}
	cmd.Flags().BoolVar(&signIn, "sign-in", false, "a link that signs in once and sets no password")
	return cmd
}

func (a *app) linkText(made *api.LinkMade) string {
	a.Term.Say("Good once, until %s:", minute(made.Expires))
	return made.Link + "\n"
}

func newUserResetCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reset NAME",
		Short: "Remove all that a user signs in with, and make a link",
		Long: `reset removes the password, the second factor, the passkeys, the accounts at
OpenID providers, the sessions and the API keys of a user, and makes a link with
which they begin anew.

` + onlyFresh + `tsugi-server user reset.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "link", ofUser(cmd.Context(), args[0], func(c *client.Client, u *api.User) (*api.LinkMade, error) {
				return c.ResetFactors(cmd.Context(), u.ID)
			}), a.linkText)
		},
	}
}

func newUserUnlockCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "unlock NAME...",
		Short: "Forget the wrong attempts to sign in as users",
		Long: `unlock lets users sign in at once whom too many wrong attempts have locked out.
It goes away by itself after a while.

` + onlyFresh + `tsugi-server user link: who has
a link comes in.`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, "unlocked", args, func(c *client.Client, ctx context.Context, name string) error {
				u, err := userNamed(ctx, c, name)
				if err != nil {
					return err
				}
				return c.UnlockUser(ctx, u.ID)
			})
		},
	}
}
