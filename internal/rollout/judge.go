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
	at     time.Time // when it began to load it, if the record does not say
	boot   string
	failed time.Time // of MarkFail
}

// judge holds a machine with a record against the facts. m is nil for one that
// the facts do not name.
func judge(p *Plan, s *State, f *Facts, m *Machine, r *Record, now time.Time) verdict {
	if m == nil {
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
	seen := sight{p: p, s: s, f: f, m: m, r: r, begun: begun, boot: boot, now: now}
	if fail, at := seen.worst(); fail != "" && (fresh || fail.rank() > r.Failure.rank()) {
		v.What, v.Failure, v.failed = MarkFail, fail, at
		return v
	}
	lost, at := seen.lost()
	switch {
	case lost.rank() > r.Break.rank():
		v.What, v.Failure, v.failed = MarkFail, lost, at
		return v
	case lost == "" && r.Break == Silent && !m.Gone:
		v.What = MarkBack // it was the network
		return v
	}
	elsewhere := m.Gone || (m.Out != "" || m.Has || m.State == api.Reverted) && !has(m.State) && m.State != api.Loading
	settled := m.State == api.Healthy && !m.Seen.Before(begun.Add(time.Duration(p.Settle)))
	switch {
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
	// A refusal counts if the offer was withdrawn meanwhile, too.
	for _, e := range m.Events {
		if e.Kind == Refused && r.Failure == "" && !e.At.Before(r.Offered) {
			return verdict{What: MarkFail, Failure: Refused, failed: e.At}
		}
	}
	switch {
	case r.Status != Offered:
	case m.Out != "" || m.Gone:
		return verdict{What: MarkLeft}
	case now.Sub(r.Offered) >= time.Duration(p.Patience):
		return verdict{What: MarkLate}
	}
	return verdict{}
}

// sight is what can be seen of a machine that has begun.
type sight struct {
	p     *Plan
	s     *State
	f     *Facts
	m     *Machine
	r     *Record
	begun time.Time
	boot  string
	now   time.Time
}

// counts reports whether what was then is held against the live patch. What
// is later than the watch is, for machines that have not settled.
func (g *sight) counts(at time.Time) bool {
	return g.r.inFlight() || !at.After(g.begun.Add(time.Duration(g.p.Watch)))
}

// worst is the gravest failure that counts, and when it was.
func (g *sight) worst() (bad Failure, when time.Time) {
	bad, when = g.r.Failure, g.r.FailedAt
	add := func(x Failure, at time.Time) {
		if x.rank() > bad.rank() && !x.usual() && g.counts(at) {
			bad, when = x, at
		}
	}
	for _, e := range g.m.Events {
		if !e.At.Before(g.r.Offered) {
			add(e.Kind, e.At)
		}
	}
	switch {
	case g.m.State == api.Quarantined:
		add(Quarantined, g.now)
	case g.m.State == api.Reverted && !g.f.Recalled && g.s.Phase != Reverting && g.s.Phase != Aborted:
		add(TakenOut, g.now)
	}
	if g.r.Status == Begun && g.m.State != api.Healthy && g.now.Sub(g.begun) >= time.Duration(g.p.Patience) {
		add(Stalled, g.now)
	}
	return bad, when
}

// lost says whether the machine booted or fell silent, and when.
func (g *sight) lost() (Failure, time.Time) {
	switch m := g.m; {
	case g.r.Break == Rebooted:
		return g.r.Break, g.r.BreakAt
	case g.boot != "" && m.Boot != "" && m.Boot != g.boot && !m.Orderly && g.counts(m.Booted):
		return Rebooted, m.Booted
	case !m.Gone && g.f.silent(m, g.now) && g.counts(m.Seen):
		return Silent, m.Seen
	}
	return "", time.Time{}
}
