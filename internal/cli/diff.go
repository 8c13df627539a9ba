// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// Verdicts, as JSON has them.
const (
	verdictLive        = "live"
	verdictReboot      = "reboot"
	verdictSame        = "same"         // diff: the objects do the same
	verdictNotAffected = "not-affected" // build: the target does not have what the fix changes
)

type diffResult struct {
	Original string `json:"original"`
	Patched  string `json:"patched"`
	Verdict  string `json:"verdict"`
	*objdiff.Result
}

func newDiffCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "diff ORIG.o PATCHED.o",
		Short: "Compare two builds of one object, function by function",
		Long: `diff shows what the differ sees in two builds of one object file: changed, new
and removed functions, the entries of special sections they bring, and what
cannot be patched live, with its code. No target is needed. Objects compare
best when compiled with -ffunction-sections -fdata-sections.

Exit codes: 0 something changed, 3 nothing did, 2 refused, 1 error.`,
		Example: "  tsugictl diff tcp_input.o.orig tcp_input.o\n  tsugictl diff --json a.o b.o",
		Args:    cobra.ExactArgs(2),
		RunE:    func(_ *cobra.Command, args []string) error { return a.diff(args[0], args[1]) },
	}
}

func (a *app) diff(origPath, patchedPath string) error {
	orig, err := a.readObject(origPath)
	if err != nil {
		return err
	}
	patched, err := a.readObject(patchedPath)
	if err != nil {
		return err
	}
	r, err := objdiff.Diff(orig, patched, objdiff.Options{})
	if err != nil {
		return err
	}
	d := diffResult{origPath, patchedPath, diffVerdict(r), r}
	if err := a.Show("diff", d, func() string { return diffText(d) }); err != nil {
		return err
	}
	switch d.Verdict {
	case verdictReboot:
		return command.Outcome(exitRefused)
	case verdictSame:
		return command.Outcome(exitNothing)
	}
	return nil
}

func (a *app) readObject(path string) (*elfobj.File, error) {
	b, err := a.ReadFile(path)
	if err != nil {
		return nil, err
	}
	f, err := elfobj.Read(b)
	if err != nil {
		if code.Of(err) != "" {
			return nil, err
		}
		return nil, code.New("TS1001", path, "").With(err)
	}
	return f, nil
}

func diffVerdict(r *objdiff.Result) string {
	switch {
	case r.Refused():
		return verdictReboot
	case r.Same():
		return verdictSame
	}
	return verdictLive
}

func diffText(d diffResult) string {
	var b strings.Builder
	b.WriteString(verdictText(d.Verdict) + "  " + diffSummary(d.Result) + "\n")
	b.WriteString(ui.Indent(functionTable("changed", d.Changed)+functionTable("new", d.New), 2))
	for _, name := range d.Removed {
		b.WriteString("  removed  " + name + "\n")
	}
	var rows [][]string
	for _, x := range d.Data {
		rows = append(rows, []string{"data", x.Name, x.Section, ui.Size(int64(x.Size))})
	}
	b.WriteString(ui.Indent(ui.Table(nil, rows, 3), 2))
	b.WriteString(specialText(d.Special))
	for _, n := range d.Notes {
		b.WriteString("  " + ui.Dim("note") + "  " + n + "\n")
	}
	b.WriteString(problemText(d.Risks) + problemText(d.Refusals))
	return b.String()
}

// specialText sums up by section; JSON has the entries of each function.
func specialText(kept []objdiff.Kept) string {
	entries, dropped := map[string]int{}, map[string]int{}
	for _, k := range kept {
		entries[k.Section] += k.Entries
		dropped[k.Section] += k.Dropped
	}
	var words []string
	for _, section := range slices.Sorted(maps.Keys(entries)) {
		w := fmt.Sprintf("%s %d", section, entries[section])
		if n := dropped[section]; n > 0 {
			w += fmt.Sprintf(" (%d left out)", n)
		}
		words = append(words, w)
	}
	return ui.Flow("  special  ", words, ", ")
}

func functionTable(word string, list []objdiff.Function) string {
	var rows [][]string
	for _, f := range list {
		rows = append(rows, []string{word, f.Name, ui.Size(int64(f.Size)), ui.Dim(f.Why)})
	}
	return ui.Table(nil, rows, 2)
}

func diffSummary(r *objdiff.Result) string {
	var parts []string
	if n := len(r.Changed); n > 0 {
		parts = append(parts, ui.Count(n, "function")+" changed")
	}
	if n := len(r.New); n > 0 {
		parts = append(parts, fmt.Sprintf("%d new", n))
	}
	if n := len(r.Removed); n > 0 {
		parts = append(parts, fmt.Sprintf("%d removed", n))
	}
	if n := len(r.Refusals); n > 0 {
		parts = append(parts, ui.Count(n, "refusal"))
	}
	if len(parts) == 0 {
		return "no function does anything else than before"
	}
	return strings.Join(parts, ", ")
}

// verdictText is a verdict in its colour.
func verdictText(v string) string {
	switch v {
	case verdictLive:
		return ui.Good("● live")
	case verdictReboot:
		return ui.Bad("● reboot")
	case verdictNotAffected:
		return ui.Dim("○") + " not affected"
	}
	return ui.Dim("○") + " nothing changed"
}

// problemText lists refusals and risks with what to do about them.
func problemText(list []*code.Problem) string {
	var b strings.Builder
	for _, p := range list {
		b.WriteString(oneProblem(p))
	}
	return b.String()
}

func oneProblem(p *code.Problem) string {
	word := ui.Bad("refused")
	if e, ok := code.Lookup(p.Code); ok && e.Kind == code.KindRisk {
		word = ui.Warn("risk")
	}
	return ui.Indent(word+" "+ui.Explain(p)+"\n", 2)
}
