// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/api/client"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newCVECommand(a *app) *cobra.Command {
	return command.Parent("cve", "What CVEs mean on the fleet's kernels and packages",
		`The server knows CVEs by the updates that are pushed to it and by the live
patches that are published.`,
		newCVELsCommand(a), newCVEShowCommand(a))
}

func newCVELsCommand(a *app) *cobra.Command {
	var f client.CVEFilter
	var state string
	cmd := &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List CVEs by target, the gravest first",
		Example: "  tsugictl cve ls --open\n  tsugictl cve ls --state reboot --severity high",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			f.State = api.Coverage(state)
			return askAll(a, "cves", func(c *client.Client, after string) (*api.List[api.CVE], error) {
				f.After = after
				l, err := c.CVEs(cmd.Context(), f)
				if err != nil {
					return nil, err
				}
				return &api.List[api.CVE]{Items: l.Items, Next: l.Next}, nil
			}, func(all []api.CVE) string {
				if len(all) == 0 {
					a.Term.Say("no such CVEs")
				}
				var rows [][]string
				for _, x := range all {
					for _, t := range x.Targets {
						rows = append(rows, []string{x.CVE, cveSeverity(x), t.Target, string(t.State), strconv.Itoa(x.Machines), ui.Dim(whyOf(t))})
					}
				}
				return ui.Table([]string{"cve", "severity", "target", "", "machines", ""}, rows)
			})
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&f.Query, "search", "", "only those with this in their name or in a fix's title")
	fl.StringVar(&f.Policy, "policy", "", "by the choice of this policy; the default one's if not given")
	fl.StringVar(&f.Target, "target", "", "only this target")
	fl.StringVar(&state, "state", "", "only those that stand so on a target: reboot, build, excluded, possible, module, live or not-affected")
	fl.StringVar(&f.Severity, "severity", "", "at least low, medium, high or critical")
	fl.BoolVar(&f.Exploited, "exploited", false, "only those known to be exploited")
	fl.BoolVar(&f.Open, "open", false, "only those open on a machine on which somebody should do something")
	return cmd
}

func cveSeverity(x api.CVE) string {
	if x.Exploited {
		return "exploited"
	}
	return x.Severity
}

// whyOf is what a cell says beside its word.
func whyOf(t api.TargetCVE) string {
	words := []string{}
	if t.Patch != "" {
		words = append(words, t.Patch)
	}
	if t.Why != "" && t.State != api.CoverLive {
		words = append(words, t.Why)
	}
	for _, x := range t.Excluded {
		until := "without an end"
		if x.Expires != 0 {
			until = "until " + time.UnixMilli(x.Expires).Format(time.DateOnly)
		}
		words = append(words, fmt.Sprintf("left out by policy %s (%s, %s): %s", x.Policy, x.Owner, until, x.Reason))
	}
	return strings.Join(words, "; ")
}

func newCVEShowCommand(a *app) *cobra.Command {
	var policy string
	cmd := &cobra.Command{
		Use:     "show CVE",
		Short:   "Say whether the fleet is exposed to a CVE, and what is known of it",
		Example: "  tsugictl cve show CVE-2026-31431",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return ask(a, "cve", func(c *client.Client) (*api.CVEDetail, error) { return c.CVE(cmd.Context(), args[0], policy) }, cveText)
		},
	}
	cmd.Flags().StringVar(&policy, "policy", "", "by the choice of this policy; the default one's if not given")
	return cmd
}

func cveText(d *api.CVEDetail) string {
	n := 0
	var needs []string
	for _, need := range api.Needs() {
		if k := d.Open[need]; k > 0 {
			n += k
			needs = append(needs, fmt.Sprintf("%d %s", k, need))
		}
	}
	answer := "open on no machine that the server knows about"
	if n > 0 {
		answer = fmt.Sprintf("open on %d of %d machines (%s)", n, d.Fleet, strings.Join(needs, ", "))
	}
	pairs := [][2]string{{"exposed", answer}}
	add := func(name, value string) {
		if value != "" {
			pairs = append(pairs, [2]string{name, value})
		}
	}
	if d.Unknown > 0 {
		add("not known", fmt.Sprintf("on %d machines: nothing is there for their kernel, or they have named no package that it concerns (they look for those that their tier has live patches for)", d.Unknown))
	}
	add("severity", cveSeverity(d.CVE))
	for _, t := range d.Targets {
		add(t.Target, strings.TrimSuffix(string(t.State)+": "+whyOf(t), ": "))
	}
	for _, f := range d.Fixes {
		add("fix", fmt.Sprintf("%s (%s): %s", f.ID, f.Target, f.Title))
		if len(f.Functions) > 0 {
			add("functions", strings.Join(f.Functions, ", "))
		}
	}
	for _, p := range d.Patches {
		add("live patch", p.ID+" in "+strings.Join(p.Tiers, ", "))
	}
	return ui.Pairs(pairs...)
}

func newCoverageCommand(a *app) *cobra.Command {
	return command.Parent("coverage", "How long live patches are made for the fleet's kernels and packages",
		`A coverage window is a promise to people and changes nothing by itself: the
console and this command point out machines whose kernel's or package's is over.`,
		newCoverageLsCommand(a), newCoverageSetCommand(a), newCoverageRmCommand(a))
}

func newCoverageLsCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:     "ls",
		Aliases: []string{"list"},
		Short:   "List the kernels and packages of the fleet, with what is there for them",
		Long: `ls lists the kernels that machines run, and all kernels and packages that live
patches or updates are there for. A machine looks for the packages that its tier
has live patches for, and names those that its processes map: the tiers beside
the number of machines are those whose machines are counted.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "targets", func(c *client.Client) ([]api.TargetInfo, error) {
				l, err := c.Targets(cmd.Context())
				if err != nil {
					return nil, err
				}
				return l.Items, nil
			}, coverageTable)
		},
	}
}

func coverageTable(all []api.TargetInfo) string {
	rows := make([][]string, len(all))
	for i, t := range all {
		until := ""
		if t.Window != nil && t.Window.Until != 0 {
			until = time.UnixMilli(t.Window.Until).UTC().Format(time.DateOnly)
		}
		rows[i] = []string{t.Target, counted(&t), t.Newest, strconv.Itoa(t.CVEs), string(t.Standing), until}
	}
	return ui.Table([]string{"target", "machines", "live patch", "cves", "window", "until"}, rows)
}

// counted is how many machines have a target, and of which tiers: machines look only
// for packages that their tier has live patches for.
func counted(t *api.TargetInfo) string {
	n := strconv.Itoa(t.Machines)
	switch {
	case t.Release != "":
		return n
	case len(t.ListedIn) == 0:
		return "not counted"
	}
	return n + " in " + strings.Join(t.ListedIn, ", ")
}

func newCoverageSetCommand(a *app) *cobra.Command {
	var from, until, note string
	cmd := &cobra.Command{
		Use:     "set TARGET",
		Short:   "Say how long live patches are made for a kernel or a package",
		Example: "  tsugictl coverage set debian:6.1.0-54-amd64 --until 2027-11-30 --note 'until the next point release'",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			w := api.SetWindow{Note: note}
			for _, d := range []struct {
				flag, text string
				to         *int64
			}{{"--from", from, &w.From}, {"--until", until, &w.Until}} {
				if d.text == "" {
					continue
				}
				at, err := time.Parse(time.DateOnly, d.text)
				if err != nil {
					return code.New("TS1901", d.flag, "a day is expected, as 2027-11-30 is")
				}
				*d.to = at.UnixMilli()
			}
			return ask(a, "target", func(c *client.Client) (*api.TargetInfo, error) { return c.SetWindow(cmd.Context(), args[0], w) },
				func(t *api.TargetInfo) string { return coverageTable([]api.TargetInfo{*t}) })
		},
	}
	fl := cmd.Flags()
	fl.StringVar(&from, "from", "", "the first day, 2026-11-30; ever since if not given")
	fl.StringVar(&until, "until", "", "the day on which it is over; no end if not given")
	fl.StringVar(&note, "note", "", "a few words")
	return cmd
}

func newCoverageRmCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "rm TARGET...",
		Short: "Take coverage windows back",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.each(cmd, "removed", args, (*client.Client).DeleteWindow)
		},
	}
}

func newServiceCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "service",
		Short: "Show how the server itself stands: database, files, workers, signatures",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "service", func(c *client.Client) (*api.SystemReport, error) { return c.System(cmd.Context()) },
				func(r *api.SystemReport) string {
					var rows [][]string
					for _, c := range r.Checks {
						rows = append(rows, []string{c.ID, string(c.Level), c.Detail})
					}
					return ui.Table([]string{"", "", ""}, rows)
				})
		},
	}
}

func newHistoryCommand(a *app) *cobra.Command {
	var days int
	cmd := &cobra.Command{
		Use:   "history",
		Short: "Show how the fleet stood over time",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return ask(a, "history", func(c *client.Client) (*api.History, error) { return c.History(cmd.Context(), days) },
				func(h *api.History) string {
					var rows [][]string
					for _, s := range slices.Backward(h.Samples) {
						rows = append(rows, []string{
							time.UnixMilli(s.At).Format(time.DateTime), strconv.Itoa(s.Machines), strconv.Itoa(s.Protections[api.Protected]),
							strconv.Itoa(s.Protections[api.Failing]), strconv.Itoa(s.Protections[api.Silent]),
						})
					}
					return ui.Table([]string{"time", "machines", "protected", "failing", "silent"}, rows)
				})
		},
	}
	cmd.Flags().IntVar(&days, "days", 30, "how many days back")
	return cmd
}
