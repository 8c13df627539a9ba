// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
)

// choiceOf says what a policy chooses for a target, and how far that has come.
func (s *Server) choiceOf(ctx context.Context, p selection.Policy, sel publish.Selected) (api.PolicyChoice, error) {
	c := api.PolicyChoice{
		Target: sel.Target, Update: sel.Update, Selection: sel.Selection.Digest, Fixes: len(sel.Selection.Fixes),
		CVEs: len(cvesOf(sel.Selection.Fixes)), Left: map[string]int{}, State: api.ChoicePending,
	}
	for _, l := range sel.Selection.Left {
		c.Left[string(l.Kind)]++
	}
	if c.Fixes == 0 {
		c.State = api.ChoiceEmpty
		return c, nil
	}
	all, err := s.store.ChoosersOf(ctx, sel.Target, c.Selection)
	if err != nil {
		return c, err
	}
	c.Shared = slices.DeleteFunc(all, func(name string) bool { return name == p.Name })
	if err := s.stateOf(ctx, p.Name, &c); err != nil {
		return c, err
	}
	if c.Patch != "" {
		row, err := s.store.LivePatch(ctx, c.Patch)
		if err != nil {
			return c, err
		}
		c.Tiers = row.Tiers
		if row.Blocked != 0 {
			c.State, c.Problem = api.ChoiceBlocked, &api.Problem{Code: "TS7705", Where: row.ID, Why: row.Reason}
		}
	}
	return c, nil
}

// stateOf finds the live patch or the job of a choice.
func (s *Server) stateOf(ctx context.Context, policy string, c *api.PolicyChoice) error {
	job, err := s.store.JobOf(ctx, c.Target, c.Selection)
	built := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if built {
		j := jobs.JobOf(job)
		c.Job, c.Omitted = j.ID, j.Omitted
	}
	end, err := s.store.EndOfLine(ctx, policy, c.Target)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if end.Selection == c.Selection {
		c.State, c.Patch = api.ChoicePublished, end.ID
		return nil
	}
	there, err := s.store.NewestOf(ctx, c.Target, c.Selection)
	if err == nil && there.Blocked {
		c.State, c.Patch = api.ChoiceBlocked, there.ID
		return nil
	}
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if !built {
		return nil
	}
	switch job.State {
	case store.JobQueued, store.JobRunning:
		c.State = api.ChoiceBuilding
	case store.JobDone:
		if job.Verdict != string(selection.IsLive) {
			c.State = api.ChoiceFailed
			c.Problem = &api.Problem{What: "the build's verdict is " + job.Verdict}
		}
	default:
		c.State, c.Problem = api.ChoiceFailed, jobs.JobOf(job).Problem
	}
	return nil
}

func cvesOf(fixes []*series.Fix) map[string]bool {
	out := map[string]bool{}
	for _, f := range fixes {
		for _, c := range f.CVEs {
			out[c] = true
		}
	}
	return out
}
