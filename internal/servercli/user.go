// SPDX-License-Identifier: Apache-2.0

package servercli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/authz"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/servercli/config"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newUserCommand(a *app) *cobra.Command {
	return command.Parent("user", "Make people and let them in again, without a running server",
		`user works on the database itself, on the machine of the server: for the first
admin, and for the day when nobody can sign in. From day to day, use the
console, which asks the server and needs no access to its machine.`,
		newUserNewCommand(a), newUserLsCommand(a), newUserLinkCommand(a), newUserResetCommand(a))
}

// withPeople opens what people are kept in. The server may be running.
func (a *app) withPeople(cmd *cobra.Command, f func(context.Context, *people.Service, *store.Store) error) error {
	c, err := a.load(cmd)
	if err != nil {
		return err
	}
	keys, err := publish.LoadKeys(c.Path(c.Keys.Dir))
	if err != nil {
		return err
	}
	return a.withStoreOf(cmd.Context(), c, func(ctx context.Context, db *store.Store) error {
		s, err := openPeople(c, db, keys.Identity)
		if err != nil {
			return err
		}
		return f(ctx, s, db)
	})
}

func openPeople(c *config.Config, db *store.Store, id trust.Identity) (*people.Service, error) {
	key, err := people.DeriveKey([]byte(id.Secret()))
	if err != nil {
		return nil, err
	}
	return people.New(people.Options{Store: db, Key: key, URL: c.URL, Limits: limitsOf(c)})
}

func limitsOf(c *config.Config) people.Limits {
	return people.Limits{Idle: c.SignIn.Idle, Life: c.SignIn.Life, Fresh: c.SignIn.Fresh, Link: c.SignIn.Link}
}

// providers are those at which people may sign in.
func providers(c *config.Config) ([]people.Provider, error) {
	if c.OIDC.Issuer == "" {
		return nil, nil
	}
	secret, err := c.OIDCSecret()
	if err != nil {
		return nil, err
	}
	roles, err := c.OIDCRoles()
	return []people.Provider{{
		ID: c.OIDC.ID, Name: c.OIDC.Name, Issuer: c.OIDC.Issuer, ClientID: c.OIDC.ClientID, ClientSecret: secret,
		Scopes: c.OIDC.Scopes, Claim: c.OIDC.Claim, Grants: roles, Create: c.OIDC.Create == "yes",
	}}, err
}

// localCaller is who works on the database itself.
func localCaller() people.Caller { return people.Caller{Name: localActor()} }

// userNamed finds a user by name.
func userNamed(ctx context.Context, db *store.Store, name string) (store.User, error) {
	u, err := db.UserByName(ctx, strings.ToLower(strings.TrimSpace(name)))
	if errors.Is(err, store.ErrNotFound) {
		return u, code.New("TS8226", name, "").WithFix("tsugi-server user ls")
	}
	return u, err
}

func newUserNewCommand(a *app) *cobra.Command {
	var in api.NewUser
	var roles []string
	cmd := &cobra.Command{
		Use:   "new NAME",
		Short: "Make a user and print the link that they come in with",
		Long: `new makes a user. They open the link in a browser, choose a password there, and
are signed in; the link is good once and for three days.

A role is viewer, operator, author, release-manager or admin, for the whole
fleet, or with groups of machines behind a colon.`,
		Example: "  tsugi-server user new alice --role admin\n  tsugi-server user new bob --role viewer --role operator:web,db",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in.Name, in.Grants = args[0], []api.Grant{}
			for _, text := range roles {
				g, err := authz.ParseGrant(text)
				if err != nil {
					return err
				}
				in.Grants = append(in.Grants, api.Grant{Role: string(g.Role), Groups: g.Groups})
			}
			return a.withPeople(cmd, func(ctx context.Context, s *people.Service, _ *store.Store) error {
				made, err := s.CreateUser(ctx, localCaller(), in)
				if err != nil {
					return err
				}
				return a.Show("user", made, func() string {
					return fmt.Sprintf("%s %s is there. They come in with this link, once, until %s:\n%s", ui.Good("✓"), ui.Bold(made.Name), minute(made.Expires), made.Link)
				})
			})
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&roles, "role", nil, "role, as ROLE or ROLE:GROUP,GROUP (may be repeated; none: they may only see their own account)")
	f.StringVar(&in.Display, "display", "", "name to show")
	f.StringVar(&in.Email, "email", "", "e-mail address")
	return cmd
}

func minute(ms int64) string {
	return time.UnixMilli(ms).UTC().Format("2006-01-02 15:04 UTC")
}

func newUserLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "ls",
		Short: "List the users",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.withPeople(cmd, func(ctx context.Context, s *people.Service, _ *store.Store) error {
				all, err := s.Users(ctx)
				if err != nil {
					return err
				}
				return a.Show("users", api.List[api.User]{Items: all}, func() string { return usersText(all, time.Now()) })
			})
		},
	}
}

func usersText(all []api.User, now time.Time) string {
	var rows [][]string
	for _, u := range all {
		var roles []string
		for _, g := range u.Grants {
			roles = append(roles, authz.Grant{Role: authz.Role(g.Role), Groups: g.Groups}.String())
		}
		state := ui.Good("active")
		switch {
		case u.Disabled != 0:
			state = "disabled " + day(u.Disabled)
		case u.LockedUntil > now.UnixMilli():
			state = "locked until " + minute(u.LockedUntil)
		case u.LastSeen == 0:
			state = "never came in"
		}
		rows = append(rows, []string{u.Name, strings.Join(roles, "; "), "since " + day(u.Created), state})
	}
	return ui.Table(nil, rows)
}

func newUserLinkCommand(a *app) *cobra.Command {
	var signIn bool
	cmd := &cobra.Command{
		Use:   "link NAME",
		Short: "Make a link for a user, to set a new password or to sign in once",
		Long: `link makes a link in the place of those that the user has. It sets a new
password and is good for three days; with --sign-in it signs in once, as it is,
and is good for 15 minutes. A second factor is asked for all the same.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPeople(cmd, func(ctx context.Context, s *people.Service, db *store.Store) error {
				u, err := userNamed(ctx, db, args[0])
				if err != nil {
					return err
				}
				purpose := people.PurposeWelcome
				if signIn {
					purpose = people.PurposeSignIn
				}
				made, err := s.CreateLink(ctx, localActor(), u.ID, purpose)
				if err != nil {
					return err
				}
				return a.Show("link", made, func() string { return made.Link })
			})
		},
	}
	cmd.Flags().BoolVar(&signIn, "sign-in", false, "sign in once and leave the password as it is")
	return cmd
}

func newUserResetCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "reset NAME",
		Short: "Take away all that signs a user in, and print a link",
		Long: `reset takes away the password, the second factor, the passkeys, the accounts at
OpenID providers, the sessions and the API keys of a user, and prints a link
with which they begin anew.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withPeople(cmd, func(ctx context.Context, s *people.Service, db *store.Store) error {
				u, err := userNamed(ctx, db, args[0])
				if err != nil {
					return err
				}
				made, err := s.ResetFactors(ctx, localCaller(), u.ID)
				if err != nil {
					return err
				}
				return a.Show("link", made, func() string {
					return fmt.Sprintf("%s Nothing signs %s in any more but this link, once, until %s:\n%s", ui.Good("✓"), ui.Bold(u.Name), minute(made.Expires), made.Link)
				})
			})
		},
	}
}
