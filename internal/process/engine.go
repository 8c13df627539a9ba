// SPDX-License-Identifier: Apache-2.0

package process

import (
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// Engine patches processes. One serves a whole program; all its methods may be
// called from many goroutines, also for the same process.
type Engine struct {
	config Config
	// step is told each step that has just been taken, for tests that kill the
	// patcher there.
	step    func(name string)
	tables  tableCache
	special specialCache
	// rooms are what windows work in.
	rooms sync.Pool
}

// Config is what an Engine works with. The zero value is the usual.
type Config struct {
	// Locks is the directory of the locks that keep two patchers from working
	// on one process, "" for proc.LockDir.
	Locks string
	// Ptrace is how processes are stopped.
	Ptrace ptrace.Options
}

// New makes an Engine.
func New(c Config) *Engine {
	if c.Locks == "" {
		c.Locks = proc.LockDir
	}
	return &Engine{config: c, step: func(string) {}}
}

// Patch is one live patch: what goes into the processes that map some ELF files.
type Patch struct {
	ID    string // name and version, as people know it; up to 256 bytes
	Files []*splice.File
}

// Options say how hard to try.
type Options struct {
	// Budget is for how long to try again while threads are in the way. 0 is
	// one try.
	Budget time.Duration
	// Share is the most of the time that the process may be stopped by tries,
	// after the first few: 0 means 0.01.
	Share float64
	// Timeout bounds the work at one process, waiting included; 0 is Budget and
	// a minute.
	Timeout time.Duration
	// Workers is how many processes are worked at where there are many: 0 means one
	// for each processor. More would wait for each other with processes stopped.
	Workers int

	tracers *ptrace.Tracers // nil for some of its own
	ptrace  ptrace.Options  // the engine's, for this process
}

// State is what has become of a process.
type State string

// The states of a process.
const (
	// Applied: every object that the patch is for is patched with it.
	Applied State = "applied"
	// Reverted: nothing of what was to be taken out is in effect any more.
	Reverted State = "reverted"
	// NotAffected: the process maps none of the files, or nothing of ours was
	// in it to be taken out or healed.
	NotAffected State = "not-affected"
	// Healed: what a killed patcher left was brought to an end.
	Healed State = "healed"
	// Ended: there is no such process any more, or it runs another program.
	Ended State = "ended"
	// Pending: it could not be done now and may be done later.
	Pending State = "pending"
	// Unprotected: it can't be done in this process as it is.
	Unprotected State = "unprotected"
)

// Result is what was done to one process.
type Result struct {
	Process proc.ID       `json:"process"`
	State   State         `json:"state"`
	Reason  *code.Problem `json:"reason,omitempty"` // of Pending and Unprotected
	// Pause is the longest time for which threads were stopped at a stretch,
	// Stopped all such times together.
	Pause   time.Duration `json:"pause"`
	Stopped time.Duration `json:"stopped"`
	Tries   int           `json:"tries"` // stops that were meant to write
	Objects []Installed   `json:"objects,omitempty"`
}

// Installed is a patch as it lies in a process, at one object.
type Installed struct {
	Patch     string       `json:"patch"`
	BuildID   string       `json:"build_id"`
	Name      string       `json:"name"`
	Path      string       `json:"path"` // what the process says it was mapped from
	Bias      uint64       `json:"bias"`
	Digest    string       `json:"digest"` // of the splice.File
	State     JournalState `json:"state"`
	Functions int          `json:"functions"` // that lead into the patch
	Area      splice.Range `json:"area"`
}

// Selection says which patches are meant. The zero value means all of ours.
type Selection struct {
	Patch    string   // its ID, "" for any
	BuildIDs []string // of the objects, none for any
}
