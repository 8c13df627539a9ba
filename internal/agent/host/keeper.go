// SPDX-License-Identifier: Apache-2.0

package host

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/agent/keeper"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// ProcessesDir is where the keeper has its live patches, below the state's
// directory.
const ProcessesDir = "processes"

// enabledUnit is there when systemd starts the keeper with this machine.
const enabledUnit = "etc/systemd/system/multi-user.target.wants/tsugi-keep.service"

// quiet is how long a keeper may say nothing of a pass. It makes one twice a
// minute; with thousands of processes a pass may take longer.
const quiet = 10 * time.Minute

// Keeper is the files that the agent shares with tsugi keep.
type Keeper struct {
	k    *keeper.Keeper
	root string

	mu    sync.Mutex
	began time.Time // when the keeper was first seen to run without a word
	at    time.Time // of account
	last  *keeper.Account

	sought string // see KeeperStatus.Counted
}

// NewKeeper has the keeper of a state's directory.
func NewKeeper(dir string) *Keeper {
	return &Keeper{k: keeper.New(filepath.Join(dir, ProcessesDir), nil), root: "/"}
}

// Seek says which files the processes are counted of.
func (k *Keeper) Seek(_ context.Context, files map[string][]string) error {
	k.mu.Lock()
	k.sought = keeper.Sought(files)
	k.mu.Unlock()
	return k.k.Seek(files)
}

// Give hands a live patch over.
func (k *Keeper) Give(ctx context.Context, file []byte, back bool) (int64, error) {
	p, err := k.k.Give(ctx, file, back)
	return p.Applied, err
}

// TakeBack has it taken out.
func (k *Keeper) TakeBack(ctx context.Context, id string) error { return k.k.TakeBack(ctx, id) }

// Kept are the live patches that all processes shall have.
func (k *Keeper) Kept(context.Context) ([]agent.Kept, error) {
	all, err := k.k.Kept()
	var out []agent.Kept
	for _, p := range all {
		out = append(out, agent.Kept{ID: p.ID, Target: p.Target, Stamp: p.Applied, Given: p.Given})
	}
	return out, err
}

// Status reads what the keeper has written, if that is new.
func (k *Keeper) Status(context.Context) (*agent.KeeperStatus, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	runs, err := k.k.Running()
	if err != nil {
		return nil, err
	}
	now, at, err := k.k.Told(k.at)
	switch {
	case err != nil:
		return nil, err
	case now != nil:
		k.last, k.at = now, at
	case at.IsZero():
		k.last, k.at = nil, time.Time{}
	}
	out := told(k.last)
	out.Counted = k.last != nil && k.last.Sought == k.sought
	switch {
	case !runs:
		out.Problem = code.New("TS9440", "", "")
		_, err := os.Lstat(filepath.Join(k.root, enabledUnit))
		if out.Absent = err != nil; out.Absent {
			clear(out.Mapped) // of another time
		}
		k.began = time.Time{}
	case k.last == nil && k.began.IsZero():
		k.began = time.Now()
	case k.last != nil:
		k.began = time.UnixMilli(k.last.Passed)
	}
	if since := time.Since(k.began); runs && since > quiet {
		out.Problem = code.New("TS9440", "", fmt.Sprintf("it runs, and has been through no processes for %s", since.Round(time.Minute))).
			WithFix("journalctl -u tsugi-keep says what holds it up; start it anew: systemctl restart tsugi-keep")
	}
	return out, nil
}

// told is an account in the agent's words.
func told(a *keeper.Account) *agent.KeeperStatus {
	out := &agent.KeeperStatus{Mapped: map[string]int{}, Reach: map[string]agent.Reach{}}
	if a == nil {
		return out
	}
	for _, m := range a.Mapped {
		out.Mapped[m.ID] = m.Processes
	}
	if s := a.Stale; s != nil {
		out.Stale, out.StaleOf = &s.Stale, map[string]int{}
		for _, p := range s.Packages {
			out.StaleOf[p.ID] = p.Processes
		}
	}
	for _, s := range a.Patches {
		r := agent.Reach{Stamp: s.Applied, Out: s.Out, Processes: s.Processes, Reasons: s.Reasons}
		for _, w := range s.Waits {
			r.Waits = append(r.Waits, agent.ProcessWait{PID: w.PID, Program: w.Program, Problem: w.Problem, Since: w.Since, Next: w.Next})
		}
		out.Reach[s.ID] = r
	}
	for _, c := range a.Crashes {
		out.Crashes = append(out.Crashes, agent.Crash{
			Patch: c.Patch, Program: c.Program, PID: c.PID, Signal: c.Signal, At: c.At, After: c.AfterMS, Late: c.Late,
		})
	}
	if d := a.Deaf; d != nil {
		out.Deaf = problem(d)
	}
	return out
}

func problem(p *api.Problem) *code.Problem {
	return &code.Problem{Code: p.Code, What: p.What, Where: p.Where, Why: p.Why, Fix: p.Fix}
}
