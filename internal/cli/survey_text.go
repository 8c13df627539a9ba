// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/survey"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// surveyText is the report for a terminal: the numbers, the reasons, and the
// CVEs that are not live; with all, every CVE and every fix.
func surveyText(r *survey.Report, all bool) string {
	var b strings.Builder
	what := r.Name
	if r.To != "" {
		what = r.From + " → " + r.To
	}
	fmt.Fprintf(&b, "%s for %s\n\n", ui.Bold(what), r.Target.Name)
	s := r.Summary
	b.WriteString(ui.Indent(ui.Table(
		[]string{"", "live", "reboot", "of these by module", "error", "live of built", "not affected", "all"},
		[][]string{
			tallyRow("CVEs", s.CVEs), tallyRow("fixes with a CVE", s.Security), tallyRow("fixes", s.Fixes), tallyRow("files", s.Files),
		}, 1, 2, 3, 4, 5, 6, 7), 2))
	if len(r.Codes) > 0 {
		var rows [][]string
		for _, c := range r.Codes {
			rows = append(rows, []string{string(c.Code), fmt.Sprint(c.Fixes), fmt.Sprint(c.CVEs), fmt.Sprint(c.Only), fmt.Sprint(c.OnlyCVEs), c.Title})
		}
		b.WriteString("\n" + ui.Indent(ui.Table([]string{"why not", "fixes", "CVEs", "alone", "with CVE", ""}, rows, 1, 2, 3, 4), 2))
	}
	if rows := cveRows(r, all); len(rows) > 0 {
		b.WriteString("\n" + ui.Indent(ui.Table([]string{"CVE", "severity", "verdict", "why", "fixes"}, rows), 2))
	}
	if rows := fixRows(r, all); len(rows) > 0 {
		b.WriteString("\n" + ui.Indent(ui.Table([]string{"fix", "verdict", "why"}, rows), 2))
	}
	b.WriteString(doubtText(r.Doubts(), all))
	if n := len(r.Unattributed); n > 0 {
		b.WriteString("\n  " + ui.Dim(fmt.Sprintf("%d entries of the changelog could not be attributed to a fix", n)) + "\n")
	}
	if n := s.Fixes.Unknown; n > 0 {
		b.WriteString("\n  " + ui.Warn(fmt.Sprintf("%d fixes are not judged yet", n)) + "\n")
	}
	if s.Changed > 0 {
		b.WriteString("\n  " + ui.Dim(ui.Count(s.Changed, "verdict")+" is not what an earlier engine found") + "\n")
	}
	return b.String()
}

// doubtText lists CVEs of which it is not sure that the fixes are theirs: the
// most severe, and with all each of them.
func doubtText(doubts []series.Doubt, all bool) string {
	if len(doubts) == 0 {
		return ""
	}
	show := doubts
	if !all {
		show = show[:min(10, len(show))]
	}
	text := "\n" + ui.Indent(doubtTable(show), 2)
	if n := len(doubts) - len(show); n > 0 {
		text += "  " + ui.Dim(fmt.Sprintf("and %d more; tsugictl fix ls --doubtful lists them, fix edit --attribute settles one", n)) + "\n"
	}
	return text
}

// doubtTable is a line for each.
func doubtTable(doubts []series.Doubt) string {
	rows := make([][]string, len(doubts))
	for i, d := range doubts {
		rows[i] = []string{d.CVE, cmp.Or(string(d.Severity), "-"), someOf(d.Fixes, 2), clip(d.Subject, 60), ui.Dim(clip(d.Why, 80))}
	}
	return ui.Table([]string{"attribution to look at", "severity", "fixes", "entry", "why"}, rows)
}

func tallyRow(name string, t survey.Tally) []string {
	return []string{
		name, fmt.Sprint(t.Live), fmt.Sprint(t.Reboot), fmt.Sprint(t.Served), fmt.Sprint(t.Failed),
		fmt.Sprintf("%.1f %%", t.Share()), fmt.Sprint(t.NotAffected), fmt.Sprint(t.Total()),
	}
}

// cveRows lists CVEs, the worst first.
func cveRows(r *survey.Report, all bool) [][]string {
	list := slices.Clone(r.CVEs)
	slices.SortStableFunc(list, func(a, b survey.CVE) int { return cmp.Compare(b.Severity.Rank(), a.Severity.Rank()) })
	var rows [][]string
	for _, c := range list {
		if !all && (c.Verdict == survey.Live || c.Verdict == survey.NotAffected) {
			continue
		}
		severity := string(c.Severity)
		if c.Exploited {
			severity += " exploited"
		}
		rows = append(rows, []string{c.ID, severity, outcomeText(c.Verdict, c.Served), codeWords(c.Codes), strings.Join(clipped(c.Fixes, 3), " ")})
	}
	return rows
}

// fixRows lists fixes: with all each one, else those without a CVE that are
// not live, whose CVEs do not show them.
func fixRows(r *survey.Report, all bool) [][]string {
	var rows [][]string
	for _, f := range r.Fixes {
		open := f.Outcome == survey.Reboot || f.Outcome == survey.Failed
		if !all && (!open || len(f.CVEs) > 0) {
			continue
		}
		why := ""
		if len(f.Reasons) > 0 {
			x := f.Reasons[0]
			why = strings.Join(strings.Fields(fmt.Sprintf("%s %s %s %s", x.Code, x.Where, x.Why, x.Source)), " ")
			if len(why) > 110 {
				why = strings.ToValidUTF8(why[:110], "") + " …"
			}
			if n := len(f.Reasons) - 1; n > 0 {
				why += fmt.Sprintf(" (and %d more)", n)
			}
		}
		rows = append(rows, []string{f.ID, outcomeText(f.Outcome, f.Served), why})
	}
	return rows
}

func outcomeText(o survey.Outcome, served bool) string {
	switch {
	case o == survey.Live:
		return ui.Good("live")
	case o == survey.Reboot && served:
		return ui.Warn("reboot or module")
	case o == survey.Reboot:
		return ui.Bad("reboot")
	case o == survey.NotAffected:
		return ui.Dim("not affected")
	case o == survey.Unknown:
		return ui.Dim("not judged yet")
	}
	return ui.Bad("error")
}

func codeWords(list []code.Code) string {
	var words []string
	for _, c := range list {
		words = append(words, string(c))
	}
	return strings.Join(clipped(words, 4), " ")
}

// clipped is the beginning of a list, and how much is behind it.
func clipped(list []string, n int) []string {
	if len(list) <= n {
		return list
	}
	return append(slices.Clone(list[:n]), fmt.Sprintf("+%d", len(list)-n))
}
