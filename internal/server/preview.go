// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// preview says what would change for whom with another text of a policy, and
// for groups that would have it. It looks at what fixes say of each other;
// what only a compiler finds out, a build tells (PolicyChoice.Omitted).
func (s *Server) preview(ctx context.Context, name string, q api.PolicyQuestion) (api.PolicyPreview, error) {
	r, err := s.roll(ctx)
	if err != nil {
		return api.PolicyPreview{}, err
	}
	old, err := s.storedPolicy(ctx, name)
	isNew := code.Of(err) == "TS7902"
	switch {
	case isNew && q.Policy == nil:
		return api.PolicyPreview{}, err
	case isNew:
		// What its machines have now: the policy of the groups that would have it.
		if old, err = s.storedPolicy(ctx, baseOf(r, q.Groups)); err != nil {
			return api.PolicyPreview{}, err
		}
	case err != nil:
		return api.PolicyPreview{}, err
	}
	p := old
	if q.Policy != nil {
		p = jobs.PolicyOf(*q.Policy)
	}
	p.Name = name
	if p, err = edit(p, q.Exclude, q.Include); err != nil {
		return api.PolicyPreview{}, err
	}
	if err := p.Check(); err != nil {
		return api.PolicyPreview{}, err
	}
	out := api.PolicyPreview{Policy: jobs.PolicyWire(p), New: isNew, Targets: []api.TargetPreview{}, Ending: endingOf(p, s.now())}
	now := s.now()
	before, err := s.publish.Select(ctx, old, now)
	if err != nil {
		return out, err
	}
	after, err := s.publish.Select(ctx, p, now)
	if err != nil {
		return out, err
	}
	theirs := func(group string) bool { return r.policy(group) == name || slices.Contains(q.Groups, group) }
	for _, sel := range after {
		var was *selection.Selection
		if i := slices.IndexFunc(before, func(b publish.Selected) bool { return b.Target == sel.Target }); i >= 0 {
			was = before[i].Selection
		}
		t, err := s.previewOf(ctx, name, sel, was)
		if err != nil {
			return out, err
		}
		t.Machines, t.Tiers = r.machines(sel.Target, theirs)
		out.Targets = append(out.Targets, t)
	}
	return out, nil
}

// baseOf is the policy that groups have now, the default one if they have not
// all the same.
func baseOf(r *roll, groups []string) string {
	base := ""
	for _, g := range groups {
		if base != "" && base != r.policy(g) {
			return trust.DefaultPolicy
		}
		base = r.policy(g)
	}
	return cmp.Or(base, trust.DefaultPolicy)
}

func (s *Server) previewOf(ctx context.Context, policy string, sel publish.Selected, was *selection.Selection) (api.TargetPreview, error) {
	now := sel.Selection
	t := api.TargetPreview{Target: sel.Target, Update: sel.Update, Fixes: len(now.Fixes), CVEs: len(cvesOf(now.Fixes))}
	has := map[string]bool{}
	for _, f := range now.Fixes {
		has[f.ID] = true
	}
	had := map[string]bool{}
	if was != nil {
		for _, f := range was.Fixes {
			had[f.ID] = true
		}
		t.Same = was.Digest == now.Digest
	}
	open := map[string]bool{}
	for _, l := range now.Left {
		if had[l.ID] {
			t.Goes = append(t.Goes, jobs.LeftWire(l))
		}
		if l.Fix != nil && len(l.Fix.CVEs) > 0 && l.Kind != selection.NotHere {
			t.Open = append(t.Open, jobs.LeftWire(l))
			for _, c := range l.Fix.CVEs {
				open[c] = true
			}
		}
	}
	for _, f := range now.Fixes {
		if !had[f.ID] {
			t.Comes = append(t.Comes, jobs.LeftWire(selection.Left{ID: f.ID, Fix: f}))
		}
	}
	held := cvesOf(now.Fixes)
	maps.DeleteFunc(open, func(c string, _ bool) bool { return held[c] }) // another fix repairs it as well
	t.OpenCVEs = len(open)
	slices.SortStableFunc(t.Open, func(a, b api.LeftFix) int { return gravity(b) - gravity(a) })
	for _, x := range now.Idle {
		t.Idle = append(t.Idle, x.Name())
	}
	return t, s.sharing(ctx, policy, sel, &t)
}

// gravity orders fixes by how much they matter.
func gravity(f api.LeftFix) int {
	n := series.Severity(f.Severity).Rank()
	if f.Exploited {
		n += 10
	}
	return n
}

// sharing says whose live patch a choice is, or that one would be built.
func (s *Server) sharing(ctx context.Context, policy string, sel publish.Selected, t *api.TargetPreview) error {
	if t.Fixes == 0 {
		return nil
	}
	all, err := s.store.ChoosersOf(ctx, sel.Target, sel.Selection.Digest)
	if err != nil {
		return err
	}
	t.Shared = slices.DeleteFunc(all, func(name string) bool { return name == policy })
	end, err := s.store.EndOfLine(ctx, policy, sel.Target)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	there, err := s.store.NewestOf(ctx, sel.Target, sel.Selection.Digest)
	switch {
	case errors.Is(err, store.ErrNotFound):
		t.Build = true
	case err != nil:
		return err
	default:
		t.Patch = there.ID
		t.Build = !there.Blocked && there.Version < end.Version // machines only go up
	}
	return nil
}
