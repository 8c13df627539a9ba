// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func proofText(p *proof.Proof, path string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s on %s  %s\n", proofVerdict(p.Verdict), ui.Bold(p.Patch.Name), p.Target.Name,
		ui.Dim(fmt.Sprintf("%s, %s, %s", p.Machine.Accelerator, ui.Count(p.Machine.CPUs, "cpu"), ui.Span(millis(p.Elapsed)))))
	b.WriteString(ui.Indent(checkTable(p.Checks, p.Package != nil), 2))
	for _, problem := range p.Problems {
		b.WriteString(ui.Indent(ui.Explain(problem)+"\n", 2))
	}
	if path != "" {
		b.WriteString("  " + ui.Dim("record  ") + path + "\n")
	}
	return b.String()
}

func proofVerdict(v proof.Verdict) string {
	if v == proof.Proved {
		return ui.Good("● proved")
	}
	return ui.Bad("● " + string(v))
}

// packageTitle is checkTitle where a package's says something else.
func packageTitle(id string) string {
	switch id {
	case proof.CheckKernel:
		return "a kernel boots"
	case proof.CheckPrograms:
		return "programs run that map the files"
	case proof.CheckLoad:
		return "the patch goes into the running processes"
	case proof.CheckFunctions:
		return "exactly its functions are replaced in them"
	case proof.CheckStarted:
		return "programs that start later have it too"
	case proof.CheckRevert:
		return "the patch is taken out of them"
	case proof.CheckAlive:
		return "no program ended"
	case proof.CheckLog:
		return "the kernel tells of no fault"
	}
	return checkTitle(id)
}

// checkTitle says what each check means when it passes.
func checkTitle(id string) string {
	switch id {
	case proof.CheckKernel:
		return "the target's own kernel boots"
	case proof.CheckBefore:
		return "without the patch the bug shows"
	case proof.CheckLoad:
		return "the patch loads into the running kernel"
	case proof.CheckReplaced:
		return "it replaces the live patch before it"
	case proof.CheckProbe:
		return "the probe always passes"
	case proof.CheckRan:
		return "patched functions ran"
	case proof.CheckFunctions:
		return "the kernel shows the functions as patched"
	case proof.CheckLate:
		return "modules that come later are patched"
	case proof.CheckAfter:
		return "with the patch the reproducer passes"
	case proof.CheckRevert:
		return "the patch is reverted live"
	case proof.CheckCycles:
		return "again and again"
	case proof.CheckRevertShown:
		return "reverted, the bug is back"
	case proof.CheckLog:
		return "the kernel complains about nothing new"
	}
	return id
}

func checkTable(checks []proof.Check, ofPackage bool) string {
	titleOf := checkTitle
	if ofPackage {
		titleOf = packageTitle
	}
	var rows [][]string
	for _, c := range checks {
		if c.Status == proof.Skip && c.Detail == "none asked for" {
			continue // the record has it
		}
		mark := ui.Dim("–")
		switch c.Status {
		case proof.Pass:
			mark = ui.Good("✓")
		case proof.Fail:
			mark = ui.Bad("✗")
		}
		took := ""
		if c.MS > 0 {
			took = ui.Span(millis(c.MS))
		}
		rows = append(rows, []string{mark, titleOf(c.ID), took, ui.Dim(clip(checkDetail(c), 72))})
	}
	return ui.Table(nil, rows, 2)
}

// nullAddress is the part of an oops' title that says little.
var nullAddress = regexp.MustCompile(`, address: 0+\b`)

// checkDetail is what of a check's detail fits on a line; the record has it all.
func checkDetail(c proof.Check) string {
	detail, _, _ := strings.Cut(c.Detail, "\n")
	switch {
	case c.Status != proof.Pass:
	case c.ID == proof.CheckKernel:
		detail, _, _ = strings.Cut(detail, ",")
	case c.ID == proof.CheckPrograms:
		detail += " running"
	case c.ID == proof.CheckFunctions:
		if n, err := strconv.Atoi(detail); err == nil {
			detail = ui.Count(n, "function")
		}
	case c.ID == proof.CheckAfter, c.ID == proof.CheckLog:
		return ""
	}
	return nullAddress.ReplaceAllString(detail, "")
}

func millis(n int64) time.Duration { return time.Duration(n) * time.Millisecond }

// clip cuts a text that is too long for a table's cell; the record has it all.
func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
