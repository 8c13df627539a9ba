// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// namesOf tells the name of a user by id.
func namesOf(users []api.User) func(id string) string {
	return func(id string) string {
		i := slices.IndexFunc(users, func(u api.User) bool { return u.ID == id })
		if i < 0 {
			return id
		}
		return users[i].Name
	}
}

func newSessionCommand(a *app) *cobra.Command {
	return command.Parent("session", "Where people are signed in",
		`A session is a browser in which somebody is signed in to the console, or a
tsugictl (login --user). One's own are in tsugictl account session.`,
		newSessionLsCommand(a), toEach(a, "end SESSION...", "Sign people out", "ended", (*client.Client).EndSession))
}

func newSessionLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List everybody's sessions, the last used first",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			var users []api.User
			return ask(a, "sessions", func(c *client.Client) ([]api.Session, error) {
				l, err := c.Sessions(cmd.Context())
				if err != nil {
					return nil, err
				}
				people, err := c.Users(cmd.Context())
				if err != nil {
					return nil, err
				}
				users = people.Items
				return l.Items, nil
			}, func(all []api.Session) string {
				name := namesOf(users)
				rows := make([][]string, len(all))
				for i, s := range all {
					rows[i] = append([]string{name(s.User)}, sessionRow(s)...)
				}
				return ui.Table(append([]string{"user"}, sessionHead()...), rows)
			})
		},
	}
}

// sessionHead and sessionRow are what lists of sessions have in common.
func sessionHead() []string { return []string{"session", "by", "address", "from", "last used", "ends"} }

func sessionRow(s api.Session) []string {
	return []string{s.ID, s.Method, s.Address, fmt.Sprintf("%.30s", s.Agent), when(s.LastUsed), when(s.Expires)}
}

func newAPIKeyCommand(a *app) *cobra.Command {
	return command.Parent("api-key", "The keys that people and programs show to the server",
		`An API key stands for who has it: a person's can do what they can, or a part of
that, and a program's has a role of its own (tsugictl operator new). tsugictl
login takes either. People make keys for themselves with tsugictl account key or
in the console, where they prove who they are: a key makes no other key of a
person. The keys that sign live patches are another thing: tsugictl key.`,
		list(a, "api-keys", "List everybody's API keys, those of programs too", (*client.Client).Keys, keyTable),
		toEach(a, "revoke KEY...", "End API keys, by their ids", "revoked", (*client.Client).RevokeKey))
}

func keyTable(all []api.Key) string {
	rows := make([][]string, len(all))
	for i, k := range all {
		may := k.Role
		if k.User != "" {
			may = "as its owner"
			if len(k.Scopes) > 0 {
				may += ", only " + strings.Join(k.Scopes, ", ")
			}
		}
		ends := "-"
		if k.Expires != 0 {
			ends = when(k.Expires)
		}
		state := ui.Good("good")
		switch {
		case k.Revoked != 0:
			state = ui.Dim("revoked")
		case k.Expires != 0 && k.Expires < time.Now().UnixMilli():
			state = ui.Dim("expired")
		}
		rows[i] = []string{k.Name, k.ID, may, when(k.LastUsed), ends, state}
	}
	return ui.Table([]string{"name", "key", "may", "last used", "ends", ""}, rows)
}
