// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/ui"
)

// buildResult is a report with the files that were written.
type buildResult struct {
	*builder.Report
	Output     string `json:"output,omitempty"`
	ModuleFile string `json:"module_file,omitempty"`
}

func buildText(r buildResult) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s  %s for %s  %s\n", verdictText(string(r.Verdict)), ui.Bold(r.Name), r.Target.Name, ui.Dim(buildSummary(r.Report)))
	if len(r.Functions) > 0 {
		b.WriteString("\n" + ui.Indent(replacedTable(r.Functions), 2))
	}
	if r.Artifact != nil {
		b.WriteString(callbackText(r.Artifact.Manifest.Callbacks))
	} else if len(r.Functions) == 0 {
		b.WriteString(objectTable(r.Objects))
	}
	for _, u := range r.Unbuilt {
		b.WriteString("  " + ui.Dim("not built here") + "  " + u.Path + ui.Dim("  "+u.Why) + "\n")
	}
	for _, n := range r.Notes {
		b.WriteString("  " + ui.Dim("note") + "  " + n + "\n")
	}
	if list := placedText(r.Risks); list != "" {
		b.WriteString("\n" + list)
	}
	if list := placedText(r.Refusals); list != "" {
		b.WriteString("\n" + list)
	}
	return b.String() + madeText(r)
}

// madeText tells of the module that was made, if one was.
func madeText(r buildResult) string {
	if r.Module == nil {
		return ""
	}
	return "\n" + ui.Indent(ui.Pairs(
		[2]string{"module", fmt.Sprintf("%s.ko  %s", r.Module.Name, ui.Size(int64(r.Module.Size)))},
		[2]string{"source is the running code", provenText(r.Report)},
		[2]string{"live patch", r.Output},
		[2]string{"module file", r.ModuleFile},
		[2]string{"time", stageText(r.Stages)},
	), 2)
}

func buildSummary(r *builder.Report) string {
	words := []string{ui.Count(len(r.Objects), "object")}
	if n := len(r.Functions); n > 0 {
		words = append(words, ui.Count(n, "function"))
	}
	if n := len(r.Refusals); n > 0 {
		words = append(words, ui.Count(n, "refusal"))
	}
	if n := len(r.Risks); n > 0 {
		words = append(words, ui.Count(n, "risk"))
	}
	return strings.Join(words, ", ")
}

func provenText(r *builder.Report) string {
	p := r.Proven
	return fmt.Sprintf("%s, %s compared", ui.Count(p.Functions, "function"), ui.Size(int64(p.Bytes)))
}

func stageText(stages []builder.Stage) string {
	var words []string
	total := int64(0)
	for _, s := range stages {
		total += s.MS
		if s.MS >= 10 {
			words = append(words, s.Name+" "+ui.Span(millis(s.MS)))
		}
	}
	return ui.Span(millis(total)) + ui.Dim("  "+strings.Join(words, ", "))
}

// objectTable shows what the differ found when no module came of it.
func objectTable(objects []builder.Object) string {
	var rows [][]string
	for _, o := range objects {
		owner := o.Module
		if owner == "" {
			owner = "vmlinux"
		}
		found := "compiles to the same bytes"
		if o.Diff != nil {
			found = diffSummary(o.Diff)
		}
		rows = append(rows, []string{o.Path, owner, ui.Dim(found)})
	}
	return ui.Indent(ui.Table(nil, rows), 2)
}

// placedText lists refusals and risks, each with its place in the source.
func placedText(list []builder.Refusal) string {
	var b strings.Builder
	for _, r := range list {
		p := *r.Problem
		if r.Source != "" {
			p.Where = r.Source + ": " + p.Where
		} else if r.Object != "" {
			p.Where = r.Object + ": " + p.Where
		}
		b.WriteString(oneProblem(&p))
	}
	return b.String()
}
