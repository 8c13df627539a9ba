// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

// work is what is done to one process.
type work struct {
	e      *Engine
	p      *proc.Process
	opt    Options
	s      *sight
	result Result
	began  time.Time
	waits  int
	doubts int // looks that showed something that can't be
	// oneByOne tells that areas are mapped by calls with a result each.
	oneByOne bool
}

// deed is what shall be done.
type deed struct {
	// units says what is left to do, by a look: nil where the process is none
	// of those that are meant, an empty list where all is done.
	units func(s *sight) ([]*unit, error)
	// done is the process's state when all is done, and healed when nothing was
	// to be done but to heal.
	done, healed State
}

const (
	// replans is how often a process may change while all is prepared.
	replans = 16
	// maxDoubts is how often what can't be is looked at again.
	maxDoubts = 5
	// freeStops are not held against the share of the time that a process may
	// be stopped.
	freeStops = 5 * time.Millisecond
	minute    = time.Minute
)

// do runs a deed on one process, again and again while that may help.
func (e *Engine) do(ctx context.Context, p *proc.Process, opt Options, d deed) (Result, error) {
	if opt.Share <= 0 {
		opt.Share = 0.01
	}
	if opt.Timeout <= 0 {
		opt.Timeout = opt.Budget + minute
	}
	if opt.tracers == nil {
		opt.tracers = &ptrace.Tracers{}
		defer opt.tracers.Close()
		e.tidy()
	}
	opt.ptrace = e.config.Ptrace
	outer := ctx
	ctx, cancel := context.WithTimeout(ctx, opt.Timeout)
	defer cancel()
	type outcome struct {
		result Result
		err    error
	}
	o, err := proc.Guarded(ctx, p, func(ctx context.Context) (o outcome) {
		w := &work{e: e, p: p, opt: opt, result: Result{Process: p.ID()}, began: time.Now()}
		o.result, o.err = w.end(outer, w.locked(ctx, d))
		return o
	})
	if err != nil { // it hangs somewhere; what it knows is not ours to read
		w := &work{e: e, p: p, result: Result{Process: p.ID()}}
		return w.end(outer, err)
	}
	return o.result, o.err
}

// locked runs a deed while no other patcher can.
func (w *work) locked(ctx context.Context, d deed) error {
	lock, err := proc.TakeLock(w.e.config.Locks, w.p.ID())
	if err != nil {
		if code.Of(err) == "" {
			err = code.New("TS9640", w.p.ID().String(), "").With(err)
		}
		return err
	}
	defer lock.Release()
	w.e.lower(w.target(), lock)
	w.opt.ptrace.Note = lock.Note
	return w.run(ctx, d)
}

func (w *work) run(ctx context.Context, d deed) error {
	worked := false
	for changes := 0; ; {
		err := w.round(ctx, d, &worked)
		if unreadable(err) { // something was unmapped meanwhile
			err = fmt.Errorf("%w: %w", errChanged, err)
		}
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errAgain):
			changes++
			if changes < replans {
				continue
			}
			return code.New("TS9639", w.p.ID().String(), "")
		case errors.Is(err, errChanged):
			changes++
			if changes == replans {
				return code.New("TS9639", w.p.ID().String(), "").With(err)
			}
		case code.Of(err) == "TS9635" && w.doubts < maxDoubts:
			// It may be a library that is just coming or going.
			time.Sleep(time.Millisecond << w.doubts)
			w.doubts++
			continue
		case !again(err):
			return err
		}
		if !w.wait(ctx) {
			if errors.Is(err, errChanged) {
				err = code.New("TS9639", w.p.ID().String(), "").With(err)
			}
			return err
		}
	}
}

// errAgain says that something was done and the process has to be looked at anew.
var errAgain = errors.New("look again")

// round looks, prepares, and tries until it is done, or until something else
// than a busy thread comes in between.
func (w *work) round(ctx context.Context, d deed, worked *bool) error {
	s, err := look(ctx, w.p)
	if err != nil {
		return err
	}
	w.s = s
	if broken := s.unfinished(); len(broken) > 0 {
		units, err := healUnits(s, broken)
		if err != nil {
			return err
		}
		*worked = true
		if err := w.commit(ctx, units); err != nil {
			return err
		}
		return errAgain
	}
	units, err := d.units(s)
	if err != nil {
		return err
	}
	switch {
	case len(units) > 0:
		*worked = true
		if err := w.commit(ctx, units); err != nil {
			return err
		}
		if w.s, err = look(ctx, w.p); err != nil {
			return err
		}
		w.result.State = d.done
	case units != nil:
		w.result.State = d.done
	case *worked:
		w.result.State = d.healed
	default:
		w.result.State = NotAffected
	}
	if len(units) > 0 {
		return nil
	}
	unused, err := s.unused()
	if err != nil || len(unused) == 0 {
		return err
	}
	return w.stage(ctx, nil, unused)
}

// commit stages units and brings them in, as often as threads are in the way.
// What was staged for nothing is given back.
func (w *work) commit(ctx context.Context, units []*unit) error {
	if err := w.hasRoom(ctx, units); err != nil {
		return err
	}
	defer w.giveBack(context.WithoutCancel(ctx), units)
	unused, err := w.s.unused()
	if err != nil {
		return err
	}
	if err := w.stage(ctx, units, unused); err != nil {
		return err
	}
	tables := false
	for {
		if tables { // it may map more code by now
			if w.s, err = look(ctx, w.p); err != nil {
				return err
			}
		}
		win, err := w.newWindow(ctx, units, tables)
		if err != nil {
			return err
		}
		err = win.commit(ctx)
		if err == nil || errors.Is(err, errChanged) || !again(err) {
			return err
		}
		if c := code.Of(err); !tables && (c == "TS9620" || c == "TS9621") {
			// Words on a stack speak against it; the frames may tell better.
			tables = true
			continue
		}
		if !w.wait(ctx) {
			return errors.Join(errOver, err)
		}
	}
}

// errOver says that there is no time left to try again.
var errOver = errors.New("the time to try is over")

// backoffs are the times between tries; the last is kept.
var backoffs = []time.Duration{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000}

// wait waits for the next try, and says false when there is no time for one.
func (w *work) wait(ctx context.Context) bool {
	d := backoffs[min(w.waits, len(backoffs)-1)] * time.Millisecond
	w.waits++
	d = d/2 + rand.N(d)
	// Stopped time is at most a share of all time, but for the first stops, and
	// but for a few tries that a short budget shall have all the same.
	if over := w.result.Stopped - freeStops; over > 0 {
		rest := time.Duration(float64(over)/w.opt.Share) - time.Since(w.began)
		d = max(d, min(rest, w.opt.Budget/4))
	}
	if time.Since(w.began)+d > w.opt.Budget {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func (w *work) paused(d time.Duration) {
	w.result.Pause = max(w.result.Pause, d)
	w.result.Stopped += d
}

func (w *work) step(name string) { w.e.step(name) }

func (w *work) target() ptrace.Target {
	id := w.p.ID()
	return ptrace.Target{PID: id.PID, Start: id.Start}
}

// end makes the result of what has happened.
func (w *work) end(ctx context.Context, err error) (Result, error) {
	r := &w.result
	if w.s != nil {
		for _, a := range w.s.areas {
			r.Objects = append(r.Objects, w.s.installed(a))
		}
		order.SortStable(r.Objects, func(a, b Installed) int { return int(age(a.State)) - int(age(b.State)) })
	}
	if err == nil {
		return *r, nil
	}
	r.State = Pending
	if ctx.Err() != nil {
		return *r, ctx.Err()
	}
	all := code.All(err)
	if len(all) == 0 {
		r.Reason = code.New("TS9642", r.Process.String(), "").With(err)
		return *r, nil
	}
	r.Reason = all[0]
	switch {
	case proc.Gone(err):
		r.State = Ended
	case never(r.Reason.Code) && !(loadable(r.Reason.Code) && young(r.Process)):
		r.State = Unprotected
	}
	return *r, nil
}

// age orders what is in a process: what is in effect comes first.
func age(s JournalState) int {
	return slices.Index([]JournalState{InEffect, Applying, Reverting, Prepared, Replaced, TakenOut}, s)
}
