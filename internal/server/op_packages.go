// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
)

// packagesOf adds the packages of a machine as it named them to what operators
// see of it, and returns their situation. What is worst, the kernel or one of them,
// says how the machine stands. machine is how it stands itself, with its packages.
func (s *Server) packagesOf(ctx context.Context, row store.Machine, f facts, machine standing, m *api.Machine) (*packageSituations, error) {
	said := slices.Clone(f.Packages)
	machine.packages = &packageSet{unkept: notKept(f.Problems) != nil}
	if here := s.fleet.byID(row.ID); here != nil {
		here.packagesNow(said)
	}
	if len(said) == 0 {
		return nil, nil
	}
	all := &packageSituations{}
	for _, said := range said {
		p := packageStateOf(said)
		st := ofPackage(&p, &machine, m.Policy)
		if why := notKept(f.Problems); why != nil {
			st.unable = sentence(*why)
		}
		if said.Patch.Problem != nil {
			st.problem = sentence(*said.Patch.Problem)
		}
		shelf, err := s.shelves.ofPackage(ctx, row.Tier, p.id, m.Policy)
		if err != nil {
			return nil, err
		}
		_, _, st.waiting = shelf.admitted(row.ID)
		x := api.MachinePackage{Package: said}
		x.Target = shelf.named(p.target)
		x.Protection, x.Should, x.Reason = stands(st, shelf.index)
		if x.Protection == api.Partly {
			x.Reason += "; " + oldCode(said.Processes)
		}
		all.all = append(all.all, packageSituation{target: x.Target, policy: m.Policy, runs: runsNow(p.patch, p.state), should: shouldHave(x.Should, p.patch, p.state), partly: p.partly})
		// Without an index the machine may have made the package up.
		if w := m.Protection.Worse(x.Protection); w != m.Protection && shelf.index != nil && m.Protection != api.Silent && m.Protection != api.Gone {
			m.Protection, m.Reason = w, x.Target+": "+x.Reason
		}
		if anew := startAnew(said.Stale); anew != "" && x.Protection != api.Protected {
			x.Reason += "; " + anew
		}
		m.Packages = append(m.Packages, x)
	}
	if m.KernelProtection == api.NotCovered && m.Protection == api.Protected {
		m.Reason += "; its kernel is not covered: " + m.KernelReason
	}
	return all, nil
}

// morePackages adds what is only told of one machine: what is fixed in its
// processes, and how it stands in rollouts.
func (s *Server) morePackages(ctx context.Context, row store.Machine, m *api.Machine) error {
	for i := range m.Packages {
		x := &m.Packages[i]
		if id := runsNow(x.Patch.ID, x.Patch.State); id != "" {
			if p, err := s.store.LivePatch(ctx, id); err == nil {
				x.CVEs = slices.DeleteFunc(p.CVEs, func(cve string) bool {
					return slices.ContainsFunc(m.Open, func(o api.OpenCVE) bool { return o.CVE == cve && o.Package == x.Target })
				})
			}
		}
		if row.Gone != 0 {
			continue
		}
		shelf, err := s.shelves.ofPackage(ctx, row.Tier, x.ID, m.Policy)
		if err != nil {
			return err
		}
		if x.Rollout, err = s.rolloutOfMachine(ctx, row.ID, row.Tier, shelf); err != nil {
			return err
		}
	}
	return nil
}

// whyOpen says of what some processes still have how many these are, and why, and of
// what packages have whether another version of them is on the disk already.
func whyOpen(packages []api.MachinePackage, open []api.OpenCVE) []api.OpenCVE {
	if len(packages) == 0 {
		return open
	}
	open = slices.Clone(open) // it is everybody's
	for i := range open {
		o := &open[i]
		for _, p := range packages {
			if p.Target != o.Package {
				continue
			}
			if o.Need == api.NeedRestart && o.Code == "" && p.Protection == api.Partly {
				o.Why = sentenceOf(p.Package)
			}
			if anew := startAnew(p.Stale); anew != "" {
				o.Why = strings.TrimPrefix(o.Why+"; "+anew, "; ")
			}
		}
	}
	return open
}

// oldCode says in how many processes a live patch is not.
func oldCode(n api.Processes) string {
	all, old := n.Protected+n.Pending+n.Unprotected, n.Pending+n.Unprotected
	run, are := "run", "are"
	if old == 1 {
		run = "runs"
	}
	if n.Pending == 1 {
		are = "is"
	}
	what := fmt.Sprintf("%d of %d processes %s the old code", old, all, run)
	if n.Pending > 0 {
		what += fmt.Sprintf(" (%d of them %s tried again)", n.Pending, are)
	}
	return what
}

// sentenceOf says that, and the most frequent reason.
func sentenceOf(p api.Package) string {
	what := oldCode(p.Processes)
	if len(p.Reasons) == 0 {
		return what
	}
	r := p.Reasons[0]
	what += ": " + sentence(r.Problem)
	if r.Program != "" {
		what += " (" + r.Program + ")"
	}
	return what
}
