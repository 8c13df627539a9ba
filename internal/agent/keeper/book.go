// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"cmp"
	"encoding/json"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Account is what a keeper that runs writes down for the agent, after every pass
// and when something happens. The agent has no other way to know of processes:
// its own service is held to a system call filter.
type Account struct {
	Passed  int64        `json:"passed"` // end of the last pass over all processes
	Patches []Standings  `json:"patches"`
	Mapped  []Population `json:"mapped"` // of packages that the agent asked about
	// Sought is the digest of what it asked, for Mapped.
	Sought string `json:"sought,omitempty"`
	// Stale is nil until all processes were looked at.
	Stale   *Stale  `json:"stale,omitempty"`
	Crashes []Crash `json:"crashes,omitempty"`
	// Deaf is why crashes can't be seen.
	Deaf *api.Problem `json:"deaf,omitempty"`
}

// Standings count the processes that map a file of a live patch.
type Standings struct {
	ID      string `json:"id"`
	Applied int64  `json:"applied"` // as Patch has it
	// Out: it is being taken out, and Pending still have it.
	Out       bool                `json:"out,omitempty"`
	Processes api.Processes       `json:"processes"`
	Reasons   []api.ProcessReason `json:"reasons,omitempty"` // the most frequent first
	Waits     []Wait              `json:"waits,omitempty"`   // the longest first
}

// Wait is a process that is pending, and when it is tried again.
type Wait struct {
	PID     int         `json:"pid"`
	Start   uint64      `json:"start"`
	Program string      `json:"program"`
	Problem api.Problem `json:"problem"`
	Since   int64       `json:"since"`
	Next    int64       `json:"next"`
}

// Population is how many processes map a file of a package.
type Population struct {
	ID        string `json:"id"`
	Processes int    `json:"processes"`
}

// Stale is what processes run and the disk has no more. Packages count those of
// packages that the agent asked about.
type Stale struct {
	api.Stale
	Packages []Population `json:"packages,omitempty"`
}

// Crash is the end of a process that a live patch was in, by a fault.
type Crash struct {
	Patch   string `json:"patch"`
	Applied int64  `json:"applied"` // as Patch has it
	Program string `json:"program"`
	PID     int    `json:"pid"`
	Signal  string `json:"signal"`
	At      int64  `json:"at"`
	AfterMS int64  `json:"after_ms"` // since it came into this process
	// Late: the process ran when the live patch was applied, and got it long after.
	Late bool `json:"late,omitempty"`
}

const (
	mostReasons = 8
	mostWaits   = 256 // of a live patch that are written down
	mostCrashes = 64  // that are remembered
	lateAfter   = time.Minute
	oldFault    = time.Hour // a program that crashed without a live patch in this time says nothing by crashing
)

// book is what a keeper that runs knows for its account. A nil one takes no notes.
type book struct {
	path string
	log  *slog.Logger
	now  func() time.Time
	// started tells when a process started.
	started func(proc.ID) time.Time

	mu      sync.Mutex
	account Account
	begun   map[string]int64     // Applied of what is in effect, by id
	treated map[int]treated      // by pid
	faulty  map[string]time.Time // programs that crash by themselves
}

// treated is a process with live patches in it.
type treated struct {
	id      proc.ID
	name    string
	patches map[string]time.Time // when each came into it
	fresh   bool                 // as it started
}

// seen notes processes that got live patches as they started.
func (b *book) seen(ps []Process) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, p := range ps {
		b.treat(p, true)
	}
}

// treat notes that a process has a live patch, from the first time on that it is
// seen with it. The caller holds the lock.
func (b *book) treat(p Process, fresh bool) {
	if p.Standing != Protected {
		return
	}
	t := b.treated[p.PID]
	if t.id != p.id() {
		t = treated{id: p.id(), fresh: fresh, patches: map[string]time.Time{}}
	}
	t.name = cmp.Or(p.Name, t.name)
	if t.patches[p.Patch].IsZero() {
		t.patches[p.Patch] = b.now()
	}
	b.treated[p.PID] = t
}

// passed notes how all processes stand after a pass.
func (b *book) passed(r *Report) {
	if b == nil {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.account.Passed = b.now().UnixMilli()
	b.account.Patches = standings(r)
	b.begun = map[string]int64{}
	for _, s := range b.account.Patches {
		if !s.Out {
			b.begun[s.ID] = s.Applied
		}
	}
	old := b.treated
	b.treated = map[int]treated{}
	for _, p := range r.Processes {
		if t, ok := old[p.PID]; ok && t.id == p.id() {
			b.treated[p.PID] = t
		}
		b.treat(p, false)
	}
	for _, t := range b.treated {
		maps.DeleteFunc(t.patches, func(id string, _ time.Time) bool { return b.begun[id] == 0 })
	}
	b.account.Crashes = slices.DeleteFunc(b.account.Crashes, func(c Crash) bool { return b.begun[c.Patch] != c.Applied })
	b.write()
}

// standings sum up a report by live patch. What is nowhere any more is left out.
func standings(r *Report) []Standings {
	out := []Standings{}
	for _, p := range r.Patches {
		worst := map[proc.ID]Process{}
		for _, x := range r.Processes {
			if was, ok := worst[x.id()]; x.Patch == p.ID && (!ok || worse(x.Standing, was.Standing)) {
				worst[x.id()] = x
			}
		}
		s := Standings{ID: p.ID, Applied: p.Applied, Out: !p.inEffect()}
		reasons := map[code.Code]*api.ProcessReason{}
		for _, x := range worst {
			switch x.Standing {
			case Protected:
				s.Processes.Protected++
			case Pending:
				s.Processes.Pending++
				s.wait(x)
			case Unprotected:
				s.Processes.Unprotected++
			}
			if x.Problem == nil || x.Standing != Pending && x.Standing != Unprotected {
				continue
			}
			one := reasons[x.Problem.Code]
			if one == nil {
				one = &api.ProcessReason{Problem: *x.Problem, Program: x.Name}
				reasons[x.Problem.Code] = one
			}
			one.Processes++
			if x.Name < one.Program {
				one.Problem, one.Program = *x.Problem, x.Name
			}
		}
		for _, one := range reasons {
			s.Reasons = append(s.Reasons, *one)
		}
		order.Sort(s.Reasons, func(x, y api.ProcessReason) int {
			return cmp.Or(-cmp.Compare(x.Processes, y.Processes), cmp.Compare(x.Problem.Code, y.Problem.Code))
		})
		s.Reasons = s.Reasons[:min(len(s.Reasons), mostReasons)]
		order.Sort(s.Waits, func(x, y Wait) int { return cmp.Or(cmp.Compare(x.Since, y.Since), cmp.Compare(x.PID, y.PID)) })
		s.Waits = s.Waits[:min(len(s.Waits), mostWaits)]
		if s.Out && s.Processes.Pending+s.Processes.Unprotected == 0 {
			continue
		}
		out = append(out, s)
	}
	return out
}

func (s *Standings) wait(x Process) {
	if x.Problem != nil && x.Next > 0 {
		s.Waits = append(s.Waits, Wait{x.PID, x.start, x.Name, *x.Problem, x.Since, x.Next})
	}
}

// counted notes how many processes map a file of each package.
func (b *book) counted(mapped map[string]int, sought string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.account.Mapped, b.account.Sought = populations(mapped), sought
	if b.account.Passed > 0 {
		b.write()
	}
}

// populations are counts, by the id of the package.
func populations(of map[string]int) []Population {
	out := []Population{}
	for _, id := range slices.Sorted(maps.Keys(of)) {
		out = append(out, Population{id, of[id]})
	}
	return out
}

// stale notes which processes run files that have been replaced.
func (b *book) stale(now *Stale) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if reflect.DeepEqual(b.account.Stale, now) {
		return
	}
	b.account.Stale = now
	if b.account.Passed > 0 {
		b.write()
	}
}

// deaf notes that crashes can't be seen.
func (b *book) deaf(why *api.Problem) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.account.Deaf = why
	if b.account.Passed > 0 {
		b.write()
	}
}

// crashed notes that a process ended by a fault. What it is called is name, as
// far as that can still be read, and id is whole then.
func (b *book) crashed(id proc.ID, name, signal string, at time.Time) {
	b.mu.Lock()
	defer b.mu.Unlock()
	t, ok := b.treated[id.PID]
	if ok && id.Start != 0 && t.id != id {
		ok = false // another process had this number
	}
	maps.DeleteFunc(b.faulty, func(_ string, last time.Time) bool { return at.Sub(last) > oldFault })
	if !ok || len(t.patches) == 0 {
		if name != "" && len(b.faulty) < 4096 {
			b.faulty[name] = at
		}
		return
	}
	delete(b.treated, id.PID)
	name = cmp.Or(name, t.name)
	if _, old := b.faulty[name]; old {
		return // it does so without a live patch as well
	}
	for patch, since := range t.patches {
		applied := b.begun[patch]
		if applied == 0 || len(b.account.Crashes) == mostCrashes {
			continue
		}
		begun := time.UnixMilli(applied)
		late := !t.fresh && since.Sub(begun) > lateAfter && b.started(t.id).Before(begun)
		b.account.Crashes = append(b.account.Crashes, Crash{
			Patch: patch, Applied: applied, Program: name, PID: id.PID, Signal: signal, At: at.UnixMilli(),
			AfterMS: max(at.Sub(since), 0).Milliseconds(), Late: late,
		})
	}
	b.write()
}

// write puts the account where the agent reads it. It needs not survive a loss of
// power: a keeper that begins makes a new one. The caller holds the lock.
func (b *book) write() {
	text, err := json.Marshal(b.account)
	if err == nil {
		tmp := b.path + ".new"
		if err = os.WriteFile(tmp, append(text, '\n'), 0o600); err == nil {
			err = os.Rename(tmp, b.path)
		}
	}
	if err != nil {
		b.log.Warn("what processes stand like is not told", "file", filepath.Base(b.path), "err", err)
	}
}
