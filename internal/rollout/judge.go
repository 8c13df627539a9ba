// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
)

// verdict is what the facts change about a machine's record; What "" is
// nothing.
type verdict struct {
	What
	Failure
	at   time.Time // when it began to load it, if the record does not say
	boot string
}

// judge holds a machine with a record against the facts. m is nil for one that
// the facts do not name.
func judge(p *Plan, s *State, f *Facts, m *Machine, r *Record, now time.Time) verdict {
	if m == nil || m.Gone {
		if r.inFlight() {
			return verdict{What: MarkLeft}
		}
		return verdict{}
	}
	begun, boot := began(m, r, now)
	if begun.IsZero() {
		return waits(p, m, r, now)
	}
	var v verdict
	fresh := r.Begun.IsZero()
	if fresh {
		v.at, v.boot = begun, boot
	}
	if fail := worst(p, s, f, m, r, begun, boot, now); fail != "" {
		if fresh || fail.rank() > r.Failure.rank() {
			v.What, v.Failure = MarkFail, fail
		}
		return v
	}
	elsewhere := (m.Out != "" || m.Has) && !has(m.State) && m.State != api.Loading
	settled := m.State == api.Healthy && !m.Seen.Before(begun.Add(time.Duration(p.Settle)))
	switch {
	case r.Failure == Silent && !r.Begun.IsZero():
		v.What = MarkOn // it was the network
	case r.Status == Failed && !fresh, r.Status == Well:
	case r.Status == Left && elsewhere:
	case settled:
		v.What = MarkWell
	case elsewhere && r.inFlight():
		v.What = MarkLeft
	case r.Status != Begun:
		v.What = MarkOn
	}
	return v
}

// began is when and in which boot a machine began to load what it was offered;
// zero: it has not. Whoever withdrew the offer meanwhile: it may have had the
// key by then.
func began(m *Machine, r *Record, now time.Time) (time.Time, string) {
	switch {
	case !r.Begun.IsZero():
		return r.Begun, r.Boot
	case !m.Begun.IsZero() && !m.Begun.Before(r.Offered):
		boot := m.BegunBoot
		if boot == "" {
			boot = r.Boot
		}
		return m.Begun, boot
	case r.Status == Left || !loads(m.State):
		return time.Time{}, ""
	case m.State == api.Quarantined || m.State == api.Reverted:
		// It has come and gone between two looks.
		return now, r.Boot
	}
	// Its boot is that of the offer, if it is still the same: then a boot
	// between the two is not missed. A boot before the first sign of loading
	// can't be told from one after it, and is held against the live patch.
	return now, r.Boot
}

// waits judges a machine that has not begun.
func waits(p *Plan, m *Machine, r *Record, now time.Time) verdict {
	if r.Status != Offered {
		return verdict{}
	}
	refused := false
	for _, e := range m.Events {
		refused = refused || e.Kind == Refused && !e.At.Before(r.Offered)
	}
	switch {
	case m.Out != "":
		return verdict{What: MarkLeft}
	case refused:
		return verdict{What: MarkFail, Failure: Refused}
	case now.Sub(r.Offered) >= time.Duration(p.Patience):
		return verdict{What: MarkLate}
	}
	return verdict{}
}

// worst is the gravest thing that befell a machine in the watch time.
func worst(p *Plan, s *State, f *Facts, m *Machine, r *Record, begun time.Time, boot string, now time.Time) Failure {
	end := begun.Add(time.Duration(p.Watch))
	bad := r.Failure
	if bad == Silent || r.Begun.IsZero() {
		bad = "" // a silence is looked at anew: see judge
	}
	add := func(x Failure) {
		if x.rank() > bad.rank() {
			bad = x
		}
	}
	// What is later than the watch counts for those that have not settled.
	within := func(at time.Time) bool { return !at.After(end) || r.Status == Begun || r.Status == Offered }
	for _, e := range m.Events {
		if !e.At.Before(r.Offered) && within(e.At) {
			add(e.Kind)
		}
	}
	switch m.State {
	case api.Quarantined:
		if within(now) {
			add(Quarantined)
		}
	case api.Reverted:
		if within(now) && !f.Recalled && s.Phase != Reverting && s.Phase != Aborted {
			add(TakenOut)
		}
	}
	if boot != "" && m.Boot != "" && m.Boot != boot && within(m.Booted) {
		add(Rebooted)
	}
	if f.silent(m, now) && within(m.Seen) {
		add(Silent)
	}
	if r.Status == Begun && m.State != api.Healthy && now.Sub(begun) >= time.Duration(p.Patience) {
		add(Stalled)
	}
	return bad
}
