// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent/host"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/preflight"
	"github.com/tsugi-project/tsugi/internal/ui"
)

type checkResult struct {
	Able     bool                `json:"able"`
	Kernel   api.Kernel          `json:"kernel"`
	OS       string              `json:"os,omitempty"`
	Findings []preflight.Finding `json:"findings"`
}

func newCheckCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "check",
		Short: "Tell whether this machine can be protected by live patches",
		Long: `check looks at the running kernel and at what it allows, and says for each rule
whether live patches can be applied here. It needs no enrolment and changes
nothing. The exit code is 2 when they can't.`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error { return a.check() },
	}
}

func (a *app) check() error {
	h, findings, err := host.System{}.Able()
	if err != nil {
		return err
	}
	r := checkResult{
		Able: preflight.Passed(findings), OS: h.OS, Findings: findings,
		Kernel: api.Kernel{Release: h.Release, BuildID: h.BuildID, Arch: h.Arch},
	}
	if err := a.Show("check", r, func() string { return checkText(r) }); err != nil {
		return err
	}
	if !r.Able {
		return command.Outcome(exitRefused)
	}
	return nil
}

func checkText(r checkResult) string {
	var b strings.Builder
	if r.Able {
		b.WriteString(ui.Good("✓") + " this machine can be protected by live patches\n\n")
	} else {
		b.WriteString(ui.Bad("✗") + " this machine can't be protected by live patches as it is\n\n")
	}
	b.WriteString(ui.Indent(ui.Pairs([2]string{"kernel", r.Kernel.Release}, [2]string{"system", r.OS}), 2) + "\n")
	var rows [][]string
	for _, f := range r.Findings {
		mark := ui.Good("✓")
		switch {
		case !f.OK:
			mark = ui.Bad("✗")
		case f.Problem != nil:
			mark = ui.Warn("!")
		}
		rows = append(rows, []string{mark, f.ID, ui.Dim(clip(f.Detail, 90))})
	}
	b.WriteString(ui.Indent(ui.Table(nil, rows), 2))
	for _, f := range r.Findings {
		if f.Problem != nil {
			b.WriteString("\n" + ui.Indent(ui.Explain(f.Problem), 2) + "\n")
		}
	}
	return b.String()
}

func clip(s string, n int) string {
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}

func problem(p *api.Problem) *code.Problem {
	return &code.Problem{Code: p.Code, What: p.What, Where: p.Where, Why: p.Why, Fix: p.Fix}
}

func newLogsCommand(a *app) *cobra.Command {
	var count int
	var follow bool
	cmd := &cobra.Command{
		Use:   "logs",
		Short: "Show what happened to this machine's live patches",
		Long: `logs shows the agent's journal: each state that a live patch came to, and why.
The messages of the program itself are in the system's log: journalctl -u tsugi.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error { return a.logs(cmd.Context(), count, follow) },
	}
	cmd.Flags().IntVarP(&count, "lines", "n", 50, "show the last N entries")
	cmd.Flags().BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	return cmd
}

func (a *app) logs(ctx context.Context, count int, follow bool) error {
	seen := map[string]bool{}
	for first := true; ; first = false {
		all, err := a.history(ctx)
		if err != nil {
			return err
		}
		if first {
			all = all[max(0, len(all)-max(count, 0)):]
			if !follow {
				return a.Show("logs", all, func() string { return logText(all) })
			}
		}
		for _, r := range all {
			if !seen[r.ID] {
				seen[r.ID] = true
				a.Term.Print(logText([]api.Report{r}))
			}
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (a *app) history(ctx context.Context) ([]api.Report, error) {
	ctx, cancel := a.within(ctx, readTime)
	defer cancel()
	c, done, err := a.control(ctx, false)
	if err != nil {
		return nil, err
	}
	defer done()
	return c.History(ctx)
}

func logText(all []api.Report) string {
	var b strings.Builder
	for _, r := range all {
		what := r.Detail
		if r.Patch.State != "" {
			what = r.Patch.ID + "  " + string(r.Patch.State)
			if r.Transition > 0 {
				what += ui.Dim(fmt.Sprintf("  transition %s", ui.Span(time.Duration(r.Transition)*time.Millisecond)))
			}
			if r.Detail != "" {
				what += "  " + ui.Dim(r.Detail)
			}
		}
		b.WriteString(ui.Dim(time.UnixMilli(r.Time).Format(time.DateTime)) + "  " + what + "\n")
		if p := r.Patch.Problem; p != nil {
			b.WriteString(ui.Indent(ui.Explain(problem(p)), 4) + "\n")
		}
	}
	return b.String()
}
