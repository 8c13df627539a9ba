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

	l := &loop{w: w, tasks: newSchedule(), all: newRounds(time.Now()), known: told{}}
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		wait := l.begin(ctx, time.Now(), func(look func() result) {
			beside.Go(func() { w.deliver(ctx, look()) })
		})
		timer.Reset(min(wait, time.Hour))

		var events chan Event
		head, ok := l.out.head()
		if ok {
			events = w.events
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		case events <- head:
			l.out.pop()
		case h := <-w.happenings:
			l.happened(h)
		case r := <-w.results:
			l.ended(r, time.Now())
		}
	}
}

// loop is what run knows.
type loop struct {
	w     *Watcher
	tasks *schedule
	all   *rounds
	known told
	out   outgoing
}

// begin starts the looks that are due, and tells how long it is until the next.
func (l *loop) begin(ctx context.Context, now time.Time, beside func(look func() result)) time.Duration {
	wait := nothingPending
	for {
		t, pause := l.tasks.next(now)
		if t == nil {
			wait = pause
			break
		}
		beside(func() result { return l.w.look(ctx, t.pid, t) })
	}
	if l.tasks.overflow {
		l.tasks.overflow = false
		l.all.soon()
	}
	due, pause := l.all.begin(now)
	if due {
		beside(func() result { return l.w.scan(ctx) })
	}
	return min(wait, pause)
}

// happened makes a task of what a source has told.
func (l *loop) happened(h happening) {
	if h.what == lost {
		l.all.soon()
		return
	}
	uid, ok := owner(h.pid)
	if !ok {
		return
	}
	if h.what == Exec {
		delete(l.known, h.pid)
	}
	l.tasks.add(h, uid)
}

// ended tells what a look has found that is not told yet.
func (l *loop) ended(r result, now time.Time) {
	source, at := Rescan, r.began
	if r.task != nil {
		source, at = r.task.source, r.task.at
		l.tasks.done(r.task, r.began, now, !r.gone)
	}
	for _, f := range r.found {
		if len(f.BuildIDs) > 0 && l.known.news(f, l.all.number) && !l.out.push(f.UID, Event{f.ID, f.BuildIDs, source, at}) {
			delete(l.known, f.ID.PID)
		}
	}
	if !r.all {
		return
	}
	if r.err == nil {
		l.known.forget(l.all.number)
	}
	l.all.ended(r.began, now, l.w.interval())
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
