// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func TestRollouts(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, _ *clock) {
		ctx := t.Context()
		p := livePatchOf("x", 1)
		qt.Assert(t, qt.IsNil(s.AddLivePatch(ctx, p)))
		create := func(id string) (r Rollout, err error) {
			err = s.Update(ctx, func(tx *Tx) error {
				r, err = tx.CreateRollout(ctx, Rollout{ID: id, LivePatch: p.ID, Tier: "edge", Plan: []byte("{}"), State: []byte("{}"), Phase: "pending", CreatedBy: "alice"})
				return err
			})
			return r, err
		}
		save := func(r Rollout, phase string, machines ...RolloutMachine) (Rollout, error) {
			r.Phase = phase
			err := s.Update(ctx, func(tx *Tx) (err error) {
				r, err = tx.SaveRollout(ctx, r, machines, []RolloutStep{{What: phase, Why: "why"}})
				return err
			})
			return r, err
		}
		first, err := create("r1")
		qt.Assert(t, qt.IsNil(err))
		_, err = create("r2") // one at a time
		qt.Check(t, qt.ErrorIs(err, ErrConflict))

		// Of several that decided by the same revision one is heard.
		var wg sync.WaitGroup
		var won, lost atomic.Int64
		for range 4 {
			wg.Go(func() {
				switch _, err := save(first, "running", RolloutMachine{Machine: "m1", Status: "offered", Body: []byte("{}")}); {
				case err == nil:
					won.Add(1)
				case errors.Is(err, ErrConflict):
					lost.Add(1)
				default:
					t.Errorf("save: %v", err)
				}
			})
		}
		wg.Wait()
		qt.Check(t, qt.DeepEquals([]int64{won.Load(), lost.Load()}, []int64{1, 3}))
		first, err = s.Rollout(ctx, "r1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals([]int64{first.Revision, first.Steps}, []int64{2, 1}))

		// Who knows a revision reads what changed after it, and no more.
		first, err = save(first, "aborted", RolloutMachine{Machine: "m2", Status: "well", Wave: 1, Body: []byte("{}")})
		qt.Assert(t, qt.IsNil(err))
		for revision, want := range map[int64][]string{0: {"m1", "m2"}, 2: {"m2"}, 3: nil} {
			var got []string
			qt.Assert(t, qt.IsNil(s.RolloutMachinesSince(ctx, "r1", revision, func(m RolloutMachine) error {
				got = append(got, m.Machine)
				return nil
			})))
			qt.Check(t, qt.DeepEquals(got, want))
		}
		wave := 1
		page, err := s.RolloutMachines(ctx, "r1", RolloutMachineFilter{Wave: &wave})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(page, 1))
		steps, err := s.RolloutSteps(ctx, "r1", 0, 10)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals([]string{steps[0].What, steps[1].What}, []string{"aborted", "running"}))

		// One that is over does not begin again beside its successor.
		_, err = create("r2")
		qt.Assert(t, qt.IsNil(err))
		_, err = save(first, "reverting")
		qt.Check(t, qt.Equals(code.Of(err), "TS8106"))
		again, err := s.Rollout(ctx, "r1")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(again, first))
		open, err := s.Rollouts(ctx, RolloutFilter{Tier: "edge", Open: true})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(open, 1))
	})
}

func TestLeases(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		take := func(owner string) Lease {
			l, err := s.TakeLease(ctx, "rollouts", owner, c.in(time.Minute), c.in(-time.Minute))
			qt.Assert(t, qt.IsNil(err))
			return l
		}
		began := c.ms()
		qt.Check(t, qt.DeepEquals(take("a"), Lease{Owner: "a", Until: c.in(time.Minute), Since: began}))
		until := c.in(time.Minute)
		c.pass(30 * time.Second)
		qt.Check(t, qt.DeepEquals(take("b"), Lease{Owner: "a", Until: until, Since: began}))
		qt.Check(t, qt.Equals(take("a").Until, c.in(time.Minute)))
		// Who takes over at once goes on, and nobody did in between.
		qt.Assert(t, qt.IsNil(s.LeaveLease(ctx, "rollouts", "a")))
		qt.Check(t, qt.DeepEquals(take("b"), Lease{Owner: "b", Until: c.in(time.Minute), Since: began}))
		c.pass(2*time.Minute + time.Millisecond)
		qt.Check(t, qt.DeepEquals(take("a"), Lease{Owner: "a", Until: c.in(time.Minute), Since: c.ms()}))
		l, err := s.ReadLease(ctx, "rollouts")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(l.Owner, "a"))
		_, err = s.ReadLease(ctx, "nothing")
		qt.Check(t, qt.ErrorIs(err, ErrNotFound))
	})
}
