// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"
)

// How often the keeper looks by itself.
const (
	looksForChange = time.Second      // of the directory
	triesAgain     = 5 * time.Second  // after an error
	looksAround    = 30 * time.Second // for what no event told: libraries that are loaded later
	// passShare keeps passes for processes that were busy from taking all the time:
	// such a pass comes no sooner than so many times what the last one took.
	passShare = 4
)

// Run brings every process to what is wanted, those that start later as well,
// until ctx ends. Nothing of it is lasting: it can be ended and begun at any
// time.
func (k *Keeper) Run(ctx context.Context, log *slog.Logger) error {
	ctx, stop := context.WithCancel(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	started := make(chan int, 4096)
	unwatch, watched := func() {}, time.Time{}
	var seen, next time.Time
	k.waits = &waits{}
	told := ""
	t := time.NewTicker(looksForChange)
	defer t.Stop()
	for first := true; ctx.Err() == nil; first = false {
		now := k.now()
		if c := k.dir.changed(); first || !c.Equal(seen) || !now.Before(next) {
			if !c.Equal(seen) {
				k.waits.reset() // what kept a process back may not keep it from this one
			}
			r, changed, err := k.pass(ctx)
			if r != nil && !changed.Equal(watched) {
				unwatch()
				unwatch, watched = k.watch(ctx, &wg, log, started), changed
			}
			ended := k.now()
			seen, next = changed, ended.Add(looksAround)
			switch {
			case ctx.Err() != nil:
				return nil
			case errors.Is(err, errYielded):
				seen, next = c, ended
			case err != nil:
				log.Warn("processes", "err", err)
				next = ended.Add(triesAgain)
			default:
				next = k.sooner(next, ended.Add(passShare*ended.Sub(now)))
			}
			if r != nil {
				told = tell(log, r, told)
			}
		}
		select {
		case <-ctx.Done():
		case <-t.C:
		case pid := <-started:
			if !k.started(ctx, log, started, pid) {
				next = k.now()
			}
			next = k.sooner(next, k.now().Add(looksForChange))
		}
	}
	return nil
}

// sooner is when to look again that would at next: when a process that was busy
// is to be tried, and not before least.
func (k *Keeper) sooner(next, least time.Time) time.Time {
	again := k.waits.next()
	if again.IsZero() || again.After(next) {
		return next
	}
	if again.Before(least) {
		again = least
	}
	if again.After(next) {
		return next
	}
	return again
}

// watch hears of new processes, of those that map a file of what is in. When it
// can't, looking around has to do.
func (k *Keeper) watch(ctx context.Context, wg *sync.WaitGroup, log *slog.Logger, started chan<- int) (stop func()) {
	_, want, _ := k.load() // a pass has told what can't be read
	want = slices.DeleteFunc(slices.Clone(want), func(w Want) bool { return w.Out })
	if len(want) == 0 {
		return func() {}
	}
	ctx, stop = context.WithCancel(ctx)
	wg.Go(func() {
		err := k.engine.Watch(ctx, want, func(pid int) {
			select {
			case started <- pid:
			default: // looking around finds it
			}
		})
		if ctx.Err() == nil {
			log.Warn("new processes are found late", "err", err)
		}
	})
	return stop
}

// started brings the processes to what is wanted that have just started, all
// that are known of at once, and reports whether it has been at all of them.
func (k *Keeper) started(ctx context.Context, log *slog.Logger, more <-chan int, first int) bool {
	pids := []int{first}
	for range len(more) {
		pids = append(pids, <-more)
	}
	k.waits.told(pids)
	turn, unlock, err := k.idle(ctx)
	if err != nil {
		if ctx.Err() == nil {
			log.Warn("processes", "err", err)
		}
		return false
	}
	defer unlock()
	_, want, _ := k.load() // a pass has told what can't be read
	if len(want) == 0 {
		return true
	}
	ps, err := k.engine.Bring(turn, want, pids...)
	if err != nil {
		if turn.Err() == nil {
			log.Warn("processes", "err", err)
		}
		return false
	}
	k.waits.note(ps, want, k.now(), false)
	k.book.seen(ps)
	for _, p := range ps {
		if p.Standing != Original {
			log.Debug("new process", "pid", p.PID, "name", p.Name, "file", p.File, "standing", string(p.Standing), "pause_us", p.PauseUS)
		}
	}
	return true
}

// pass looks at everything, and returns the time of the directory that it knows:
// a pass may change it itself.
func (k *Keeper) pass(ctx context.Context) (*Report, time.Time, error) {
	if c := k.dir.changed(); c.IsZero() { // nothing was ever applied
		k.book.passed(&Report{})
		return &Report{}, c, nil
	}
	ctx, unlock, err := k.idle(ctx)
	if err != nil {
		return nil, time.Time{}, err
	}
	defer unlock()
	r, err := k.bring(ctx, k.now(), k.waits)
	if err == nil {
		k.book.passed(r)
	}
	return r, k.dir.changed(), err
}

// tell logs what a pass has found, when it is something else than before.
func tell(log *slog.Logger, r *Report, before string) (now string) {
	if len(r.Patches) == 0 {
		return ""
	}
	if now = fmt.Sprint(r.Counts); now == before {
		return now
	}
	log.Info("processes", "protected", r.Counts[Protected], "pending", r.Counts[Pending], "unprotected", r.Counts[Unprotected], "took_ms", r.TookMS)
	for _, p := range r.Processes {
		if p.Problem != nil {
			log.Debug("process", "pid", p.PID, "name", p.Name, "standing", string(p.Standing), "code", string(p.Problem.Code), "why", p.Problem.Why)
		}
	}
	return now
}
