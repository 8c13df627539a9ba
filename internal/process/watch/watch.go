// SPDX-License-Identifier: Apache-2.0

// Package watch tells which processes run code of ELF files that are wanted:
// those that run already, and new ones within milliseconds of their start. It
// looks, and changes nothing in them.
//
// # Sources
//
// The kernel's proc connector tells of each fork and exec. A program maps its
// libraries only some time after its exec, so such a process is looked at again
// and again for its first second, with growing distance. fanotify tells when
// one of the wanted files is opened: that finds libraries which are loaded
// later. And all processes are looked at every now and then, which also finds
// what the other two have missed, or what they can't tell here; [Watcher.Sources]
// says which of them work.
//
// # Storms
//
// A fork bomb, a build with a thousand compilers a second, or a program that
// opens a file in a loop must neither hide other processes nor cost us more
// than a part of a processor. Events of one process are one task; tasks are
// taken from the users in turn, with a limit of looks in a second for each and
// for all; what does not fit is left to the next look at all processes. What is
// told goes out in turn of users too.
package watch

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Source is what made the watcher look at a process.
type Source int

// The sources.
const (
	Exec   Source = iota + 1 // it has executed a program
	Fork                     // it was forked, and has not executed anything since
	Mapped                   // it has opened a wanted file
	Rescan                   // it was found by looking at all

	lost Source = -1 // events before this one were lost
)

func (s Source) String() string {
	switch s {
	case Exec:
		return "exec"
	case Fork:
		return "fork"
	case Mapped:
		return "open"
	case Rescan:
		return "scan"
	}
	return "lost"
}

// Event is one process that maps wanted files to run code of them. Its loader
// may still be at work on them.
type Event struct {
	ID       proc.ID
	BuildIDs []string // the wanted ones of all that it maps now, in order
	Source   Source
	At       time.Time // when the kernel told, or the look began
}

// Options say what is wanted.
type Options struct {
	// Wanted tells whether a build-id is wanted. It must be there, may be called
	// by several goroutines, and always gives the same answers.
	Wanted func(buildID string) bool
	// Files are further files to watch for being opened. The files of processes
	// that were told are watched without being named.
	Files []string
	// Rescan is how often all processes are looked at. 0 is every 30 seconds,
	// and every 5 seconds where the proc connector does not work. It is less
	// often where a look at all takes more than a tenth of that.
	Rescan time.Duration
	// without are sources to do without, in tests.
	without []Source
}

// SourceState is whether a source works.
type SourceState struct {
	Source  Source // Exec for the proc connector, Mapped for fanotify, Rescan
	Works   bool
	Problem *code.Problem // TS9650, TS9651: why it does not
}

// Watcher watches until the context of its start ends.
type Watcher struct {
	opt        Options
	events     chan Event
	happenings chan happening
	results    chan result

	connector *connector
	opens     *opens
	marks     marks

	mu     sync.Mutex
	states []SourceState
}

// happening is what a source of the kernel has told.
type happening struct {
	what Source
	pid  int
	at   time.Time
}

// Start begins to watch. That a source does not work is no error: see
// [Watcher.Sources].
func Start(ctx context.Context, opt Options) (*Watcher, error) {
	if opt.Wanted == nil {
		return nil, errors.New("watch: nothing is wanted")
	}
	w := &Watcher{
		opt: opt, events: make(chan Event), happenings: make(chan happening, 4096),
		results: make(chan result),
	}
	var err error
	c, o := SourceState{Source: Exec}, SourceState{Source: Mapped}
	if slices.Contains(opt.without, Exec) {
		err = errors.New("it is turned off")
	} else {
		w.connector, err = openConnector(ctx, onlyProcesses())
	}
	if c.Works = err == nil; err != nil {
		c.Problem = code.New("TS9650", "", "").With(err)
	}
	if slices.Contains(opt.without, Mapped) {
		err = errors.New("it is turned off")
	} else {
		w.opens, err = openOpens()
	}
	for _, path := range opt.Files {
		if err == nil {
			err = w.opens.mark(path)
		}
	}
	if o.Works = w.opens != nil; err != nil {
		o.Problem = code.New("TS9651", "", "").With(err)
	}
	w.states = []SourceState{c, o, {Source: Rescan, Works: true}}
	go w.run(ctx)
	return w, nil
}

// Events gives what is found. It is closed when the context of the start has
// ended. Each run of a program comes once, rarely twice, and again when it maps
// more of the wanted files; a reader that is slow loses none that still run.
func (w *Watcher) Events() <-chan Event { return w.events }

// Sources tells which sources work now.
func (w *Watcher) Sources() []SourceState {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.states)
}

// fails notes that a source does not work any more.
func (w *Watcher) fails(s Source, err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for i := range w.states {
		if w.states[i].Source == s {
			c := code.Code("TS9650")
			if s == Mapped {
				c = "TS9651"
			}
			w.states[i].Works = false
			w.states[i].Problem = code.New(c, "", "").With(err)
		}
	}
}

// interval is how often all processes are looked at.
func (w *Watcher) interval() time.Duration {
	if w.opt.Rescan > 0 {
		return w.opt.Rescan
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.states[0].Works {
		return 30 * time.Second
	}
	return 5 * time.Second
}
