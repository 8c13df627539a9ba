// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
)

type showResult struct {
	File   string `json:"file"`
	Digest string `json:"sha256"`
	livepatch.Manifest
	Proof *proof.Proof `json:"proof,omitempty"` // the record beside the file, if it is of this very file
}

func newShowCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "show PATCH",
		Short: "Show what a live patch is for, what it changes and how it was proven",
		Long: `show reads a live patch (NAME.tsugi) and sums it up. It checks every digest in
the file on the way.`,
		Example: "  tsugictl show ext4.tsugi",
		Args:    cobra.ExactArgs(1),
		RunE:    func(_ *cobra.Command, args []string) error { return a.showPatch(args[0]) },
	}
}

func (a *app) showPatch(path string) error {
	p, err := a.readPatch(path)
	if err != nil {
		return err
	}
	digest, err := p.Digest()
	if err != nil {
		return err
	}
	r := showResult{File: path, Digest: digest, Manifest: p.Manifest}
	record := proofPath(path)
	if b, err := os.ReadFile(record); err == nil {
		if r.Proof, err = proof.Read(b); err != nil {
			return fmt.Errorf("%s: %w", record, err)
		}
		if r.Proof.Patch.Digest != digest {
			a.Term.Say("%s %s is of another live patch and is left aside", ui.Warn("!"), record)
			r.Proof = nil
		}
	}
	return a.Show("live-patch", r, func() string { return manifestText(r) })
}

func (a *app) readPatch(path string) (*livepatch.Patch, error) {
	b, err := a.ReadFile(path)
	if err != nil {
		return nil, err
	}
	p, err := livepatch.Read(b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return p, nil
}

func manifestText(r showResult) string {
	m := r.Manifest
	var b strings.Builder
	b.WriteString(ui.Bold(m.Name) + ui.Dim(fmt.Sprintf("  version %d", m.Version)) + "\n")
	pairs := [][2]string{{"target", m.Target.Name + " " + ui.Dim(m.Target.PackageVersion)}}
	if m.Userland() {
		pairs[0][1] = m.Target.Name // which has the version
		for _, f := range m.Files {
			pairs = append(pairs, [2]string{f.Name, f.BuildID + "  " + ui.Size(f.Splice.Size) + ui.Dim("  "+f.Path)})
		}
	} else {
		pairs = append(pairs, [2]string{"build-id", m.Target.BuildID}, [2]string{"module", m.Module.Name + "  " + ui.Size(m.Module.Size)})
	}
	pairs = append(pairs, [2]string{"digest", r.Digest}, [2]string{"made with", strings.Join(nonEmpty(m.Builder, m.Compiler), ", ")})
	b.WriteString(ui.Indent(ui.Pairs(pairs...), 2))
	b.WriteString("\n")
	for _, f := range m.Fixes {
		id, modules := f.ID, ""
		if len(f.CVEs) == 1 && f.CVEs[0] == id {
			id = "" // it is told once
		}
		if len(f.Modules) > 0 {
			modules = "by the fixed " + strings.Join(f.Modules, ", ")
		}
		b.WriteString("  " + ui.Dim("fix") + "  " + strings.Join(nonEmpty(id, f.Title, cvesText(f.CVEs, f.Possible), modules), "  ") + "\n")
	}
	b.WriteString(openText(m.Open))
	if len(m.Functions) > 0 {
		b.WriteString("\n" + ui.Indent(replacedTable(m.Functions), 2))
	}
	b.WriteString(callbackText(m.Callbacks))
	if len(m.Risks) > 0 {
		b.WriteString("\n" + riskText(m.Risks))
	}
	if r.Proof != nil {
		b.WriteString("\n" + ui.Indent(proofText(r.Proof, ""), 2))
	} else {
		b.WriteString("\n  " + ui.Dim("○ not proven yet: tsugictl prove "+r.File) + "\n")
	}
	if m.Userland() {
		b.WriteString("  " + ui.Dim("○ put it into the processes of a machine: tsugi apply --local "+r.File) + "\n")
	}
	return b.String()
}

// cvesText lists CVEs, and which of them the fix has by a possible attribution
// alone.
func cvesText(cves, possible []string) string {
	words := make([]string, len(cves))
	for i, c := range cves {
		if words[i] = c; slices.Contains(possible, c) {
			words[i] += " (possible)"
		}
	}
	return strings.Join(words, " ")
}

// openText lists what the update changes and the live patch does not, the most
// severe first.
func openText(open []livepatch.OpenFix) string {
	if len(open) == 0 {
		return ""
	}
	rank := func(o livepatch.OpenFix) int { return series.Severity(o.Severity).Rank() }
	open = slices.Clone(open)
	slices.SortStableFunc(open, func(a, b livepatch.OpenFix) int { return cmp.Compare(rank(b), rank(a)) })
	rows := make([][]string, len(open))
	for i, o := range open {
		severity := severityWord(series.Severity(o.Severity), o.Exploited)
		rows[i] = []string{o.Kind, severity, o.ID, cvesText(o.CVEs, o.Possible), ui.Dim(clip(strings.TrimSpace(string(o.Code)+" "+o.Why), 80))}
	}
	return "\n" + ui.Indent(ui.Table([]string{"stays open", "severity", "fix", "CVEs", "why"}, rows), 2)
}

func replacedTable(functions []livepatch.Function) string {
	var rows [][]string
	for _, f := range functions {
		name := f.Name
		if f.SymPos > 0 {
			name += ui.Dim(fmt.Sprintf(" (the %s of that name)", ordinal(f.SymPos)))
		}
		rows = append(rows, []string{f.Object, name, ui.Dim(f.Change)})
	}
	return ui.Table([]string{"object", "function", "change"}, rows)
}

func callbackText(objects []string) string {
	return ui.Flow("  "+ui.Dim("callbacks")+"  ", objects, ", ")
}

func riskText(risks []livepatch.Risk) string {
	list := make([]*code.Problem, len(risks))
	for i, r := range risks {
		list[i] = &code.Problem{Code: r.Code, What: r.What, Where: r.Where, Why: r.Why}
	}
	return problemText(list)
}

func ordinal(n int) string {
	switch {
	case n%100 >= 11 && n%100 <= 13:
		return fmt.Sprintf("%dth", n)
	case n%10 == 1:
		return fmt.Sprintf("%dst", n)
	case n%10 == 2:
		return fmt.Sprintf("%dnd", n)
	case n%10 == 3:
		return fmt.Sprintf("%drd", n)
	}
	return fmt.Sprintf("%dth", n)
}

func nonEmpty(words ...string) []string {
	var out []string
	for _, w := range words {
		if w != "" {
			out = append(out, w)
		}
	}
	return out
}
