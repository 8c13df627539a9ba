// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newFixLsCommand(a *app) *cobra.Command {
	var c fixChoice
	var q filterFlags
	var left, doubtful bool
	cmd := &cobra.Command{
		Use:     "ls [ID]...",
		Aliases: []string{"list"},
		Short:   "List fixes",
		Long: `ls lists the fixes of the catalogue, of a directory, or of a distribution's
update; ID may have * and ?. With --target it shows what surveys found out
about them on that kernel.`,
		Example: `  tsugictl fix ls --update 6.1.192-1 --target debian:6.1.0-54-amd64 --security --verdict reboot
  tsugictl fix ls --series own --severity high
  tsugictl fix ls --update 6.1.192-1 --from 6.1.190-1 --unattributed`,
		RunE: func(cmd *cobra.Command, args []string) error {
			q.IDs = args
			if err := q.check("ls", c); err != nil {
				return err
			}
			return a.fixLs(cmd.Context(), c, q, left, doubtful)
		},
	}
	c.flags(cmd, a)
	q.flags(cmd)
	cmd.Flags().BoolVar(&left, "unattributed", false, "list the changelog's entries that no fix was found for instead")
	cmd.Flags().BoolVar(&doubtful, "doubtful", false, "list the CVEs of which it is not sure that the fixes are theirs instead")
	cmd.MarkFlagsMutuallyExclusive("unattributed", "doubtful")
	return cmd
}

// fixLine is a fix of a series in JSON.
type fixLine struct {
	Series string `json:"series"`
	series.Meta
	Files     []string `json:"files"`
	Functions []string `json:"functions,omitempty"`
	Verdict   string   `json:"verdict,omitempty"` // on the target that was asked for
	Code      string   `json:"code,omitempty"`
	Why       string   `json:"why,omitempty"`
}

func lineOf(s *series.Series, f *series.Fix, verdicts map[string]selection.Fact) fixLine {
	v := verdicts[f.ID]
	return fixLine{
		Series: s.Name, Meta: f.Meta, Files: f.Paths(), Functions: f.Functions(),
		Verdict: string(v.Verdict), Code: string(v.Code), Why: v.Why,
	}
}

func (a *app) fixLs(ctx context.Context, c fixChoice, q filterFlags, left, doubtful bool) error {
	all, err := a.chosenFixes(ctx, c)
	if err != nil {
		return err
	}
	if doubtful {
		doubts := []series.Doubt{}
		for _, s := range all {
			doubts = append(doubts, s.Doubts()...)
		}
		return a.Show("doubts", doubts, func() string { return doubtTable(doubts) })
	}
	if left {
		entries := []series.Entry{}
		for _, s := range all {
			entries = append(entries, s.Unattributed...)
		}
		return a.Show("entries", entries, func() string { return entriesTable(entries) })
	}
	out := []fixLine{}
	total, formatted := 0, 0
	for _, s := range all {
		formatted += s.Formatted
		verdicts, err := a.verdictsOf(c, s)
		if err != nil {
			return err
		}
		total += len(s.Fixes)
		for _, f := range s.Fixes {
			if q.take(f, verdicts) {
				out = append(out, lineOf(s, f, verdicts))
			}
		}
	}
	if total == 0 {
		a.Term.Say("no fixes yet; tsugictl fix add or import brings some, --update VERSION shows those of an update")
	}
	return a.Show("fixes", out, func() string {
		return fixTable(out, total, len(all) > 1, c.target != "") + formattedText(formatted)
	})
}

// formattedText is one line about files that no fix is about.
func formattedText(n int) string {
	if n == 0 {
		return ""
	}
	return ui.Dim(ui.Count(n, "file")+" only formatted anew: in no fix") + "\n"
}

func entriesTable(entries []series.Entry) string {
	rows := make([][]string, len(entries))
	for i, e := range entries {
		rows[i] = []string{clip(e.Subject, 80), strings.Join(e.CVEs, " "), ui.Dim(e.Why)}
	}
	return ui.Table([]string{"entry", "cves", "why"}, rows)
}

func fixTable(fixes []fixLine, total int, several, verdicts bool) string {
	head := []string{"id", "severity", "cves", "files", "title"}
	if verdicts {
		head = append(head[:1], append([]string{"verdict"}, head[1:]...)...)
	}
	if several {
		head = append([]string{"series"}, head...)
	}
	rows := make([][]string, len(fixes))
	cves := make(map[string]bool)
	for i, f := range fixes {
		for _, id := range f.CVEs {
			cves[id] = true
		}
		var row []string
		if several {
			row = append(row, f.Series)
		}
		row = append(row, clip(f.ID, 50))
		if verdicts {
			row = append(row, verdictWord(f.Verdict, f.Code))
		}
		rows[i] = append(row, severityWord(f.Severity, f.Exploited), someOf(f.CVEs, 2), strconv.Itoa(len(f.Files)), clip(f.Title, 60))
	}
	sum := fmt.Sprintf("%s, %s", ui.Count(len(fixes), "fix"), ui.Count(len(cves), "CVE"))
	if len(fixes) != total {
		sum = fmt.Sprintf("%d of %d fixes, %s", len(fixes), total, ui.Count(len(cves), "CVE"))
	}
	return ui.Table(head, rows) + ui.Dim(sum) + "\n"
}

func verdictWord(v, code string) string {
	switch v {
	case "live":
		return ui.Good(v)
	case "":
		return ui.Dim("unknown")
	case "reboot":
		return ui.Warn(strings.TrimSpace(v + " " + code))
	case "error":
		return ui.Bad(strings.TrimSpace(v + " " + code))
	}
	return v
}

func severityWord(s series.Severity, exploited bool) string {
	text := cmp.Or(string(s), "-")
	if exploited {
		text += ", exploited"
	}
	switch {
	case exploited, s == series.Critical:
		return ui.Bad(text)
	case s == series.High:
		return ui.Warn(text)
	}
	return text
}

// someOf names the first of many.
func someOf(words []string, n int) string {
	if len(words) <= n {
		return strings.Join(words, " ")
	}
	return fmt.Sprintf("%s +%d", strings.Join(words[:n], " "), len(words)-n)
}
