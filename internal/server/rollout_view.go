// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"encoding/json"
	"errors"
	"maps"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

// standingOf is how a rollout stands, as far as it takes a look at its machines.
type standingOf struct {
	Health api.RolloutHealth     `json:"health"`
	Waves  []api.RolloutProgress `json:"waves"`
}

// countsFor is for how long such a look will do: lists and pages ask often.
const countsFor = 2 * time.Second

// rolloutStanding looks at a rollout's machines, unless it did a moment ago. Of one that
// is over for long it is what was stored at its last step: nothing is looked at
// any more then.
func (s *Server) rolloutStanding(ctx context.Context, r *moving) (*standingOf, error) {
	head, row := r.head()
	if r.rests() || len(row.Summary) > 0 && s.unwatched(&r.plan, &head) {
		var st standingOf
		if len(row.Summary) > 0 {
			if err := json.Unmarshal(row.Summary, &st); err != nil {
				return nil, err
			}
		}
		return &st, nil
	}
	r.countMu.Lock()
	defer r.countMu.Unlock()
	now := s.now()
	if r.counted != nil && r.countedOf == row.Revision && now.Sub(r.countedAt) < countsFor && !now.Before(r.countedAt) {
		return r.counted, nil
	}
	sc, err := s.scopeOf(ctx, r.patch, r.tier)
	if err != nil {
		return nil, err
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	f, done := s.factsToday(sc, r.state, now)
	defer done()
	st := standingFrom(&r.plan, r.state, f, now)
	r.counted, r.countedAt, r.countedOf = st, now, r.row.Revision
	return st, nil
}

// summary is how it will stand, for the store, with what is about to be stored;
// nil if that can't be had.
func (s *Server) summary(ctx context.Context, r *moving, head rollout.State, changed map[string]*rollout.Record) []byte {
	sc, err := s.scopeOf(ctx, r.patch, r.tier)
	if err != nil {
		return nil
	}
	r.mu.RLock()
	head.Records = maps.Clone(r.state.Records)
	r.mu.RUnlock()
	if head.Records == nil {
		head.Records = map[string]*rollout.Record{}
	}
	maps.Copy(head.Records, changed)
	now := s.now()
	f, done := s.factsToday(sc, &head, now)
	defer done()
	b, err := json.Marshal(standingFrom(&r.plan, &head, f, now))
	if err != nil {
		return nil
	}
	return b
}

// standingFrom puts the health of a rollout and its waves into the API's words.
func standingFrom(p *rollout.Plan, s *rollout.State, f *rollout.Facts, now time.Time) *standingOf {
	h := rollout.Assess(p, s, f, now)
	out := &standingOf{Health: api.RolloutHealth{
		Machines: h.Machines, Offered: h.Offered, Begun: h.Begun, Well: h.Well, Late: h.Late, Had: h.Had, Forgiven: h.Forgiven,
		Failed: map[string]int{}, Places: p.Places(s.Wave, h.Machines), Used: h.WaveUsed, Flight: rollout.Flight(p, h),
		Crashes: h.Crashes, Failures: h.Failures, MayCrash: h.MayCrash, MayFail: h.MayFail,
		Within: h.Span.Within.String(), Events: h.Span.Events, Usual: h.Span.Usual, Control: h.Control, Over: h.Over,
	}}
	for kind, n := range h.Failed {
		out.Health.Failed[string(kind)] = n
	}
	out.Waves = wavesOf(p, s, h.Machines)
	return out
}

// wavesOf are the waves with what became of their machines.
func wavesOf(p *rollout.Plan, s *rollout.State, machines int) []api.RolloutProgress {
	waves := make([]api.RolloutProgress, len(p.Waves))
	for i, w := range p.Waves {
		waves[i] = api.RolloutProgress{Wave: i + 1, Upto: w.Upto.String(), Places: p.Places(i, machines), State: "waits"}
		if w.Soak > 0 {
			waves[i].Soak = w.Soak.String()
		}
		if i > 0 {
			waves[i].Places -= p.Places(i-1, machines)
		}
		switch {
		case s.Phase == rollout.Pending:
		case i < s.Wave || s.Phase == rollout.Done:
			waves[i].State = "over"
		case i == s.Wave && !s.Soaking.IsZero():
			waves[i].State = "soaks"
		case i == s.Wave:
			waves[i].State = "runs"
		}
	}
	for _, r := range s.Records {
		if r.Wave < 0 || r.Wave >= len(waves) {
			continue
		}
		w := &waves[r.Wave]
		switch r.Status {
		case rollout.Offered:
			w.Offered++
		case rollout.Begun:
			w.Begun++
		case rollout.Well:
			w.Well++
		case rollout.Failed:
			w.Failed++
		case rollout.Late:
			w.Late++
		}
	}
	return waves
}

// rolloutOut is a rollout in the API's words.
func (s *Server) rolloutOut(ctx context.Context, r *moving) (api.Rollout, error) {
	st, err := s.rolloutStanding(ctx, r)
	if err != nil {
		return api.Rollout{}, err
	}
	head, row := r.head()
	out := api.Rollout{
		ID: r.id, LivePatch: r.patch, Tier: r.tier, Plan: planOut(&r.plan), Phase: api.RolloutPhase(head.Phase), Reason: head.Reason,
		Since: millis(head.Since), By: head.By, Opened: millis(head.Opened), Soaking: millis(head.Soaking), Skip: head.Skip,
		Emergency: head.Emergency, Approvals: []api.RolloutApproval{}, Needed: head.Needed(&r.plan),
		Health: st.Health, Waves: st.Waves, Revision: row.Revision, Created: row.Created, CreatedBy: row.CreatedBy, Changed: row.Changed,
	}
	about := r.about.Load()
	if about == nil {
		if p, err := s.store.LivePatch(ctx, r.patch); err == nil {
			about = &patchWords{p.Target, p.Version}
			r.about.Store(about)
		}
	}
	if about != nil {
		out.Target, out.Version = about.target, about.version
	}
	if out.Health.Failed == nil {
		out.Health.Failed = map[string]int{}
	}
	if out.Waves == nil {
		out.Waves = []api.RolloutProgress{}
	}
	if head.Phase != rollout.Pending {
		out.Wave = head.Wave + 1
		if !head.Soaking.IsZero() {
			out.SoakEnds = millis(head.Soaking.Add(time.Duration(r.plan.Waves[head.Wave].Soak)))
		}
	}
	for _, a := range head.Approvals {
		out.Approvals = append(out.Approvals, api.RolloutApproval{By: a.By, At: millis(a.At)})
	}
	if !head.Phase.Over() && !head.Emergency {
		why, until := r.plan.Closed(s.now())
		out.Closed, out.OpensAt = why, millis(until)
	}
	return out, nil
}

func millis(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// rolloutMachine is a machine of a rollout in the API's words.
func rolloutMachine(id string, r *rollout.Record) api.RolloutMachine {
	out := api.RolloutMachine{
		Machine: id, Status: string(r.Status), Wave: r.Wave + 1, Offers: r.Offers, Offered: millis(r.Offered), Begun: millis(r.Begun),
		Settled: millis(r.Settled), Failure: string(r.Failure), FailedAt: millis(r.FailedAt), Forgiven: r.Forgiven,
	}
	if r.Failure == "" && r.Break != "" {
		out.Failure, out.FailedAt, out.Forgiven = string(r.Break), millis(r.BreakAt), r.Excused
	}
	return out
}

// explain says how a machine stands in a rollout.
func (s *Server) explain(ctx context.Context, r *moving, machine string) (api.RolloutWord, error) {
	sc, err := s.scopeOf(ctx, r.patch, r.tier)
	if err != nil {
		return api.RolloutWord{}, err
	}
	var own *rollout.Record
	if r.rests() {
		row, err := s.store.RolloutMachine(ctx, r.id, machine)
		switch {
		case err == nil:
			if own, err = readRecord(row); err != nil {
				return api.RolloutWord{}, err
			}
		case !errors.Is(err, store.ErrNotFound):
			return api.RolloutWord{}, err
		}
	}
	now := s.now()
	r.mu.RLock()
	defer r.mu.RUnlock()
	state := r.state
	if own != nil {
		head := *r.state
		head.Records = map[string]*rollout.Record{machine: own}
		state = &head
	}
	f, done := s.factsToday(sc, state, now)
	defer done()
	x := rollout.Explain(&r.plan, state, f, machine, now)
	return api.RolloutWord{
		Rollout: r.id, LivePatch: r.patch, Machine: machine, Word: string(x.Word), Why: x.Why, Until: millis(x.Until), Wave: x.Wave,
	}, nil
}

// rolloutOfMachine is how a machine stands in the rollout of the newest live
// patch of its index. nil: there is none, and each machine of the tier may have it.
func (s *Server) rolloutOfMachine(ctx context.Context, id, tier string, sh *shelf) (*api.RolloutWord, error) {
	newest := len(sh.gates) - 1
	if newest < 0 || sh.gates[newest] == nil {
		return nil, nil
	}
	if r := sh.gates[newest].rollout; r != nil {
		x, err := s.explain(ctx, r, id)
		return &x, err
	}
	return &api.RolloutWord{
		LivePatch: sh.ids[newest], Machine: id, Word: "no-rollout",
		Why: "tier " + tier + " gets live patches by rollouts alone, and none of " + sh.ids[newest] + " has begun",
	}, nil
}

// rolloutSteps are all kinds of steps, for what lists them.
func rolloutSteps() []rollout.What {
	return []rollout.What{
		rollout.Begin, rollout.Open, rollout.Offer, rollout.Withdraw, rollout.MarkLate, rollout.MarkLeft, rollout.MarkOn, rollout.MarkBack,
		rollout.MarkWell, rollout.MarkFail, rollout.Soak, rollout.Halt, rollout.Revert, rollout.Recall, rollout.Finish, rollout.Close,
	}
}

// phasesShown are the phases of rollouts that are not over.
func phasesShown() []rollout.Phase {
	return []rollout.Phase{rollout.Pending, rollout.Running, rollout.Halted, rollout.Reverting}
}

// stepOut is a line of the log in the API's words.
func stepOut(r store.RolloutStep) api.RolloutStep {
	return api.RolloutStep{
		Seq: r.Seq, Time: r.Time, What: r.What, Wave: r.Wave, Machines: r.Machines, Failure: r.Failure,
		Why: strings.TrimSpace(r.Why), Actor: r.Actor,
	}
}
