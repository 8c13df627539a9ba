// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

const (
	// leaseRollouts is the name of the lease of the server that moves rollouts.
	leaseRollouts = "rollouts"
	// rolloutInterval is how often rollouts are looked at, and leaseTime for how
	// long a server that is not heard of any more keeps the others waiting.
	rolloutInterval = 5 * time.Second
	leaseTime       = 15 * time.Second
	// broken is how long nobody may have had the lease until that counts as a
	// time in which machines were not heard.
	leaseBroken = 30 * time.Second
	// maxStep is how many machines one transaction changes: other writes wait no
	// longer than it takes.
	maxStep = 2000
	// maxPasses bounds what is done for one rollout before the next one's turn.
	maxPasses = 50
	// slowly is how often what changes slowly is looked at: what other servers
	// wrote down of who was seen, tiers' rules, the ladder.
	slowly = 30 * time.Second
)

// rolling is what the loop of rollouts knows.
type rolling struct {
	turn     sync.Mutex // held by who looks at rollouts
	owner    string
	poked    chan struct{}
	settings atomic.Pointer[rolloutSettings]
	since    atomic.Int64 // since when machines are heard without a break; 0: not known
	until    atomic.Int64 // of the lease, if this server has it
	stepped  atomic.Int64 // when the last look ended, if this server leads
	scratch  []rollout.Machine
	slow     time.Time
	saying   sync.Mutex
	said     map[string]string // last error by rollout, so that it is said once
}

// rollSoon has rollouts looked at soon, because something has changed.
func (s *Server) rollSoon() { poke(s.rolling.poked) }

// listening is since when this service hears machines without a break.
func (s *Server) listening(now time.Time) time.Time {
	if at := s.rolling.since.Load(); at > 0 {
		return time.UnixMilli(at)
	}
	return now
}

// watchTime is how long what befalls machines of a rollout that is over is
// looked at.
func watchTime(p *rollout.Plan) time.Duration { return time.Duration(p.Watch) }

// keepRollouts moves rollouts on until the context ends, if this server has the
// lease. That two servers never do the same thing twice does not depend on the
// lease: each decision is stored under the revision that it was made by.
func (s *Server) keepRollouts(ctx context.Context) error {
	interval := s.opts.RolloutInterval
	if interval < 0 {
		return nil
	}
	ticker := time.NewTicker(interval)
	defer ticker.Stop()
	defer func() {
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		if err := s.store.LeaveLease(last, leaseRollouts, s.rolling.owner); err != nil {
			s.log.Warn("lease of rollouts could not be given up", "err", err)
		}
	}()
	for {
		began := time.Now()
		err := s.rollOnce(ctx)
		if ctx.Err() != nil {
			return nil
		}
		s.sayOnce("", err)
		// A fleet that takes long to look at is not looked at all the time.
		if took := time.Since(began); took > interval/10 {
			pause(ctx, min(5*took, leaseTime/3))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-ticker.C:
		case <-s.rolling.poked:
		}
	}
}

func pause(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

// sayOnce logs an error of a rollout, "" of all, unless it was the last one too.
func (s *Server) sayOnce(id string, err error) {
	s.rolling.saying.Lock()
	defer s.rolling.saying.Unlock()
	if err == nil {
		delete(s.rolling.said, id)
		return
	}
	if text := err.Error(); s.rolling.said[id] != text {
		s.log.Error("rollouts could not be moved on", "rollout", id, "err", err)
		s.metrics.rolloutFailures.Inc()
		s.rolling.said[id] = text
	}
}

// rollOnce looks at all rollouts once, if it is this server that does.
func (s *Server) rollOnce(ctx context.Context) error {
	s.rolling.turn.Lock()
	defer s.rolling.turn.Unlock()
	now := s.now()
	l, err := s.store.TakeLease(ctx, leaseRollouts, s.rolling.owner, now.Add(leaseTime).UnixMilli(), now.Add(-leaseBroken).UnixMilli())
	if err != nil {
		return err
	}
	s.rolling.since.Store(l.Since)
	if l.Owner != s.rolling.owner {
		s.rolling.until.Store(0)
		return nil
	}
	s.rolling.until.Store(l.Until)
	// What other servers decided, or a person told them, comes first.
	if err := s.catchUp(ctx); err != nil {
		return err
	}
	slow := now.Sub(s.rolling.slow) >= slowly || now.Before(s.rolling.slow)
	if slow {
		s.rolling.slow = now
		if err := s.lookAround(ctx, now); err != nil {
			return err
		}
	}
	var failed error
	for _, r := range s.rollouts.list() {
		err := s.moveOn(ctx, r)
		if ctx.Err() != nil {
			return nil
		}
		s.sayOnce(r.id, err)
	}
	if slow {
		failed = errors.Join(s.adopt(ctx), s.climb(ctx))
	}
	s.rolling.stepped.Store(s.now().UnixMilli())
	return failed
}

// lookAround takes over when machines were heard of by other servers, as these
// have written it down.
func (s *Server) lookAround(ctx context.Context, now time.Time) error {
	moves := slices.ContainsFunc(s.rollouts.list(), func(r *moving) bool { return r.phase() == rollout.Running })
	if !moves {
		return nil
	}
	since := now.Add(-patience(s.interval.Load())).UnixMilli()
	return s.store.SeenSince(ctx, since, func(id string, seen int64) {
		if m := s.fleet.byID(id); m != nil {
			m.mu.Lock()
			m.seen = max(m.seen, seen)
			m.mu.Unlock()
		}
	})
}

// moveOn does what is to be done for a rollout now.
func (s *Server) moveOn(ctx context.Context, r *moving) error {
	head, row := r.head()
	now := s.now()
	if head.Phase.Over() && now.Sub(head.Since) > watchTime(&r.plan) {
		r.rest()
		return nil
	}
	sc, err := s.scopeOf(ctx, r.patch, r.tier)
	if err != nil {
		return err
	}
	if !sc.published && !head.Phase.Over() {
		return s.bringIn(ctx, r, sc)
	}
	if err := r.sightings.read(ctx, s.store.Reader, r.patch, row.Created); err != nil {
		return err
	}
	for range maxPasses {
		steps, err := s.decide(r, sc, now)
		if err != nil || len(steps) == 0 {
			return err
		}
		for _, st := range steps {
			if err := s.commit(ctx, r, st, now); err != nil {
				if errors.Is(err, store.ErrConflict) {
					return s.refreshRollout(ctx, r.id) // another was faster: by what it decided, the next time
				}
				return err
			}
			if st.What == rollout.Recall {
				if err := s.recall(ctx, r, st.Why); err != nil {
					return err
				}
				if sc, err = s.scopeOf(ctx, r.patch, r.tier); err != nil {
					return err
				}
			}
		}
	}
	s.rollSoon()
	return nil
}

// decide asks package rollout. A rollout of which no machine is in scope waits:
// it would be done at once, and let all have it that come later.
func (s *Server) decide(r *moving, sc *scope, now time.Time) ([]rollout.Step, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	f := s.rolloutFacts(sc, r.state, &r.sightings, now, s.rolling.scratch)
	s.rolling.scratch = f.Machines
	if r.state.Phase == rollout.Running && len(f.Machines) == 0 && len(r.state.Records) == 0 && f.Superseded == "" {
		return nil, nil
	}
	return rollout.Next(&r.plan, r.state, f, now), nil
}

// bringIn publishes the live patch in the tier, if whoever made the rollout did
// not come to it any more.
func (s *Server) bringIn(ctx context.Context, r *moving, sc *scope) error {
	if sc.patch.Blocked != 0 {
		return nil
	}
	_, row := r.head()
	if s.now().Sub(time.UnixMilli(row.Created)) < leaseTime {
		return nil // it is being done
	}
	if _, err := s.publish.Promote(ctx, r.patch, r.tier, row.CreatedBy); err != nil {
		return err
	}
	return s.catchUp(ctx)
}

// recall has the signed indexes tell machines to take the live patch out.
func (s *Server) recall(ctx context.Context, r *moving, why string) error {
	if _, err := s.publish.Block(context.WithoutCancel(ctx), r.patch, why, true, rolloutActor); err != nil {
		return err
	}
	s.log.Warn("live patch recalled by its rollout", "patch", r.patch, "tier", r.tier, "rollout", r.id)
	return s.catchUp(ctx)
}

// rolloutActor is the name of rollouts in logs.
const rolloutActor = "rollout"

// rest forgets the machines of a rollout that is done for good.
func (r *moving) rest() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Phase == rollout.Done && r.state.Records != nil {
		r.state.Records = nil
	}
	r.sightings = sightings{}
}

// commit stores a step and what it changes, in parts that are each a step of
// their own, before memory and machines learn of it.
func (s *Server) commit(ctx context.Context, r *moving, st rollout.Step, now time.Time) error {
	for first := true; first || len(st.Machines) > 0; first = false {
		part := st
		part.Machines = st.Machines[:min(len(st.Machines), maxStep)]
		st.Machines = st.Machines[len(part.Machines):]
		line := store.RolloutStep{
			What: string(part.What), Wave: part.Wave + 1, Machines: len(part.Machines), Failure: string(part.Failure), Why: part.Why, Actor: rolloutActor,
		}
		err := s.write(ctx, r, &line, func(head *rollout.State, records map[string]*rollout.Record) map[string]*rollout.Record {
			head.Records = map[string]*rollout.Record{}
			for _, m := range part.Machines {
				if rec := records[m.Machine]; rec != nil {
					c := *rec
					head.Records[m.Machine] = &c
				}
			}
			head.Take(part, now)
			return head.Records
		}, nil)
		if err != nil {
			return err
		}
	}
	return nil
}

// changer makes of a rollout what it shall be: see write.
type changer func(head *rollout.State, records map[string]*rollout.Record) map[string]*rollout.Record

// write stores what change makes of a rollout, under the revision that it was
// made from, and then lets memory and machines have it. change returns the
// machines that it changes, as copies; refused, if it is not nil, is asked then
// whether there is anything to store. checks are asked with what is stored.
func (s *Server) write(ctx context.Context, r *moving, line *store.RolloutStep, change changer, refused func() error, checks ...rolloutCheck) error {
	r.mu.RLock()
	head, row := *r.state, r.row
	head.Approvals = slices.Clone(head.Approvals)
	before := head.Phase
	changed := change(&head, r.state.Records)
	r.mu.RUnlock()
	if refused != nil {
		if err := refused(); err != nil {
			return err
		}
	}
	head.Records = nil
	b, err := json.Marshal(head)
	if err != nil {
		return err
	}
	row.State, row.Phase = b, string(head.Phase)
	if head.Phase != before || row.Summary == nil {
		row.Summary = s.summary(ctx, r)
	}
	rows := make([]store.RolloutMachine, 0, len(changed))
	for _, id := range slices.Sorted(maps.Keys(changed)) {
		rec := changed[id]
		b, err := json.Marshal(rec)
		if err != nil {
			return err
		}
		rows = append(rows, store.RolloutMachine{Machine: id, Status: string(rec.Status), Wave: rec.Wave, Body: b})
	}
	base := row
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		if row, err = tx.SaveRollout(ctx, base, rows, []store.RolloutStep{*line}); err != nil {
			return err
		}
		for _, check := range checks {
			if err := check(ctx, tx, &head, row); err != nil {
				return err
			}
		}
		if !told(line) {
			return nil
		}
		return tx.Audit(ctx, store.AuditEntry{
			Actor: line.Actor, Action: "rollout." + line.What, Object: r.id, Detail: fmt.Sprintf("%s in tier %s: %s", r.patch, r.tier, line.Why),
		})
	})
	if err != nil {
		return err
	}
	if line.Actor == rolloutActor {
		s.metrics.rolloutSteps.WithLabelValues(line.What).Inc()
	}
	moved := r.take(row, head, changed)
	if head.Phase != before {
		s.log.Info("rollout", "rollout", r.id, "patch", r.patch, "tier", r.tier, "phase", string(head.Phase), "why", head.Reason)
	}
	if head.Phase == rollout.Done && before != rollout.Done {
		go s.wakeAll(context.WithoutCancel(ctx))
	}
	for _, id := range moved {
		s.waiters.wake(id)
	}
	return nil
}

// told reports whether a line is one for the audit log: what was decided, and
// not what was seen of machines or follows from a decision that is there.
func told(line *store.RolloutStep) bool {
	switch rollout.What(line.What) {
	case rollout.Offer, rollout.Withdraw, rollout.MarkLate, rollout.MarkLeft, rollout.MarkOn, rollout.MarkBack, rollout.MarkWell:
		return false
	}
	return true
}

// adopt begins rollouts of what came to tiers that get live patches by rollouts
// alone: of the newest that a policy's machines could have.
func (s *Server) adopt(ctx context.Context) error {
	set := s.rolling.settings.Load()
	if set == nil {
		return nil
	}
	var failed error
	for _, tier := range slices.Sorted(maps.Keys(set.Tiers)) {
		if !set.Tiers[tier].Only {
			continue
		}
		pubs, err := s.store.Publications(ctx, "", tier)
		if err != nil {
			return err
		}
		kernels := map[string]bool{}
		for _, p := range pubs {
			if !set.only(tier, p.LivePatch) || s.rollouts.of(p.LivePatch, tier) != nil {
				continue
			}
			lp, err := s.store.LivePatch(ctx, p.LivePatch)
			if err != nil {
				return err
			}
			kernels[lp.BuildID] = true
		}
		for buildID := range kernels {
			failed = errors.Join(failed, s.adoptNewest(ctx, tier, buildID, set.Tiers[tier].Plan))
		}
	}
	return failed
}

func (s *Server) adoptNewest(ctx context.Context, tier, buildID string, plan *api.RolloutPlan) error {
	words, err := s.policyWords(ctx, tier, buildID)
	if err != nil {
		return err
	}
	for _, word := range words {
		shelf, err := s.shelves.get(ctx, tier, buildID, word)
		if err != nil {
			return err
		}
		if len(shelf.ids) == 0 {
			continue
		}
		last := len(shelf.ids) - 1
		if shelf.gates == nil || shelf.gates[last] == nil || shelf.gates[last].rollout != nil || s.rollouts.of(shelf.ids[last], tier) != nil {
			continue
		}
		if _, err := s.newRollout(ctx, rolloutActor, shelf.ids[last], tier, plan); err != nil {
			return err
		}
	}
	return nil
}

// policyWords are the policies, by word, that have anything in a tier for a
// kernel.
func (s *Server) policyWords(ctx context.Context, tier, buildID string) ([]string, error) {
	names, err := s.store.PoliciesIn(ctx, tier, buildID)
	for i, name := range names {
		names[i] = trust.PolicyWord(name)
	}
	return names, err
}
