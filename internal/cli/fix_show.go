// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"context"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newFixShowCommand(a *app) *cobra.Command {
	var c fixChoice
	var diff bool
	cmd := &cobra.Command{
		Use:   "show ID|DIFF",
		Short: "Show what a fix touches and what is known of it",
		Long: `show sums up a fix: one of the catalogue or of an update by its id, or a diff
by its file name ("-" is standard input). Of a fix of an update it shows the
changelog's entries that were attributed to it, how sure that is and why.`,
		Example: `  tsugictl fix show fs-ext4-super --update 6.1.192-1 --from 6.1.190-1
  tsugictl fix show my.diff`,
		Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			if isFile(args[0]) {
				f, err := a.readFix(args[0])
				if err != nil {
					return err
				}
				if diff {
					return a.Term.Raw(f.Raw)
				}
				r := resultOfFix(f)
				return a.Show("fix", r, func() string { return fixText(r) })
			}
			return a.fixShow(cmd.Context(), c, args[0], diff)
		},
	}
	c.flags(cmd, a)
	cmd.Flags().BoolVar(&diff, "diff", false, "print the diff and nothing else")
	return cmd
}

// isFile tells a diff's name from an id.
func isFile(word string) bool {
	ext := filepath.Ext(word)
	return word == "-" || strings.ContainsRune(word, '/') || ext == ".diff" || ext == ".patch"
}

func (a *app) fixShow(ctx context.Context, c fixChoice, id string, diff bool) error {
	s, f, err := a.oneFix(ctx, c, id)
	if err != nil {
		return err
	}
	if diff {
		return a.Term.Raw(f.Diff.Raw)
	}
	verdicts, err := a.verdictsOf(c, s)
	if err != nil {
		return err
	}
	r := lineOf(s, f, verdicts)
	return a.Show("fix", r, func() string { return metaText(r, f) })
}

func metaText(r fixLine, f *series.Fix) string {
	var b strings.Builder
	b.WriteString(fixText(resultOfFix(f.Diff)))
	verdict := ""
	if r.Verdict != "" {
		verdict = verdictWord(r.Verdict, r.Code) + " " + r.Why
	}
	b.WriteString(ui.Indent(ui.Pairs(
		[2]string{"series", r.Series}, [2]string{"verdict", verdict}, [2]string{"severity", cmp.Or(string(f.Severity), "not known")},
		[2]string{"cvss", f.CVSS}, [2]string{"exploited", map[bool]string{true: "yes, it is in the KEV catalogue"}[f.Exploited]},
		[2]string{"advisories", strings.Join(f.Advisories, ", ")}, [2]string{"commit", f.Commit}, [2]string{"update", f.Update},
		[2]string{"first seen", f.FirstSeen}, [2]string{"subsystem", f.Subsystem}, [2]string{"requires", strings.Join(f.Requires, ", ")},
		[2]string{"functions", someOf(r.Functions, 12)}, [2]string{"note", f.Note},
	), 2))
	if len(f.Entries) > 0 {
		rows := make([][]string, len(f.Entries))
		for i, e := range f.Entries {
			rows[i] = []string{string(e.Confidence), strings.TrimSpace(e.Subject + " " + strings.Join(e.CVEs, " ")), ui.Dim(e.Why)}
		}
		fmt.Fprintf(&b, "\n%s", ui.Indent(ui.Table([]string{"confidence", "entry", "why"}, rows), 2))
	}
	return b.String()
}

// readFix reads a diff, with or without a header in front of it.
func (a *app) readFix(path string) (*fix.Fix, error) {
	f, err := a.readSeriesFix(path)
	if err != nil {
		return nil, err
	}
	return f.Diff, nil
}

// readSeriesFix reads a diff with its header, and the header beside it.
func (a *app) readSeriesFix(path string) (*series.Fix, error) {
	b, err := a.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if path == "-" {
		return series.ParseFix("stdin", b, nil)
	}
	sidecar, err := sidecarOf(path)
	if err != nil {
		return nil, err
	}
	return series.ParseFix(path, b, sidecar)
}
