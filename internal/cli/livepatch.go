// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newLivePatchCommand(a *app) *cobra.Command {
	return command.Parent("livepatch", "The live patches that the server holds",
		`Each live patch of a target has a version and supersedes all lower ones. They
are published with tsugictl publish, and go up the tiers with promote.`,
		newLivePatchLsCommand(a), newLivePatchShowCommand(a), newLivePatchContentsCommand(a), newLivePatchDiffCommand(a),
		newLivePatchProofCommand(a), newLivePatchProvenanceCommand(a), newLivePatchRevertCommand(a))
}

func newLivePatchLsCommand(a *app) *cobra.Command {
	var f client.PatchFilter
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the live patches and the tiers that hold them",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "livepatches", func(c *client.Client, after string) (*api.List[api.LivePatch], error) {
				f.After = after
				return c.LivePatches(cmd.Context(), f)
			}, func(all []api.LivePatch) string {
				rows := make([][]string, len(all))
				for i, p := range all {
					rows[i] = []string{p.ID, p.Target, tiersOf(p), ui.Count(len(p.CVEs), "CVE"), ui.Size(p.Size), when(p.Created)}
				}
				return ui.Table([]string{"live patch", "target", "tiers", "fixes", "size", "published"}, rows, 4)
			})
		},
	}
	cmd.Flags().StringVar(&f.Tier, "tier", "", "only those of this tier")
	cmd.Flags().StringVarP(&f.Target, "target", "t", "", "only those for this target")
	cmd.Flags().StringVar(&f.CVE, "cve", "", "only those that fix this vulnerability")
	return cmd
}

func tiersOf(p api.LivePatch) string {
	if p.Blocked != 0 {
		return ui.Bad("blocked")
	}
	return strings.Join(p.Tiers, ", ")
}

func newLivePatchShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show LIVEPATCH",
		Short: "Show a live patch, and how it does on the machines",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "livepatch", func(c *client.Client) (*api.LivePatch, error) {
				return c.LivePatch(cmd.Context(), args[0])
			}, livePatchText)
		},
	}
}

func livePatchText(p *api.LivePatch) string {
	var states []string
	for _, s := range slices.Sorted(maps.Keys(p.Machines)) {
		states = append(states, fmt.Sprintf("%d %s", p.Machines[s], s))
	}
	yes := func(b bool, no string) string {
		if b {
			return "yes"
		}
		return ui.Warn(no)
	}
	signed := ""
	if p.Kernel.Release != "" { // a package's has no module
		signed = yes(p.Signed, "no: hosts that enforce signatures refuse it")
	}
	text := ui.Pairs(
		[2]string{"live patch", ui.Bold(p.ID)},
		[2]string{"name", p.Name},
		[2]string{"target", targetOf(p)},
		[2]string{"tiers", tiersOf(*p)},
		[2]string{"policies", strings.Join(p.Policies, ", ")},
		[2]string{"blocked", blockOf(p)},
		[2]string{"proven", yes(p.Proven, "no: no proof came with it")},
		[2]string{"module signed", signed},
		[2]string{"sha256", p.Digest},
		[2]string{"size", ui.Size(p.Size)},
		[2]string{"published", when(p.Created)},
		[2]string{"machines", strings.Join(states, ", ")},
	)
	if len(p.CVEs) > 0 {
		text += ui.Flow("fixes  ", p.CVEs, ",")
	}
	for _, title := range nonEmpty(p.Fixes...) {
		text += "  " + title + "\n"
	}
	return text
}

func targetOf(p *api.LivePatch) string {
	if p.Kernel.BuildID == "" {
		return p.Target
	}
	return p.Target + "  " + ui.Dim("build-id "+short(p.Kernel.BuildID))
}

func blockOf(p *api.LivePatch) string {
	if p.Blocked == 0 {
		return ""
	}
	s := when(p.Blocked) + ": " + p.Reason
	if p.Recall {
		s += " (machines take it out)"
	}
	return s
}

func newLivePatchRevertCommand(a *app) *cobra.Command {
	var r api.AuthoriseRevert
	cmd := &cobra.Command{
		Use:   "revert TARGET --tier TIER --to VERSION --reason TEXT",
		Short: "Let a tier's machines go back to an older live patch",
		Long: `revert signs an order for the machines of a tier that have the target, a kernel
or a package: leave whatever is newer and go to VERSION; 0 is no live patch at
all. Without such an order no machine ever goes back by itself.`,
		Example: `  tsugictl livepatch revert debian:6.1.0-55-amd64 --tier stable --to 2 --reason "nfs stalls"`,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			r.Target = args[0]
			return ask(a, "revert", func(c *client.Client) (api.AuthoriseRevert, error) {
				return r, c.AuthoriseRevert(cmd.Context(), r)
			}, nothing)
		},
	}
	f := cmd.Flags()
	f.StringVar(&r.Tier, "tier", "", "tier whose machines go back (needed)")
	f.StringVar(&r.Policy, "policy", "", "policy whose machines go back (default every one that can)")
	f.IntVar(&r.To, "to", 0, "version to go back to; 0 for none (needed)")
	f.StringVar(&r.Reason, "reason", "", "why, for the people who run the machines (needed)")
	for _, name := range []string{"tier", "to", "reason"} {
		must(cmd.MarkFlagRequired(name))
	}
	return cmd
}
