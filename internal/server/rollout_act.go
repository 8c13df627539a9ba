// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

// newRollout stores a rollout, and then brings its live patch into the tier, if
// it is not there: from the first moment on nobody has it who was not offered it.
func (s *Server) newRollout(ctx context.Context, actor, patch, tier string, in *api.RolloutPlan, checks ...publish.Check) (*moving, error) {
	if in == nil {
		set, err := readRolloutSettings(ctx, s.store.Reader)
		if err != nil {
			return nil, err
		}
		in = set.Tiers[tier].Plan
	}
	plan, err := planOf("plan", in)
	if err != nil {
		return nil, err
	}
	planText, err := json.Marshal(plan)
	if err != nil {
		return nil, err
	}
	id, err := store.NewID()
	if err != nil {
		return nil, err
	}
	stateText, err := json.Marshal(rollout.New(id, &plan, s.now()))
	if err != nil {
		return nil, err
	}
	var row store.Rollout
	published := false
	err = s.store.Update(ctx, func(tx *store.Tx) error {
		// Nothing is published meanwhile.
		if err := tx.LockTUF(ctx); err != nil {
			return err
		}
		p, err := tx.LivePatch(ctx, patch)
		switch {
		case errors.Is(err, store.ErrNotFound):
			return code.New("TS7701", patch, "")
		case err != nil:
			return err
		case p.Blocked != 0:
			return code.New("TS7705", patch, p.Reason)
		}
		tiers, err := tx.Tiers(ctx)
		if err != nil {
			return err
		}
		if !slices.ContainsFunc(tiers, func(t store.Tier) bool { return t.Name == tier }) {
			return code.New("TS7703", tier, "")
		}
		published = slices.Contains(p.Tiers, tier)
		earlier, err := tx.Rollouts(ctx, store.RolloutFilter{LivePatch: patch, Tier: tier})
		if err != nil {
			return err
		}
		for _, e := range earlier {
			switch p := rollout.Phase(e.Phase); {
			case p == rollout.Done:
				return code.New("TS8107", patch, "in tier "+tier+", by rollout "+e.ID)
			case !p.Over():
				return code.New("TS8106", patch, "in tier "+tier+", in rollout "+e.ID)
			}
		}
		for _, check := range checks {
			if published {
				break // nothing is promoted
			}
			if err := check(ctx, tx, tier); err != nil {
				return err
			}
		}
		row, err = tx.CreateRollout(ctx, store.Rollout{
			ID: id, LivePatch: patch, Tier: tier, Plan: planText, State: stateText, Phase: string(rollout.Pending), CreatedBy: actor,
		})
		if err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: actor, Action: "rollout.create", Object: id, Detail: fmt.Sprintf("%s in tier %s: %s", patch, tier, planText)})
	})
	if err != nil {
		return nil, err
	}
	ctx = context.WithoutCancel(ctx) // it is there now: who goes away leaves nothing half done
	if _, err := s.takeRollout(ctx, row); err != nil {
		return nil, err
	}
	r := s.rollouts.byID(id)
	if !published {
		if _, err := s.publish.Promote(ctx, patch, tier, actor); err != nil {
			return nil, errors.Join(err, s.act(ctx, r, rollout.Action{
				Verb: rollout.Abort, By: actor, Reason: "the live patch could not be brought into the tier: " + err.Error(),
			}))
		}
	}
	s.rollSoon()
	return r, nil
}

// another refuses the approval of who may be the same person as who made the
// rollout, asked for all machines at once, or approved it before. Where one
// approval is enough, who made it can't give it.
func (s *Server) another(who operator, r *moving) rolloutCheck {
	return func(ctx context.Context, tx *store.Tx, head *rollout.State, row store.Rollout) error {
		me, maker := who.person(), nameOfPerson(row.CreatedBy)
		if me == maker && head.Needed(&r.plan) < 2 {
			return code.New("TS8223", r.id, "you made the rollout")
		}
		others := []string{maker}
		if head.Asked != "" {
			others = append(others, head.Asked)
		}
		for _, a := range head.Approvals {
			others = append(others, a.By)
		}
		return s.people.Another(ctx, tx, who.caller, r.id, others)
	}
}

// rolloutCheck looks at what is about to be stored, in the transaction that
// does, and refuses it.
type rolloutCheck func(ctx context.Context, tx *store.Tx, head *rollout.State, row store.Rollout) error

// act does what somebody asks of a rollout.
func (s *Server) act(ctx context.Context, r *moving, a rollout.Action, checks ...rolloutCheck) error {
	return s.actAs(ctx, r, a.By, a, checks...)
}

// actAs is act for a person who asks by one of their keys: actor is who the
// audit log names.
func (s *Server) actAs(ctx context.Context, r *moving, actor string, a rollout.Action, checks ...rolloutCheck) error {
	const tries = 10
	var err error
	for range tries {
		if err = s.actOnce(ctx, r, actor, a, checks); !errors.Is(err, store.ErrConflict) {
			break
		}
		if err := s.refreshRollout(ctx, r.id); err != nil {
			return err
		}
	}
	s.rollSoon()
	return err
}

func (s *Server) actOnce(ctx context.Context, r *moving, actor string, a rollout.Action, checks []rolloutCheck) error {
	defer r.keep()()
	if r.rests() { // its machines are needed again
		if err := s.readMachines(ctx, r); err != nil {
			return err
		}
	}
	var refused error
	line := store.RolloutStep{What: string(a.Verb), Why: a.Reason, Actor: actor}
	err := s.write(ctx, r, &line, func(head *rollout.State, records map[string]*rollout.Record) map[string]*rollout.Record {
		line.Wave = head.Wave + 1
		head.Records = make(map[string]*rollout.Record, len(records))
		for id, rec := range records {
			c := *rec
			head.Records[id] = &c
		}
		if refused = head.Act(&r.plan, a, s.now()); refused != nil {
			return nil
		}
		changed := map[string]*rollout.Record{}
		for id, rec := range head.Records {
			if *rec != *records[id] {
				changed[id] = rec
			}
		}
		return changed
	}, func() error { return refused }, checks...)
	return err
}

// readMachines brings the machines of a rollout that rests back into memory.
func (s *Server) readMachines(ctx context.Context, r *moving) error {
	all := map[string]*rollout.Record{}
	err := s.store.RolloutMachinesSince(ctx, r.id, 0, func(m store.RolloutMachine) error {
		rec, err := readRecord(m)
		all[m.Machine] = rec
		return err
	})
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.state.Records == nil {
		r.state.Records = map[string]*rollout.Record{}
	}
	for id, rec := range all {
		if r.state.Records[id] == nil {
			r.state.Records[id] = rec
		}
	}
	return nil
}

// previewRollout says what a plan would mean for the machines of now.
func (s *Server) previewRollout(ctx context.Context, in api.NewRollout) (api.RolloutPreview, error) {
	out := api.RolloutPreview{Bars: map[string]int{}, Waves: []api.RolloutProgress{}}
	if in.Plan == nil {
		set, err := readRolloutSettings(ctx, s.store.Reader)
		if err != nil {
			return out, err
		}
		in.Plan = set.Tiers[in.Tier].Plan
	}
	plan, err := planOf("plan", in.Plan)
	if err != nil {
		return out, err
	}
	tiers, err := s.store.Tiers(ctx)
	if err != nil {
		return out, err
	}
	if !slices.ContainsFunc(tiers, func(t store.Tier) bool { return t.Name == in.Tier }) {
		return out, code.New("TS7703", in.Tier, "")
	}
	sc, err := s.scopeOf(ctx, in.LivePatch, in.Tier)
	if err != nil {
		return out, err
	}
	now := s.now()
	state := rollout.New("preview", &plan, now)
	f, done := s.factsToday(sc, state, now)
	defer done()
	st := standingFrom(&plan, state, f, now)
	out.Plan, out.Machines, out.Waves, out.Promotes = planOut(&plan), st.Health.Machines, st.Waves, !sc.published
	bars := rollout.Bars(state, f, now)
	for _, bar := range slices.Sorted(maps.Keys(bars)) {
		switch bar {
		case rollout.BarNone, rollout.BarOut:
		case rollout.BarNeeds:
			out.Have = bars[bar]
		default:
			out.Bars[string(bar)] = bars[bar]
		}
	}
	for _, w := range plan.Waves {
		out.Soaks += (time.Duration(w.Soak) + time.Duration(plan.Settle)).Milliseconds()
	}
	if r := s.rollouts.of(in.LivePatch, in.Tier); r != nil && !r.phase().Over() {
		out.Running = r.id
	}
	return out, nil
}
