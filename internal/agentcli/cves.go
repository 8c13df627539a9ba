// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/agent/vex"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newCVEsCommand(a *app) *cobra.Command {
	var format string
	cmd := &cobra.Command{
		Use:   "cves",
		Short: "List the vulnerabilities that are fixed live on this machine",
		Long: `cves lists what the applied live patch fixes in the running kernel, and what of
the same update this machine still has, with the reason; and what live patches
of libraries and programs fix in processes. The packages and uname -r stay what
they are, so scanners go on reporting the former: --format openvex and --format
csaf write documents that tell them the truth.`,
		Example: "  tsugi cves\n  tsugi cves --format openvex > live.openvex.json",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.within(cmd.Context(), readTime)
			defer cancel()
			return a.cves(ctx, format)
		},
	}
	cmd.Flags().StringVar(&format, "format", "text", "text, json, openvex or csaf")
	return cmd
}

func (a *app) cves(ctx context.Context, format string) error {
	switch format {
	case "text", "json", "openvex", "csaf":
	default:
		return command.Usage("tsugi cves", fmt.Sprintf("no format %q", format))
	}
	c, done, err := a.control(ctx, false)
	if err != nil {
		return err
	}
	defer done()
	f, err := c.Fixed(ctx)
	if err != nil {
		return err
	}
	var b []byte
	switch format {
	case "json":
		return a.Term.WriteJSON("cves", f)
	case "openvex":
		b, err = vex.OpenVEX(f, time.Now())
	case "csaf":
		if b, err = vex.CSAF(f, time.Now()); err == nil && b == nil {
			return code.New("TS9418", "", "and CSAF has no document without a vulnerability")
		}
	default:
		return a.Show("cves", f, func() string { return cvesText(f) })
	}
	if err != nil {
		return err
	}
	return a.Term.Raw(b)
}

func cvesText(f *agent.Fixed) string {
	packages := packageCVEs(f.Packages)
	switch {
	case f.Patch == nil && packages != "":
		return packages
	case f.Patch == nil:
		return "no live patch is applied\n"
	case packages != "":
		return kernelCVEs(f) + "\n" + packages
	}
	return kernelCVEs(f)
}

func kernelCVEs(f *agent.Fixed) string {
	var rows [][]string
	for _, fix := range f.Fixes {
		how := "live"
		if len(fix.Modules) > 0 {
			how = "module " + strings.Join(fix.Modules, " ")
		}
		rows = append(rows, []string{strings.Join(doubted(fix.CVEs, fix.Possible), " "), fix.Severity, how, fix.ID, ui.Dim(fix.Title)})
	}
	text := ui.Table([]string{"CVEs", "severity", "fixed", "fix", ""}, rows)
	legend := ""
	if doubtful(f) {
		legend = "\n" + ui.Dim("A number with ? is possibly that of the fix: the changelog's entry fits it, and others too.") + "\n"
	}
	if len(f.Open) == 0 {
		return text + legend
	}
	rows = nil
	for _, o := range f.Open {
		id := o.CVE
		if o.Possible {
			id += "?"
		}
		rows = append(rows, []string{id, openSeverity(o), o.Kind, o.Fix, ui.Dim(clip(o.Why, 90))})
	}
	return text + "\n" + ui.Table([]string{"open", "severity", "why", "fix", ""}, rows) + legend
}

// doubted marks the numbers of which it is not sure that they are a fix's.
func doubted(cves, possible []string) []string {
	out := slices.Clone(cves)
	for i, id := range out {
		if slices.Contains(possible, id) {
			out[i] += "?"
		}
	}
	return out
}

func doubtful(f *agent.Fixed) bool {
	return slices.ContainsFunc(f.Fixes, func(x agent.Fix) bool { return len(x.Possible) > 0 }) ||
		slices.ContainsFunc(f.Open, func(o agent.OpenVulnerability) bool { return o.Possible })
}

func openSeverity(o agent.OpenVulnerability) string {
	if o.Exploited {
		return strings.TrimSpace(o.Severity + " exploited")
	}
	return o.Severity
}
