// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/notify"
	"github.com/tsugi-project/tsugi/internal/publish"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// Troubles that people are told of.
const (
	chooseStuck = 10 * time.Minute // policies could not be followed for it
	buildStuck  = 15 * time.Minute // no worker has taken a build for it
)

// notifyFacts is how things stand. What can't be found out is said to be
// unknown, and what was told of it stays so.
func (s *Server) notifyFacts(ctx context.Context) notify.Facts {
	var f notify.Facts
	part := func(kinds []notify.Kind, find func(context.Context, *notify.Facts) error) {
		if err := find(ctx, &f); err != nil {
			f.Unknown = append(f.Unknown, kinds...)
			if ctx.Err() == nil {
				s.log.Warn("how things stand is not known", "kinds", kinds, "err", err)
			}
		}
	}
	part([]notify.Kind{notify.MachinesFailing, notify.MachinesSilent, notify.CVEOpen}, s.machineFacts)
	part([]notify.Kind{notify.BuildFailed, notify.ExclusionEnding}, s.policyFacts)
	part([]notify.Kind{notify.KeyExpiring}, s.roleFacts)
	part([]notify.Kind{notify.ApprovalNeeded}, s.approvalFacts)
	part([]notify.Kind{notify.ServerTrouble}, s.troubleFacts)
	return f
}

// machineFacts are the machines as the census judges them.
func (s *Server) machineFacts(ctx context.Context, f *notify.Facts) error {
	type place struct {
		situation
		group string
	}
	herds, packages, err := s.herds(ctx)
	if err != nil {
		return err
	}
	exposes := map[*packageSituations]bool{} // whether anything exploited is open in them
	alarming := func(p *packageSituations) bool {
		yes, known := exposes[p]
		if !known {
			for _, k := range p.each() {
				if x, e := s.exposedIn(ctx, k); e != nil {
					err = e
				} else {
					yes = yes || len(x.exploited) > 0
				}
			}
			exposes[p] = yes
		}
		return yes
	}
	groups, places := map[string]*notify.GroupFacts{}, map[place]int{}
	for h, n := range herds {
		g := groups[h.group]
		if g == nil {
			g = &notify.GroupFacts{Group: h.group}
			groups[h.group] = g
		}
		g.Machines += n
		switch h.word {
		case api.Silent:
			g.Silent += n
		case api.Failing:
			g.Failing += n
		}
		if !alarming(h.at.packages) {
			h.at.packages = nil
		}
		places[place{h.at, h.group}] += n
	}
	if err != nil {
		return err
	}
	for h := range packages {
		if h.word == api.Failing {
			g := groups[h.group]
			g.Packages = append(g.Packages, h.target)
		}
	}
	exploited := map[string]*notify.ExploitedFacts{}
	for at, machines := range places {
		open, err := s.exposed(ctx, at.situation)
		if err != nil {
			return err
		}
		var cves []string // a machine may have one in its kernel and in packages
		for _, p := range open {
			cves = append(cves, p.exploited...)
		}
		slices.Sort(cves)
		for _, cve := range slices.Compact(cves) {
			x := exploited[cve]
			if x == nil {
				x = &notify.ExploitedFacts{CVE: cve}
				exploited[cve] = x
			}
			x.Machines += machines
			if !slices.Contains(x.Groups, at.group) {
				x.Groups = append(x.Groups, at.group)
			}
		}
	}
	for _, g := range groups {
		slices.Sort(g.Packages)
		g.Packages = slices.Compact(g.Packages) // of several tiers
		f.Groups = append(f.Groups, *g)
	}
	slices.SortFunc(f.Groups, func(a, b notify.GroupFacts) int { return cmp.Compare(a.Group, b.Group) })
	for _, x := range exploited {
		slices.Sort(x.Groups)
		if slices.Contains(x.Groups, "") {
			x.Groups = nil // machines without a group concern everybody
		}
		f.Exploited = append(f.Exploited, *x)
	}
	slices.SortFunc(f.Exploited, func(a, b notify.ExploitedFacts) int { return cmp.Compare(a.CVE, b.CVE) })
	return nil
}

// policyFacts are choices that could not be built, and exclusions that end.
func (s *Server) policyFacts(ctx context.Context, f *notify.Facts) error {
	policies, err := publish.Policies(ctx, s.store.Reader)
	if err != nil {
		return err
	}
	given, err := s.store.PolicyGroups(ctx)
	if err != nil {
		return err
	}
	for name, p := range policies {
		var groups []string // of the default policy: everybody's who has no other
		for group, policy := range given {
			if policy == name {
				groups = append(groups, group)
			}
		}
		slices.Sort(groups)
		for _, x := range p.Ending(s.now(), notice) {
			f.Exclusions = append(f.Exclusions, notify.ExclusionFacts{Policy: name, Name: x.Name(), Owner: x.Owner, Ends: x.Expires, Groups: groups})
		}
		selected, err := s.publish.Select(ctx, p, s.now())
		if err != nil {
			return err
		}
		for _, sel := range selected {
			c, err := s.choiceOf(ctx, p, sel)
			if err != nil {
				return err
			}
			if c.State != api.ChoiceFailed {
				continue
			}
			why := ""
			if c.Problem != nil {
				why = cmp.Or(c.Problem.Why, c.Problem.What)
				if c.Problem.Code != "" {
					why = string(c.Problem.Code) + ": " + why
				}
			}
			f.Choices = append(f.Choices, notify.ChoiceFacts{Policy: name, Target: c.Target, Why: why, Groups: groups})
		}
	}
	slices.SortFunc(f.Exclusions, func(a, b notify.ExclusionFacts) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Name, b.Name))
	})
	slices.SortFunc(f.Choices, func(a, b notify.ChoiceFacts) int {
		return cmp.Or(cmp.Compare(a.Policy, b.Policy), cmp.Compare(a.Target, b.Target))
	})
	return nil
}

func (s *Server) roleFacts(ctx context.Context, f *notify.Facts) error {
	roles, err := s.publish.Status(ctx)
	for _, r := range roles {
		f.Roles = append(f.Roles, notify.RoleFacts{Name: r.Name, Expires: r.Expires, Life: r.Life, ByHand: r.Name == repo.RoleRoot})
	}
	return err
}

func (s *Server) approvalFacts(ctx context.Context, f *notify.Facts) error {
	waiting, err := s.store.Approvals(ctx, store.ApprovalFilter{})
	if err != nil {
		return err
	}
	for _, a := range waiting {
		by := a.AskedBy
		if u, err := s.store.User(ctx, a.AskedBy); err == nil {
			by = u.Name
		}
		f.Approvals = append(f.Approvals, notify.ApprovalFacts{ID: a.ID, What: a.Action + " of " + a.Object, By: by, Path: "/console/approvals"})
	}
	for _, r := range s.rollouts.list() {
		if r.phase().Over() {
			continue
		}
		head, row := r.head()
		if missing := head.Needed(&r.plan) - len(head.Approvals); missing > 0 {
			f.Approvals = append(f.Approvals, notify.ApprovalFacts{
				ID: "rollout/" + r.id, What: fmt.Sprintf("The rollout of %s in tier %s", r.patch, r.tier), By: row.CreatedBy, Path: "/console/rollouts/" + r.id,
			})
		}
	}
	return nil
}

func (s *Server) troubleFacts(ctx context.Context, f *notify.Facts) error {
	if age := s.now().Sub(time.UnixMilli(s.chosen.Load())); age > chooseStuck {
		f.Troubles = append(f.Troubles, notify.TroubleFacts{
			Subject: "server/policies", Title: "The server can't follow all policies",
			Facts: []notify.Fact{{Name: "for", Value: age.Round(time.Minute).String()}},
		})
	}
	if _, err := s.blobs.Stat(ctx, "tuf/metadata/timestamp.json"); err != nil && ctx.Err() == nil {
		f.Troubles = append(f.Troubles, notify.TroubleFacts{
			Subject: "server/storage", Title: "The server can't read its storage", Facts: []notify.Fact{{Name: "why", Value: err.Error()}},
		})
	}
	waiting, err := s.store.Jobs(ctx, store.JobFilter{State: store.JobQueued})
	if err != nil {
		return err
	}
	if len(waiting) > 0 {
		oldest := waiting[len(waiting)-1] // the newest come first
		running, err := s.store.Jobs(ctx, store.JobFilter{State: store.JobRunning, Limit: 1})
		if err != nil {
			return err
		}
		if age := s.now().Sub(time.UnixMilli(oldest.Created)); len(running) == 0 && age > buildStuck {
			f.Troubles = append(f.Troubles, notify.TroubleFacts{
				Subject: "server/workers", Title: "No worker takes the builds that wait",
				Facts: []notify.Fact{{Name: "waiting", Value: fmt.Sprint(len(waiting))}, {Name: "longest", Value: age.Round(time.Minute).String()}},
			})
		}
	}
	return nil
}
