// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// offeredPackage applies what the index of a package offers, unless it failed a
// moment ago.
func (a *Agent) offeredPackage(ctx context.Context, h *Host, ref PackageRef, o trust.Offer) error {
	a.mu.Lock()
	t := a.tries[o.ID]
	a.mu.Unlock()
	if t.next.After(time.Now()) {
		a.about(ref, func(p *packageMoment) { p.retry = t.next })
		return t.why
	}
	err := a.applyPackage(ctx, h, ref, o)
	if err == nil {
		a.mu.Lock()
		delete(a.tries, o.ID)
		a.mu.Unlock()
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	next := a.postpone(o.ID, err)
	a.about(ref, func(p *packageMoment) { p.retry = next })
	return err
}

// applyPackage takes an offer all the way: fetched, verified, given to the keeper.
func (a *Agent) applyPackage(ctx context.Context, h *Host, ref PackageRef, o trust.Offer) error {
	err := a.keeps()
	if err == nil {
		err = a.fresh(ref.ID, o)
	}
	if err == nil {
		var x *trust.Index
		a.see(func(m *moment) { x = m.packages[ref.ID].index })
		err = a.fetch(ctx, h, &ref, x, o)
	}
	if err == nil {
		err = a.givePackage(ctx, h, ref, o.ID)
	}
	return a.notApplied(ctx, h, &ref, o, err)
}

// keeps is nil when the keeper works.
func (a *Agent) keeps() error {
	var st *KeeperStatus
	a.see(func(m *moment) { st = m.keeper })
	if st != nil && st.Problem != nil {
		return st.Problem
	}
	return nil
}

// givePackage hands a live patch of the cache to the keeper, and waits until that
// has been through all processes with it.
//
// As with the kernel, the intent is on the medium before anything happens, and
// ends only when the live patch is healthy or known to be out. Each step may
// have been done by an earlier run: doing it again changes nothing.
func (a *Agent) givePackage(ctx context.Context, h *Host, ref PackageRef, id string) error {
	defer a.large()()
	file, p, card, err := a.cachedFile(id)
	if err == nil {
		err = fitsOf(p, h, &ref)
	}
	if err != nil {
		return err
	}
	s, _ := a.journal.view()
	now := s.Packages[ref.ID]
	a.see(func(m *moment) {
		if x := m.packages[ref.ID].index; x != nil {
			card.policy = x.Policy
		}
	})
	if now.Intent != nil && now.Intent.Patch.ID == id {
		card.policy = now.Intent.Patch.Policy
	}
	patch := card.ref()
	back := s.Floors[floorKey(ref.ID, patch.Policy)] > patch.Version || now.Current != nil && now.Current.Patch.Version > patch.Version
	if err := a.noteOf(h, &ref, patch, api.Loading); err != nil {
		return err // no intent, nothing is given
	}
	began := time.Now()
	stamp, err := a.opts.Keeper.Give(ctx, file, back)
	if err != nil {
		if ctx.Err() != nil {
			return context.Cause(ctx) // the next run finds out how far it came
		}
		pr := problemOf("TS9400", id, err)
		return settled{errors.Join(pr, a.noteOf(h, &ref, patch, api.Blocked, because(pr)))}
	}
	if err := a.noteOf(h, &ref, patch, api.Transitioning); err != nil {
		a.log.Error("journal", "err", err)
	}
	if err := a.brought(ctx, id, stamp); err != nil {
		return settled{err} // the intent stays: see resumePackage
	}
	took := func(r *api.Report) { r.Transition = time.Since(began).Milliseconds() }
	if err := a.noteOf(h, &ref, patch, api.Applied, took); err != nil {
		return settled{err}
	}
	a.prune()
	return nil
}

// keeperPace is how often the agent looks whether the keeper is done.
const keeperPace = 200 * time.Millisecond

// brought waits until the keeper has been through all processes with a live
// patch.
func (a *Agent) brought(ctx context.Context, id string, stamp int64) error {
	limit := time.Duration(a.cfg.Transition.Limit)
	for began := time.Now(); ; {
		st := a.hear(ctx)
		switch {
		case errors.Is(context.Cause(ctx), errInterrupted):
			return errInterrupted
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case st.Problem != nil:
			return st.Problem
		case st.Reach[id].Stamp == stamp && !st.Reach[id].Out:
			return nil
		case time.Since(began) > limit:
			return code.New("TS9441", id, fmt.Sprintf("not after %s", Duration(limit)))
		}
		pause(ctx, keeperPace)
	}
}

// takeOutPackage takes a live patch out of all processes.
func (a *Agent) takeOutPackage(ctx context.Context, h *Host, ref PackageRef, p api.Patch, why string) error {
	detail := func(r *api.Report) { r.Detail = why }
	if err := a.noteOf(h, &ref, p, api.Reverting, detail); err != nil {
		a.log.Error("journal", "err", err) // what wants it away does not need the journal
	}
	began := time.Now()
	if err := a.opts.Keeper.TakeBack(ctx, p.ID); err != nil {
		return err
	}
	left, err := a.left(ctx, p.ID)
	if err != nil {
		return err
	}
	return a.noteOf(h, &ref, p, api.Reverted, detail, because(left), func(r *api.Report) { r.Transition = time.Since(began).Milliseconds() })
}

// leaving is how long a revert waits for processes that are busy. The keeper goes
// on after it.
const leaving = 30 * time.Second

// left waits until the keeper has taken a live patch out, and returns why it is
// still somewhere.
func (a *Agent) left(ctx context.Context, id string) (*code.Problem, error) {
	for began := time.Now(); ; {
		st := a.hear(ctx)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		r, there := st.Reach[id]
		switch {
		case st.Problem != nil:
			return st.Problem, nil
		case !there:
			return nil, nil
		case time.Since(began) > leaving && r.Out:
			return code.New("TS9665", id, fmt.Sprintf("%d processes still have it", r.Processes.Pending)), nil
		case time.Since(began) > leaving:
			return code.New("TS9441", id, "not after "+Duration(leaving).String()), nil
		}
		pause(ctx, keeperPace)
	}
}

// recoverPackage ends what an earlier run began with a package, and compares the
// journal with what the keeper has.
func (a *Agent) recoverPackage(ctx context.Context, h *Host, ref PackageRef, kept []Kept) error {
	s, _ := a.journal.view()
	now := s.Packages[ref.ID]
	has := func(id string) bool { return slices.ContainsFunc(kept, func(k Kept) bool { return k.ID == id }) }
	i, c := now.Intent, now.Current
	switch {
	case i != nil && i.Boot != h.BootID && !i.Stopped:
		return a.crashedPackage(ctx, h, ref, now)
	case c != nil && c.Patch.State == api.Reverting && code.Of(unwired(c.Patch.Problem)) == "TS9503":
		return a.unhealthyPackage(ctx, h, ref, c.Patch, unwire(c.Patch.Problem))
	case c != nil && c.Patch.State == api.Reverting:
		return a.takeOutPackage(ctx, h, ref, c.Patch, "begun before")
	case i != nil:
		return a.resumePackage(ctx, h, ref, now, has(i.Patch.ID))
	case c == nil || has(c.Patch.ID):
		return nil
	}
	return a.foreign(h, ref, c.Patch)
}

// unwired is unwire as an error.
func unwired(p *api.Problem) error {
	if p == nil {
		return nil
	}
	return unwire(p)
}

// foreign notes that a person took a live patch out by other means.
func (a *Agent) foreign(h *Host, ref PackageRef, p api.Patch) error {
	yes := true
	if err := a.journal.add(&Record{ByHand: &yes, Patch: &p}); err != nil {
		return err
	}
	return a.noteOf(h, &ref, p, api.Reverted, because(code.New("TS9412", p.ID, "")))
}

// crashedPackage: the machine went down before a live patch was confirmed. That
// may be its work, as the first process of the machine maps libraries too. The
// keeper begins after this.
func (a *Agent) crashedPackage(ctx context.Context, h *Host, ref PackageRef, now PackageState) error {
	i := now.Intent
	a.log.Error("crash guard", "patch", i.Patch.ID, "state", string(i.Patch.State))
	if err := a.opts.Keeper.TakeBack(ctx, i.Patch.ID); err != nil {
		return err
	}
	why := code.New("TS9504", i.Patch.ID, "it was "+string(i.Patch.State)+" when that boot ended")
	err := a.noteOf(h, &ref, i.Patch, api.Quarantined, because(why), func(r *api.Report) {
		r.Kernel, r.Kind = i.Kernel, api.ReportCrash
		r.Detail = "boot " + i.Boot + " ended before it was confirmed"
	})
	if c := now.Current; err == nil && c != nil && c.Patch.ID != i.Patch.ID {
		err = a.noteOf(h, &ref, c.Patch, api.Known) // it may have left with the other's coming
	}
	return err
}

// resumePackage goes on with an intent of this boot, or of one that ended in
// good order.
func (a *Agent) resumePackage(ctx context.Context, h *Host, ref PackageRef, now PackageState, kept bool) error {
	i := now.Intent
	switch {
	case !kept && i.Patch.State == api.Applied:
		return a.foreign(h, ref, i.Patch)
	case !kept:
		return a.noteOf(h, &ref, i.Patch, api.Known) // the agent ended before it was given
	case i.Patch.State == api.Applied && i.Boot == h.BootID && !i.Stopped:
		return nil // watched
	case i.Patch.State == api.Applied:
		return a.noteOf(h, &ref, i.Patch, api.Applied) // its watch begins anew
	}
	a.mu.Lock()
	t := a.tries[i.Patch.ID]
	a.mu.Unlock()
	if t.next.After(time.Now()) {
		return t.why
	}
	err := a.keeps()
	if err == nil {
		err = a.givePackage(ctx, h, ref, i.Patch.ID)
	}
	if err != nil && ctx.Err() == nil {
		next := a.postpone(i.Patch.ID, err)
		a.about(ref, func(p *packageMoment) { p.retry = next })
	}
	return err
}

// dropQuarantined takes out what was given and may not be there: the disk was
// full, or the power went, as it was taken back.
func (a *Agent) dropQuarantined(ctx context.Context, s *State, kept []Kept) error {
	for _, k := range kept {
		_, bad := s.Quarantined[k.ID]
		_, byHand := s.ByHand[k.ID]
		if !k.Given || !bad && !byHand {
			continue
		}
		if err := a.opts.Keeper.TakeBack(ctx, k.ID); err != nil {
			return err
		}
	}
	return nil
}
