// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
)

// choiceStates are all states of a choice.
var choiceStates = [...]api.ChoiceState{
	api.ChoicePublished, api.ChoiceBuilding, api.ChoiceFailed, api.ChoiceBlocked, api.ChoiceEmpty, api.ChoicePending,
}

// choiceOf says what a policy chooses for a target, and how far that has come.
func (s *Server) choiceOf(ctx context.Context, p selection.Policy, sel publish.Selected) (api.PolicyChoice, error) {
	line, err := s.store.LineOf(ctx, p.Name, sel.Target)
	if err != nil {
		return api.PolicyChoice{}, err
	}
	if sel.Err != nil {
		c := api.PolicyChoice{Target: sel.Target, State: api.ChoiceFailed, Problem: problemOf(sel.Err)}
		return c, s.keepsOf(ctx, p, line, &c)
	}
	c := api.PolicyChoice{
		Target: sel.Target, Update: sel.Series.To, Selection: sel.Key, Fixes: len(sel.Selection.Fixes),
		CVEs: len(cvesOf(sel.Selection.Fixes)), Left: map[string]int{}, State: api.ChoicePending,
	}
	for _, l := range sel.Selection.Left {
		c.Left[string(l.Kind)]++
	}
	if c.Fixes == 0 {
		c.State = api.ChoiceEmpty
		return c, s.keepsOf(ctx, p, line, &c)
	}
	all, err := s.store.ChoosersOf(ctx, sel.Target, c.Selection)
	if err != nil {
		return c, err
	}
	c.Shared = slices.DeleteFunc(all, func(name string) bool { return name == p.Name })
	if err := s.stateOf(ctx, p, line, &c); err != nil {
		return c, err
	}
	if i := slices.IndexFunc(line, func(has store.LinePatch) bool { return has.ID == c.Patch && !has.Blocked }); i >= 0 {
		c.Tiers = line[i].Tiers
	} else if c.Patch != "" {
		row, err := s.store.LivePatch(ctx, c.Patch)
		if err != nil {
			return c, err
		}
		c.Tiers = row.Tiers
		if row.Blocked != 0 {
			c.State, c.Problem = api.ChoiceBlocked, &api.Problem{Code: "TS7705", Where: row.ID, Why: row.Reason}
		}
	}
	return c, s.keepsOf(ctx, p, line, &c)
}

// keepsOf says which live patch machines of the policy may still have while
// what it chooses now is not there or not everywhere, and what of it the
// policy excludes.
func (s *Server) keepsOf(ctx context.Context, p selection.Policy, line []store.LinePatch, c *api.PolicyChoice) error {
	for _, row := range line {
		if row.ID == c.Patch || row.Blocked || covers(c.Tiers, row.Tiers) {
			continue
		}
		has, err := s.coverOf(ctx, row.ID)
		if err != nil || has == nil {
			return err
		}
		c.Keeps, c.KeepsExcluded = row.ID, publish.Excluded(has.fixes, p, s.now())
		return nil
	}
	return nil
}

// covers says whether all of some tiers are among others.
func covers(all, some []string) bool {
	return !slices.ContainsFunc(some, func(t string) bool { return !slices.Contains(all, t) })
}

// stateOf finds the live patch or the job of a choice.
func (s *Server) stateOf(ctx context.Context, p selection.Policy, line []store.LinePatch, c *api.PolicyChoice) error {
	job, err := s.store.JobOf(ctx, c.Target, c.Selection)
	built := err == nil
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	if built {
		j := jobs.JobOf(job)
		c.Job, c.Omitted = j.ID, j.Omitted
	}
	var end store.LinePatch
	if len(line) > 0 {
		end = line[0]
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
	if err == nil && there.Version > end.Version {
		return s.withheld(ctx, p, there.ID, c)
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
			c.Problem = &api.Problem{What: "the build's verdict is " + job.Verdict, Where: c.Target}
			if job.Verdict == string(selection.NeedsReboot) && releaseOf(c.Target) == "" { // a package
				c.Problem.What = "none of it can be live: programs that run have to be started anew"
			}
		}
	default:
		c.State, c.Problem = api.ChoiceFailed, jobs.JobOf(job).Problem
	}
	return nil
}

// withheld is the state of a choice whose live patch is there and not in the
// policy's line: soon it is, unless it holds what the policy excludes.
func (s *Server) withheld(ctx context.Context, p selection.Policy, id string, c *api.PolicyChoice) error {
	has, err := s.coverOf(ctx, id)
	if err != nil || has == nil {
		return err
	}
	if x := publish.Excluded(has.fixes, p, s.now()); x != "" {
		c.State, c.Problem = api.ChoiceFailed, &api.Problem{Code: "TS7906", Where: id, Why: fmt.Sprintf("policy %s excludes %s", p.Name, x)}
	}
	return nil
}

// choiceCount counts what policies choose by how far it has come.
type choiceCount struct {
	states     map[api.ChoiceState]int
	unpromoted int // published, and not in the last tier yet
	ending     int // exclusions that end soon
}

func (s *Server) countChoices(ctx context.Context) (*choiceCount, error) {
	all, err := publish.Policies(ctx, s.store.Reader)
	if err != nil {
		return nil, err
	}
	tiers, err := s.store.Tiers(ctx)
	if err != nil {
		return nil, err
	}
	n := &choiceCount{states: map[api.ChoiceState]int{}}
	for _, p := range all {
		n.ending += len(endingOf(p, s.now()))
		selected, err := s.publish.Select(ctx, p, s.now())
		if err != nil {
			return nil, err
		}
		for _, sel := range selected {
			c, err := s.choiceOf(ctx, p, sel)
			if err != nil {
				return nil, err
			}
			n.states[c.State]++
			if c.State == api.ChoicePublished && len(tiers) > 0 && !slices.Contains(c.Tiers, tiers[len(tiers)-1].Name) {
				n.unpromoted++
			}
		}
	}
	return n, nil
}

// problemOf is an error as it travels.
func problemOf(err error) *api.Problem {
	if p, ok := errors.AsType[*code.Problem](err); ok {
		return &api.Problem{Code: p.Code, What: p.What, Where: p.Where, Why: p.Why, Fix: p.Fix}
	}
	return &api.Problem{What: err.Error()}
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
