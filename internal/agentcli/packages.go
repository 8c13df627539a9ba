// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// packagesText shows how packages stand, in the status of a machine.
func packagesText(all []agent.PackageStatus, now time.Time) string {
	var b strings.Builder
	for i := range all {
		p := &all[i]
		b.WriteString("\n  " + mark(p.Protection) + " " + ui.Bold(p.Target) + "  " + string(p.Protection) + ui.Dim("  "+p.Reason) + "\n")
		what := "none"
		if p.Patch.ID != "" {
			what = p.Patch.ID + "  " + string(p.Patch.State)
			if p.Patch.Since > 0 {
				what += " for " + ago(now, p.Patch.Since)
			}
		}
		pairs := [][2]string{{"live patch", what}, {"processes", processCounts(p.Processes)}}
		for _, r := range p.Reasons {
			pairs = append(pairs, [2]string{"", reasonLine(r)})
		}
		for _, w := range p.Waits[:min(len(p.Waits), mostWaits)] {
			pairs = append(pairs, [2]string{"", waitLine(w, now)})
		}
		if n := len(p.Waits) - mostWaits; n > 0 {
			pairs = append(pairs, [2]string{"", "others are pending as well: tsugi status --processes lists them"})
		}
		if p.Offer != nil && p.Retry > 0 {
			pairs = append(pairs, [2]string{"next", p.Offer.ID + "  next try in " + until(now, p.Retry)})
		}
		b.WriteString(ui.Indent(ui.Pairs(pairs...), 4))
		if len(p.CVEs) > 0 {
			b.WriteString(ui.Flow("    "+ui.Dim("fixed in processes")+"  ", p.CVEs, " "))
		}
	}
	return b.String()
}

// listedText tells which packages are looked for at all: of others nothing is known
// here, whatever of them processes map.
func listedText(listed, here int, tier string) string {
	what := fmt.Sprintf("%d of the %d that tier %s has live patches for", here, listed, tier)
	switch {
	case listed == 0 && here == 0:
		return "tier " + tier + " has live patches for none"
	case here > listed: // what is applied is no longer in the tier
		what = strconv.Itoa(here)
	case here == 0:
		what = fmt.Sprintf("none of the %d that tier %s has live patches for is mapped", listed, tier)
	}
	return what + ui.Dim("  others are not looked for")
}

// processCounts is one line of counts.
func processCounts(n api.Processes) string {
	var words []string
	for _, w := range []struct {
		n    int
		word string
	}{{n.Protected, "protected"}, {n.Pending, "pending"}, {n.Unprotected, "unprotected"}} {
		if w.n > 0 {
			words = append(words, fmt.Sprintf("%d %s", w.n, w.word))
		}
	}
	if len(words) == 0 {
		return "none maps its files now; those that start later get it"
	}
	return strings.Join(words, ", ")
}

// mostWaits is how many processes that are pending are named.
const mostWaits = 4

// waitLine tells of a process that is pending.
func waitLine(w agent.ProcessWait, now time.Time) string {
	return fmt.Sprintf("%s (pid %d): pending for %s, %s", w.Program, w.PID, ago(now, w.Since), nextTry(now, w.Next))
}

// nextTry is when a process is tried again.
func nextTry(now time.Time, next int64) string {
	if next <= now.UnixMilli() {
		return "next try now"
	}
	return "next try in " + until(now, next)
}

// reasonLine is why some processes are not protected.
func reasonLine(r api.ProcessReason) string {
	who := ""
	if r.Program != "" {
		who = " (" + r.Program
		if r.Processes > 1 {
			who += " and others"
		}
		who += ")"
	}
	return fmt.Sprintf("%d%s: %s %s", r.Processes, who, r.Problem.Code, r.Problem.What)
}

// packageCVEs lists what is fixed in processes.
func packageCVEs(all []agent.FixedPackage) string {
	var b strings.Builder
	for i := range all {
		p := &all[i]
		var rows [][]string
		for _, fix := range p.Fixes {
			how := "in processes"
			if !p.Whole() {
				how = fmt.Sprintf("in %d of %d", p.Processes.Protected, p.Processes.Protected+p.Processes.Pending+p.Processes.Unprotected)
			}
			rows = append(rows, []string{strings.Join(doubted(fix.CVEs, fix.Possible), " "), fix.Severity, how, fix.ID, ui.Dim(fix.Title)})
		}
		b.WriteString(ui.Bold(p.Target) + "\n" + ui.Table([]string{"CVEs", "severity", "fixed", "fix", ""}, rows))
		if p.Problem != nil {
			b.WriteString(explain(p.Problem) + "\n")
		}
	}
	return b.String()
}
