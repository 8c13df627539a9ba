// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// maxShown is how many fixes of a list people are shown; --json has all.
const maxShown = 20

func previewText(p *api.PolicyPreview) string {
	if len(p.Targets) == 0 {
		return "Nothing is pushed yet, so nothing would change: tsugictl update push\n"
	}
	var b strings.Builder
	for i, t := range p.Targets {
		if i > 0 {
			b.WriteString("\n")
		}
		b.WriteString(targetPreview(t))
	}
	for _, e := range p.Ending {
		fmt.Fprintf(&b, "\n%s ends %s and comes back by itself.\n", e.Name, coming(e.Ends))
	}
	return b.String()
}

func targetPreview(t api.TargetPreview) string {
	var tiers []string
	for _, name := range slices.Sorted(maps.Keys(t.Tiers)) {
		tiers = append(tiers, fmt.Sprintf("%d %s", t.Tiers[name], name))
	}
	machines := ui.Count(t.Machines, "machine")
	if len(tiers) > 0 {
		machines += " (" + strings.Join(tiers, ", ") + ")"
	}
	var b strings.Builder
	b.WriteString(ui.Pairs(
		[2]string{"target", ui.Bold(t.Target)},
		[2]string{"update", t.Update},
		[2]string{"for", machines},
		[2]string{"chosen", fmt.Sprintf("%s, %s", ui.Count(t.Fixes, "fix"), ui.Count(t.CVEs, "CVE"))},
		[2]string{"live patch", previewPatch(t)},
		[2]string{"shared with", strings.Join(t.Shared, ", ")},
		[2]string{"answers to none", strings.Join(t.Idle, ", ")},
	))
	if t.Problem != nil {
		b.WriteString(told(t.Problem) + "\n")
		return b.String()
	}
	if t.Same {
		b.WriteString("Nothing would change.\n")
	}
	if len(t.Goes) > 0 {
		fmt.Fprintf(&b, "would go, %s:\n%s", ui.Count(len(t.Goes), "fix"), firstOf(t.Goes))
	}
	for _, l := range t.Goes {
		if l.Kind == "dragged" && len(l.Needs) > 0 {
			fmt.Fprintf(&b, "  %s goes because it needs %s: exclude both, or keep %s.\n", fixName(l), strings.Join(l.Needs, ", "), strings.Join(l.Needs, ", "))
		}
	}
	if len(t.Comes) > 0 {
		fmt.Fprintf(&b, "would come, %s:\n%s", ui.Count(len(t.Comes), "fix"), firstOf(t.Comes))
	}
	if len(t.Open) > 0 {
		fmt.Fprintf(&b, "stays open, %s:\n%s", ui.Count(t.OpenCVEs, "CVE"), firstOf(t.Open))
	}
	for _, m := range t.Modules {
		b.WriteString(modulePreview(m))
	}
	if t.Stuck != "" {
		b.WriteString(ui.Warn(t.Stuck) + "\n")
	}
	return b.String()
}

// modulePreview says what becomes of a fixed module.
func modulePreview(m api.ModulePreview) string {
	what := strings.Join(m.Fixes, ", ")
	if len(m.CVEs) > 0 {
		what = strings.Join(m.CVEs, ", ")
	}
	if m.Comes {
		return fmt.Sprintf("fixed module %s would come for %s, to machines that have not loaded it\n", m.Module, what)
	}
	return fmt.Sprintf("fixed module %s would go, or be there without %s: %s it\n", m.Module, what, ui.Count(m.Machines, "machine")+" of these "+verb(m.Machines))
}

func verb(n int) string {
	if n == 1 {
		return "has"
	}
	return "have"
}

func previewPatch(t api.TargetPreview) string {
	switch {
	case t.Problem != nil:
		return ui.Bad("not known")
	case t.Fixes == 0:
		return ui.Dim("none: no fix is chosen")
	case t.Build:
		return ui.Warn("would be built")
	}
	return t.Patch + " is there"
}

func firstOf(all []api.LeftFix) string {
	text := notTakenTable(all[:min(len(all), maxShown)])
	if more := len(all) - maxShown; more > 0 {
		text += ui.Dim(fmt.Sprintf("  and %d more: --json has them", more)) + "\n"
	}
	return text
}
