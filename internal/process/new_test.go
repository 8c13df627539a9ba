// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/proc"
	watcher "github.com/tsugi-project/tsugi/internal/process/watch"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// TestNewProcess patches processes as they start: the watcher tells of them,
// the engine waits for their loader.
func TestNewProcess(t *testing.T) {
	v2, _ := patches(t)
	ctx, cancel := context.WithCancel(t.Context())
	w, err := watcher.Start(ctx, watcher.Options{Rescan: time.Hour, Wanted: func(id string) bool {
		return slices.ContainsFunc(v2.Files, func(f *splice.File) bool { return f.BuildID == id })
	}})
	qt.Assert(t, qt.IsNil(err))
	for _, s := range w.Sources() {
		if s.Source == watcher.Exec && !s.Works {
			cancel()
			need.Allowed(t, s.Problem)
		}
	}
	type done struct {
		pid int
		at  time.Time
		r   Result
	}
	patched := make(chan done, 1000)
	e := engine(t)
	over := make(chan struct{})
	go func() {
		defer close(over)
		for event := range w.Events() {
			p, err := proc.OpenID(ctx, event.ID)
			if err != nil {
				continue // it has ended
			}
			if r, err := e.Apply(ctx, p, v2, Options{Budget: time.Minute}); err == nil {
				patched <- done{event.ID.PID, time.Now(), r}
			}
			p.Close()
		}
	}()
	defer func() { cancel(); <-over }()
	var took []time.Duration
	for range 10 {
		began := time.Now()
		g := start(t, filepath.Join(fixtures.dir, "program"))
		limit := time.After(time.Minute)
		for found := false; !found; {
			select {
			case d := <-patched:
				if found = d.pid == g.cmd.Process.Pid; found {
					qt.Assert(t, qt.Equals(d.r.State, Applied), qt.Commentf("%v", d.r.Reason))
					took = append(took, d.at.Sub(began))
				}
			case <-limit:
				t.Fatal("the new process was not patched")
			}
		}
		qt.Assert(t, qt.Equals(g.ask("v"), "201 202"))
		g.stop()
	}
	slices.Sort(took)
	t.Logf("from fork and exec to the patch: median %v, longest %v", took[len(took)/2], took[len(took)-1])
}
