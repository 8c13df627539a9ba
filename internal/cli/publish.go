// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

func newPublishCommand(a *app) *cobra.Command {
	var p client.Publication
	var proof, report string
	cmd := &cobra.Command{
		Use:   "publish FILE.tsugi",
		Short: "Hand a live patch to the server, into the first tier",
		Long: `publish sends a live patch to the server, which encrypts it, signs it and
offers it to the machines of the first tier. The proof (tsugictl prove -o)
goes with it: its digest and verdict become part of the signed provenance.
From there tsugictl promote takes it to the next tiers.`,
		Example: "  tsugictl publish ext4.tsugi --proof proof.json\n  tsugictl promote debian-6.1.0-55-amd64-v1",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if p.Artifact, err = a.ReadFile(args[0]); err != nil {
				return err
			}
			if _, err := livepatch.Read(p.Artifact); err != nil {
				return err
			}
			for path, to := range map[string]*[]byte{proof: &p.Proof, report: &p.Report} {
				if path == "" {
					continue
				}
				if *to, err = a.ReadFile(path); err != nil {
					return err
				}
			}
			return ask(a, "livepatch", func(c *client.Client) (*api.LivePatch, error) {
				return c.Publish(cmd.Context(), p)
			}, livePatchText)
		},
	}
	f := cmd.Flags()
	f.StringVar(&proof, "proof", "", "the record of its proof (proof.json)")
	f.StringVar(&report, "report", "", "the report of its build (tsugictl build --json)")
	f.StringVar(&p.Tier, "tier", "", "tier to publish to (default the first)")
	f.StringArrayVar(&p.Policies, "policy", nil, "policy whose machines it is for; may be repeated (default every policy that excludes nothing of it)")
	return cmd
}

func newPromoteCommand(a *app) *cobra.Command {
	var approval string
	cmd := &cobra.Command{
		Use:   "promote LIVEPATCH [TIER]",
		Short: "Take a live patch to the next tier, or to a later one",
		Long: `promote publishes a live patch in the next tier, or in the one that is named.
Where the server wants two people for the last tier (TS8222), ask for the
other one with tsugictl approval ask promote-stable, and give --approval then.`,
		Example: "  tsugictl promote debian-6.1.0-55-amd64-v1\n  tsugictl promote debian-6.1.0-55-amd64-v1 stable",
		Args:    cobra.RangeArgs(1, 2),
		RunE: func(cmd *cobra.Command, args []string) error {
			tier := ""
			if len(args) == 2 {
				tier = args[1]
			}
			return ask(a, "livepatch", func(c *client.Client) (*api.LivePatch, error) {
				return c.Approved(approval).Promote(cmd.Context(), args[0], tier)
			}, livePatchText)
		},
	}
	approvalFlag(cmd, &approval)
	return cmd
}

func newBlockCommand(a *app) *cobra.Command {
	var b api.Block
	cmd := &cobra.Command{
		Use:   "block LIVEPATCH --reason TEXT",
		Short: "Stop the delivery of a live patch at once",
		Long: `block takes a live patch from all tiers: machines that don't have it will not
get it. With --recall, machines that have it take it out: they go back to the
newest live patch below it that is not blocked, or to none. The reason is
signed with it and shown on every machine.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "livepatch", func(c *client.Client) (*api.LivePatch, error) {
				return c.Block(cmd.Context(), args[0], b)
			}, livePatchText)
		},
	}
	cmd.Flags().StringVar(&b.Reason, "reason", "", "why, for the people who run the machines (needed)")
	cmd.Flags().BoolVar(&b.Recall, "recall", false, "machines that have it take it out")
	must(cmd.MarkFlagRequired("reason"))
	return cmd
}

func newUnblockCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "unblock LIVEPATCH",
		Short: "Let a blocked live patch be delivered again",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "livepatch", func(c *client.Client) (*api.LivePatch, error) {
				return c.Unblock(cmd.Context(), args[0])
			}, livePatchText)
		},
	}
}
