// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/cumulative"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// choiceResult is what a policy chose.
type choiceResult struct {
	Series    string               `json:"series,omitempty"`
	Selection *selection.Selection `json:"selection"`
	Offers    []selection.Offer    `json:"offers,omitempty"`
	Open      []livepatch.OpenFix  `json:"open,omitempty"`
	Rounds    int                  `json:"rounds"`
}

// seriesResult is a build of what a policy chose, for a kernel.
type seriesResult struct {
	buildResult
	choiceResult
	// Unreplaced are fixes that fixed modules could not serve either.
	Unreplaced []cumulative.Unreplaced `json:"unreplaced,omitempty"`
}

func seriesText(r seriesResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s for %s  %s\n", verdictText(string(r.Verdict)), ui.Bold(r.Name), r.Target.Name, ui.Dim(buildSummary(r.Report)))
	b.WriteString(selectedText(r.choiceResult, r.Artifact))
	for _, u := range r.Unreplaced {
		fmt.Fprintf(&b, "  %s  no fixed %s for %s: %s\n", ui.Dim("note"), strings.Join(u.Modules, ", "), u.ID, clip(u.Problem.Error(), 100))
	}
	if list := placedText(r.Risks); list != "" {
		b.WriteString("\n" + list)
	}
	return b.String() + madeText(r.buildResult)
}

// selectedText shows a choice, of which a live patch came or, with nil, none.
func selectedText(r choiceResult, p *livepatch.Patch) string {
	var b strings.Builder
	b.WriteString("\n" + ui.Indent(ui.Pairs(chosen(r, p)...), 2))
	for _, o := range r.Offers {
		b.WriteString("\n" + ui.Indent(offerText(o), 2))
	}
	for _, o := range r.Selection.Overlaps {
		fmt.Fprintf(&b, "  %s  %s changes %s, and so does %s, which is left out: nobody has run the one without the other\n",
			ui.Warn("note"), o.Fix, strings.Join(o.Functions, ", "), o.With)
	}
	for _, x := range r.Selection.Idle {
		fmt.Fprintf(&b, "  %s  no fix answers to the exclusion of %s\n", ui.Dim("note"), x.Name())
	}
	b.WriteString(leftTable(r.Selection.Left))
	return b.String()
}

// chosen sums up what is held and what is not. A CVE of which one fix is open
// is open, whatever else is held of it.
func chosen(r choiceResult, p *livepatch.Patch) [][2]string {
	held, possible := map[string]bool{}, map[string]bool{}
	open, high := map[string]bool{}, map[string]bool{}
	for _, o := range r.Open {
		for _, c := range o.CVEs {
			open[c] = true
			high[c] = high[c] || o.Severity == "high" || o.Severity == "critical"
		}
	}
	var metas []*series.Meta
	for _, f := range r.Selection.Fixes {
		metas = append(metas, &f.Meta)
		for _, c := range f.CVEs {
			held[c] = !open[c]
		}
	}
	for _, d := range series.Doubts(metas) {
		possible[d.CVE] = !open[d.CVE]
	}
	n := 0
	if p != nil {
		n = len(r.Selection.Fixes)
	}
	holds := fmt.Sprintf("%s, %s", ui.Count(n, "fix"), ui.Count(count(held), "CVE"))
	if n := count(possible); n > 0 {
		holds += fmt.Sprintf(", %d of them by a possible attribution", n)
	}
	pairs := [][2]string{{"holds", holds}}
	if p != nil {
		var served []string
		for _, f := range p.Manifest.Fixes {
			if len(f.Modules) > 0 {
				served = append(served, fmt.Sprintf("%s (%s)", f.ID, strings.Join(f.Modules, ", ")))
			}
		}
		if len(served) > 0 {
			pairs = append(pairs, [2]string{"where not loaded", strings.Join(served, ", ")})
		}
	}
	if len(open) > 0 {
		pairs = append(pairs, [2]string{"stays open", fmt.Sprintf("%s, %s of them known to be high or critical", ui.Count(len(open), "CVE"), orNone(count(high)))})
	}
	return pairs
}

func orNone(n int) string {
	if n == 0 {
		return "none"
	}
	return fmt.Sprint(n)
}

func count(set map[string]bool) int {
	n := 0
	for _, is := range set {
		if is {
			n++
		}
	}
	return n
}

func offerText(o selection.Offer) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s without %s\n", strings.Join(o.Dragged, ", "), strings.Join(o.Excluded, ", "))
	fmt.Fprintf(&b, "  either   exclude %s too (as this build does)\n", strings.Join(o.Dragged, ", "))
	for i, k := range o.Keep {
		word := "or      "
		if i > 0 {
			word = "        "
		}
		fmt.Fprintf(&b, "  %s keep %s, for %s\n", word, strings.Join(k.Keep, ", "), k.Fix)
	}
	return "dragged along: " + b.String()
}

// opens names the CVEs that a fix leaves open when it goes.
func opens(l selection.Left) string {
	if l.Fix == nil {
		return ""
	}
	return someOf(l.Fix.CVEs, 2)
}

// leftTable lists what is left out, the policy's doing first. What has no
// effect on the target needs no line.
func leftTable(left []selection.Left) string {
	order := []selection.LeftKind{selection.Excluded, selection.Dragged, selection.Reboot, selection.Failed}
	var rows [][]string
	for _, k := range order {
		for _, l := range left {
			if l.Kind == k {
				rows = append(rows, []string{string(k), l.ID, opens(l), ui.Dim(string(l.Code)), ui.Dim(clip(strings.ReplaceAll(l.Why, "\n", " "), 100))})
			}
		}
	}
	counts := map[selection.LeftKind]int{}
	for _, l := range left {
		counts[l.Kind]++
	}
	var rest []string
	for _, k := range []selection.LeftKind{selection.Lesser, selection.OutOf, selection.NotHere} {
		if counts[k] > 0 {
			rest = append(rest, fmt.Sprintf("%d %s", counts[k], k))
		}
	}
	text := ""
	if len(rows) > 0 {
		text = "\n" + ui.Indent(ui.Table(slices.Clone([]string{"left out", "fix", "opens", "code", "why"}), rows), 2)
	}
	if len(rest) > 0 {
		text += "  " + ui.Dim("and "+strings.Join(rest, ", ")) + "\n"
	}
	return text
}
