// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newPolicyCommand(a *app) *cobra.Command {
	return command.Parent("policy", "What groups of machines want of the fixes",
		`A policy says which fixes of what is pushed (tsugictl update push) the machines
of some groups get: it excludes CVEs, with a reason, an owner and a day on which
that ends by itself; it sets a least severity; it takes fixes of one's own.
Machines whose group has no policy have "default". Policies that choose and
leave out the same share one live patch.`,
		newPolicyLsCommand(a), newPolicyShowCommand(a), newPolicySetCommand(a), newPolicyExcludeCommand(a),
		newPolicyIncludeCommand(a), newPolicyPreviewCommand(a), newPolicyRebuildCommand(a), newPolicyRmCommand(a))
}

func newPolicyLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the policies, with what they choose and what ends soon",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "policies", func(c *client.Client, _ string) (*api.List[api.PolicyInfo], error) {
				return c.Policies(cmd.Context())
			}, policyTable)
		},
	}
}

func policyTable(all []api.PolicyInfo) string {
	rows := make([][]string, len(all))
	for i, p := range all {
		groups := strings.Join(p.Groups, " ")
		if p.Name == "default" {
			groups = strings.TrimSpace("all others " + groups)
		}
		rows[i] = []string{p.Name, groups, strconv.Itoa(p.Machines), strconv.Itoa(len(p.Exclusions)), endings(p.Ending), choices(p.Choices)}
	}
	return ui.Table([]string{"policy", "groups", "machines", "excludes", "ends soon", "live patches"}, rows, 2, 3)
}

// endings says what of a policy ends soon, the first to end first.
func endings(all []api.Ending) string {
	if len(all) == 0 {
		return ui.Dim("-")
	}
	s := ui.Warn(all[0].Name + " ends " + coming(all[0].Ends))
	if more := len(all) - 1; more > 0 {
		s += fmt.Sprintf(" and %d more", more)
	}
	return s
}

// choices says in a few words how far the choices of a policy have come.
func choices(all []api.PolicyChoice) string {
	counts := map[api.ChoiceState]int{}
	for _, c := range all {
		counts[c.State]++
	}
	var words []string
	for _, s := range slices.Sorted(maps.Keys(counts)) {
		words = append(words, fmt.Sprintf("%d %s", counts[s], choiceState(s)))
	}
	return strings.Join(words, ", ")
}

func choiceState(s api.ChoiceState) string {
	switch s {
	case api.ChoicePublished:
		return ui.Good(string(s))
	case api.ChoiceFailed, api.ChoiceBlocked:
		return ui.Bad(string(s))
	case api.ChoiceBuilding, api.ChoicePending:
		return ui.Warn(string(s))
	}
	return ui.Dim(string(s))
}

func newPolicyShowCommand(a *app) *cobra.Command {
	var asYAML bool
	cmd := &cobra.Command{
		Use:   "show POLICY",
		Short: "Show a policy, and what it chooses for each target",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "policy", func(c *client.Client) (*api.PolicyInfo, error) {
				return c.Policy(cmd.Context(), args[0])
			}, func(p *api.PolicyInfo) string {
				if asYAML {
					return policyYAML(p.Policy)
				}
				return policyText(p)
			})
		},
	}
	cmd.Flags().BoolVar(&asYAML, "yaml", false, "its text alone, as policy set --file reads it")
	return cmd
}

func policyText(p *api.PolicyInfo) string {
	yes := ""
	if p.SwapUnused {
		yes = "yes: a module that is loaded and not in use is replaced"
	}
	text := ui.Pairs(
		[2]string{"policy", ui.Bold(p.Name)},
		[2]string{"description", p.Description},
		[2]string{"groups", strings.Join(p.Groups, ", ")},
		[2]string{"machines", strconv.Itoa(p.Machines)},
		[2]string{"scope", cmp.Or(p.Scope, "security")},
		[2]string{"least severity", p.MinSeverity},
		[2]string{"extra", strings.Join(p.Extra, ", ")},
		[2]string{"swaps modules", yes},
	)
	if p.Open != nil {
		text += ui.Pairs([2]string{"open on", exposure(p.Open)})
	}
	if p.Changed != 0 {
		text += ui.Pairs([2]string{"changed", when(p.Changed) + " by " + p.ChangedBy})
	}
	if len(p.Exclusions) > 0 {
		rows := make([][]string, len(p.Exclusions))
		for i, x := range p.Exclusions {
			rows[i] = []string{cmp.Or(x.CVE, x.Fix), ends(x.Expires), x.Owner, x.Reason}
		}
		text += "\n" + ui.Table([]string{"excludes", "ends", "owner", "reason"}, rows)
	}
	for _, c := range p.Choices {
		text += "\n" + choiceText(c)
	}
	return text
}

// exposure says on how many machines something is open, and what that needs.
func exposure(x *api.Exposure) string {
	if x.Machines == 0 {
		return ui.Good("no machine") + ", but for what the policy leaves out"
	}
	var worst []string
	for _, s := range []string{"exploited", "critical", "high", "medium", "low", "unknown"} {
		if n := x.Worst[s]; n > 0 {
			worst = append(worst, fmt.Sprintf("%d %s", n, s))
		}
	}
	return fmt.Sprintf("%s (at worst: %s); machines by need: %s", ui.Count(x.Machines, "machine"), strings.Join(worst, ", "), needs(x.Needs))
}

// ends says when an exclusion ends.
func ends(ms int64) string {
	switch now := time.Now().UnixMilli(); {
	case ms == 0:
		return ui.Dim("never")
	case ms <= now:
		return ui.Dim("ended " + when(ms))
	case ms-now < (14 * 24 * time.Hour).Milliseconds():
		return ui.Warn(coming(ms))
	}
	return time.UnixMilli(ms).UTC().Format(time.DateOnly)
}

// coming is a moment that is ahead, to the nearest day.
func coming(ms int64) string {
	days := (time.Until(time.UnixMilli(ms)) + 12*time.Hour) / (24 * time.Hour)
	if days < 2 {
		return when(ms)
	}
	return "in " + ui.Count(int(days), "day")
}

func choiceText(c api.PolicyChoice) string {
	var left []string
	for _, kind := range slices.Sorted(maps.Keys(c.Left)) {
		left = append(left, fmt.Sprintf("%d %s", c.Left[kind], kind))
	}
	state := choiceState(c.State)
	if c.Patch != "" {
		state += "  " + c.Patch
		if len(c.Tiers) > 0 {
			state += " in " + strings.Join(c.Tiers, ", ")
		}
	}
	text := ui.Pairs(
		[2]string{"target", ui.Bold(c.Target)},
		[2]string{"update", c.Update},
		[2]string{"machines", strconv.Itoa(c.Machines)},
		[2]string{"chosen", fmt.Sprintf("%s, %s", ui.Count(c.Fixes, "fix"), ui.Count(c.CVEs, "CVE"))},
		[2]string{"not taken", strings.Join(left, ", ")},
		[2]string{"live patch", state},
		[2]string{"shared with", strings.Join(c.Shared, ", ")},
		[2]string{"job", c.Job},
	)
	if c.Keeps != "" {
		text += "machines that this has not come to keep " + c.Keeps
		if c.KeepsExcluded != "" {
			text += fmt.Sprintf(", which holds %s; nobody else is offered it, and tsugictl livepatch revert or a reboot takes it out", ui.Warn(c.KeepsExcluded))
		}
		text += ".\n"
	}
	if c.Problem != nil {
		text += told(c.Problem)
	}
	if len(c.Omitted) > 0 {
		text += "left out by the build:\n" + notTakenTable(c.Omitted)
	}
	return text
}

// notTakenTable lists fixes that are not taken.
func notTakenTable(all []api.LeftFix) string {
	rows := make([][]string, len(all))
	for i, l := range all {
		why := l.Why
		if l.Code != "" {
			why = strings.TrimSpace(l.Code + " " + why)
		}
		severity := l.Severity
		if l.Exploited {
			severity = ui.Bad(strings.TrimSpace(severity + " exploited"))
		}
		rows[i] = []string{"  " + l.ID, strings.Join(l.CVEs, " "), severity, l.Kind, clip(why, 90)}
	}
	return ui.Table([]string{"  fix", "CVEs", "severity", "why", ""}, rows)
}

func newPolicyRebuildCommand(a *app) *cobra.Command {
	var target string
	cmd := &cobra.Command{
		Use:   "rebuild POLICY",
		Short: "Have what a policy chooses built again",
		Long: `rebuild makes a new job and a new version of what a policy chooses: because the
live patch of it is blocked, because a build failed for a reason that is
mended, or because a newer release of Tsugi can do more. Policies that share the
choice get the new live patch too.`,
		Example: "  tsugictl policy rebuild default\n  tsugictl policy rebuild databases --target debian:6.1.0-54-amd64",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "rebuild", func(c *client.Client) (*api.Rebuilt, error) {
				return c.RebuildPolicy(cmd.Context(), args[0], target)
			}, func(r *api.Rebuilt) string {
				return "built again for " + strings.Join(r.Targets, ", ") + ": tsugictl job ls\n"
			})
		},
	}
	cmd.Flags().StringVarP(&target, "target", "t", "", "only for this kernel (default all that anything is pushed for)")
	return cmd
}

func newPolicyRmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm POLICY...",
		Short: "Remove policies that no group has",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, "removed", args, (*client.Client).DeletePolicy)
		},
	}
}
