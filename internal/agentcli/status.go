// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newStatusCommand(a *app) *cobra.Command {
	var processes bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Tell how this machine stands",
		Long: `status shows what is applied, what should be, and why they differ if they do. It
asks nothing of the server and answers at once. The exit code is 2 when this
machine does not have what it should have, its packages included.

With --processes it shows the live patches of libraries and programs, how many
processes are protected by them, which are not and why, and which still run with
files that an upgrade has taken from the disk.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if processes {
				return a.processStatus(cmd.Context())
			}
			ctx, cancel := a.within(cmd.Context(), readTime)
			defer cancel()
			c, done, err := a.control(ctx, false)
			if err != nil {
				return err
			}
			defer done()
			return a.show(ctx, c)
		},
	}
	cmd.Flags().BoolVar(&processes, "processes", false, "live patches of libraries and programs, for root")
	return cmd
}

// show prints the status and ends with its exit code.
func (a *app) show(ctx context.Context, c agent.Control) error {
	s, err := c.Status(ctx)
	if err != nil {
		return err
	}
	if err := a.Show("status", s, func() string { return statusText(s, time.Now()) }); err != nil {
		return err
	}
	switch s.Protection {
	case api.Protected, api.NotCovered:
		return nil
	}
	return command.Outcome(exitRefused)
}

// mark is a protection as a sign.
func mark(p api.Protection) string {
	switch p {
	case api.Protected:
		return ui.Good("●")
	case api.NotCovered:
		return ui.Dim("●")
	case api.Outdated, agent.Partly:
		return ui.Warn("●")
	}
	return ui.Bad("●")
}

func statusText(s *agent.Status, now time.Time) string {
	var b strings.Builder
	word := ui.Bold(string(s.Protection))
	b.WriteString(mark(s.Protection) + " " + word + "  " + s.Reason + "\n\n")
	pairs := [][2]string{{"kernel", s.Kernel.Release + ui.Dim("  build-id "+s.Kernel.BuildID)}}
	if p := s.Applied; p != nil {
		what := p.ID + "  " + string(p.State)
		if p.Since > 0 {
			what += " for " + ago(now, p.Since)
		}
		if p.Transition > 0 {
			what += ui.Dim("  transition " + ui.Span(time.Duration(p.Transition)*time.Millisecond))
		}
		pairs = append(pairs, [2]string{"live patch", what})
		pairs = append(pairs, coveragePairs(p.Coverage)...)
	} else {
		pairs = append(pairs, [2]string{"live patch", "none"})
		if n := len(s.Modules); n > 0 {
			var names []string
			for _, m := range s.Modules[:min(n, 8)] {
				names = append(names, m.Module)
			}
			pairs = append(pairs, [2]string{"fixed modules", fmt.Sprintf("%d stay on the disk for it: %s", n, strings.Join(names, " "))})
		}
	}
	if s.Offer != nil {
		next := s.Offer.ID + "  " + s.Decision
		if s.Retry > 0 {
			next += ", next try in " + until(now, s.Retry)
		} else if s.NextWindow > 0 {
			next += ", the next opens in " + until(now, s.NextWindow)
		}
		pairs = append(pairs, [2]string{"next", next})
	}
	if s.Hold || s.ServerHold {
		pairs = append(pairs, [2]string{"held", held(s)})
	}
	pairs = append(pairs, serverPairs(s, now)...)
	if s.Listed != nil && s.Server != nil {
		pairs = append(pairs, [2]string{"packages", listedText(*s.Listed, len(s.Packages), s.Server.Tier)})
	}
	if s.Waiting > 0 {
		pairs = append(pairs, [2]string{"reports", fmt.Sprintf("%d wait for the server", s.Waiting)})
	}
	b.WriteString(ui.Indent(ui.Pairs(pairs...), 2))
	b.WriteString(packagesText(s.Packages, now))
	if s.Deaf != nil {
		b.WriteString("\n  " + deafLine(s) + "\n")
	}
	if s.Applied != nil && len(s.Applied.CVEs) > 0 {
		b.WriteString("\n" + ui.Flow("  "+ui.Dim("fixed live")+"  ", s.Applied.CVEs, " "))
	}
	if s.Applied != nil && s.Applied.Coverage != nil && len(s.Applied.Coverage.Possible) > 0 {
		b.WriteString("\n" + ui.Flow("  "+ui.Dim("possibly")+"  ", s.Applied.Coverage.Possible, " "))
	}
	b.WriteString(troubles(s, now))
	return b.String()
}

// coveragePairs say whether a reboot is still worth it, and for what.
func coveragePairs(c *agent.Coverage) [][2]string {
	if c == nil {
		return nil
	}
	var out [][2]string
	if s := c.Sentence(); s != "" {
		out = append(out, [2]string{"fixes", s})
	}
	if ids := c.Reboot(); len(ids) > 0 {
		what := fmt.Sprintf("for %d: %s", len(ids), strings.Join(ids[:min(len(ids), 4)], " "))
		if len(ids) > 4 {
			what += " … (tsugi cves lists them)"
		}
		out = append(out, [2]string{"a reboot helps", what})
	}
	count := map[api.ReplacementState]int{}
	for _, m := range c.Modules {
		count[m.State]++
	}
	var words []string
	for _, w := range []struct {
		state api.ReplacementState
		word  string
	}{
		{api.OnDisk, "%d on the disk for when they load"},
		{api.LoadedNow, "%d loaded"},
		{api.InUse, "%d not, as another build is in use"},
		{api.NotYet, "%d not yet"},
		{api.NotHere, "%d not possible here"},
	} {
		if n := count[w.state]; n > 0 {
			words = append(words, fmt.Sprintf(w.word, n))
		}
	}
	if len(words) > 0 {
		out = append(out, [2]string{"fixed modules", strings.Join(words, ", ")})
	}
	return out
}

func serverPairs(s *agent.Status, now time.Time) [][2]string {
	agentWord := s.Agent
	if !s.Running {
		agentWord += "  " + ui.Warn("does not run")
	}
	if s.Server == nil {
		return [][2]string{{"server", "none: this machine is not enrolled"}, {"agent", agentWord}}
	}
	contact := "not reached yet"
	if s.Server.Answered > 0 {
		contact = "checked in " + ago(now, s.Server.Answered) + " ago"
	}
	return [][2]string{
		{"server", s.Server.URL + "  " + contact},
		{"tier", s.Server.Tier},
		{"group", s.Server.Group},
		{"machine", s.Server.Machine},
		{"agent", agentWord},
	}
}

func held(s *agent.Status) string {
	switch {
	case s.Hold && s.ServerHold:
		return "by hand (tsugi unhold) and by the server"
	case s.Hold:
		return "by hand (tsugi unhold)"
	}
	return "by the server"
}

// troubles are stalls, quarantines and problems.
func troubles(s *agent.Status, now time.Time) string {
	var b strings.Builder
	if len(s.Stalls) > 0 {
		var rows [][]string
		for _, t := range s.Stalls {
			rows = append(rows, []string{fmt.Sprint(t.PID), t.Comm, t.Function})
		}
		b.WriteString("\n  tasks that hold up the transition\n" + ui.Indent(ui.Table([]string{"pid", "task", "in"}, rows, 0), 2))
	}
	for _, q := range s.Quarantine {
		b.WriteString("\n  " + ui.Bad("quarantine") + "  " + q.ID + ui.Dim("  since "+ago(now, q.Since)) + "\n")
		if q.Problem != nil {
			b.WriteString(ui.Indent(explain(q.Problem), 4) + "\n")
		}
	}
	for _, p := range s.ByHand {
		b.WriteString("\n  " + ui.Warn("by hand") + "  " + p.ID + " was taken out; tsugi refresh lets it in again\n")
	}
	for i := range s.Problems {
		b.WriteString("\n" + ui.Indent(ui.Explain(&s.Problems[i]), 2) + "\n")
	}
	return b.String()
}

func explain(p *api.Problem) string {
	return ui.Explain(problem(p))
}

// ago is a time in the past, for people.
func ago(now time.Time, ms int64) string { return rough(now.Sub(time.UnixMilli(ms))) }

func until(now time.Time, ms int64) string { return rough(time.UnixMilli(ms).Sub(now)) }

func rough(d time.Duration) string {
	switch {
	case d < 0:
		return "0 s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < 2*time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
