// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// act decides by what is known now, and does it: for the kernel, and then for
// each package.
func (a *Agent) act(ctx context.Context) error {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return err
	}
	err = a.actKernel(ctx, host)
	if ctx.Err() == nil {
		err = errors.Join(err, a.actPackages(ctx, host))
	}
	return err
}

func (a *Agent) actKernel(ctx context.Context, host *Host) error {
	err := a.recover(ctx, host)
	if err != nil {
		if ctx.Err() == nil {
			a.see(func(m *moment) {
				m.problem, m.retry = problemOf("TS9400", "", err), time.Now().Add(jitter(time.Minute))
			})
		}
		return err
	}
	defer a.tend(ctx)
	d := a.decide(host, time.Now())
	a.see(func(m *moment) {
		m.decision = &d
		m.pending = d.Offer
		if d.Action != policy.Apply && d.Action != policy.Revert {
			m.problem, m.retry = nil, time.Time{}
		}
	})
	switch d.Action {
	case policy.Apply:
		err = a.offered(ctx, host, d)
	case policy.Revert:
		s, _ := a.journal.view()
		if s.Current != nil {
			err = a.takeOut(ctx, host, s.Current.Patch, d.Reason)
		}
	default:
		a.renew(ctx, host)
		done, lerr := a.localAgain(ctx, host)
		if !done {
			return nil
		}
		err = lerr
	}
	a.see(func(m *moment) {
		m.problem = nil
		if err != nil {
			m.problem = problemOf("TS9400", "", err)
		} else {
			m.pending, m.retry = nil, time.Time{}
		}
	})
	if err == nil {
		// The decision is done; status shows the one that holds now.
		after := a.decide(host, time.Now())
		a.see(func(m *moment) { m.decision = &after })
		a.Kick() // the server hears of it at once
	}
	return err
}

// localAgain tries a file of root again whose transition was held up.
func (a *Agent) localAgain(ctx context.Context, h *Host) (tried bool, err error) {
	var p *api.Patch
	a.see(func(m *moment) { p = m.local })
	if p == nil {
		return false, nil
	}
	a.mu.Lock()
	t := a.tries[p.ID]
	if t.next.After(time.Now()) {
		a.now.problem, a.now.retry = t.why, t.next
		a.mu.Unlock()
		return false, nil
	}
	a.mu.Unlock()
	if err = a.load(ctx, h, p.ID, false); err != nil {
		a.localFailed(*p, err)
		return true, err
	}
	a.see(func(m *moment) { m.local = nil })
	return true, nil
}

// localFailed keeps a file of root in mind if waiting may help.
func (a *Agent) localFailed(p api.Patch, err error) {
	again := code.Of(err) == "TS9501"
	if again {
		a.failed(p.ID, err)
	}
	a.see(func(m *moment) {
		m.problem, m.local = problemOf("TS9400", p.ID, err), nil
		if again {
			m.local = &p
		}
	})
}

// decide asks package policy about the kernel.
func (a *Agent) decide(host *Host, now time.Time) policy.Decision {
	s, _ := a.journal.view()
	var x *trust.Index
	a.see(func(m *moment) { x = m.index })
	var applied *api.Patch
	if a.current(s, host) > 0 {
		applied = &s.Current.Patch
	}
	return a.decideOn(host, s, host.Kernel.BuildID, x, applied, now)
}

// decideOn asks package policy about the kernel or package id. An index that is
// not that of the policy and tier which this machine has now forbids, and offers
// nothing: what it would bring may be what the new policy leaves out.
func (a *Agent) decideOn(host *Host, s *State, id string, x *trust.Index, applied *api.Patch, now time.Time) policy.Decision {
	f := policy.Facts{
		BuildID: id, Package: id != host.Kernel.BuildID, Index: x,
		Quarantined: slices.Sorted(maps.Keys(s.Quarantined)), Reverted: slices.Sorted(maps.Keys(s.ByHand)),
		Hold: s.Hold, Off: host.Off, InWindow: a.cfg.InWindow(now),
	}
	if applied != nil {
		f.Current = applied.Version
	}
	waits := ""
	a.see(func(m *moment) {
		line := ""
		if x != nil {
			line = x.Policy
			if as := m.assignment; as != nil && (as.Policy != x.Policy || as.Tier != x.Tier) {
				had := *x
				had.Patches = slices.DeleteFunc(slices.Clone(x.Patches), func(o trust.Offer) bool { return o.Version != f.Current })
				f.Index, waits = &had, "tier "+as.Tier+ofPolicy(as.Policy)
			}
		}
		f.Waiting = waiting(f.Index, m, s.Healthy[id].ID, f.Current)
		f.Floor = s.Floors[floorKey(id, line)]
		f.Moved = x != nil && applied != nil && applied.Policy != line
		f.Hold = f.Hold || m.assignment != nil && m.assignment.Hold
	})
	d := policy.Decide(f)
	if waits != "" && d.Action == policy.Keep && !f.Off {
		d.Reason = "waits for the signed index of " + waits
		if f.Current > 0 {
			d.Reason = fmt.Sprintf("version %d stays; this machine %s", f.Current, d.Reason)
		}
	}
	return d
}

// waiting are the offers that the server gives no key for: a rollout has not
// come to this machine with them, or was taken back from it. What was healthy
// here, and what is there, waits for nothing.
func waiting(x *trust.Index, m *moment, healthy string, current int) (ids []string) {
	if x == nil || m.assignment == nil {
		return nil
	}
	for _, o := range x.Patches {
		if m.assignment.Keys[o.ID] == "" && !m.handed[o.ID] && o.ID != healthy && o.Version != current {
			ids = append(ids, o.ID)
		}
	}
	return ids
}

// current is the version that is applied in this boot.
func (a *Agent) current(s *State, h *Host) int {
	if s.Current == nil || s.Current.Boot != h.BootID {
		return 0
	}
	return s.Current.Patch.Version
}

// compare compares the journal with the kernel: what is not there any more
// was taken out by somebody else.
func (a *Agent) compare(ctx context.Context, h *Host) error {
	s, _ := a.journal.view()
	if s.Current == nil || s.Current.Boot != h.BootID {
		return nil
	}
	loaded, err := a.opts.Kernel.Loaded(ctx)
	if err != nil {
		return err
	}
	p := s.Current.Patch
	i := slices.IndexFunc(loaded, func(l Loaded) bool { return l.Name == p.Name })
	switch {
	case i >= 0 && p.State == api.Reverting:
		return a.takeOut(ctx, h, p, "begun before")
	case i >= 0 && (loaded[i].Enabled || loaded[i].Transition):
		return nil // there, or on its way out: then the next look tells
	}
	a.nurse.dismiss()
	if p.State != api.Reverting {
		yes := true
		if err := a.journal.add(&Record{ByHand: &yes, Patch: &p}); err != nil {
			return err
		}
		return a.note(h, p, api.Reverted, because(code.New("TS9412", p.Name, "")))
	}
	return a.note(h, p, api.Reverted)
}

// offered applies what the index offers, unless it failed a moment ago.
func (a *Agent) offered(ctx context.Context, h *Host, d policy.Decision) error {
	o := *d.Offer
	a.mu.Lock()
	t := a.tries[o.ID]
	a.mu.Unlock()
	if now := time.Now(); t.next.After(now) {
		a.see(func(m *moment) { m.retry = t.next })
		return t.why
	}
	err := a.applyOffer(ctx, h, o)
	if err == nil {
		a.mu.Lock()
		delete(a.tries, o.ID)
		a.mu.Unlock()
		return nil
	}
	if ctx.Err() != nil {
		return err
	}
	a.failed(o.ID, err)
	return err
}

// failed sets the time of the next try.
func (a *Agent) failed(id string, err error) {
	next := a.postpone(id, err)
	a.see(func(m *moment) { m.retry = next })
}

// postpone counts a failure of a live patch, and says when it is tried again.
func (a *Agent) postpone(id string, err error) time.Time {
	p := problemOf("TS9400", id, err)
	first := time.Minute
	switch p.Code {
	case "TS9501": // stalled
		first = time.Duration(a.cfg.Transition.Retry)
	case "TS9414": // see fetch
		first = keyRetry
	}
	const most = 6 * time.Hour
	a.mu.Lock()
	defer a.mu.Unlock()
	t := a.tries[id]
	t.why = p
	t.next = time.Now().Add(jitter(min(first<<min(t.count, 16), most)))
	t.count++
	a.tries[id] = t
	return t.next
}

// A key that is not there may be on its way: it is asked for a few times
// before that is a report.
const (
	keyRetry = 2 * time.Second
	keyTries = 3
)

// applyOffer takes an offer all the way: fetched, verified, found fit, loaded.
func (a *Agent) applyOffer(ctx context.Context, h *Host, o trust.Offer) error {
	err := a.fresh(h.Kernel.BuildID, o)
	if err == nil {
		var x *trust.Index
		a.see(func(m *moment) { x = m.index })
		err = a.fetch(ctx, h, nil, x, o)
	}
	if err == nil {
		err = a.load(ctx, h, o.ID, false)
	}
	return a.notApplied(ctx, h, nil, o, err)
}

// notApplied is why an offer of the kernel (nil) or of a package was not applied,
// and reports it, once for each reason.
func (a *Agent) notApplied(ctx context.Context, h *Host, ref *PackageRef, o trust.Offer, err error) error {
	if err == nil || ctx.Err() != nil {
		return err
	}
	p := problemOf("TS9400", o.ID, err)
	if _, ok := errors.AsType[settled](err); ok {
		return p
	}
	a.mu.Lock()
	count := a.tries[o.ID].count
	a.mu.Unlock()
	if p.Code == "TS9414" && count < keyTries {
		return p
	}
	patch := api.Patch{ID: o.ID, Name: o.Name, Version: o.Version}
	if nerr := a.noteOnceOf(h, ref, patch, api.Blocked, p); nerr != nil {
		return errors.Join(p, nerr)
	}
	return p
}

// fresh keeps what is new out while the metadata is old: whoever keeps news
// from this machine could keep a block from it as well. What was confirmed
// here before is not new.
func (a *Agent) fresh(id string, o trust.Offer) error {
	s, _ := a.journal.view()
	if s.Healthy[id].ID == o.ID {
		return nil
	}
	var err error
	a.see(func(m *moment) {
		if time.Since(m.indexed) < 2*freshFor {
			return
		}
		if err = m.indexErr; err == nil {
			err = m.checkErr
		}
		err = code.New("TS9413", o.ID, "").With(err)
	})
	return err
}

// settled is an error whose state is in the journal already, or that leaves
// the live patch in the kernel, so that its intent must stay.
type settled struct{ err error }

func (s settled) Error() string { return s.err.Error() }
func (s settled) Unwrap() error { return s.err }

// fetch brings an offer of an index into the cache, verified: for a package, or
// for the kernel without one.
func (a *Agent) fetch(ctx context.Context, h *Host, about *PackageRef, x *trust.Index, o trust.Offer) error {
	defer a.large()()
	if p, c, err := a.cached(o.ID); err == nil && c.Tier != "" && c.Offer.Digest == o.Digest {
		return fitsOf(p, h, about)
	}
	var source Source
	var tier, key string
	a.see(func(m *moment) {
		source = m.source
		if m.assignment != nil && x != nil {
			tier, key = x.Tier, m.assignment.Keys[o.ID]
		}
	})
	if source == nil {
		return code.New("TS9413", o.ID, "there is no connection to the server")
	}
	if key == "" {
		// The signed index can be ahead of the server's answer by a moment.
		a.see(func(m *moment) { m.etag = "" })
		if err := a.checkIn(ctx, false); err != nil {
			return err
		}
		a.see(func(m *moment) { key = m.assignment.Keys[o.ID] })
	}
	c, err := a.bring(ctx, h, about, source, tier, key, o)
	if err != nil {
		return err
	}
	return a.noteOf(h, about, c.ref(), api.Verified)
}

// bring fetches an offer from a source, verifies it and keeps it.
func (a *Agent) bring(ctx context.Context, h *Host, about *PackageRef, source Source, tier, key string, o trust.Offer) (*Card, error) {
	if key == "" {
		return nil, code.New("TS9414", o.ID, "no key for it came with it")
	}
	ctx, cancel := context.WithTimeout(ctx, fetchLimit)
	defer cancel()
	if err := a.space(2 * o.Size); err != nil {
		return nil, err
	}
	if _, err := source.Provenance(ctx, tier, o); err != nil {
		return nil, err
	}
	cipher, err := source.Patch(ctx, tier, o)
	if err != nil {
		return nil, err
	}
	p, err := a.unseal(cipher, key, o)
	if err != nil {
		return nil, err
	}
	if err := fitsOf(p, h, about); err != nil {
		return nil, err
	}
	c, err := newCard(o, tier, p, cipher, key)
	if err != nil {
		return nil, err
	}
	if err := a.keep(c, cipher); err != nil {
		return nil, err
	}
	return c, nil
}

// renew fetches what is applied once more after an enrolment: the key that the
// cache has is wrapped for the identity of before.
func (a *Agent) renew(ctx context.Context, h *Host) {
	s, _ := a.journal.view()
	var source Source
	var tier, key string
	var offer *trust.Offer
	a.see(func(m *moment) {
		if !m.renew || s.Current == nil || m.index == nil || m.assignment == nil {
			return
		}
		source, tier, key = m.source, m.index.Tier, m.assignment.Keys[s.Current.Patch.ID]
		for i := range m.index.Patches {
			if m.index.Patches[i].ID == s.Current.Patch.ID {
				offer = &m.index.Patches[i]
			}
		}
	})
	if source == nil || offer == nil {
		return
	}
	defer a.large()()
	if _, err := a.bring(ctx, h, nil, source, tier, key, *offer); err != nil {
		a.log.Warn("the cached live patch could not be renewed", "patch", offer.ID, "err", err)
		return
	}
	a.see(func(m *moment) { m.renew = false })
}
