// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// packageBuildResult is a report with the file that was written.
type packageBuildResult struct {
	*build.Report
	Output string `json:"output,omitempty"`
}

// buildForPackage makes a live patch for the processes of a package.
func (a *app) buildForPackage(ctx context.Context, paths []string, o buildOptions) error {
	switch {
	case o.server && o.entryOnly:
		return command.Usage(program+" build", "--entry-only is for builds here: jobs of the server let no thread be in a function that changes")
	case o.server:
		return a.buildOnServer(ctx, paths, o)
	case o.prove, o.publish, o.reproducer != "":
		return command.Usage(program+" build", "--prove, --publish and --reproducer need --server; here, tsugictl prove comes next")
	case o.choice.fixedModules:
		return command.Usage(program+" build", "a package has no modules to replace")
	case o.module != "", o.key != "", o.cert != "":
		return command.Usage(program+" build", "a live patch of a package has no module")
	}
	if o.choice.chooses(paths) {
		return a.buildPackageSeries(ctx, paths, o)
	}
	req := build.Request{
		Name: o.name, Version: o.version, Builder: command.Maker(), Accept: o.accept, Jobs: o.jobs,
		MaxUnits: o.maxObjects, EntryOnly: o.entryOnly,
	}
	var err error
	if req.Fixes, err = a.readFixes(paths, &o); err != nil {
		return err
	}
	store, err := a.packages()
	if err != nil {
		return err
	}
	if req.Target, err = store.Get(o.target); err != nil {
		return err
	}
	r, err := build.Build(ctx, req, a.Progress())
	if err != nil {
		return err
	}
	out, err := writtenPackage(r, o.output)
	if err != nil {
		return err
	}
	if err := a.Show("build", out, func() string { return packageBuildText(out) }); err != nil {
		return err
	}
	return outcome(r.Verdict)
}

// writtenPackage writes the live patch of a report, if there is one.
func writtenPackage(r *build.Report, output string) (packageBuildResult, error) {
	out := packageBuildResult{Report: r}
	if r.Artifact == nil {
		return out, nil
	}
	b, err := r.Artifact.Bytes()
	if err == nil {
		err = command.WriteFile(output, b)
	}
	out.Output = output
	return out, err
}

func packageBuildText(r packageBuildResult) string { return packageHead(r) + packageBody(r) }

// packageHead is the line with the verdict.
func packageHead(r packageBuildResult) string {
	verdict := verdictText(string(r.Verdict))
	if r.Verdict == build.Reboot {
		verdict = ui.Bad("restart needed")
	}
	words := []string{ui.Count(len(r.Units), "source file")}
	if n := len(r.Replaced); n > 0 {
		words = append(words, ui.Count(n, "function"))
	}
	if n := len(r.Refusals); n > 0 {
		words = append(words, ui.Count(n, "refusal"))
	}
	return fmt.Sprintf("%s  %s for %s  %s\n", verdict, ui.Bold(r.Name), r.Target.Name, ui.Dim(strings.Join(words, ", ")))
}

func packageBody(r packageBuildResult) string {
	var b strings.Builder
	if len(r.Replaced) > 0 {
		b.WriteString("\n" + ui.Indent(replacedTable(r.Replaced), 2))
	} else if len(r.Units) > 0 {
		b.WriteString(unitTable(r.Units))
	}
	for _, u := range r.Unbuilt {
		b.WriteString("  " + ui.Dim(u.Outcome) + "  " + u.Path + ui.Dim("  "+u.Why) + "\n")
	}
	for _, n := range r.Notes {
		b.WriteString("  " + ui.Dim("note") + "  " + n + "\n")
	}
	for _, list := range [][]build.Problem{r.Risks, r.Refusals} {
		if len(list) > 0 {
			b.WriteString("\n")
		}
		for _, p := range list {
			one := *p.Problem
			if p.Source != "" {
				one.Where = p.Source + ": " + one.Where
			}
			b.WriteString(oneProblem(&one))
		}
	}
	if r.Artifact != nil {
		pairs := make([][2]string, 0, len(r.Files)+3)
		for _, f := range r.Files {
			proof := "built again with the same bytes"
			if !f.Identical {
				proof = "each function compared"
			}
			pairs = append(pairs, [2]string{f.Name, fmt.Sprintf("%s of code  %s", ui.Size(int64(f.Text)), ui.Dim(f.BuildID+"  "+proof))})
		}
		pairs = append(pairs,
			[2]string{"source is the shipped code", fmt.Sprintf("%s, %s compared", ui.Count(r.Proven.Functions, "function"), ui.Size(int64(r.Proven.Bytes)))},
			[2]string{"live patch", r.Output},
			[2]string{"time", packageStages(r.Stages)})
		b.WriteString("\n" + ui.Indent(ui.Pairs(pairs...), 2))
	}
	return b.String()
}

func packageStages(list []build.Stage) string {
	stages := make([]builder.Stage, len(list))
	for i, s := range list {
		stages[i] = builder.Stage(s)
	}
	return stageText(stages)
}

// unitTable shows what was found of source files when no live patch came of it.
func unitTable(units []build.UnitInfo) string {
	var rows [][]string
	same := 0
	for _, u := range units {
		found := "no function changes"
		switch {
		case len(u.Changed) > 0:
			found = "changes " + strings.Join(u.Changed, ", ")
		case u.File == "":
			same++
			continue
		}
		rows = append(rows, []string{u.Source, u.File, ui.Dim(found)})
	}
	s := ui.Indent(ui.Table(nil, rows), 2)
	switch {
	case same == 1:
		s += ui.Dim("  1 source file compiles to the same bytes") + "\n"
	case same > 1:
		s += ui.Dim(fmt.Sprintf("  %d source files compile to the same bytes", same)) + "\n"
	}
	return s
}
