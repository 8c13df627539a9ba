// SPDX-License-Identifier: Apache-2.0

package watch

import (
	"context"
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// patience is how long one process may keep a look waiting. One that takes
// longer is looked at again later.
const patience = 250 * time.Millisecond

// result is what a look has brought: at one process, or at all of them.
type result struct {
	task  *task
	began time.Time
	found []proc.Finding
	gone  bool // the process has ended
	all   bool
	err   error
}

// run is the loop that owns all decisions; looks and sources are goroutines
// beside it, and end before it does.
func (w *Watcher) run(ctx context.Context) {
	ctx, cancel := context.WithCancel(ctx)
	var beside sync.WaitGroup
	defer func() {
		cancel()
		if w.connector != nil {
			w.connector.close()
		}
		if w.opens != nil {
			w.opens.close()
		}
		beside.Wait()
		close(w.events)
	}()
	w.listen(ctx, &beside)

	var (
		s        = newSchedule()
		out      outgoing
		known    = told{}
		round    = 1
		scanning bool
		again    bool // another look at all was asked for while one is under way
		nextScan = time.Now()
		lastEnd  time.Time
		lastTook time.Duration
		timer    = time.NewTimer(0)
		// Something was missed while a look at all was under way; at the first one
		// it is what began before us and has not loaded its libraries yet.
		missed = true
		soon   = func() { // a look at all, but not all the time
			missed = scanning
			if at := lastEnd.Add(max(time.Second, 10*lastTook)); at.Before(nextScan) {
				nextScan = at
			}
		}
	)
	defer timer.Stop()
	for {
		now := time.Now()
		wait := nothingPending
		for {
			t, pause := s.next(now)
			if t == nil {
				wait = pause
				break
			}
			beside.Go(func() { w.deliver(ctx, w.look(ctx, t.pid, t)) })
		}
		if s.overflow {
			s.overflow = false
			soon()
		}
		if !scanning {
			if d := nextScan.Sub(now); d > 0 {
				wait = min(wait, d)
			} else {
				scanning = true
				round++
				beside.Go(func() { w.deliver(ctx, w.scan(ctx)) })
			}
		}
		timer.Reset(min(wait, time.Hour))

		var events chan Event
		head, ok := out.head()
		if ok {
			events = w.events
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case events <- head:
			out.pop()
		case h := <-w.happenings:
			if h.what == lost {
				soon()
			} else if uid, ok := owner(h.pid); ok {
				if h.what == Exec {
					delete(known, h.pid)
				}
				s.add(h, uid)
			}
		case <-w.ask:
			// A look that is under way may judge by what was wanted before.
			clear(known)
			nextScan, again = now, scanning
		case r := <-w.results:
			end := time.Now()
			source := Rescan
			if r.task != nil {
				source = r.task.source
				s.done(r.task, r.began, end, !r.gone)
			}
			for _, f := range r.found {
				at := r.began
				if r.task != nil {
					at = r.task.at
				}
				if len(f.BuildIDs) > 0 && known.news(f, round) && !out.push(f.UID, Event{f.ID, f.BuildIDs, source, at}) {
					delete(known, f.ID.PID)
				}
			}
			if r.all {
				scanning = false
				lastEnd, lastTook = end, end.Sub(r.began)
				if r.err == nil {
					known.forget(round)
				}
				nextScan = end.Add(max(w.interval(), 10*lastTook))
				if missed {
					soon()
				}
				if again {
					again, nextScan = false, end
					clear(known)
				}
			}
		}
	}
}

// listen starts what reads the kernel's events.
func (w *Watcher) listen(ctx context.Context, beside *sync.WaitGroup) {
	tell := func(h happening) {
		select {
		case w.happenings <- h:
		case <-ctx.Done():
		}
	}
	if w.connector != nil {
		beside.Go(func() {
			for {
				h, err := w.connector.next()
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					w.fails(Exec, err)
					tell(happening{what: lost})
					return
				}
				tell(h)
			}
		})
	}
	if w.opens != nil {
		beside.Go(func() {
			buf := make([]byte, 64<<10)
			for {
				err := w.opens.next(buf, tell)
				if ctx.Err() != nil {
					return
				}
				if err != nil {
					w.fails(Mapped, err)
					tell(happening{what: lost})
					return
				}
			}
		})
	}
}

// deliver hands a result to the loop.
func (w *Watcher) deliver(ctx context.Context, r result) {
	select {
	case w.results <- r:
	case <-ctx.Done():
	}
}

// owner tells whose a process is: a cheap look, which also shows that it has
// ended already.
func owner(pid int) (uint32, bool) {
	if pid == os.Getpid() {
		return 0, false
	}
	var info unix.Stat_t
	err := unix.Stat("/proc/"+strconv.Itoa(pid), &info)
	return info.Uid, err == nil
}

// look looks at one process.
func (w *Watcher) look(ctx context.Context, pid int, t *task) result {
	r := result{task: t, began: time.Now()}
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	p, err := proc.Open(ctx, pid)
	if err != nil {
		r.gone = ctx.Err() == nil
		return r
	}
	defer p.Close()
	f, err := p.Look(ctx, w.opt.Wanted, proc.FindOptions{})
	if err == nil && len(f.BuildIDs) > 0 {
		r.found = []proc.Finding{f}
		w.mark(ctx, p, f)
	}
	// A program that is just being replaced by another looks as if it had ended.
	r.gone = err != nil && p.Check(ctx) != nil
	return r
}

// scan looks at all processes.
func (w *Watcher) scan(ctx context.Context) result {
	r := result{all: true, began: time.Now()}
	ids, err := proc.List(ctx)
	if err != nil {
		r.err = err
		return r
	}
	self := os.Getpid()
	wanted := ids[:0]
	for _, id := range ids {
		if id.PID != self {
			wanted = append(wanted, id)
		}
	}
	r.found, r.err = proc.Find(ctx, wanted, w.opt.Wanted, proc.FindOptions{Workers: 2, Each: patience})
	for _, f := range r.found {
		if len(f.BuildIDs) == 0 || w.opens == nil || !w.marks.unknown(f.ID.PID, f.BuildIDs) {
			continue
		}
		if p, err := proc.OpenID(ctx, f.ID); err == nil {
			w.mark(ctx, p, f)
			p.Close()
			if w.marks.unknown(f.ID.PID, f.BuildIDs) { // it may just be loading
				select {
				case w.happenings <- happening{what: Mapped, pid: f.ID.PID, at: time.Now()}:
				case <-ctx.Done():
				}
			}
		}
	}
	return r
}
