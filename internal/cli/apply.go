// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fleetfile"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// applied is the result of tsugictl apply.
type applied struct {
	DryRun bool          `json:"dry_run,omitempty"`
	Steps  []appliedStep `json:"steps"`
	Notes  []string      `json:"notes,omitempty"`
}

type appliedStep struct {
	fleetfile.Step
	Done bool `json:"done"`
	// Token and Enroll are of a new token; Enroll is told this once.
	Token  string `json:"token,omitempty"`
	Enroll string `json:"enroll,omitempty"`
	// Secret is of a new webhook, told this once.
	Secret string `json:"secret,omitempty"`
}

func newApplyCommand(a *app) *cobra.Command {
	var file string
	var o fleetfile.Options
	var dry, export bool
	cmd := &cobra.Command{
		Use:   "apply -f FILE",
		Short: "Bring tiers, policies, groups, tokens and channels to what a file says",
		Long: `apply compares a fleet file with what the server has and does what is missing,
in an order in which it can be done. It may be run as often as you like: when
everything is as the file says, it changes nothing. When it is interrupted,
the next run does the rest. --dry-run shows the plan and changes nothing.

What the file does not list stays, unless --prune is given, and then only of
the sections that the file has. A token that shall be another is replaced: the
new enrolment word is told this once, the old one enrols nobody any more, and
machines that came with it stay.

  version: 1
  tiers: [edge, beta, candidate, stable]
  policies:
    databases:
      min_severity: high
      exclusions:
        - {cve: CVE-2026-31431, reason: stalls, owner: dba, expires: 2026-12-31}
  groups:
    db: {policy: databases}
  tokens:
    web: {tier: stable, group: web, limit: 50, expires: 2027-01-31}
  channels:
    on call: {to: [https://hooks.example.com/tsugi], least: urgent}`,
		Example: "  tsugictl apply --export > fleet.yaml\n  tsugictl apply -f fleet.yaml --dry-run\n  tsugictl apply -f fleet.yaml",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if export {
				return a.exportFleet(cmd.Context())
			}
			text, err := a.ReadFile(file)
			if err != nil {
				return err
			}
			f, err := fleetfile.Parse(filepath.Base(file), text)
			if err != nil {
				return err
			}
			c, err := a.server()
			if err != nil {
				return err
			}
			have, err := haveOf(cmd.Context(), c, f.Channels != nil, f.Rollouts != nil)
			if err != nil {
				return err
			}
			plan, err := f.Plan(have, time.Now(), o)
			if err != nil {
				return err
			}
			return a.apply(cmd.Context(), c, plan, dry)
		},
	}
	fl := cmd.Flags()
	fl.StringVarP(&file, "file", "f", "", "file that says what there shall be, in YAML; - is standard input")
	fl.BoolVar(&dry, "dry-run", false, "show what would be done, and do nothing")
	fl.BoolVar(&o.Prune, "prune", false, "take away what the sections of the file do not list")
	fl.BoolVar(&export, "export", false, "write the file of what the server has, and do nothing")
	cmd.MarkFlagsOneRequired("file", "export")
	cmd.MarkFlagsMutuallyExclusive("file", "export")
	cmd.MarkFlagsMutuallyExclusive("prune", "export")
	return cmd
}

// exportFleet writes the file that apply would find nothing to do for.
func (a *app) exportFleet(ctx context.Context) error {
	c, err := a.server()
	if err != nil {
		return err
	}
	have, err := haveOf(ctx, c, true, true)
	if code.Of(err) == "TS8202" {
		a.Term.Say("channels are left out: only an admin sees them")
		have, err = haveOf(ctx, c, false, true)
	}
	if err != nil {
		return err
	}
	f, notes := fleetfile.Export(have, time.Now())
	for _, n := range notes {
		a.Term.Say("%s", n)
	}
	text, err := f.Encode()
	if err != nil {
		return err
	}
	return a.Show("fleet-file", string(text), func() string { return string(text) })
}

// haveOf asks the server for all that a plan looks at. Channels are shown to
// admins alone, and asked for only where the file has any.
func haveOf(ctx context.Context, c *client.Client, channels, rollouts bool) (fleetfile.Have, error) {
	var have fleetfile.Have
	tiers, err := c.Tiers(ctx)
	if err != nil {
		return have, err
	}
	policies, err := c.Policies(ctx)
	if err != nil {
		return have, err
	}
	tokens, err := c.Tokens(ctx)
	if err != nil {
		return have, err
	}
	have = fleetfile.Have{Tiers: tiers.Items, Policies: policies.Items, Tokens: tokens.Items}
	if channels {
		list, err := c.Channels(ctx)
		if err != nil {
			return have, err
		}
		have.Channels = list.Items
	}
	if rollouts {
		set, err := c.RolloutSettings(ctx)
		if err != nil {
			return have, err
		}
		have.Rollouts = *set
	}
	return have, nil
}

// apply does a plan, step by step. What was done is told also when a step
// fails: a new enrolment word is told only here.
func (a *app) apply(ctx context.Context, srv fleetfile.Server, plan *fleetfile.Plan, dry bool) error {
	out := applied{DryRun: dry, Steps: make([]appliedStep, len(plan.Steps)), Notes: plan.Notes}
	for i, s := range plan.Steps {
		out.Steps[i].Step = s
	}
	tell := func(text string) {
		if !a.Term.JSON() {
			a.Term.Print(text) // at once: what is done is done
		}
	}
	for _, n := range plan.Notes {
		a.Term.Say("%s", n)
	}
	if len(plan.Steps) == 0 {
		tell("Everything is as the file says.\n")
	}
	var failed error
	for i := range out.Steps {
		s := &out.Steps[i]
		if !dry {
			made, err := s.Run(ctx, srv)
			if made != nil {
				if s.Kind == fleetfile.KindToken {
					s.Token, s.Enroll = made.ID, made.Enroll
				} else {
					s.Secret = made.Secret
				}
			}
			if err != nil {
				failed = fmt.Errorf("%s %s %s: %w", s.Do, s.Kind, s.Name, err)
				tell(enrolText(s)) // the step's line would say that it is done
				break
			}
			s.Done = true
		}
		tell(stepText(s, dry) + enrolText(s))
	}
	switch {
	case a.Term.JSON():
		if err := a.Term.WriteJSON("apply", out); err != nil {
			return cmp.Or(failed, err)
		}
	case dry && len(plan.Steps) > 0:
		a.Term.Say("Nothing was changed: this is what tsugictl apply would do.")
	}
	return failed
}

func stepText(s *appliedStep, dry bool) string {
	done := map[fleetfile.Verb]string{
		fleetfile.Create: "created", fleetfile.Change: "changed", fleetfile.Replace: "replaced", fleetfile.Remove: "removed",
	}[s.Do]
	if dry {
		done = "would be " + done
	}
	what := string(s.Kind) + " " + ui.Bold(s.Name)
	if s.Kind == fleetfile.KindGroups {
		what, done = "policy "+ui.Bold(s.Name), strings.Replace(done, "changed", "given to groups", 1)
	}
	var b strings.Builder
	b.WriteString(what + " " + done + "\n")
	for _, d := range s.Changes {
		b.WriteString("  " + differenceText(d) + "\n")
	}
	return b.String()
}

func differenceText(d fleetfile.Difference) string {
	switch {
	case d.From == "":
		return d.What + ": " + d.To
	case d.To == "":
		return d.What + ": " + d.From + " → " + ui.Dim("none")
	}
	return d.What + ": " + d.From + " → " + d.To
}

func enrolText(s *appliedStep) string {
	if s.Secret != "" {
		return "  the receiver checks signatures with this secret, told this once: " + s.Secret + "\n"
	}
	if s.Enroll == "" {
		return ""
	}
	return "  on each machine, as root, told this once: tsugi enroll " + s.Enroll + "\n"
}
