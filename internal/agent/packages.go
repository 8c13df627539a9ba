// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Live patches of packages go the way of the kernel's: an index, a decision, the
// cache, the journal, the health watch, for each package whose files processes
// of this machine map. What puts them into processes is the keeper. The agent
// tells it which files the tier has live patches for, and by its count knows
// which packages to name to the server.
//
// packages_apply.go carries a decision out and makes sense of what an earlier
// run left, packages_watch.go listens to the keeper and watches health, and
// packages_tell.go says where they stand.

// packageMoment is what the agent knows of a package and the journal does not.
type packageMoment struct {
	target   string
	index    *trust.Index
	decision *policy.Decision
	problem  *code.Problem // why the decision is not done
	retry    time.Time
	told     *api.Package // at the last check-in
	toldAt   time.Time
}

// userland reports whether the agent is to see to packages at all.
func (a *Agent) userland() bool { return a.opts.Keeper != nil && !a.cfg.Processes.Off }

// packageRefs are the packages that matter here: those that the tier has live
// patches for and that are mapped, and those that something is applied of, or on
// its way.
func packageRefs(m *moment, s *State) []PackageRef {
	refs := map[string]string{}
	if m.catalogue != nil && m.keeper != nil {
		for _, p := range m.catalogue.Packages {
			if m.keeper.Mapped[p.ID] > 0 {
				refs[p.ID] = p.Target
			}
		}
	}
	for id, p := range s.Packages {
		if p.Intent != nil || p.Current != nil {
			refs[id] = p.Target
		}
	}
	var out []PackageRef
	for _, id := range slices.Sorted(maps.Keys(refs)) {
		out = append(out, PackageRef{id, refs[id]})
	}
	return out
}

// about changes what is known of a package.
func (a *Agent) about(ref PackageRef, f func(m *packageMoment)) {
	a.see(func(m *moment) { m.about(ref, f) })
}

// about makes a new map: who has the old one goes on reading it.
func (m *moment) about(ref PackageRef, f func(p *packageMoment)) {
	p := m.packages[ref.ID]
	p.target = ref.Target
	f(&p)
	now := maps.Clone(m.packages)
	if now == nil {
		now = map[string]packageMoment{}
	}
	now[ref.ID] = p
	m.packages = now
}

// hear asks the keeper what it has said last. What it does not say in time to
// come counts no more than nothing.
func (a *Agent) hear(ctx context.Context) *KeeperStatus {
	st, err := a.opts.Keeper.Status(ctx)
	if err != nil && ctx.Err() == nil {
		st = &KeeperStatus{Problem: problemOf("TS9440", "", err)}
	}
	if st == nil {
		return nil
	}
	a.see(func(m *moment) { m.keeper = st })
	return st
}

// stalePackages reports whether the server's answer speaks of another list of
// packages, or of other indexes of those that matter here, than the agent has.
func stalePackages(m *moment, s *State) bool {
	as := m.assignment
	if as == nil {
		return false
	}
	if as.Catalogue != catalogueDigest(m.catalogue) {
		return true
	}
	for _, ref := range packageRefs(m, s) {
		x, seq := m.packages[ref.ID].index, as.Packages[ref.ID]
		switch {
		case x == nil && seq == 0:
		case x == nil || seq == 0 || x.Sequence < seq || x.Tier != as.Tier || x.Policy != as.Policy:
			return true
		}
	}
	return false
}

func catalogueDigest(p *trust.Packages) string {
	if p == nil {
		return ""
	}
	b, err := p.Bytes()
	if err != nil {
		return ""
	}
	return digest(b)
}

// refreshPackages takes the list of packages, and the indexes of those that
// matter here, out of metadata that was fetched just now.
func (a *Agent) refreshPackages(ctx context.Context, source Source, as *api.Assignment) error {
	list, err := source.Packages(ctx, as.Tier)
	if err != nil {
		return err
	}
	a.see(func(m *moment) { m.catalogue = list })
	if err := a.opts.Keeper.Seek(ctx, sought(list)); err != nil {
		return err
	}
	a.hear(ctx)
	s, _ := a.journal.view()
	var refs []PackageRef
	a.see(func(m *moment) { refs = packageRefs(m, s) })
	var all error
	for _, ref := range refs {
		x, err := source.Index(ctx, as.Tier, ref.ID, as.Policy)
		if err != nil {
			all = errors.Join(all, err)
			continue
		}
		a.about(ref, func(p *packageMoment) { p.index = x })
	}
	return all
}

// sought are the build-ids of the files of each package.
func sought(list *trust.Packages) map[string][]string {
	out := map[string][]string{}
	if list == nil {
		return out
	}
	for _, p := range list.Packages {
		for _, f := range p.Files {
			out[p.ID] = append(out[p.ID], f.BuildID)
		}
	}
	return out
}

// actPackages decides for each package, and does it. Each has its own problem: one
// that fails keeps no other back.
func (a *Agent) actPackages(ctx context.Context, h *Host) error {
	s, bad := a.journal.view()
	if !a.userland() || h.Off || code.Of(bad) == "TS9403" {
		return nil
	}
	st := a.hear(ctx)
	if st == nil || st.Absent && len(s.Packages) == 0 {
		return ctx.Err()
	}
	kept, err := a.opts.Keeper.Kept(ctx)
	if err != nil {
		p := problemOf("TS9661", "", err)
		a.see(func(m *moment) { m.keeperErr = p })
		return p
	}
	a.see(func(m *moment) { m.keeperErr = nil })
	if err := a.dropQuarantined(ctx, s, kept); err != nil {
		return err
	}
	var refs []PackageRef
	a.see(func(m *moment) { refs = packageRefs(m, s) })
	var all error
	for _, ref := range refs {
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		all = errors.Join(all, a.actPackage(ctx, h, ref, kept))
	}
	return all
}

func (a *Agent) actPackage(ctx context.Context, h *Host, ref PackageRef, kept []Kept) error {
	err := a.recoverPackage(ctx, h, ref, kept)
	if err == nil {
		d := a.decidePackage(h, ref)
		a.about(ref, func(p *packageMoment) { p.decision = &d })
		switch d.Action {
		case policy.Apply:
			err = a.offeredPackage(ctx, h, ref, *d.Offer)
		case policy.Revert:
			s, _ := a.journal.view()
			err = a.takeOutPackage(ctx, h, ref, s.Packages[ref.ID].Current.Patch, d.Reason)
		default:
			a.about(ref, func(p *packageMoment) { p.problem, p.retry = nil, time.Time{} })
			return nil
		}
		if err == nil {
			a.Kick() // the server hears of it at once
		}
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	after := a.decidePackage(h, ref)
	a.about(ref, func(p *packageMoment) {
		p.decision, p.problem = &after, nil
		if err != nil {
			p.problem = problemOf("TS9400", ref.Target, err)
		} else {
			p.retry = time.Time{}
		}
	})
	return err
}

// decidePackage asks package policy.
func (a *Agent) decidePackage(h *Host, ref PackageRef) policy.Decision {
	s, _ := a.journal.view()
	var x *trust.Index
	a.see(func(m *moment) { x = m.packages[ref.ID].index })
	var applied *api.Patch
	if c := s.Packages[ref.ID].Current; c != nil {
		applied = &c.Patch
	}
	return a.decideOn(h, s, ref.ID, x, applied, time.Now())
}
