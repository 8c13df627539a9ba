// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newApprovalCommand(a *app) *cobra.Command {
	return command.Parent("approval", "What a second person has to agree to",
		`A server can ask for two people where much depends on it (tsugictl approval
actions). One asks and says what for, another one gives it or refuses, and the
first one does it then with --approval ID: exactly that, once, within a day.
Both need the right to do it themselves. Only people can, with an API key of
their own or signed in; a program's key is nobody's (TS8205).

That a rollout goes to all machines at once always takes two people and is
approved where the rollout is: tsugictl rollout approve.`,
		newApprovalAskCommand(a), newApprovalLsCommand(a), newApprovalShowCommand(a),
		newApprovalVerb(a, "give", "Agree, as the second person; who asked then does it", (*client.Client).GiveApproval),
		newApprovalVerb(a, "refuse", "Refuse, or take back what one asked for", (*client.Client).RefuseApproval),
		newApprovalActionsCommand(a))
}

// The actions as the API has them.
const (
	actionPromote = "promote-stable"
	actionKeys    = "change-keys"
	actionFewer   = "fewer-approvals"
)

func newApprovalAskCommand(a *app) *cobra.Command {
	var root, why string
	cmd := &cobra.Command{
		Use:   "ask ACTION [OBJECT]...",
		Short: "Ask another person to agree to one thing",
		Long: `ask asks for one of these:

  promote-stable LIVEPATCH [TIER]   promote it to that tier, or to the next one
  change-keys TIER                  give the tier a new key
  change-keys --root FILE           hand this TUF root to the server
  fewer-approvals [ACTION]...       ask for a second person for these alone

and prints the id to give with --approval to promote, rollout new, key rotate,
key import or approval actions, when another person has agreed.`,
		Example: `  id=$(tsugictl approval ask promote-stable debian-6.1.0-55-amd64-v1)
  tsugictl promote debian-6.1.0-55-amd64-v1 stable --approval $id`,
		Args: cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			in, err := a.asking(cmd, args[0], args[1:], root)
			if err != nil {
				return err
			}
			in.Why = why
			return ask(a, "approval", func(c *client.Client) (*api.Approval, error) {
				return c.AskApproval(cmd.Context(), in)
			}, func(made *api.Approval) string {
				a.Term.Say("Another person has to agree until %s: tsugictl approval give %s", minute(made.Expires), made.ID)
				return made.ID + "\n"
			})
		},
	}
	cmd.Flags().StringVar(&root, "root", "", "file of the TUF root that is to be imported")
	cmd.Flags().StringVar(&why, "why", "", "why, for who decides")
	return cmd
}

// asking is what is asked for on a command line.
func (a *app) asking(cmd *cobra.Command, action string, objects []string, root string) (api.AskApproval, error) {
	in := api.AskApproval{Action: action}
	bad := func(why string) (api.AskApproval, error) { return in, command.Usage(cmd.CommandPath(), why) }
	if root != "" && action != actionKeys {
		return bad("--root is of " + actionKeys)
	}
	switch action {
	case actionPromote:
		if len(objects) == 0 || len(objects) > 2 {
			return bad("give a live patch and, if you like, the tier")
		}
		if in.Object = objects[0]; len(objects) == 2 {
			in.Tier = objects[1]
		}
	case actionKeys:
		if (root == "") != (len(objects) == 1) || len(objects) > 1 {
			return bad("give either a tier or --root FILE")
		}
		if root == "" {
			in.Object = objects[0]
			break
		}
		b, err := a.ReadFile(root)
		if err != nil {
			return in, err
		}
		sum := sha256.Sum256(b)
		in.Object, in.Digest = "root", hex.EncodeToString(sum[:])
	case actionFewer:
		in.Actions = objects
	default:
		return bad("an action is one of " + strings.Join([]string{actionPromote, actionKeys, actionFewer}, ", "))
	}
	return in, nil
}

func newApprovalLsCommand(a *app) *cobra.Command {
	var all bool
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List what a second person is asked for, the newest first",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "approvals", func(c *client.Client, after string) (*api.List[api.Approval], error) {
				return c.Approvals(cmd.Context(), all, after)
			}, func(list []api.Approval) string {
				rows := make([][]string, len(list))
				for i, p := range list {
					rows[i] = []string{p.ID, p.Action, p.Object, p.AskedBy, when(p.Asked), approvalState(p)}
				}
				return ui.Table([]string{"approval", "action", "of", "asked by", "asked", ""}, rows)
			})
		},
	}
	cmd.Flags().BoolVar(&all, "all", false, "those too that were decided or whose time is over")
	return cmd
}

func approvalState(p api.Approval) string {
	by := ""
	if p.DecidedBy != "" {
		by = " by " + p.DecidedBy
	}
	switch {
	case p.Used != 0:
		return ui.Dim("used, given" + by)
	case p.Verdict == "refused":
		return ui.Bad("refused" + by)
	case p.Expires < time.Now().UnixMilli():
		return ui.Dim("its time is over")
	case p.Verdict != "":
		return ui.Good(p.Verdict + by)
	}
	return ui.Warn("waits")
}

func approvalText(p *api.Approval) string {
	return ui.Pairs(
		[2]string{"approval", ui.Bold(p.ID)},
		[2]string{"action", p.Action},
		[2]string{"of", p.Object},
		[2]string{"what", p.Detail},
		[2]string{"asked", when(p.Asked) + " by " + p.AskedBy},
		[2]string{"state", approvalState(*p)},
		[2]string{"good until", minute(p.Expires)},
	)
}

func newApprovalShowCommand(a *app) *cobra.Command {
	return newApprovalVerb(a, "show", "Show what is asked for, and how it was decided", (*client.Client).Approval)
}

func newApprovalActionsCommand(a *app) *cobra.Command {
	var set []string
	var none bool
	var approval string
	cmd := &cobra.Command{
		Use:   "actions",
		Short: "Show or set what needs a second person on this server",
		Long: `actions shows what can need a second person, and what does. With --set these
do from now on, and no others; with --none nothing does. That fewer shall needs
a second person itself: approval ask fewer-approvals.

A server lets only an admin set it who is signed in (tsugictl login --user) and
has proved a moment ago who they are: with an API key it answers TS8205.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "approval-actions", func(c *client.Client) (*api.ApprovalActions, error) {
				if !none && len(set) == 0 {
					return c.ApprovalActions(cmd.Context())
				}
				return c.Approved(approval).SetApprovals(cmd.Context(), set)
			}, func(x *api.ApprovalActions) string {
				rows := make([][]string, len(x.All))
				for i, name := range x.All {
					rows[i] = []string{name, "one person"}
					for _, s := range x.Actions {
						if s == name {
							rows[i][1] = "two people"
						}
					}
				}
				return ui.Table([]string{"action", "needs"}, rows)
			})
		},
	}
	cmd.Flags().StringSliceVar(&set, "set", nil, "the actions that shall need a second person")
	cmd.Flags().BoolVar(&none, "none", false, "no action shall")
	cmd.MarkFlagsMutuallyExclusive("set", "none")
	approvalFlag(cmd, &approval)
	return cmd
}

// newApprovalVerb is a command on one approval.
func newApprovalVerb(a *app, verb, short string, do func(*client.Client, context.Context, string) (*api.Approval, error)) *cobra.Command {
	return &cobra.Command{
		Use:   verb + " APPROVAL",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "approval", func(c *client.Client) (*api.Approval, error) {
				return do(c, cmd.Context(), args[0])
			}, approvalText)
		},
	}
}

// approvalFlag adds --approval to a command.
func approvalFlag(cmd *cobra.Command, id *string) {
	cmd.Flags().StringVar(id, "approval", "", "what another person agreed to, where the server wants two (approval ask)")
}
