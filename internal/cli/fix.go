// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newFixCommand(a *app) *cobra.Command {
	return command.Parent("fix", "The source fixes that live patches are made of",
		`A fix is a source diff, in git or quilt style, with what it fixes. The
catalogue, a directory that is fit for git, keeps one's own fixes and those
imported from a git tree as series; the fixes of a distribution's update are
computed from its two source packages.`,
		newFixLsCommand(a), newFixShowCommand(a), newFixAddCommand(a), newFixImportCommand(a), newFixEditCommand(a), newFixRmCommand(a),
		newFixExportCommand(a), newFixFeedCommand(a), newFixDeriveCommand(a))
}

// fixResult is a fix in JSON.
type fixResult struct {
	ID     string    `json:"id"`
	Title  string    `json:"title,omitempty"`
	Origin string    `json:"origin,omitempty"`
	CVEs   []string  `json:"cves,omitempty"`
	Files  []fixFile `json:"files"`
	Output string    `json:"output,omitempty"` // the file that derive wrote
}

type fixFile struct {
	Path    string `json:"path"`
	Change  string `json:"change"` // modified, created, deleted, renamed, copied
	Added   int    `json:"added"`
	Removed int    `json:"removed"`
	Hunks   int    `json:"hunks"`
}

func resultOfFix(f *fix.Fix) fixResult {
	r := fixResult{ID: f.ID, Title: f.Title, Origin: f.Origin, CVEs: f.CVEs, Files: []fixFile{}}
	for _, d := range f.Files {
		x := fixFile{Path: d.Path, Change: "modified", Hunks: len(d.Hunks)}
		switch {
		case d.Created:
			x.Change = "created"
		case d.Deleted:
			x.Change = "deleted"
		case d.Copied:
			x.Change = "copied"
		case d.OldPath != d.Path:
			x.Change = "renamed"
		}
		for _, h := range d.Hunks {
			for _, l := range h.Lines {
				switch l.Op {
				case '+':
					x.Added++
				case '-':
					x.Removed++
				}
			}
		}
		r.Files = append(r.Files, x)
	}
	return r
}

func fixText(r fixResult) string {
	var b strings.Builder
	b.WriteString(ui.Bold(r.ID))
	if r.Title != "" {
		b.WriteString("  " + r.Title)
	}
	b.WriteString("\n")
	b.WriteString(ui.Indent(ui.Pairs([2]string{"fixes", strings.Join(r.CVEs, ", ")}, [2]string{"origin", r.Origin}), 2))
	rows := make([][]string, len(r.Files))
	added, removed := 0, 0
	for i, f := range r.Files {
		change := f.Change
		if change == "modified" {
			change = ""
		}
		rows[i] = []string{f.Path, ui.Good(fmt.Sprintf("+%d", f.Added)), ui.Bad(fmt.Sprintf("-%d", f.Removed)), ui.Dim(change)}
		added, removed = added+f.Added, removed+f.Removed
	}
	b.WriteString(ui.Indent(ui.Table(nil, rows, 1, 2), 2))
	if len(r.Files) > 1 {
		fmt.Fprintf(&b, "  %s\n", ui.Dim(fmt.Sprintf("%s, +%d -%d", ui.Count(len(r.Files), "file"), added, removed)))
	}
	return b.String()
}
