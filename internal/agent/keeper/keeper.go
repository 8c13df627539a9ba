// SPDX-License-Identifier: Apache-2.0

// Package keeper keeps live patches of libraries and programs in all processes
// of a machine: in those that run when a live patch is applied, and in those
// that start later. It remembers what was applied in a directory of files, and
// looks up nothing else: how a process stands is read from the process.
//
// What happens in processes is package process's; the keeper has it behind the
// interface Engine. Several programs may have a Keeper of one directory: what
// changes it is done under a lock of the directory.
package keeper

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// Standing is how a process stands to a live patch that it should have.
type Standing string

// The standings.
const (
	Protected   Standing = "protected"   // its new code is in charge
	Pending     Standing = "pending"     // not yet; it is tried again
	Unprotected Standing = "unprotected" // it can't be; a restart helps
	Original    Standing = "original"    // after a revert: nothing of it is in charge
	Ready       Standing = "ready"       // nothing is in its way; only Plan says so
	Unknown     Standing = "unknown"     // nobody may look into it, so it may not map the file at all
)

// Process is a process that maps a file of a live patch.
type Process struct {
	PID      int      `json:"pid"`
	Name     string   `json:"name"`     // of the program, as the process says
	File     string   `json:"file"`     // that is patched: "libssl.so.3"
	BuildID  string   `json:"build_id"` // of it
	Patch    string   `json:"patch"`    // id
	Standing Standing `json:"standing"`
	// PauseUS is how long all its threads stood still, in the last try that this
	// command or keeper made; 0: none was made.
	PauseUS int64        `json:"pause_us,omitempty"`
	Tries   int          `json:"tries,omitempty"`
	Problem *api.Problem `json:"problem,omitempty"` // why it is not protected
	// Since is when tsugi keep first found it pending, Next when it tries again,
	// in milliseconds since 1970; 0: not known.
	Since int64 `json:"since,omitempty"`
	Next  int64 `json:"next,omitempty"`

	start   uint64 // with PID, what tells it from a later one
	program uint64 // what tells its program's run from the next one, as proc.Finding has it
	held    bool   // it was not tried in this pass: its time has not come
}

func (p Process) id() proc.ID { return proc.ID{PID: p.PID, Start: p.start} }

// Outdated is a process that still maps a file that is not on the disk any
// more, as a package was upgraded or removed under it.
type Outdated struct {
	PID   int      `json:"pid"`
	Name  string   `json:"name"`
	Files []string `json:"files"` // paths, in order

	builds []string // build-ids of Files; "" where a file has none
}

// Report is how the processes of this machine stand.
type Report struct {
	Patches   []Patch    `json:"patches"`
	Processes []Process  `json:"processes"` // by file and pid
	Outdated  []Outdated `json:"outdated,omitempty"`
	// Counts are of processes: one that maps several files counts once for each
	// live patch, by what is worst.
	Counts map[Standing]int `json:"counts"`
	// Pauses sum up those of Processes that were stopped.
	Pauses *Pauses `json:"pauses,omitempty"`
	TookMS int64   `json:"took_ms"`
}

// Pauses are times in which a process stood still, in microseconds.
type Pauses struct {
	Processes int   `json:"processes"`
	MedianUS  int64 `json:"median_us"`
	MostUS    int64 `json:"most_us"`
}

// Want is what an engine brings about: a live patch is in all processes that map
// its files, or in none.
type Want struct {
	Patch string // id
	Files []*splice.File
	Out   bool
	// Only are the processes that it is for, nil for all.
	Only []proc.ID
	// Except are those that another one is for.
	Except []proc.ID

	// held says how a process stands that is not to be tried in this pass.
	held func(f proc.Finding) []Process
}

// covers reports whether w is for a process.
func (w Want) covers(id proc.ID) bool {
	return (w.Only == nil || slices.Contains(w.Only, id)) && !slices.Contains(w.Except, id)
}

// Engine looks at processes and changes them.
type Engine interface {
	// Bring brings every process, or those of pids, to what is wanted, in that
	// order, and says how each stands that maps one of the files, or had what it
	// shall not have. A live patch replaces what another put into the same file.
	// An error is about all of them.
	Bring(ctx context.Context, want []Want, pids ...int) ([]Process, error)
	// Look says how they stand, and changes nothing.
	Look(ctx context.Context, want []Want) ([]Process, []Outdated, error)
	// Watch calls each for processes that map one of the files from now on, until
	// ctx ends. It may miss some, and tell others that do not.
	Watch(ctx context.Context, want []Want, each func(pid int)) error
}

// Keeper keeps the live patches of one directory.
type Keeper struct {
	dir    directory
	engine Engine
	now    func() time.Time
	book   *book  // nil: this one does not run
	waits  *waits // nil: the same

	mu     sync.Mutex // of what follows
	loaded *loaded
}

// loaded is what the directory held, since reading and checking it for each
// process that starts would be too much.
type loaded struct {
	changed, at time.Time
	patches     []Patch
	want        []Want
}

// New makes a Keeper of a directory, which it makes when it needs it.
func New(dir string, engine Engine) *Keeper {
	return &Keeper{dir: directory{dir}, engine: engine, now: time.Now}
}

// load is what the directory holds.
func (k *Keeper) load() ([]Patch, []Want, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	// A change that comes right behind another may have the same time.
	const grain = 100 * time.Millisecond
	changed, now := k.dir.changed(), time.Now()
	if l := k.loaded; l != nil && l.changed.Equal(changed) && l.at.Sub(changed) > grain {
		return l.patches, l.want, nil
	}
	patches, want, err := k.dir.load()
	if err != nil {
		return patches, want, err // it may be another time
	}
	k.loaded = &loaded{changed, now, patches, want}
	return patches, want, nil
}

// Status says how all processes stand.
func (k *Keeper) Status(ctx context.Context) (*Report, error) {
	began := k.now()
	patches, want, err := k.load()
	if err != nil {
		return nil, err
	}
	r := &Report{Patches: patches}
	if r.Processes, r.Outdated, err = k.engine.Look(ctx, want); err != nil {
		return nil, err
	}
	k.explain(r.Processes)
	return k.sum(r, began), nil
}

// explain says of processes that are pending what the keeper that runs has met,
// and when it tries again.
func (k *Keeper) explain(ps []Process) {
	if runs, err := k.Running(); err != nil || !runs {
		return // what it has written is of another time
	}
	account, _, err := k.Told(time.Time{})
	if err != nil || account == nil {
		return
	}
	type key struct {
		id    proc.ID
		patch string
	}
	met := map[key]Wait{}
	for _, p := range account.Patches {
		for _, w := range p.Waits {
			met[key{proc.ID{PID: w.PID, Start: w.Start}, p.ID}] = w
		}
	}
	for i := range ps {
		if w, ok := met[key{ps[i].id(), ps[i].Patch}]; ok && ps[i].Standing == Pending {
			ps[i].Since, ps[i].Next, ps[i].Problem = w.Since, w.Next, &w.Problem
		}
	}
}

// sum fills in what follows from the processes.
func (k *Keeper) sum(r *Report, began time.Time) *Report {
	if r.Processes == nil {
		r.Processes = []Process{}
	}
	order.Sort(r.Processes, func(a, b Process) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.PID, b.PID))
	})
	type one struct {
		id    proc.ID
		patch string
	}
	worst := map[one]Standing{}
	pause := map[proc.ID]int64{}
	for _, p := range r.Processes {
		k := one{p.id(), p.Patch}
		if was, ok := worst[k]; !ok || worse(p.Standing, was) {
			worst[k] = p.Standing
		}
		if p.PauseUS > 0 {
			pause[k.id] = max(pause[k.id], p.PauseUS)
		}
	}
	r.Counts = map[Standing]int{}
	for _, s := range worst {
		r.Counts[s]++
	}
	pauses := slices.Collect(maps.Values(pause))
	if n := len(pauses); n > 0 {
		slices.Sort(pauses)
		r.Pauses = &Pauses{n, pauses[n/2], pauses[n-1]}
	}
	r.TookMS = k.now().Sub(began).Milliseconds()
	return r
}

// worse reports whether a process is rather a than b.
func worse(a, b Standing) bool {
	order := []Standing{Protected, Original, Ready, Unknown, Pending, Unprotected}
	return slices.Index(order, a) > slices.Index(order, b)
}

// Whole reports whether every process has what it should have.
func (r *Report) Whole() bool {
	return r.Counts[Pending]+r.Counts[Unprotected] == 0
}
