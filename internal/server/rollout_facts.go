// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// scope is what a rollout is about, beside its machines.
type scope struct {
	patch     store.LivePatch
	published bool            // in the tier
	policies  map[string]bool // by word: of machines that are offered it
	indexes   map[string]*trust.Index
	tier      string
	newer     string            // the live patch that took its place
	others    map[string]string // machines that are on their way in other rollouts, and in which
}

// scopeOf reads what a live patch in a tier is for. No lock of a rollout may be
// held: it looks at all of them.
func (s *Server) scopeOf(ctx context.Context, patch, tier string) (*scope, error) {
	p, err := s.store.LivePatch(ctx, patch)
	if err != nil {
		return nil, missing(err, "live patch", patch)
	}
	p.Manifest = nil // large
	sc := &scope{patch: p, tier: tier, published: slices.Contains(p.Tiers, tier), policies: map[string]bool{}, indexes: map[string]*trust.Index{}}
	for _, name := range p.Policies {
		word := trust.PolicyWord(name)
		shelf, err := s.shelves.get(ctx, tier, p.BuildID, word)
		if err != nil {
			return nil, err
		}
		offers := shelf.index != nil && slices.ContainsFunc(shelf.index.Patches, func(o trust.Offer) bool { return o.ID == patch })
		if offers || p.Blocked != 0 || !sc.published {
			sc.policies[word] = true
			sc.indexes[word] = shelf.index
		}
	}
	sc.newer, sc.others = s.superseded(sc), s.onOtherWays(patch, tier)
	return sc, nil
}

// recalled reports whether the signed indexes tell machines to take it out.
func (sc *scope) recalled() bool {
	some := false
	for _, x := range sc.indexes {
		if x == nil {
			continue
		}
		out := slices.ContainsFunc(x.Blocked, func(b trust.BlockRef) bool { return b.ID == sc.patch.ID && b.Recall })
		if r := x.Revert; r != nil && sc.patch.Version > r.To && sc.patch.Version <= r.Below {
			out = true
		}
		if !out {
			return false
		}
		some = true
	}
	return some
}

// superseded names a newer live patch that all of its machines get, or are about
// to.
func (s *Server) superseded(sc *scope) string {
	name := ""
	for word, x := range sc.indexes {
		newer := ""
		if x != nil {
			for _, o := range x.Patches {
				if o.Version > sc.patch.Version && s.onItsWay(o.ID, sc.tier) {
					newer = o.ID
				}
			}
		}
		if newer == "" {
			return ""
		}
		if name == "" || word == "" {
			name = newer
		}
	}
	return name
}

// onItsWay reports whether machines of a tier are given a live patch: it has no
// rollout there, or one that goes on or is done.
func (s *Server) onItsWay(patch, tier string) bool {
	r := s.rollouts.of(patch, tier)
	if r == nil {
		set := s.rolling.settings.Load()
		return set == nil || !set.only(tier, patch)
	}
	p := r.phase()
	return p == rollout.Running || p == rollout.Done
}

// rolloutFacts are what a rollout is decided by. into is reused, if it is large
// enough. state is that of the rollout; only who changes it may ask.
func (s *Server) rolloutFacts(sc *scope, state *rollout.State, seen *sightings, now time.Time, into []rollout.Machine) *rollout.Facts {
	f := &rollout.Facts{
		Machines: into[:0], Listening: s.listening(now), Silence: patience(s.interval.Load()),
		Recalled: sc.recalled(), Superseded: sc.newer,
	}
	if sc.patch.Blocked != 0 {
		f.Blocked = sc.patch.Reason
		if f.Blocked == "" {
			f.Blocked = "by a person"
		}
	}
	book := s.book.Load()
	s.fleet.each(func(m *member) {
		rec := state.Records[m.id]
		x, in := m.forRollout(sc, book, rec, now)
		if !in && rec == nil {
			return
		}
		x.Other = sc.others[m.id]
		seen.tell(&x, rec)
		f.Machines = append(f.Machines, x)
	})
	return f
}

// factsToday are rolloutFacts for those who only look, without what was reported.
// done gives back the memory that they are in: for 50,000 machines it is a dozen
// MB, and several times as much to grow there.
func (s *Server) factsToday(sc *scope, state *rollout.State, now time.Time) (f *rollout.Facts, done func()) {
	list, _ := s.rolling.lists.Get().(*[]rollout.Machine)
	if list == nil {
		list = new([]rollout.Machine)
	}
	f = s.rolloutFacts(sc, state, &sightings{}, now, *list)
	return f, func() {
		*list = f.Machines
		s.rolling.lists.Put(list)
	}
}

// onOtherWays are the machines that are on their way in other rollouts, with
// what these are about.
func (s *Server) onOtherWays(patch, tier string) map[string]string {
	out := map[string]string{}
	for _, o := range s.rollouts.list() {
		if o.patch == patch && o.tier == tier {
			continue
		}
		o.mu.RLock()
		if o.state.Phase == rollout.Running || o.state.Phase == rollout.Halted {
			for id, rec := range o.state.Records {
				if rec.Status == rollout.Offered || rec.Status == rollout.Begun {
					out[id] = fmt.Sprintf("%s in tier %s", o.patch, o.tier)
				}
			}
		}
		o.mu.RUnlock()
	}
	return out
}

// sightings are what was reported about a rollout's live patch since it was
// made.
type sightings struct {
	by       map[string]*sighting
	from     int64 // received: what is older was read
	recently map[string]int64
}

type sighting struct {
	loads  []load
	events []rollout.Event
}

// load is a report that a machine begins to load it.
type load struct {
	at   time.Time
	boot string
}

const (
	// overlap is for how long reports are read again: what another server wrote
	// may appear after what came later.
	overlap = int64(30_000)
	// maxSightings bounds what one machine can make the server remember.
	maxSightings = 64
)

// read reads what came since the last time.
func (g *sightings) read(ctx context.Context, r store.Reader, patch string, created int64) error {
	if g.by == nil {
		g.by, g.from, g.recently = map[string]*sighting{}, created, map[string]int64{}
	}
	from := max(created, g.from-overlap)
	last := g.from
	err := r.Sightings(ctx, patch, from, func(rep store.Report) error {
		if _, again := g.recently[rep.Seq]; again {
			return nil
		}
		g.recently[rep.Seq] = rep.Received
		last = max(last, rep.Received)
		g.add(rep)
		return nil
	})
	if err != nil {
		return err
	}
	g.from = last
	for seq, at := range g.recently {
		if at < last-2*overlap {
			delete(g.recently, seq)
		}
	}
	return nil
}

func (g *sightings) add(rep store.Report) {
	var body api.Report
	if json.Unmarshal(rep.Body, &body) != nil {
		return // not what this server wrote
	}
	at := time.UnixMilli(rep.Received)
	m := g.by[rep.Machine]
	if m == nil {
		m = &sighting{}
		g.by[rep.Machine] = m
	}
	event := func(kind rollout.Failure) {
		if len(m.events) < maxSightings {
			m.events = append(m.events, rollout.Event{At: at, Kind: kind})
		}
	}
	switch {
	case body.Kind == api.ReportCrash:
		event(rollout.Crashed)
	case body.Kind == api.ReportHealth && body.Patch.State == api.Quarantined:
		event(rollout.Quarantined)
	case body.Kind == api.ReportHealth:
		event(rollout.Warned)
	case body.Patch.State == api.Loading && len(m.loads) < maxSightings:
		m.loads = append(m.loads, load{at, body.BootID})
	case body.Patch.State == api.Blocked && !unreached(body.Patch.Problem):
		event(rollout.Refused)
	case body.Patch.State == api.Waiting && body.Patch.Problem != nil:
		event(rollout.Stalled)
	}
}

// unreached reports whether a live patch did not even come to a machine: no key,
// no fresh metadata. The host has refused nothing.
func unreached(p *api.Problem) bool {
	return p != nil && (p.Code == "TS9413" || p.Code == "TS9414")
}

// tell adds to a machine what was reported about it.
func (g *sightings) tell(x *rollout.Machine, rec *rollout.Record) {
	m := g.by[x.ID]
	if m == nil {
		return
	}
	x.Events = m.events
	if rec == nil {
		return
	}
	for _, l := range m.loads {
		if !l.at.Before(rec.Offered) {
			x.Begun, x.BegunBoot = l.at, l.boot
			return
		}
	}
}
