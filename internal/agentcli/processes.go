// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/tsugi-project/tsugi/internal/agent/host"
	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/command"
	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/ui"
)

func newKeepCommand(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "keep",
		Short: "Keep live patches of libraries and programs in all processes",
		Long: `keep brings every process that maps a patched library or program to the live
patches that were applied: those that start from now on, within milliseconds,
and those that were busy, as soon as they are not. systemd runs it
(tsugi-keep.service); it is a program of its own, since it must not be held to
the agent's system call filter, and needs no network.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			k, err := a.keeper(cmd.Context())
			if err != nil {
				return err
			}
			return k.Run(cmd.Context(), a.logger())
		},
	}
}

// keeper is for root: nobody else may look into all processes.
func (a *app) keeper(ctx context.Context) (*keeper.Keeper, error) {
	if os.Geteuid() != 0 {
		return nil, code.New("TS9660", "", "")
	}
	h, err := host.System{Dir: a.dir}.Host(ctx)
	if err != nil {
		return nil, err
	}
	if h.Off {
		return nil, code.New("TS9420", "", "")
	}
	return keeper.New(filepath.Join(a.dir, "processes"), keeper.Host{Engine: process.New(process.Config{}), Log: a.logger()}), nil
}

// processes runs f, prints its report as kind, and ends with 2 when a process
// does not have what it should have.
func (a *app) processes(ctx context.Context, limit time.Duration, kind string, f func(context.Context, *keeper.Keeper) (*keeper.Report, error)) error {
	ctx, cancel := a.within(ctx, limit)
	defer cancel()
	k, err := a.keeper(ctx)
	if err != nil {
		return err
	}
	r, err := f(ctx, k)
	if err != nil {
		return err
	}
	if err := a.Show(kind, r, func() string { return processesText(kind, r) }); err != nil {
		return err
	}
	if !r.Whole() {
		return command.Outcome(exitRefused)
	}
	return nil
}

// lookTime is for all processes of a machine.
const lookTime = time.Minute

func (a *app) processStatus(ctx context.Context) error {
	return a.processes(ctx, lookTime, "processes", func(ctx context.Context, k *keeper.Keeper) (*keeper.Report, error) {
		return k.Status(ctx)
	})
}

func (a *app) applyProcesses(ctx context.Context, file []byte, local bool) error {
	return a.processes(ctx, changeTime, "processes-applied", func(ctx context.Context, k *keeper.Keeper) (*keeper.Report, error) {
		if !local {
			return nil, code.New("TS9424", "", "the index of a tier offers live patches of kernels only")
		}
		return k.Apply(ctx, file)
	})
}

func (a *app) revertProcesses(ctx context.Context, id string) error {
	return a.processes(ctx, changeTime, "processes-reverted", func(ctx context.Context, k *keeper.Keeper) (*keeper.Report, error) {
		return k.Revert(ctx, id)
	})
}

// mostLines is how many processes are listed of each file and standing.
const mostLines = 12

func processesText(kind string, r *keeper.Report) string {
	var b strings.Builder
	for _, p := range r.Patches {
		word := "is applied to"
		switch {
		case kind == "processes-reverted" || p.Out:
			word = "is taken out of"
		case p.By != "":
			word = "was replaced by " + p.By + " in"
		}
		mark := ui.Good("✓")
		if !r.Whole() {
			mark = ui.Warn("!")
		}
		b.WriteString(mark + " " + ui.Bold(p.ID) + " " + word + " " + strings.Join(p.Files, " ") + "\n")
		if len(p.CVEs) > 0 {
			b.WriteString(ui.Flow("  "+ui.Dim("fixes")+"  ", p.CVEs, " "))
		}
	}
	if len(r.Patches) == 0 {
		b.WriteString("no live patch of a library or program is applied\n")
	}
	if s := countsLine(r); s != "" {
		b.WriteString("  " + s + "\n")
	}
	if p := r.Pauses; p != nil {
		b.WriteString("  " + ui.Dim(fmt.Sprintf("pause: median %s, longest %s, of %s", micro(p.MedianUS), micro(p.MostUS), ui.Count(p.Processes, "process"))) + "\n")
	}
	b.WriteString(troubled(r))
	if len(r.Outdated) > 0 {
		b.WriteString("\n  " + ui.Count(len(r.Outdated), "process") + " still run with files that are not on the disk any more\n")
		var rows [][]string
		for _, o := range r.Outdated[:min(len(r.Outdated), mostLines)] {
			rows = append(rows, []string{fmt.Sprint(o.PID), o.Name, clip(strings.Join(o.Files, " "), 60)})
		}
		b.WriteString(ui.Indent(ui.Table([]string{"pid", "program", "files"}, rows, 0), 2))
		b.WriteString(more(len(r.Outdated)))
	}
	return b.String()
}

func countsLine(r *keeper.Report) string {
	var words []string
	for _, s := range []keeper.Standing{keeper.Protected, keeper.Original, keeper.Pending, keeper.Unprotected, keeper.Unknown} {
		if n := r.Counts[s]; n > 0 {
			words = append(words, fmt.Sprintf("%d %s", n, s))
		}
	}
	if len(words) == 0 && len(r.Patches) > 0 {
		return "no process maps its files"
	}
	return strings.Join(words, ", ")
}

// troubled lists the processes that are not as they should be, with the reason,
// and no reason twice.
func troubled(r *keeper.Report) string {
	var b strings.Builder
	var rows [][]string
	count := 0
	told := map[code.Code]bool{}
	var problems []string
	for _, p := range slices.SortedStableFunc(slices.Values(r.Processes), func(a, b keeper.Process) int { return cmp.Compare(a.Standing, b.Standing) }) {
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
		if count++; count <= mostLines {
			rows = append(rows, []string{fmt.Sprint(p.PID), p.Name, string(p.Standing), p.File, clip(why, 60)})
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

func more(n int) string {
	if n <= mostLines {
		return ""
	}
	return fmt.Sprintf("  and %d more (--json has all)\n", n-mostLines)
}

func micro(us int64) string { return fmt.Sprintf("%.2f ms", float64(us)/1000) }
