// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// addFleetCommands adds the commands that talk to a server.
func addFleetCommands(root *cobra.Command, a *app) {
	command.Group(root, "A server and its fleet (after login):",
		newLoginCommand(a), newLogoutCommand(a), newWhoamiCommand(a), newAccountCommand(a), newOverviewCommand(a),
		newPublishCommand(a), newPromoteCommand(a), newBlockCommand(a), newUnblockCommand(a),
		newLivePatchCommand(a), newRolloutCommand(a), newCVECommand(a), newCoverageCommand(a), newMachineCommand(a), newTokenCommand(a), newTierCommand(a), newNotificationCommand(a),
		newPolicyCommand(a), newApplyCommand(a), newUpdateCommand(a), newJobCommand(a), newBundleCommand(a), newUserCommand(a), newSessionCommand(a), newAPIKeyCommand(a), newOperatorCommand(a), newApprovalCommand(a), newSettingsCommand(a), newServiceCommand(a), newHistoryCommand(a), newAuditCommand(a))
}

// ask gets one thing from the server and shows it.
func ask[T any](a *app, kind string, get func(*client.Client) (T, error), text func(T) string) error {
	c, err := a.server()
	if err != nil {
		return err
	}
	v, err := get(c)
	if err != nil {
		return err
	}
	return a.Show(kind, v, func() string { return text(v) })
}

// askAll gets a list from the server, page by page, and shows it.
func askAll[T any](a *app, kind string, get func(c *client.Client, after string) (*api.List[T], error), text func([]T) string) error {
	return ask(a, kind, func(c *client.Client) ([]T, error) {
		all := []T{}
		for after := ""; ; {
			l, err := get(c, after)
			if err != nil {
				return nil, err
			}
			all = append(all, l.Items...)
			if after = l.Next; after == "" {
				return all, nil
			}
		}
	}, text)
}

// list is the command that lists things of a kind.
func list[T any](a *app, kind, short string, get func(c *client.Client, ctx context.Context) (*api.List[T], error), table func([]T) string) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   short,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, kind, func(c *client.Client, _ string) (*api.List[T], error) { return get(c, cmd.Context()) }, table)
		},
	}
}

// toEach is the command that does one thing to each of some ids.
func toEach(a *app, use, short, done string, do func(*client.Client, context.Context, string) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, done, args, do)
		},
	}
}

// each does one thing to each of some ids and tells what was done.
func (a *app) each(cmd *cobra.Command, done string, ids []string, do func(*client.Client, context.Context, string) error) error {
	c, err := a.server()
	if err != nil {
		return err
	}
	for i, id := range ids {
		if err := do(c, cmd.Context(), id); err != nil {
			if i > 0 {
				a.Term.Say("%s before that: %s", done, ui.Count(i, "one"))
			}
			return fmt.Errorf("%s: %w", id, err)
		}
	}
	return a.Show(done, ids, func() string { return "" })
}

// nothing is the text of what needs none.
func nothing[T any](T) string { return "" }

// when is a moment for people: how long ago it was, or its date.
func when(ms int64) string {
	if ms == 0 {
		return "never"
	}
	t := time.UnixMilli(ms)
	ago := time.Since(t)
	switch {
	case ago < -time.Minute:
		return "in " + roughly(-ago)
	case ago < 10*time.Second:
		return "just now"
	case ago < 48*time.Hour:
		return roughly(ago) + " ago"
	}
	return t.UTC().Format("2006-01-02")
}

func roughly(d time.Duration) string {
	switch {
	case d < 2*time.Minute:
		return ui.Count(int(d.Seconds()), "second")
	case d < 2*time.Hour:
		return ui.Count(int(d.Minutes()), "minute")
	case d < 48*time.Hour:
		return ui.Count(int(d.Hours()), "hour")
	}
	return ui.Count(int(d.Hours()/24), "day")
}

// protection is a word of protection in its colour.
func protection(p api.Protection) string {
	switch p {
	case api.Protected:
		return ui.Good(string(p))
	case api.Failing, api.Unprotected:
		return ui.Bad(string(p))
	case api.Outdated, api.Silent, api.Partly:
		return ui.Warn(string(p))
	}
	return ui.Dim(string(p))
}

// patchOf is a machine's live patch in a few words.
func patchOf(p api.Patch) string {
	if p.ID == "" && p.Name == "" {
		return ui.Dim("none")
	}
	s := cmp.Or(p.ID, p.Name)
	if p.State != "" && p.State != api.Healthy {
		s += " (" + string(p.State) + ")"
	}
	return s
}

// told is a problem that came with a body.
func told(p *api.Problem) string {
	if p == nil {
		return ""
	}
	return ui.Explain(&code.Problem{Code: p.Code, What: p.What, Where: p.Where, Why: p.Why, Fix: p.Fix})
}
