// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"cmp"
	"context"
	"log/slog"
	"runtime"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/watch"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// Host is the Engine of the processes of this machine.
type Host struct {
	Engine *process.Engine
	Log    *slog.Logger // nil: nothing is told
}

const (
	// budget is how long a busy process is tried again at once.
	budget = time.Second
	// rounds bound the search for processes that begin while others are changed.
	rounds = 5
)

// Bring changes processes.
func (h Host) Bring(ctx context.Context, want []Want, pids ...int) ([]Process, error) {
	var out []Process
	for _, w := range want {
		seen := map[proc.ID]bool{}
		// A child of a process that was not patched yet has to be found, too.
		for round := range rounds {
			ids, err := candidates(ctx, pids)
			if err != nil {
				return nil, err
			}
			ids = slices.DeleteFunc(ids, func(id proc.ID) bool { return seen[id] || !w.covers(id) })
			for _, id := range ids {
				seen[id] = true
			}
			if len(ids) == 0 {
				break
			}
			rows, err := h.bring(ctx, w, ids)
			if err != nil {
				return nil, err
			}
			if round == rounds-1 {
				unsettled(rows)
			}
			out = append(out, rows...)
			if len(rows) == 0 || len(pids) > 0 {
				break
			}
		}
	}
	return out, nil
}

// unsettled says of what was taken out in the last round that there may be more:
// a process may have begun since that has it.
func unsettled(rows []Process) {
	for i := range rows {
		if rows[i].Standing == Original {
			rows[i].Standing, rows[i].Problem = Pending, problemRow(code.New("TS9665", "", "it starts processes faster than they can be looked at"))
		}
	}
}

// candidates are the processes to look at.
func candidates(ctx context.Context, pids []int) ([]proc.ID, error) {
	if len(pids) == 0 {
		return proc.List(ctx)
	}
	var ids []proc.ID
	for _, pid := range pids {
		p, err := proc.Open(ctx, pid)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err != nil {
			continue // it has ended
		}
		ids = append(ids, p.ID())
		p.Close()
	}
	return ids, nil
}

// bring brings those of some processes that map a file of w to it.
func (h Host) bring(ctx context.Context, w Want, ids []proc.ID) ([]Process, error) {
	found, err := find(ctx, w.Files, ids)
	if err != nil {
		return nil, err
	}
	var out []Process
	var mine []proc.ID
	maps, program := map[proc.ID][]string{}, map[proc.ID]uint64{}
	for _, f := range found {
		if f.Problem != nil {
			out = append(out, row(w, nil, f.ID, Unknown, f.Problem))
			continue
		}
		if w.held != nil {
			if rows := w.held(f); rows != nil {
				out = append(out, rows...)
				continue
			}
		}
		mine = append(mine, f.ID)
		maps[f.ID], program[f.ID] = f.BuildIDs, f.Program
	}
	opt := process.Options{Budget: budget, Workers: runtime.NumCPU()}
	var results []process.Result
	if w.Out {
		results = h.Engine.RevertMany(ctx, mine, w.selection(), opt)
	} else {
		results, err = h.Engine.Many(ctx, mine, process.Patch{ID: w.Patch, Files: w.Files}, opt)
	}
	if err != nil || ctx.Err() != nil {
		return nil, cmp.Or(err, ctx.Err())
	}
	for _, r := range results {
		out = append(out, rows(w, r, maps[r.Process], program[r.Process])...)
	}
	names(ctx, out)
	return out, nil
}

// find looks which processes map one of the files. Programs that are linked
// statically map no library.
func find(ctx context.Context, files []*splice.File, ids []proc.ID) ([]proc.Finding, error) {
	wanted := map[string]bool{}
	for _, f := range files {
		wanted[f.BuildID] = true
	}
	found, err := proc.Find(ctx, ids, func(b string) bool { return wanted[b] }, proc.FindOptions{})
	return slices.DeleteFunc(found, func(f proc.Finding) bool { return f.Static }), err
}

// selection is what is taken out.
func (w Want) selection() process.Selection {
	sel := process.Selection{Patch: w.Patch}
	for _, f := range w.Files {
		sel.BuildIDs = append(sel.BuildIDs, f.BuildID)
	}
	return sel
}

func problemOf(err error) *code.Problem {
	return code.New("TS9661", "", "").With(err)
}

// rows tell a result for each file that the process maps.
func rows(w Want, r process.Result, maps []string, program uint64) []Process {
	s := Unprotected
	switch r.State {
	case process.NotAffected, process.Ended:
		return nil
	case process.Applied:
		s = Protected
	case process.Reverted:
		s = Original
	case process.Pending:
		s = Pending
	}
	var out []Process
	for _, f := range w.Files {
		if slices.Contains(maps, f.BuildID) {
			out = append(out, row(w, f, r.Process, s, r.Reason))
		}
	}
	for i := range out {
		out[i].PauseUS, out[i].Tries, out[i].program = r.Pause.Microseconds(), r.Tries, program
	}
	return out
}

func row(w Want, f *splice.File, id proc.ID, s Standing, why *code.Problem) Process {
	f = cmp.Or(f, w.Files[0])
	p := Process{PID: id.PID, File: f.Name, BuildID: f.BuildID, Patch: w.Patch, Standing: s, start: id.Start}
	if why != nil && s != Protected && s != Original {
		p.Problem = problemRow(why)
	}
	return p
}

func problemRow(p *code.Problem) *api.Problem {
	text := p.Why
	if p.Err != nil {
		text = strings.TrimPrefix(text+": "+p.Err.Error(), ": ")
	}
	return &api.Problem{Code: p.Code, What: p.What, Where: p.Where, Why: text, Fix: p.Fix}
}

// names fills in what the processes call themselves.
func names(ctx context.Context, ps []Process) {
	if len(ps) == 0 {
		return
	}
	all, err := proc.Scan(ctx)
	if err != nil {
		return // a name is for people only
	}
	of := map[proc.ID]string{}
	for _, e := range all {
		of[e.ID] = e.Name
	}
	for i := range ps {
		ps[i].Name = of[ps[i].id()]
	}
}

// Watch hears of new processes.
func (h Host) Watch(ctx context.Context, want []Want, each func(pid int)) error {
	wanted := map[string]bool{}
	for _, w := range want {
		for _, f := range w.Files {
			wanted[f.BuildID] = true
		}
	}
	w, err := watch.Start(ctx, watch.Options{Wanted: func(b string) bool { return wanted[b] }})
	if err != nil {
		return err
	}
	for _, s := range w.Sources() {
		if !s.Works && h.Log != nil {
			h.Log.Warn("new processes are found late", "source", s.Source, "err", s.Problem)
		}
	}
	for e := range w.Events() {
		each(e.ID.PID)
	}
	return ctx.Err()
}

// Mapped looks at all processes.
func (h Host) Mapped(ctx context.Context, wanted func(buildID string) bool) ([][]string, error) {
	ids, err := proc.List(ctx)
	if err != nil {
		return nil, err
	}
	// One worker: nobody waits for this.
	found, err := proc.Find(ctx, ids, wanted, proc.FindOptions{Workers: 1, Each: time.Second})
	var out [][]string
	for _, f := range found {
		if len(f.BuildIDs) > 0 {
			out = append(out, f.BuildIDs)
		}
	}
	return out, err
}

// Crashes tells of processes that end by a fault.
func (h Host) Crashes(ctx context.Context, each func(id proc.ID, name, signal string, at time.Time)) error {
	return watch.Crashes(ctx, func(c watch.Crash) {
		id, name := proc.ID{PID: c.PID}, ""
		if e, err := proc.Lookup(c.PID); err == nil {
			id, name = e.ID, e.Name
		}
		each(id, name, unix.SignalName(c.Signal), c.At)
	})
}

// Started tells when a process started, to a hundredth of a second.
func (h Host) Started(id proc.ID) time.Time {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Time{}
	}
	boot := time.Now().Add(-time.Duration(ts.Nano()))
	return boot.Add(time.Duration(id.Start) * (time.Second / 100))
}
