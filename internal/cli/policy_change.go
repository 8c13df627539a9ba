// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fleetfile"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// policyFlags are the parts of a policy that flags set.
type policyFlags struct {
	file   string
	groups []string
	text   api.Policy
}

func newPolicySetCommand(a *app) *cobra.Command {
	var p policyFlags
	cmd := &cobra.Command{
		Use:   "set POLICY",
		Short: "Make a policy, give it another text, or give it to groups",
		Long: `set replaces the whole text of a policy by a file's, or changes what the flags
name and leaves the rest. --group gives groups of machines the policy; the
policy default takes them back. What follows from it is chosen at once, built
when no live patch of that choice is there, and published to the first tier.`,
		Example: `  tsugictl policy set databases --group db --group db-replicas
  tsugictl policy set databases --min-severity high
  tsugictl policy set databases --file databases.yaml`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "policy", func(c *client.Client) (*api.PolicyInfo, error) {
				return a.setPolicy(cmd, c, args[0], p)
			}, policyText)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&p.file, "file", "f", "", "file with the whole text, in YAML")
	f.StringArrayVar(&p.groups, "group", nil, "group of machines that gets the policy (may be repeated)")
	f.StringVar(&p.text.Description, "description", "", "what it is for")
	f.StringVar(&p.text.MinSeverity, "min-severity", "", "leave out what is known to be less severe: low, medium, high, critical; any takes it back")
	f.StringVar(&p.text.Scope, "scope", "", "security: fixes with a CVE or an advisory; all: every fix that can be live")
	f.StringSliceVar(&p.text.Extra, "extra", nil, "names of pushed series that it takes as well")
	f.BoolVar(&p.text.SwapUnused, "swap-unused", false, "machines may replace a module that is loaded and not in use")
	cmd.MarkFlagsMutuallyExclusive("file", "description")
	return cmd
}

// setPolicy sends the text, if any was given, then the groups.
func (a *app) setPolicy(cmd *cobra.Command, c *client.Client, name string, p policyFlags) (*api.PolicyInfo, error) {
	ctx := cmd.Context()
	text := false
	for _, flag := range []string{"file", "description", "min-severity", "scope", "extra", "swap-unused"} {
		text = text || cmd.Flags().Changed(flag)
	}
	old, err := c.Policy(ctx, name)
	isNew := code.Of(err) == "TS7902"
	if err != nil && !isNew {
		return nil, err
	}
	if isNew || text {
		want := api.Policy{Name: name}
		if old != nil {
			want = old.Policy
		}
		if p.file != "" {
			if want, err = a.policyFile(p.file, name); err != nil {
				return nil, err
			}
		}
		for flag, set := range map[string]func(){
			"description":  func() { want.Description = p.text.Description },
			"min-severity": func() { want.MinSeverity = strings.TrimPrefix(p.text.MinSeverity, "any") },
			"scope":        func() { want.Scope = p.text.Scope },
			"extra":        func() { want.Extra = p.text.Extra },
			"swap-unused":  func() { want.SwapUnused = p.text.SwapUnused },
		} {
			if cmd.Flags().Changed(flag) {
				set()
			}
		}
		if old, err = c.SetPolicy(ctx, want); err != nil {
			return nil, err
		}
	}
	if len(p.groups) > 0 {
		return c.SetPolicyGroups(ctx, name, p.groups)
	}
	return old, nil
}

// policyFile reads the text of a policy.
func (a *app) policyFile(file, name string) (api.Policy, error) {
	b, err := a.ReadFile(file)
	if err != nil {
		return api.Policy{}, err
	}
	p, err := selection.ParsePolicy(name, b)
	if err != nil {
		return api.Policy{}, err
	}
	if p.Name != name {
		return api.Policy{}, code.New("TS1301", filepath.Base(file), "it is that of policy "+p.Name+", and not of "+name)
	}
	return fleetfile.Wire(p), nil
}

// policyYAML is the text that policyFile reads.
func policyYAML(p api.Policy) string {
	out := selection.Policy{
		Name: p.Name, Description: p.Description, MinSeverity: series.Severity(p.MinSeverity), Scope: selection.Scope(p.Scope), Extra: p.Extra, SwapUnused: p.SwapUnused,
	}
	for _, x := range p.Exclusions {
		e := selection.Exclusion{CVE: x.CVE, Fix: x.Fix, Reason: x.Reason, Owner: x.Owner}
		if x.Expires != 0 {
			e.Expires = time.UnixMilli(x.Expires).UTC()
		}
		out.Exclusions = append(out.Exclusions, e)
	}
	b, err := series.EncodeYAML(out)
	if err != nil {
		panic(err) // strings, times and booleans
	}
	return string(b)
}

func newPolicyExcludeCommand(a *app) *cobra.Command {
	var x api.Exclusion
	var expires string
	cmd := &cobra.Command{
		Use:   "exclude POLICY CVE|FIX... --reason TEXT",
		Short: "Leave CVEs or fixes out, until a day",
		Long: `exclude leaves CVEs, or single fixes by their ids, out of what a policy's
machines get. The fix is taken out of the source and everything is built
again without it. What needs it is left out with it: tsugictl policy preview
says so before. When the exclusion ends, the fix comes back by itself.`,
		Example: `  tsugictl policy exclude databases CVE-2026-31431 --reason "io_uring stalls" --expires 30d
  tsugictl policy preview databases --exclude CVE-2026-31431`,
		Args: cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			var err error
			if x.Expires, err = endOf(expires, time.Now()); err != nil {
				return err
			}
			return ask(a, "policy", func(c *client.Client) (*api.PolicyInfo, error) {
				if err := owner(cmd.Context(), c, &x); err != nil {
					return nil, err
				}
				return c.Exclude(cmd.Context(), args[0], api.Exclude{Exclusions: exclusions(args[1:], x)})
			}, policyText)
		},
	}
	f := cmd.Flags()
	f.StringVar(&x.Reason, "reason", "", "why, for those who find it later (needed)")
	f.StringVar(&x.Owner, "owner", "", "who answers for it (default who is logged in)")
	f.StringVar(&expires, "expires", "", "when it ends: a day such as 2026-12-31, or a time from now such as 30d or 12h (default never)")
	must(cmd.MarkFlagRequired("reason"))
	return cmd
}

// owner is who is logged in, where nobody else is named.
func owner(ctx context.Context, c *client.Client, x *api.Exclusion) error {
	if x.Owner != "" {
		return nil
	}
	me, err := c.Whoami(ctx)
	if err == nil {
		x.Owner = me.Name
	}
	return err
}

// exclusions are those of some names, for one reason.
func exclusions(names []string, x api.Exclusion) []api.Exclusion {
	out := make([]api.Exclusion, len(names))
	for i, n := range names {
		out[i] = x
		if strings.HasPrefix(n, "CVE-") {
			out[i].CVE = n
		} else {
			out[i].Fix = n
		}
	}
	return out
}

// endOf reads a day, which it lasts to the end of, or a time from now.
func endOf(s string, now time.Time) (int64, error) {
	if s == "" {
		return 0, nil
	}
	if day, err := time.Parse(time.DateOnly, s); err == nil {
		return endsAfter(s, day.AddDate(0, 0, 1), now)
	}
	if n, ok := strings.CutSuffix(s, "d"); ok {
		if days, err := strconv.Atoi(n); err == nil {
			return endsAfter(s, now.AddDate(0, 0, days), now)
		}
	}
	if d, err := time.ParseDuration(s); err == nil {
		return endsAfter(s, now.Add(d), now)
	}
	return 0, code.New("TS1901", "--expires", strconv.Quote(s)+" is neither a day (2026-12-31) nor a time from now (30d, 12h)")
}

func endsAfter(s string, end, now time.Time) (int64, error) {
	if !end.After(now) {
		return 0, code.New("TS1901", "--expires", s+" is over")
	}
	return end.UnixMilli(), nil
}

func newPolicyIncludeCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "include POLICY CVE|FIX...",
		Short: "Take exclusions back",
		Args:  cobra.MinimumNArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "policy", func(c *client.Client) (*api.PolicyInfo, error) {
				return c.Include(cmd.Context(), args[0], args[1:])
			}, policyText)
		},
	}
}

func newPolicyPreviewCommand(a *app) *cobra.Command {
	var q api.PolicyQuestion
	var file string
	var exclude []string
	cmd := &cobra.Command{
		Use:   "preview POLICY",
		Short: "Say what would change for whom, before anything does",
		Long: `preview answers for another text of a policy, or for more exclusions, what would
go and come for how many machines, what an exclusion drags along with the fixes
that would have to be kept for it, and which CVEs stay open. It reads what the
fixes say of each other; what only a compiler finds out is told by the build
(tsugictl policy show). Nothing is changed.`,
		Example: `  tsugictl policy preview databases --exclude CVE-2026-31431
  tsugictl policy preview databases --file databases.yaml --group db`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" {
				p, err := a.policyFile(file, args[0])
				if err != nil {
					return err
				}
				q.Policy = &p
			}
			q.Exclude = exclusions(exclude, api.Exclusion{Reason: "asked about", Owner: "preview"})
			return ask(a, "preview", func(c *client.Client) (*api.PolicyPreview, error) {
				return c.PreviewPolicy(cmd.Context(), args[0], q)
			}, previewText)
		},
	}
	f := cmd.Flags()
	f.StringVarP(&file, "file", "f", "", "file with the text that is asked about")
	f.StringArrayVar(&exclude, "exclude", nil, "CVE or fix that it would exclude as well (may be repeated)")
	f.StringArrayVar(&q.Include, "include", nil, "CVE or fix that it would not exclude any more (may be repeated)")
	f.StringArrayVar(&q.Groups, "group", nil, "group that would have it as well (may be repeated)")
	return cmd
}

// fixName is a fix's id with what it repairs.
func fixName(l api.LeftFix) string { return cmp.Or(strings.Join(l.CVEs, " "), l.ID) }
