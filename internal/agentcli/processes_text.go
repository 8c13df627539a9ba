// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// mostLines is how many processes are listed.
const mostLines = 12

func processesText(kind string, r *keeper.Report, now time.Time) string {
	var b strings.Builder
	for _, p := range r.Patches {
		b.WriteString(patchText(kind, r, p))
	}
	if len(r.Patches) == 0 {
		b.WriteString("no live patch of a library or program is applied\n")
	}
	if kind == kindPlanned {
		b.WriteString(plannedTable(r.Processes))
	}
	b.WriteString(troubled(r.Processes, now))
	b.WriteString(unknownText(r.Processes))
	b.WriteString(outdatedText(r.Outdated))
	return b.String()
}

// patchText is about one live patch.
func patchText(kind string, r *keeper.Report, p keeper.Patch) string {
	files := strings.Join(p.Files, " ")
	what := "is applied to " + files
	switch {
	case kind == kindPlanned:
		what = "would go into " + files + ui.Dim("  nothing has been changed")
	case kind == kindReverted && len(p.Files) == 0: // tsugi-keep was first, and keeps no book of it
		return ui.Good("✓") + " " + ui.Bold(p.ID) + " is taken out of all processes" + ui.Dim("  it stays out until tsugi refresh or a newer version") + "\n"
	case kind == kindReverted || p.Out:
		what = "is taken out of " + files
	case p.By != "":
		what = "was replaced by " + p.By + " in " + files
	}
	var mine []keeper.Process
	mark := ui.Good("✓")
	if kind == kindPlanned {
		mark = ui.Dim("○")
	}
	for _, one := range r.Processes {
		if one.Patch != p.ID {
			continue
		}
		mine = append(mine, one)
		if one.Standing == keeper.Pending || one.Standing == keeper.Unprotected {
			mark = ui.Warn("!")
		}
	}
	pairs := [][2]string{{"processes", cmp.Or(standings(mine), "none maps its files"+beside(p))}}
	if n := len(p.Only); n > 0 && kind != kindReverted {
		pairs = append(pairs, [2]string{"only for", ui.Count(n, "process") + " that --process named"})
	}
	if p := r.Pauses; p != nil && len(r.Patches) == 1 {
		pairs = append(pairs, [2]string{"pause", fmt.Sprintf("median %s, longest %s", micro(p.MedianUS), micro(p.MostUS))})
	}
	s := mark + " " + ui.Bold(p.ID) + " " + what + "\n"
	if fixes := fixesOf(p); len(fixes) > 0 {
		s += ui.Flow("  "+ui.Dim("fixes")+"      ", fixes, " ")
	}
	return s + ui.Indent(ui.Pairs(pairs...), 2)
}

// beside explains that no process has a live patch.
func beside(p keeper.Patch) string {
	if len(p.Only) > 0 {
		return " of those that it is for"
	}
	return ""
}

// fixesOf names the CVEs, and the fixes that have none.
func fixesOf(p keeper.Patch) []string {
	words := slices.Clone(p.CVEs)
	for _, f := range p.Fixes {
		if !slices.Contains(words, f) {
			words = append(words, f)
		}
	}
	return words
}

// standings counts processes by standing, with the names of the programs:
// "4 protected: nginx (3), postgres". One that maps several files is one.
func standings(ps []keeper.Process) string {
	var words []string
	told := map[int]bool{}
	for _, s := range []keeper.Standing{keeper.Unprotected, keeper.Pending, keeper.Protected, keeper.Original, keeper.Ready} {
		n := 0
		names := map[string]int{}
		for _, p := range ps {
			if p.Standing == s && !told[p.PID] {
				told[p.PID] = true
				names[p.Name]++
				n++
			}
		}
		if n > 0 {
			words = append(words, fmt.Sprintf("%d %s: %s", n, standing(s), programs(names)))
		}
	}
	slices.Reverse(words)
	return strings.Join(words, "; ")
}

func standing(s keeper.Standing) string {
	if s == keeper.Original {
		return "as they were"
	}
	return string(s)
}

// programs lists names, the most frequent first.
func programs(names map[string]int) string {
	const most = 5
	list := slices.SortedFunc(maps.Keys(names), func(a, b string) int {
		return cmp.Or(cmp.Compare(names[b], names[a]), cmp.Compare(a, b))
	})
	var words []string
	for _, n := range list[:min(len(list), most)] {
		if names[n] > 1 {
			words = append(words, fmt.Sprintf("%s (%d)", n, names[n]))
		} else {
			words = append(words, n)
		}
	}
	if n := len(list) - most; n > 0 {
		words = append(words, fmt.Sprintf("%d other programs", n))
	}
	return strings.Join(words, ", ")
}

// plannedTable lists the processes that nothing keeps from a live patch.
func plannedTable(ps []keeper.Process) string {
	files := map[int][]string{}
	var rows [][]string
	for _, p := range ps {
		files[p.PID] = append(files[p.PID], p.File)
	}
	for _, p := range ps {
		if p.Standing != keeper.Ready && p.Standing != keeper.Protected || files[p.PID] == nil {
			continue
		}
		word := string(p.Standing)
		if p.Standing == keeper.Protected {
			word = "has it"
		}
		rows = append(rows, []string{fmt.Sprint(p.PID), p.Name, word, strings.Join(files[p.PID], " ")})
		files[p.PID] = nil
	}
	if len(rows) == 0 {
		return ""
	}
	return "\n" + ui.Indent(ui.Table([]string{"pid", "program", "", "files"}, rows[:min(len(rows), mostLines)], 0), 2) + more(len(rows))
}

// troubled lists the processes that are not as they should be, with the reason,
// no reason twice, and when they are tried again.
func troubled(ps []keeper.Process, now time.Time) string {
	var b strings.Builder
	var rows [][]string
	count := 0
	told := map[code.Code]bool{}
	var problems []string
	for _, p := range slices.SortedStableFunc(slices.Values(ps), func(a, b keeper.Process) int { return cmp.Compare(a.Standing, b.Standing) }) {
		if p.Standing != keeper.Pending && p.Standing != keeper.Unprotected {
			continue
		}
		why := ""
		if p.Problem != nil {
			why = string(p.Problem.Code) + " " + cmp.Or(p.Problem.Why, p.Problem.What)
			if !told[p.Problem.Code] {
				told[p.Problem.Code] = true
				problems = append(problems, explain(p.Problem))
			}
		}
		standing := string(p.Standing)
		if p.Next > 0 {
			standing += " for " + ago(now, p.Since) + ", " + nextTry(now, p.Next)
		}
		if count++; count <= mostLines {
			rows = append(rows, []string{fmt.Sprint(p.PID), p.Name, standing, p.File, clip(why, 50)})
		}
	}
	if len(rows) > 0 {
		b.WriteString("\n" + ui.Indent(ui.Table([]string{"pid", "program", "", "file", "why"}, rows, 0), 2) + more(count))
		for _, p := range problems {
			b.WriteString("\n" + ui.Indent(p, 2) + "\n")
		}
	}
	return b.String()
}

// unknownText names the processes that nobody may look into.
func unknownText(ps []keeper.Process) string {
	names := map[string]int{}
	seen := map[int]bool{}
	var why keeper.Process
	for _, p := range ps {
		if p.Standing == keeper.Unknown && !seen[p.PID] {
			seen[p.PID] = true
			names[p.Name]++
			why = p
		}
	}
	if len(seen) == 0 {
		return ""
	}
	s := ui.Count(len(seen), "process") + " can't be looked into: " + programs(names)
	if why.Problem != nil {
		s += " (" + string(why.Problem.Code) + ")"
	}
	return "  " + ui.Dim(s) + "\n"
}

func outdatedText(list []keeper.Outdated) string {
	if len(list) == 0 {
		return ""
	}
	verb := "run"
	if len(list) == 1 {
		verb = "runs"
	}
	var rows [][]string
	for _, o := range list[:min(len(list), mostLines)] {
		rows = append(rows, []string{fmt.Sprint(o.PID), o.Name, clip(strings.Join(o.Files, " "), 60)})
	}
	return "\n  " + ui.Count(len(list), "process") + " still " + verb + " with files that are not on the disk any more: restart them\n" +
		ui.Indent(ui.Table([]string{"pid", "program", "files"}, rows, 0), 2) + more(len(list))
}

func more(n int) string {
	if n <= mostLines {
		return ""
	}
	return fmt.Sprintf("  and %d more (--json has all)\n", n-mostLines)
}

func micro(us int64) string { return fmt.Sprintf("%.2f ms", float64(us)/1000) }
