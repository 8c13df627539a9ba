// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/jobs"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/trust"
)

type policyInput struct {
	Name string `path:"name" maxLength:"63"`
}

type setPolicy struct {
	Name string `path:"name" maxLength:"63"`
	Body api.Policy
}

type setGroups struct {
	Name string `path:"name" maxLength:"63"`
	Body api.PolicyGroups
}

type excludeInput struct {
	Name string `path:"name" maxLength:"63"`
	Body api.Exclude
}

type includeInput struct {
	Name string `path:"name" maxLength:"63"`
	Body api.Include
}

type rebuildInput struct {
	Name string `path:"name" maxLength:"63"`
	Body api.Rebuild
}

type previewInput struct {
	Name string `path:"name" maxLength:"63"`
	Body api.PolicyQuestion
}

func (s *Server) policyOperations(o *operations) {
	answer(o, op{id: "list-policies", method: "GET", path: "/v1/policies", summary: "Policies, with what they choose", may: look, scoped: true},
		func(ctx context.Context, who operator, _ *none) (api.List[api.PolicyInfo], error) {
			return s.policies(ctx, who)
		})
	answer(o, op{id: "get-policy", method: "GET", path: "/v1/policies/{name}", summary: "One policy, with what it chooses for each target", may: look, scoped: true},
		func(ctx context.Context, who operator, in *policyInput) (api.PolicyInfo, error) {
			return s.onePolicy(ctx, who, in.Name)
		})
	answer(o, op{id: "set-policy", method: "PUT", path: "/v1/policies/{name}", summary: "Make a policy, or give it another text", may: change},
		func(ctx context.Context, who operator, in *setPolicy) (api.PolicyInfo, error) {
			if in.Body.Name != in.Name {
				return api.PolicyInfo{}, refuse("TS7601", "body.name", "another one than in the path")
			}
			p := jobs.PolicyOf(in.Body)
			return s.changePolicy(ctx, who, in.Name, func(old selection.Policy, there bool) (selection.Policy, string, error) {
				if !there {
					return p, p.Changes(nil), nil
				}
				return p, p.Changes(&old), nil
			})
		})
	quiet(o, op{id: "delete-policy", method: "DELETE", path: "/v1/policies/{name}", summary: "Remove a policy that no group has", may: change},
		func(ctx context.Context, who operator, in *policyInput) error {
			return s.publish.DeletePolicy(ctx, in.Name, who.name)
		})
	answer(o, op{id: "exclude-fixes", method: "POST", path: "/v1/policies/{name}/exclude", summary: "Add exclusions to a policy", may: change},
		func(ctx context.Context, who operator, in *excludeInput) (api.PolicyInfo, error) {
			return s.changePolicy(ctx, who, in.Name, editOf(in.Name, in.Body.Exclusions, nil))
		})
	answer(o, op{id: "include-fixes", method: "POST", path: "/v1/policies/{name}/include", summary: "Take exclusions out of a policy", may: change},
		func(ctx context.Context, who operator, in *includeInput) (api.PolicyInfo, error) {
			return s.changePolicy(ctx, who, in.Name, editOf(in.Name, nil, in.Body.Names))
		})
	answer(o, op{id: "set-policy-groups", method: "POST", path: "/v1/policies/{name}/groups", summary: "Give groups of machines this policy", may: change},
		func(ctx context.Context, who operator, in *setGroups) (api.PolicyInfo, error) {
			for _, g := range in.Body.Groups {
				if g == "" || len(g) > 100 {
					return api.PolicyInfo{}, refuse("TS7601", "body.groups", "a group has a name of 1 to 100 characters")
				}
			}
			if err := s.publish.SetGroups(ctx, in.Name, in.Body.Groups, who.name); err != nil {
				return api.PolicyInfo{}, err
			}
			return s.onePolicy(ctx, who, in.Name)
		})
	answer(o, op{id: "rebuild-policy", method: "POST", path: "/v1/policies/{name}/rebuild", summary: "Have what a policy chooses built again, for all that share it", may: change},
		func(ctx context.Context, who operator, in *rebuildInput) (api.Rebuilt, error) {
			targets, err := s.publish.Rebuild(ctx, in.Name, in.Body.Target, who.name)
			return api.Rebuilt{Targets: targets}, err
		})
	answer(o, op{id: "preview-policy", method: "POST", path: "/v1/policies/{name}/preview", summary: "What would change for whom with another text of a policy", may: look},
		func(ctx context.Context, who operator, in *previewInput) (api.PolicyPreview, error) {
			return s.preview(ctx, who, in.Name, in.Body)
		})
}

func (s *Server) changePolicy(ctx context.Context, who operator, name string, f func(selection.Policy, bool) (selection.Policy, string, error)) (api.PolicyInfo, error) {
	if err := s.publish.ChangePolicy(ctx, name, who.name, f); err != nil {
		return api.PolicyInfo{}, err
	}
	return s.onePolicy(ctx, who, name)
}

// editOf changes the exclusions of a policy that is there.
func editOf(name string, exclude []api.Exclusion, include []string) func(selection.Policy, bool) (selection.Policy, string, error) {
	return func(old selection.Policy, there bool) (selection.Policy, string, error) {
		if !there {
			return old, "", code.New("TS7902", name, "")
		}
		p, err := edit(old, exclude, include)
		return p, p.Changes(&old), err
	}
}

func edit(p selection.Policy, exclude []api.Exclusion, include []string) (selection.Policy, error) {
	return p.Edit(jobs.PolicyOf(api.Policy{Exclusions: exclude}).Exclusions, include)
}

// roll is who has which policy, and the machines that somebody sees of them.
type roll struct {
	groups   map[string]string // of groups with one of their own
	counts   map[crowd]int
	packages func() map[packageHerd]int // counted not long ago, as the list of targets has them
	sees     func(group string) bool
}

// roll counts the machines, and what is open on those of a policy, if one is asked
// about: in one walk, which is what it costs.
func (s *Server) roll(ctx context.Context, who operator, of *policyCount) (*roll, error) {
	r := &roll{counts: map[crowd]int{}, sees: who.sees, packages: func() map[packageHerd]int { return s.metrics.fleet.counts(ctx).packages }}
	var err error
	if r.groups, err = s.store.PolicyGroups(ctx); err != nil {
		return nil, err
	}
	s.fleet.each(func(m *member) {
		c, here := m.crowd()
		if !here || !r.sees(c.group) {
			return
		}
		r.counts[c]++
		if of != nil {
			of.take(ctx, m, c.group)
		}
	})
	return r, nil
}

func (r *roll) policy(group string) string {
	if p, ok := r.groups[group]; ok {
		return p
	}
	return trust.DefaultPolicy
}

// machines counts those of the groups for which f holds that have a target's
// kernel, or map files of a package ("": any), by tier.
func (r *roll) machines(target string, f func(group string) bool) (n int, tiers map[string]int) {
	release := releaseOf(target)
	tiers = map[string]int{}
	if target != "" && release == "" {
		for h, here := range r.packages() {
			if h.target == target && r.sees(h.group) && f(h.group) {
				n += here
				tiers[h.tier] += here
			}
		}
		return n, tiers
	}
	for c, here := range r.counts {
		if (target == "" || c.release == release) && f(c.group) {
			n += here
			tiers[c.tier] += here
		}
	}
	return n, tiers
}

// withModule counts those of the groups for which f holds that have the fixed
// build of a module for a target's kernel, loaded or on the disk.
func (r *roll) withModule(target, module string, f func(group string) bool) (n int) {
	release := releaseOf(target)
	for c, here := range r.counts {
		if c.release == release && c.modules != "" && f(c.group) && readModuleWords(c.modules)[module].Protects() {
			n += here
		}
	}
	return n
}

func (s *Server) policies(ctx context.Context, who operator) (api.List[api.PolicyInfo], error) {
	all, err := publish.Policies(ctx, s.store.Reader)
	if err != nil {
		return api.List[api.PolicyInfo]{}, err
	}
	r, err := s.roll(ctx, who, nil)
	if err != nil {
		return api.List[api.PolicyInfo]{}, err
	}
	items := []api.PolicyInfo{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p, err := s.policyInfo(ctx, all[name], r)
		if err != nil {
			return api.List[api.PolicyInfo]{}, err
		}
		items = append(items, p)
	}
	return api.List[api.PolicyInfo]{Items: items}, nil
}

// storedPolicy is a policy that is there.
func (s *Server) storedPolicy(ctx context.Context, name string) (selection.Policy, error) {
	all, err := publish.Policies(ctx, s.store.Reader)
	if err != nil {
		return selection.Policy{}, err
	}
	p, ok := all[name]
	if !ok {
		return p, code.New("TS7902", name, "")
	}
	return p, nil
}

func (s *Server) onePolicy(ctx context.Context, who operator, name string) (api.PolicyInfo, error) {
	p, err := s.storedPolicy(ctx, name)
	if err != nil {
		return api.PolicyInfo{}, err
	}
	open := s.policyCount(trust.PolicyWord(name))
	r, err := s.roll(ctx, who, open)
	if err != nil {
		return api.PolicyInfo{}, err
	}
	info, err := s.policyInfo(ctx, p, r)
	if err != nil {
		return info, err
	}
	info.Open, err = open.result(ctx)
	return info, err
}

func (s *Server) policyInfo(ctx context.Context, p selection.Policy, r *roll) (api.PolicyInfo, error) {
	mine := func(group string) bool { return r.policy(group) == p.Name }
	out := api.PolicyInfo{Policy: jobs.PolicyWire(p), Ending: endingOf(p, s.now())}
	out.Machines, _ = r.machines("", mine)
	for _, g := range slices.Sorted(maps.Keys(r.groups)) {
		if r.groups[g] == p.Name && r.sees(g) {
			out.Groups = append(out.Groups, g)
		}
	}
	if row, err := s.store.Policy(ctx, p.Name); err == nil {
		out.Changed, out.ChangedBy = row.Changed, row.ChangedBy
	}
	selected, err := s.publish.Select(ctx, p, s.now())
	if err != nil {
		return out, err
	}
	for _, sel := range selected {
		c, err := s.choiceOf(ctx, p, sel)
		if err != nil {
			return out, err
		}
		c.Machines, _ = r.machines(sel.Target, mine)
		out.Choices = append(out.Choices, c)
	}
	return out, nil
}
