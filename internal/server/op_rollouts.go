// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

type rolloutsInput struct {
	LivePatch string `query:"livepatch" maxLength:"255"`
	Tier      string `query:"tier" maxLength:"64"`
	Open      bool   `query:"open" doc:"only those that are not over"`
	Page
}

type newRolloutInput struct {
	ApprovalQuery
	Body api.NewRollout
}

type rolloutPreviewInput struct{ Body api.NewRollout }

type rolloutActionInput struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.RolloutAction
}

type rolloutStepsInput struct {
	ID string `path:"id" maxLength:"255"`
	Page
}

type rolloutMachinesInput struct {
	ID     string `path:"id" maxLength:"255"`
	Status string `query:"status" enum:"offered,begun,well,failed,withdrawn,late,left"`
	Wave   int    `query:"wave" minimum:"0" doc:"1 is the first; 0: all"`
	Page
}

type explainInput struct {
	ID      string `path:"id" maxLength:"255"`
	Machine string `path:"machine" maxLength:"255"`
}

type rolloutSettingsInput struct{ Body api.RolloutSettings }

func (s *Server) rolloutOperations(o *operations) {
	answer(o, op{id: "list-rollouts", method: "GET", path: "/v1/rollouts", summary: "Rollouts, the newest first", may: look},
		func(ctx context.Context, _ operator, in *rolloutsInput) (api.List[api.Rollout], error) {
			return s.listRollouts(ctx, in)
		})
	answer(o, op{id: "create-rollout", method: "POST", path: "/v1/rollouts", summary: "Take a live patch through the machines of a tier in waves", may: change, status: 201},
		func(ctx context.Context, who operator, in *newRolloutInput) (api.Rollout, error) {
			r, err := s.newRollout(ctx, who.name, in.Body.LivePatch, in.Body.Tier, in.Body.Plan, s.promotionCheck(who, in.Body.LivePatch, in.Approval))
			if err != nil {
				return api.Rollout{}, err
			}
			return s.rolloutOut(ctx, r)
		})
	answer(o, op{id: "preview-rollout", method: "POST", path: "/v1/rollouts/preview", summary: "What a plan would mean for the machines of now", may: look},
		func(ctx context.Context, _ operator, in *rolloutPreviewInput) (api.RolloutPreview, error) {
			return s.previewRollout(ctx, in.Body)
		})
	answer(o, op{id: "get-rollout", method: "GET", path: "/v1/rollouts/{id}", summary: "One rollout: its waves, and its health against the budget", may: look},
		func(ctx context.Context, _ operator, in *byID) (api.Rollout, error) {
			r, err := s.rollout(in.ID)
			if err != nil {
				return api.Rollout{}, err
			}
			return s.rolloutOut(ctx, r)
		})
	answer(o, op{id: "list-rollout-steps", method: "GET", path: "/v1/rollouts/{id}/steps", summary: "What a rollout decided, and why, the newest first", may: look},
		func(ctx context.Context, _ operator, in *rolloutStepsInput) (api.List[api.RolloutStep], error) {
			return s.listRolloutSteps(ctx, in)
		})
	answer(o, op{id: "list-rollout-machines", method: "GET", path: "/v1/rollouts/{id}/machines", summary: "The machines that were offered it", may: look},
		func(ctx context.Context, _ operator, in *rolloutMachinesInput) (api.List[api.RolloutMachine], error) {
			return s.listRolloutMachines(ctx, in)
		})
	answer(o, op{id: "explain-rollout", method: "GET", path: "/v1/rollouts/{id}/machines/{machine}", summary: "Why a machine has it, or does not have it yet", may: look},
		func(ctx context.Context, _ operator, in *explainInput) (api.RolloutWord, error) {
			r, err := s.rollout(in.ID)
			if err != nil {
				return api.RolloutWord{}, err
			}
			return s.explain(ctx, r, in.Machine)
		})
	for _, v := range []struct {
		verb    rollout.Verb
		id      string
		summary string
	}{
		{rollout.Stop, "halt-rollout", "Offer it to no more machines, until somebody resumes"},
		{rollout.Resume, "resume-rollout", "Go on after a halt; what failed so far is forgiven"},
		{rollout.Skip, "skip-rollout", "Leave the rest of a wave, and its soak"},
		{rollout.Abort, "abort-rollout", "End it; machines keep what they have"},
		{rollout.Undo, "revert-rollout", "End it, and take the live patch out of all machines"},
		{rollout.Hurry, "hurry-rollout", "Ask for all machines at once, which two people have to approve"},
		{rollout.Approve, "approve-rollout", "Approve what a rollout waits for"},
	} {
		answer(o, op{id: v.id, method: "POST", path: "/v1/rollouts/{id}/" + string(v.verb), summary: v.summary, may: change},
			func(ctx context.Context, who operator, in *rolloutActionInput) (api.Rollout, error) {
				r, err := s.rollout(in.ID)
				if err != nil {
					return api.Rollout{}, err
				}
				var checks []rolloutCheck
				if v.verb == rollout.Approve {
					checks = append(checks, s.another(who, r))
				}
				if err := s.actAs(ctx, r, who.name, rollout.Action{Verb: v.verb, By: who.person(), Reason: in.Body.Reason}, checks...); err != nil {
					return api.Rollout{}, err
				}
				return s.rolloutOut(ctx, r)
			})
	}
	answer(o, op{id: "get-rollout-settings", method: "GET", path: "/v1/rollout-settings", summary: "How live patches come to tiers, and climb from one to the next", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.RolloutSettings, error) {
			return s.rolloutSettingsOut(ctx)
		})
	answer(o, op{id: "set-rollout-settings", method: "PUT", path: "/v1/rollout-settings", summary: "Change that", may: change},
		func(ctx context.Context, who operator, in *rolloutSettingsInput) (api.RolloutSettings, error) {
			return s.setRolloutSettings(ctx, who, in.Body)
		})
	answer(o, op{id: "list-promotions", method: "GET", path: "/v1/promotions", summary: "Live patches on the ladder, and what each waits for", may: look},
		func(ctx context.Context, _ operator, _ *none) (api.List[api.Promotion], error) {
			all, err := s.promotions(ctx)
			items := make([]api.Promotion, len(all))
			for i, p := range all {
				items[i] = p.Promotion
			}
			return api.List[api.Promotion]{Items: items}, err
		})
}

// rollout is one that is there.
func (s *Server) rollout(id string) (*moving, error) {
	if r := s.rollouts.byID(id); r != nil {
		return r, nil
	}
	return nil, code.New("TS8108", id, "")
}

func (s *Server) listRollouts(ctx context.Context, in *rolloutsInput) (api.List[api.Rollout], error) {
	items := []api.Rollout{}
	for _, r := range s.rollouts.list() {
		switch {
		case in.After != "" && r.id >= in.After, in.LivePatch != "" && r.patch != in.LivePatch, in.Tier != "" && r.tier != in.Tier,
			in.Open && r.phase().Over():
			continue
		}
		out, err := s.rolloutOut(ctx, r)
		if err != nil {
			return api.List[api.Rollout]{}, err
		}
		if items = append(items, out); len(items) == in.Limit {
			break
		}
	}
	return listOf(items, in.Limit, func(r api.Rollout) string { return r.ID }), nil
}

func (s *Server) listRolloutSteps(ctx context.Context, in *rolloutStepsInput) (api.List[api.RolloutStep], error) {
	if _, err := s.rollout(in.ID); err != nil {
		return api.List[api.RolloutStep]{}, err
	}
	before := int64(0)
	if in.After != "" {
		n, err := strconv.ParseInt(in.After, 10, 64)
		if err != nil || n < 1 {
			return api.List[api.RolloutStep]{}, refuse("TS7601", "query.after", "not the next of a page")
		}
		before = n
	}
	rows, err := s.store.RolloutSteps(ctx, in.ID, before, in.Limit)
	items := make([]api.RolloutStep, len(rows))
	for i, row := range rows {
		items[i] = stepOut(row)
	}
	return listOf(items, in.Limit, func(r api.RolloutStep) string { return strconv.FormatInt(r.Seq, 10) }), err
}

func (s *Server) listRolloutMachines(ctx context.Context, in *rolloutMachinesInput) (api.List[api.RolloutMachine], error) {
	list := api.List[api.RolloutMachine]{}
	if _, err := s.rollout(in.ID); err != nil {
		return list, err
	}
	f := store.RolloutMachineFilter{Status: in.Status, After: in.After, Limit: in.Limit}
	if in.Wave > 0 {
		wave := in.Wave - 1
		f.Wave = &wave
	}
	rows, err := s.store.RolloutMachines(ctx, in.ID, f)
	if err != nil {
		return list, err
	}
	items := make([]api.RolloutMachine, len(rows))
	for i, row := range rows {
		rec, err := readRecord(row)
		if err != nil {
			return list, err
		}
		items[i] = rolloutMachine(row.Machine, rec)
		if m, err := s.store.Machine(ctx, row.Machine); err == nil {
			items[i].Hostname = m.Hostname
		}
	}
	return listOf(items, in.Limit, func(r api.RolloutMachine) string { return r.Machine }), nil
}

// collectRollouts gives the gauges of rollouts.
func (s *Server) collectRollouts(gauge gauger) {
	phases := map[rollout.Phase]int{}
	flight, well, failed := 0, 0, 0
	for _, r := range s.rollouts.list() {
		r.mu.RLock()
		phases[r.state.Phase]++
		if !r.state.Phase.Over() {
			for _, rec := range r.state.Records {
				switch rec.Status {
				case rollout.Offered, rollout.Begun:
					flight++
				case rollout.Well:
					well++
				case rollout.Failed:
					failed++
				}
			}
		}
		r.mu.RUnlock()
	}
	d := desc("rollouts", "Rollouts that are not over, by phase.", "phase")
	for _, p := range phasesShown() {
		gauge(d, float64(phases[p]), string(p))
	}
	d = desc("rollout_machines", "Machines of rollouts that are not over, by how they stand.", "status")
	gauge(d, float64(flight), "flight")
	gauge(d, float64(well), "well")
	gauge(d, float64(failed), "failed")
	if s.rolling.until.Load() > s.now().UnixMilli() {
		gauge(desc("rollout_age_seconds", "Time since rollouts were last looked at, on the server that does."), float64(s.now().UnixMilli()-s.rolling.stepped.Load())/1000)
	}
}
