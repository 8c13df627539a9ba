// SPDX-License-Identifier: Apache-2.0

package inside

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/watch"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// watching patches processes as they start.
type watching struct {
	mu    sync.Mutex
	found []Found
	at    map[int]time.Time // when it was patched
}

// watch begins; the answer tells the sources that work.
func (e *engine) watch(ctx context.Context, r Request, a *Answer) error {
	file, err := read(r.Patch)
	if err != nil {
		return err
	}
	o := watch.Options{Wanted: func(id string) bool { return id == file.BuildID }, Rescan: time.Hour}
	if r.File != "" {
		o.Files = []string{r.File}
	}
	w, err := watch.Start(ctx, o)
	if err != nil {
		return err
	}
	for _, s := range w.Sources() {
		a.Text += fmt.Sprintf("%s %v\n", s.Source, s.Works)
		if s.Problem != nil {
			a.Text += s.Problem.Error() + "\n"
		}
	}
	e.watching = &watching{at: map[int]time.Time{}}
	go e.follow(ctx, w, process.Patch{ID: r.Patch, Files: []*splice.File{file}})
	return nil
}

func (e *engine) follow(ctx context.Context, w *watch.Watcher, patch process.Patch) {
	for event := range w.Events() {
		p, err := proc.OpenID(ctx, event.ID)
		if err != nil {
			continue // it has ended
		}
		began := time.Now()
		r, err := e.Apply(ctx, p, patch, process.Options{Budget: 10 * time.Second})
		p.Close()
		if err != nil {
			continue
		}
		e.watching.mu.Lock()
		e.watching.found = append(e.watching.found, Found{PID: event.ID.PID, Source: event.Source.String(), Result: told(r, began)})
		e.watching.at[event.ID.PID] = time.Now()
		e.watching.mu.Unlock()
	}
}

// watched is what was done so far, and how long after the start of the process.
func (e *engine) watched() []Found {
	e.watching.mu.Lock()
	defer e.watching.mu.Unlock()
	for i := range e.watching.found {
		for _, p := range e.programs {
			if f := &e.watching.found[i]; p.cmd.Process.Pid == f.PID {
				f.After = e.watching.at[f.PID].Sub(p.began).Milliseconds()
			}
		}
	}
	return e.watching.found
}
