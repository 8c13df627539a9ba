// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

const (
	// leaseRollouts is the name of the lease of the server that moves rollouts.
	leaseRollouts = "rollouts"
	// rolloutInterval is how often rollouts are looked at, and leaseTime for how
	// long a server that is not heard of any more keeps the others waiting.
	rolloutInterval = 5 * time.Second
	leaseTime       = 15 * time.Second
	// leaseBroken is how long nobody may have had the lease until that counts as a
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
	stepped  atomic.Int64 // when the last look ended, or the lease was taken, if this server leads
	scratch  []rollout.Machine
	lists    sync.Pool // *[]rollout.Machine of who only looks
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
	if s.rolling.until.Load() == 0 {
		s.rolling.stepped.Store(now.UnixMilli()) // a first look that fails has an age too
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
	if s.unwatched(&r.plan, &head) {
		s.rest(r)
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
