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

	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

// moving is a rollout in memory. What is decided is in the store first
// (rollout_loop.go), and memory follows, on this server at once and on others
// by the change feed.
type moving struct {
	id, patch, tier string
	plan            rollout.Plan

	mu    sync.RWMutex
	row   store.Rollout
	state *rollout.State
	wants int // who needs its machines in memory now

	sightings sightings // of the loop alone
	about     atomic.Pointer[patchWords]

	countMu   sync.Mutex
	counted   *standingOf // how it stood a moment ago
	countedAt time.Time
	countedOf int64 // revision
}

// patchWords are what is shown of a live patch wherever a rollout of it is.
type patchWords struct {
	target  string
	version int
}

// admits reports whether a machine of the tier may have the live patch's key.
func (r *moving) admits(machine string) bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state.Admits(machine)
}

func (r *moving) phase() rollout.Phase {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state.Phase
}

func (r *moving) revision() int64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.row.Revision
}

// head is the state without its machines, and the row that it is of.
func (r *moving) head() (rollout.State, store.Rollout) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	s := *r.state
	s.Records = nil
	s.Approvals = slices.Clone(s.Approvals)
	return s, r.row
}

// rests reports whether its machines are not in memory.
func (r *moving) rests() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.state == nil || r.state.Records == nil
}

// rest forgets the machines of a rollout that is done for good. Who reads it
// from the store counts on those that are there.
func (s *Server) rest(r *moving) {
	s.rollouts.reading.Lock()
	defer s.rollouts.reading.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sightings = sightings{}
	if r.state.Phase == rollout.Done && r.wants == 0 {
		r.state.Records = nil
	}
}

// keep holds the machines of a rollout in memory until the function is called.
func (r *moving) keep() (release func()) {
	add := func(n int) {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.wants += n
	}
	add(1)
	return func() { add(-1) }
}

// take makes memory what the store has by now: the head, and the machines that
// changed. It says which machines these are; nothing if memory is newer.
func (r *moving) take(row store.Rollout, head rollout.State, changed map[string]*rollout.Record) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	if row.Revision <= r.row.Revision && r.state != nil {
		return nil
	}
	if r.state != nil {
		head.Records = r.state.Records
	}
	if head.Records == nil && (head.Phase != rollout.Done || len(changed) > 0) {
		head.Records = map[string]*rollout.Record{}
	}
	if head.Records != nil {
		maps.Copy(head.Records, changed)
	}
	r.row, r.state = row, &head
	return slices.Collect(maps.Keys(changed))
}

// rollouts are those in memory: of each live patch in each tier the one that
// counts, and others that are not asked about often.
type rollouts struct {
	reading sync.Mutex // held by who brings one from the store into memory

	mu   sync.RWMutex
	all  map[string]*moving
	gate map[[2]string]*moving // by live patch and tier
}

func (rs *rollouts) byID(id string) *moving {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.all[id]
}

// of is the rollout that counts for a live patch in a tier, or nil.
func (rs *rollouts) of(patch, tier string) *moving {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	return rs.gate[[2]string{patch, tier}]
}

// list is all of them, the newest first.
func (rs *rollouts) list() []*moving {
	rs.mu.RLock()
	defer rs.mu.RUnlock()
	out := slices.Collect(maps.Values(rs.all))
	slices.SortFunc(out, func(a, b *moving) int {
		switch {
		case a.id > b.id:
			return -1
		case a.id < b.id:
			return 1
		}
		return 0
	})
	return out
}

// add takes a rollout in, and says whether it is the one that counts now. One
// that is not over counts before one that is done, and that before those that
// were aborted, of which the last does.
func (rs *rollouts) add(r *moving) bool {
	rs.mu.Lock()
	defer rs.mu.Unlock()
	if rs.all == nil {
		rs.all, rs.gate = map[string]*moving{}, map[[2]string]*moving{}
	}
	rs.all[r.id] = r
	key := [2]string{r.patch, r.tier}
	old := rs.gate[key]
	if old != nil && old != r && !before(r, old) {
		return false
	}
	rs.gate[key] = r
	return old != r
}

// before reports whether a counts before b.
func before(a, b *moving) bool {
	weight := func(r *moving) int {
		switch p := r.phase(); {
		case !p.Over():
			return 2
		case p == rollout.Done:
			return 1
		}
		return 0
	}
	x, y := weight(a), weight(b)
	return x > y || x == y && a.id > b.id
}

// readRollouts reads all rollouts at the start.
func (s *Server) readRollouts(ctx context.Context) error {
	f := store.RolloutFilter{}
	for {
		rows, err := s.store.Rollouts(ctx, f)
		if err != nil {
			return err
		}
		for _, row := range rows {
			if _, err := s.takeRollout(ctx, row); err != nil {
				return err
			}
			f.Before = row.ID
		}
		if len(rows) < 1000 {
			return nil
		}
	}
}

// takeRollout makes memory what a row says, reads the machines that changed
// since, and says which these are.
func (s *Server) takeRollout(ctx context.Context, row store.Rollout) ([]string, error) {
	s.rollouts.reading.Lock()
	defer s.rollouts.reading.Unlock()
	r := s.rollouts.byID(row.ID)
	if r == nil {
		r = &moving{id: row.ID, patch: row.LivePatch, tier: row.Tier}
		if err := json.Unmarshal(row.Plan, &r.plan); err != nil {
			return nil, fmt.Errorf("plan of rollout %s: %w", row.ID, err)
		}
		r.plan = r.plan.Filled()
	}
	known := r.revision()
	if row.Revision <= known {
		return nil, nil
	}
	head, err := readState(row)
	if err != nil {
		return nil, err
	}
	changed := map[string]*rollout.Record{}
	// Of one that is done nobody asks who may have it.
	if !s.restsNow(&r.plan, &head) {
		if r.rests() {
			known = 0
		}
		err := s.store.RolloutMachinesSince(ctx, row.ID, known, func(m store.RolloutMachine) error {
			rec, err := readRecord(m)
			changed[m.Machine] = rec
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	moved := r.take(row, head, changed)
	if s.rollouts.add(r) {
		s.shelves.clear() // they point to the one that counts
	}
	return moved, nil
}

func readState(row store.Rollout) (rollout.State, error) {
	var head rollout.State
	if err := json.Unmarshal(row.State, &head); err != nil {
		return head, fmt.Errorf("state of rollout %s: %w", row.ID, err)
	}
	return head, nil
}

func readRecord(m store.RolloutMachine) (*rollout.Record, error) {
	rec := &rollout.Record{}
	if err := json.Unmarshal(m.Body, rec); err != nil {
		return nil, fmt.Errorf("machine %s of rollout %s: %w", m.Machine, m.Rollout, err)
	}
	return rec, nil
}

// refreshRollout reads a rollout anew, and wakes the machines that it is news
// for: all of them, if it is done now.
func (s *Server) refreshRollout(ctx context.Context, id string) error {
	row, err := s.store.Rollout(ctx, id)
	if errors.Is(err, store.ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	done := func() bool {
		r := s.rollouts.byID(id)
		return r != nil && r.phase() == rollout.Done
	}
	was := done()
	moved, err := s.takeRollout(ctx, row)
	for _, m := range moved {
		s.waiters.wake(m)
	}
	if !was && done() {
		s.wakeSoon()
	}
	return err
}

// unwatched reports whether nothing of a rollout is looked at any more.
func (s *Server) unwatched(p *rollout.Plan, st *rollout.State) bool {
	return st.Phase.Over() && s.now().Sub(st.Since) > watchTime(p)
}

// restsNow reports whether its machines need not be in memory either: of one
// that was aborted they say who may have the live patch.
func (s *Server) restsNow(p *rollout.Plan, st *rollout.State) bool {
	return st.Phase == rollout.Done && s.unwatched(p, st)
}

// gate is what stands before a live patch of a shelf.
type gate struct {
	rollout *moving // nil: closed, until there is one
}

// gatesOf are the gates of a tier's live patches, in their order; nil: none of
// them has one. It asks the store, not memory: what is read of the signed index
// may be newer than what the change feed told so far, and a rollout is stored
// before its live patch is published.
func (s *Server) gatesOf(ctx context.Context, tier string, ids []string) ([]*gate, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	revisions, err := s.store.RolloutRevisions(ctx, tier)
	if err != nil {
		return nil, err
	}
	for id := range revisions {
		if s.rollouts.byID(id) != nil {
			continue
		}
		row, err := s.store.Rollout(ctx, id)
		if err != nil {
			return nil, err
		}
		if _, err := s.takeRollout(ctx, row); err != nil {
			return nil, err
		}
	}
	set, err := readRolloutSettings(ctx, s.store.Reader)
	if err != nil {
		return nil, err
	}
	gates := make([]*gate, len(ids))
	some := false
	for i, id := range ids {
		switch r := s.rollouts.of(id, tier); {
		case r != nil:
			gates[i] = &gate{rollout: r}
		case set.only(tier, id):
			gates[i] = &gate{}
		}
		some = some || gates[i] != nil
	}
	if !some {
		return nil, nil
	}
	return gates, nil
}

// admits reports whether a machine may have the key of what is behind it.
func (g *gate) admits(machine string) bool {
	return g == nil || g.rollout != nil && g.rollout.admits(machine)
}

// admitted are the live patches of a shelf that a machine may have, and the
// digest of their names; and those that it has to wait for.
func (s *shelf) admitted(machine string) (ids []string, names digest, waits []string) {
	if s.gates == nil {
		return s.ids, s.names, nil
	}
	for i, id := range s.ids {
		if s.gates[i].admits(machine) {
			ids = append(ids, id)
		} else {
			waits = append(waits, id)
		}
	}
	return ids, namesDigest(ids), waits
}
