// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newRolloutCommand(a *app) *cobra.Command {
	return command.Parent("rollout", "Live patches on their way through a tier, in waves",
		`A rollout takes a live patch through the machines of a tier: a few first, then
more, and nobody else as soon as these are worse off than usual. It halts by
itself then, and waits for a person. Plans are explained in docs/rollouts.md.`,
		newRolloutNewCommand(a), newRolloutLsCommand(a), newRolloutShowCommand(a),
		newRolloutVerb(a, "halt", "Offer it to no more machines until somebody resumes", true),
		newRolloutVerb(a, "resume", "Go on after a halt; what failed so far is forgiven", false),
		newRolloutVerb(a, "skip", "Leave the rest of a wave, and its soak", false),
		newRolloutVerb(a, "abort", "End it; machines keep what they have", true),
		newRolloutVerb(a, "revert", "End it, and take the live patch out of all machines", true),
		newRolloutVerb(a, "hurry", "Ask for all machines at once, which two people have to approve", false),
		newRolloutVerb(a, "approve", "Approve what a rollout waits for", false),
		newRolloutMachinesCommand(a), newRolloutExplainCommand(a), newRolloutLogCommand(a), newRolloutLadderCommand(a), newRolloutSettingsCommand(a))
}

func newRolloutNewCommand(a *app) *cobra.Command {
	var n api.NewRollout
	var file, approval string
	var preview bool
	cmd := &cobra.Command{
		Use:   "new LIVEPATCH --tier TIER",
		Short: "Take a live patch through the machines of a tier",
		Long: `new begins a rollout. If the tier does not have the live patch yet, it is
promoted into it, for the machines that the rollout comes to. Without --plan it
goes by the tier's plan or, without one, by that of docs/rollouts.md. With
--preview nothing is begun: it says what the plan means for the machines of now.`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			n.LivePatch = args[0]
			if file != "" {
				p, err := readPlan(file)
				if err != nil {
					return err
				}
				n.Plan = p
			}
			if preview {
				return ask(a, "rollout-preview", func(c *client.Client) (*api.RolloutPreview, error) {
					return c.PreviewRollout(cmd.Context(), n)
				}, rolloutPreviewText)
			}
			return ask(a, "rollout", func(c *client.Client) (*api.Rollout, error) {
				return c.Approved(approval).CreateRollout(cmd.Context(), n)
			}, rolloutText)
		},
	}
	cmd.Flags().StringVar(&n.Tier, "tier", "", "the tier whose machines get it (needed)")
	cmd.Flags().StringVar(&file, "plan", "", "file with the plan, in YAML")
	cmd.Flags().BoolVar(&preview, "preview", false, "only say what it would mean")
	approvalFlag(cmd, &approval)
	must(cmd.MarkFlagRequired("tier"))
	return cmd
}

// readPlan reads a plan, checks it here, and puts it into the API's words.
func readPlan(file string) (*api.RolloutPlan, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, code.New("TS8101", file, err.Error())
	}
	p, err := rollout.ParsePlan(file, b)
	if err != nil {
		return nil, err
	}
	out := &api.RolloutPlan{}
	if b, err = json.Marshal(p); err == nil {
		err = json.Unmarshal(b, out)
	}
	return out, err
}

func newRolloutLsCommand(a *app) *cobra.Command {
	var q client.RolloutQuery
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the rollouts",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return askAll(a, "rollouts", func(c *client.Client, after string) (*api.List[api.Rollout], error) {
				q.After = after
				return c.Rollouts(cmd.Context(), q)
			}, func(all []api.Rollout) string {
				rows := make([][]string, len(all))
				for i, r := range all {
					rows[i] = []string{r.ID, r.LivePatch, r.Tier, phaseWord(r.Phase), fmt.Sprintf("%d of %d", r.Wave, len(r.Waves)), fmt.Sprintf("%d of %d", r.Health.Well, r.Health.Machines), when(r.Created)}
				}
				return ui.Table([]string{"rollout", "live patch", "tier", "phase", "wave", "well", "begun"}, rows)
			})
		},
	}
	cmd.Flags().StringVar(&q.Tier, "tier", "", "only those of this tier")
	cmd.Flags().StringVar(&q.LivePatch, "livepatch", "", "only those of this live patch")
	cmd.Flags().BoolVar(&q.Open, "open", false, "only those that are not over")
	return cmd
}

func phaseWord(p api.RolloutPhase) string {
	switch p {
	case api.RolloutDone:
		return ui.Good(string(p))
	case api.RolloutHalted, api.RolloutReverting:
		return ui.Bad(string(p))
	case api.RolloutPending:
		return ui.Warn(string(p))
	}
	return string(p)
}

func newRolloutShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show ROLLOUT",
		Short: "One rollout: its waves, and its health against the budget",
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "rollout", func(c *client.Client) (*api.Rollout, error) { return c.Rollout(cmd.Context(), args[0]) }, rolloutText)
		},
	}
}

func newRolloutVerb(a *app, verb, short string, why bool) *cobra.Command {
	var reason string
	cmd := &cobra.Command{
		Use:   verb + " ROLLOUT",
		Short: short,
		Args:  cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "rollout", func(c *client.Client) (*api.Rollout, error) {
				return c.TellRollout(cmd.Context(), args[0], verb, reason)
			}, rolloutText)
		},
	}
	note := "why; it is kept, and shown"
	if why {
		note += " (needed)"
	}
	cmd.Flags().StringVar(&reason, "reason", "", note)
	if why {
		must(cmd.MarkFlagRequired("reason"))
	}
	return cmd
}

func newRolloutExplainCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "explain ROLLOUT MACHINE",
		Short: "Why a machine has it, or does not have it yet",
		Args:  cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "rollout-word", func(c *client.Client) (*api.RolloutWord, error) {
				return c.ExplainRollout(cmd.Context(), args[0], args[1])
			}, func(w *api.RolloutWord) string {
				s := w.Word + ": " + w.Why
				if w.Until > 0 {
					s += " (until " + when(w.Until) + ")"
				}
				return s + "\n"
			})
		},
	}
}

func newRolloutSettingsCommand(a *app) *cobra.Command {
	var file string
	cmd := &cobra.Command{
		Use:   "settings",
		Short: "How live patches come to tiers, and climb from one to the next",
		Long: `settings shows which tiers get live patches by rollouts alone, with which
plans, and the ladder by which live patches are promoted. With --set it takes
over a file with the same, in YAML, as settings shows it.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "rollout-settings", func(c *client.Client) (*api.RolloutSettings, error) {
				if file == "" {
					return c.RolloutSettings(cmd.Context())
				}
				set, err := readSettings(file)
				if err != nil {
					return nil, err
				}
				return c.SetRolloutSettings(cmd.Context(), *set)
			}, func(set *api.RolloutSettings) string {
				b, err := yaml.Marshal(asTree(set))
				if err != nil {
					return err.Error()
				}
				return string(b)
			})
		},
	}
	cmd.Flags().StringVar(&file, "set", "", "file with the settings to be")
	return cmd
}

// readSettings reads settings whose plans are written as in a file of a plan.
func readSettings(file string) (*api.RolloutSettings, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, code.New("TS8105", file, err.Error())
	}
	type tier struct {
		Only bool          `yaml:"only" json:"only"`
		Plan *rollout.Plan `yaml:"plan" json:"plan,omitempty"`
	}
	type settings struct {
		Tiers  map[string]tier `yaml:"tiers" json:"tiers"`
		Ladder rollout.Ladder  `yaml:"ladder" json:"ladder"`
	}
	var said settings
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(true)
	if err := d.Decode(&said); err != nil {
		return nil, code.New("TS8105", file, err.Error())
	}
	set := &api.RolloutSettings{}
	if b, err = json.Marshal(said); err == nil {
		err = json.Unmarshal(b, set)
	}
	return set, err
}

// asTree is a value by the names of its JSON.
func asTree(v any) (tree any) {
	if b, err := json.Marshal(v); err == nil {
		_ = json.Unmarshal(b, &tree) // what was just written
	}
	return tree
}

func rolloutText(r *api.Rollout) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s of %s in tier %s: %s since %s\n", r.ID, r.LivePatch, r.Tier, phaseWord(r.Phase), when(r.Since))
	if r.Reason != "" {
		fmt.Fprintf(&b, "%s\n", r.Reason)
	}
	if n := r.Needed - len(r.Approvals); n > 0 && (r.Phase == api.RolloutPending || r.Emergency) {
		fmt.Fprintf(&b, "waits for the approval of %d more\n", n)
	}
	if r.Closed != "" {
		fmt.Fprintf(&b, "nothing is offered now: %s\n", r.Closed)
	}
	h := r.Health
	fmt.Fprintf(&b, "%s in scope: %d well, %d on their way (at most %d), %d late\n", ui.Count(h.Machines, "machine"), h.Well, h.Offered+h.Begun, h.Flight, h.Late)
	fmt.Fprintf(&b, "health: crashes %.4g of %.4g, failures %.4g of %.4g\n\n", h.Crashes, h.MayCrash, h.Failures, h.MayFail)
	b.WriteString(wavesTable(r.Waves))
	return b.String()
}

func wavesTable(waves []api.RolloutProgress) string {
	rows := make([][]string, len(waves))
	for i, w := range waves {
		rows[i] = []string{fmt.Sprint(w.Wave), w.Upto, w.Soak, w.State, fmt.Sprint(w.Places), fmt.Sprint(w.Offered + w.Begun), fmt.Sprint(w.Well), fmt.Sprint(w.Failed)}
	}
	return ui.Table([]string{"wave", "up to", "soak", "state", "machines", "on their way", "well", "failed"}, rows, 4, 5, 6, 7)
}

func rolloutPreviewText(p *api.RolloutPreview) string {
	s := fmt.Sprintf("%s would get it; %d have it, or a newer one\n", ui.Count(p.Machines, "machine"), p.Have)
	for bar, n := range p.Bars {
		s += fmt.Sprintf("%s can't be offered it now: %s\n", ui.Count(n, "machine"), bar)
	}
	if p.Promotes {
		s += "the live patch is brought into the tier\n"
	}
	return s + "\n" + wavesTable(p.Waves)
}
