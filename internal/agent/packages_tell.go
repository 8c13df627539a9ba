// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Partly is a package whose live patch is applied, while some of the processes
// that map its files are not protected by it.
const Partly api.Protection = "partly"

// PackageStatus is how a package stands on this machine.
type PackageStatus struct {
	ID         string         `json:"id"`
	Target     string         `json:"target"` // "debian:libssl3=3.0.20-1~deb12u2"
	Protection api.Protection `json:"protection"`
	Reason     string         `json:"reason"`
	// Patch is the live patch that is applied, or on its way, or where the last
	// one stands; none: its ID is "".
	Patch     api.Patch           `json:"patch"`
	Applied   bool                `json:"applied"`
	Processes api.Processes       `json:"processes"`
	Reasons   []api.ProcessReason `json:"reasons,omitempty"`
	Waits     []ProcessWait       `json:"waits,omitempty"` // of the pending ones, the longest first
	CVEs      []string            `json:"cves,omitempty"`
	Fixes     []string            `json:"fixes,omitempty"`
	Offer     *trust.Offer        `json:"offer,omitempty"` // what the decision waits for
	Retry     int64               `json:"retry,omitempty"`
}

// countsKeep is how long counts that changed without a meaning wait to be told.
const countsKeep = time.Minute

// tellPackages is what a check-in says about packages; stale: also of processes
// that run what the disk has no more.
func (a *Agent) tellPackages(s *State, stale bool) []api.Package {
	const most, reasons = 256, 8 // see api.CheckIn
	now := time.Now()
	var out []api.Package
	a.see(func(m *moment) {
		if m.keeper == nil {
			return
		}
		for _, ref := range packageRefs(m, s) {
			if len(out) == most {
				return
			}
			p := m.packages[ref.ID]
			one := api.Package{ID: ref.ID, Target: clip(ref.Target, 255), Patch: packageStanding(s.Packages[ref.ID], &p)}
			one.Processes, one.Reasons = reached(m, s, ref)
			one.Reasons = one.Reasons[:min(len(one.Reasons), reasons)]
			if stale && m.keeper.Problem == nil {
				one.Stale = m.keeper.StaleOf[ref.ID]
			}
			if p.told != nil && now.Sub(p.toldAt) < countsKeep && sameStanding(*p.told, one) {
				out = append(out, *p.told)
				continue
			}
			m.about(ref, func(p *packageMoment) { p.told, p.toldAt = &one, now })
			out = append(out, one)
		}
	})
	order.Sort(out, func(x, y api.Package) int { return cmp.Or(cmp.Compare(x.Target, y.Target), cmp.Compare(x.ID, y.ID)) })
	return out
}

// sameStanding compares what counts mean.
func sameStanding(x, y api.Package) bool {
	meaning := func(p api.Package) string {
		c := ""
		if p.Patch.Problem != nil {
			c = string(p.Patch.Problem.Code) + p.Patch.Problem.Why
		}
		n := p.Processes
		return fmt.Sprint(p.Patch.ID, p.Patch.State, p.Patch.Since, p.Patch.Policy, c, n.Protected > 0, n.Pending > 0, n.Unprotected > 0, p.Stale)
	}
	return meaning(x) == meaning(y)
}

// tellStale is what a check-in says of processes that run what the disk has no
// more. What a keeper said that does not run is of another time.
func (a *Agent) tellStale() (s *api.Stale) {
	a.see(func(m *moment) {
		if m.keeper != nil && m.keeper.Problem == nil {
			s = m.keeper.Stale
		}
	})
	return s
}

// saysStale reports whether a check-in has what an older server refuses.
func saysStale(in *api.CheckIn) bool {
	return in.Stale != nil || slices.ContainsFunc(in.Packages, func(p api.Package) bool { return p.Stale > 0 })
}

// leaveStale takes that out.
func leaveStale(in *api.CheckIn) {
	in.Stale = nil
	for i := range in.Packages {
		in.Packages[i].Stale = 0
	}
}

// packageStanding is where the live patch of a package stands.
func packageStanding(now PackageState, m *packageMoment) api.Patch {
	var p api.Patch
	switch {
	case now.Intent != nil:
		p = now.Intent.Patch
	case now.Current != nil:
		p = now.Current.Patch
	case m.decision != nil && m.decision.Action == policy.Wait && m.decision.Offer != nil:
		o := m.decision.Offer
		p = api.Patch{ID: o.ID, Name: o.Name, Version: o.Version, State: api.Waiting}
	case now.Last != nil && slices.Contains([]api.State{api.Blocked, api.Waiting, api.Quarantined, api.Reverted}, now.Last.State):
		p = *now.Last
	}
	if m.problem != nil {
		p.Problem = wire(m.problem)
		if p.State == "" {
			p.State = api.Blocked
		}
	}
	return p
}

// reached counts the processes of a package by what is applied to them. Without a
// live patch none is protected.
func reached(m *moment, s *State, ref PackageRef) (api.Processes, []api.ProcessReason) {
	if m.keeper == nil {
		return api.Processes{}, nil
	}
	if c := s.Packages[ref.ID].Current; c != nil {
		if r, ok := m.keeper.Reach[c.Patch.ID]; ok && !r.Out {
			return r.Processes, r.Reasons
		}
	}
	return api.Processes{Unprotected: m.keeper.Mapped[ref.ID]}, nil
}

// waits are the processes that the live patch of a package does not reach now, or
// that the last one still has to leave.
func waits(m *moment, s PackageState) []ProcessWait {
	const most = 16
	p := s.Last
	if s.Current != nil {
		p = &s.Current.Patch
	}
	if m.keeper == nil || p == nil {
		return nil
	}
	all := m.keeper.Reach[p.ID].Waits
	return all[:min(len(all), most)]
}

// keeperProblem is why live patches of packages can't be kept in processes, where
// there are some.
func (a *Agent) keeperProblem(s *State) (p *code.Problem) {
	a.see(func(m *moment) {
		some := len(s.Packages) > 0 || m.catalogue != nil && len(m.catalogue.Packages) > 0
		switch {
		case !some:
		case m.keeperErr != nil:
			p = m.keeperErr
		case m.keeper != nil && !(m.keeper.Absent && len(s.Packages) == 0):
			p = m.keeper.Problem
		}
	})
	return p
}

// packageStatus is how all packages stand that matter here.
func (a *Agent) packageStatus(s *State, m *moment) []PackageStatus {
	var out []PackageStatus
	now := time.Now()
	for _, ref := range packageRefs(m, s) {
		p := m.packages[ref.ID]
		state := s.Packages[ref.ID]
		one := PackageStatus{ID: ref.ID, Target: ref.Target, Patch: packageStanding(state, &p), Applied: state.Current != nil}
		one.Processes, one.Reasons = reached(m, s, ref)
		one.Waits = waits(m, state)
		if p.decision != nil {
			one.Offer = p.decision.Offer
		}
		if p.retry.After(now) {
			one.Retry = milli(p.retry)
		}
		if state.Current != nil {
			if card, err := a.card(state.Current.Patch.ID); err == nil && card != nil {
				one.CVEs = fixedCVEs(card, coverage(card, nil))
				for _, f := range card.Fixes {
					one.Fixes = append(one.Fixes, cmp.Or(f.Title, f.ID))
				}
			}
		}
		one.Protection, one.Reason = packageProtection(state, &p, m, one.Processes)
		out = append(out, one)
	}
	order.Sort(out, func(x, y PackageStatus) int { return cmp.Or(cmp.Compare(x.Target, y.Target), cmp.Compare(x.ID, y.ID)) })
	return out
}

// packageProtection is a package in one word.
func packageProtection(s PackageState, p *packageMoment, m *moment, n api.Processes) (api.Protection, string) {
	reason := ""
	if p.decision != nil {
		reason = p.decision.Reason
	}
	if m.host != nil && m.host.Off {
		return api.Unprotected, "tsugi=off is on the kernel command line"
	}
	if i := s.Intent; i != nil && i.Patch.State != api.Applied {
		return pick(s.Current != nil, api.Outdated, api.Unprotected), fmt.Sprintf("version %d is on its way: %s", i.Patch.Version, i.Patch.State)
	}
	if p.problem != nil {
		return api.Failing, p.problem.What
	}
	waits := p.decision != nil && p.decision.Offer != nil
	all := n.Protected + n.Pending + n.Unprotected
	switch {
	case s.Current != nil && m.keeper != nil && m.keeper.Problem != nil:
		return Partly, "processes that start now do not get it: " + m.keeper.Problem.What
	case s.Current != nil && n.Pending+n.Unprotected > 0:
		return Partly, fmt.Sprintf("%d of %d processes have it", n.Protected, all)
	case s.Current != nil && waits:
		return api.Outdated, reason
	case s.Current != nil:
		return api.Protected, reason
	case waits:
		return api.Unprotected, reason
	case s.Last != nil && s.Last.State == api.Quarantined:
		return api.Failing, reason
	case p.index != nil && len(p.index.Patches) > 0:
		return api.Unprotected, reason
	}
	return api.NotCovered, reason
}

// with takes a package into the machine's one word, if it is worse off than that,
// or is all that there is.
func (s *Status) with(p *PackageStatus) {
	if w := s.Protection.Worse(p.Protection); w != s.Protection {
		s.Protection, s.Reason = w, p.Target+": "+p.Reason
	}
}

// fixedPackages is what of packages is fixed here.
func (a *Agent) fixedPackages(s *State, m *moment) []FixedPackage {
	var out []FixedPackage
	if !a.userland() {
		return nil
	}
	for _, ref := range packageRefs(m, s) {
		c := s.Packages[ref.ID].Current
		if c == nil {
			continue
		}
		card, err := a.card(c.Patch.ID)
		if err != nil || card == nil {
			continue // status tells
		}
		p := FixedPackage{Target: ref.Target, Version: card.Target.PackageVersion, Arch: card.Target.Arch, Names: card.Packages, Patch: c.Patch, Fixes: []Fix{}, Open: coverage(card, nil).Open}
		p.Processes, p.Reasons = reached(m, s, ref)
		if m.keeper == nil {
			p.Problem = wire(code.New("TS9440", "", ""))
		} else {
			p.Problem = wire(m.keeper.Problem)
		}
		for _, f := range card.Fixes {
			p.Fixes = append(p.Fixes, Fix{ID: f.ID, Title: f.Title, CVEs: append([]string{}, f.CVEs...), Possible: f.Possible, Severity: f.Severity})
		}
		out = append(out, p)
	}
	return out
}
