// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
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
func (s *Server) preview(ctx context.Context, who operator, name string, q api.PolicyQuestion) (api.PolicyPreview, error) {
	r, err := s.roll(ctx, who, nil)
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
		t := api.TargetPreview{Target: sel.Target}
		t.Machines, t.Tiers = r.machines(sel.Target, theirs)
		if sel.Err != nil {
			t.Problem = problemOf(sel.Err)
			out.Targets = append(out.Targets, t)
			continue
		}
		var was *publish.Selected
		if i := slices.IndexFunc(before, func(b publish.Selected) bool { return b.Target == sel.Target && b.Err == nil }); i >= 0 {
			was = &before[i]
		}
		if err := s.previewOf(ctx, name, sel, was, &t); err != nil {
			return out, err
		}
		if err := s.afterwards(ctx, r, froms(r, old.Name, q.Groups), sel, theirs, &t); err != nil {
			return out, err
		}
		out.Targets = append(out.Targets, t)
	}
	return out, nil
}

// froms are the policies whose live patches the machines have now.
func froms(r *roll, old string, groups []string) []string {
	out := []string{old}
	for _, g := range groups {
		if p := r.policy(g); !slices.Contains(out, p) {
			out = append(out, p)
		}
	}
	return out
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

func (s *Server) previewOf(ctx context.Context, policy string, sel publish.Selected, was *publish.Selected, t *api.TargetPreview) error {
	now := sel.Selection
	t.Update, t.Fixes, t.CVEs = sel.Series.To, len(now.Fixes), len(cvesOf(now.Fixes))
	had := map[string]bool{}
	if was != nil {
		for _, f := range was.Selection.Fixes {
			had[f.ID] = true
		}
		t.Same = was.Key == sel.Key
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
	return s.sharing(ctx, policy, sel, t)
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
	all, err := s.store.ChoosersOf(ctx, sel.Target, sel.Key)
	if err != nil {
		return err
	}
	t.Shared = slices.DeleteFunc(all, func(name string) bool { return name == policy })
	end, err := s.store.EndOfLine(ctx, policy, sel.Target)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return err
	}
	there, err := s.store.NewestOf(ctx, sel.Target, sel.Key)
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

// mostCovers is how many live patches of a target are looked through for the
// modules that could serve a fix.
const mostCovers = 20

// afterwards says what becomes of fixed modules, and whether the machines can
// take the live patch that is there. What no live patch tells, only a build
// finds out.
func (s *Server) afterwards(ctx context.Context, r *roll, from []string, sel publish.Selected, theirs func(group string) bool, t *api.TargetPreview) error {
	if t.Fixes == 0 {
		return nil // nothing is built, and machines keep what they have
	}
	have := map[string][]string{} // by fix, the fixed modules of today
	var covers []*cover
	for _, policy := range from {
		end, err := s.store.EndOfLine(ctx, policy, sel.Target)
		if errors.Is(err, store.ErrNotFound) {
			continue
		} else if err != nil {
			return err
		}
		c, err := s.coverOf(ctx, end.ID)
		if err != nil {
			return err
		}
		covers = append(covers, c)
		maps.Copy(have, c.served)
	}
	next := map[string][]string{} // by fix, the fixed modules to come
	if t.Patch != "" && !t.Build {
		c, err := s.coverOf(ctx, t.Patch)
		if err != nil {
			return err
		}
		maps.Copy(next, c.served)
		for _, old := range covers {
			if why := c.states.Supersedes(&old.states); why != "" && c.id != old.id {
				t.Stuck = fmt.Sprintf("machines that run %s can't go to %s without a reboot: %s", old.id, c.id, why)
			}
		}
	} else {
		newest, err := s.store.NewestFor(ctx, sel.Target, mostCovers)
		if err != nil {
			return err
		}
		for _, id := range slices.Backward(newest) { // the newest has the last word
			c, err := s.coverOf(ctx, id)
			if err != nil {
				return err
			}
			maps.Copy(next, c.served)
		}
	}
	t.Modules = moduleChanges(r, sel, have, next, theirs)
	return nil
}

// moduleChanges lists what fixed modules would come, and which would go or be
// there without some fixes.
func moduleChanges(r *roll, sel publish.Selected, have, next map[string][]string, theirs func(group string) bool) []api.ModulePreview {
	reboot := map[string]bool{}
	by := map[string]selection.Left{}
	for _, l := range sel.Selection.Left {
		by[l.ID] = l
	}
	found := map[string]*api.ModulePreview{}
	add := func(module, fix string, comes bool) {
		key := fmt.Sprint(module, comes)
		if found[key] == nil {
			found[key] = &api.ModulePreview{Module: module, Comes: comes, Machines: r.withModule(sel.Target, module, theirs)}
		}
		m := found[key]
		m.Fixes = append(m.Fixes, fix)
		if f := sel.Series.Fix(fix); f != nil {
			m.CVEs = append(m.CVEs, f.CVEs...)
		}
	}
	for _, l := range sel.Selection.Left {
		reboot[l.ID] = l.Root(by).Kind == selection.Reboot
	}
	for _, fix := range slices.Sorted(maps.Keys(next)) {
		if reboot[fix] && have[fix] == nil {
			for _, m := range next[fix] {
				add(m, fix, true)
			}
		}
	}
	for _, fix := range slices.Sorted(maps.Keys(have)) {
		if !reboot[fix] || next[fix] == nil {
			for _, m := range have[fix] {
				add(m, fix, false)
			}
		}
	}
	out := make([]api.ModulePreview, 0, len(found))
	for _, m := range found {
		slices.Sort(m.CVEs)
		m.CVEs = slices.Compact(m.CVEs)
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b api.ModulePreview) int {
		return cmp.Or(cmp.Compare(a.Module, b.Module), cmp.Compare(len(a.Fixes), len(b.Fixes)))
	})
	return out
}
