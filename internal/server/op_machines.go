// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
)

type machinesInput struct {
	Tier       string `query:"tier" maxLength:"64"`
	Group      string `query:"group" maxLength:"100"`
	Query      string `query:"q" maxLength:"255" doc:"part of the host name, of the kernel release or of a package that its processes map, or start of the id"`
	Protection string `query:"protection" enum:"protected,outdated,partly,unprotected,not-covered,failing,silent,gone"`
	CVE        string `query:"cve" pattern:"^[Cc][Vv][Ee]-[0-9]{4}-[0-9]{4,19}$" doc:"only machines on which this is open"`
	Need       string `query:"need" enum:"reboot,module,restart,live-patch,build,policy,possible" doc:"only machines with anything open (with cve: with that one open) that this would end"`
	Stale      bool   `query:"stale" doc:"only machines whose processes run what their disk has no more"`
	Page
}

type machineChange struct {
	ID   string `path:"id" maxLength:"255"`
	Body api.MachineChange
}

func (s *Server) machineOperations(o *operations) {
	answer(o, op{id: "list-machines", method: "GET", path: "/v1/machines", summary: "Machines, in the order of their enrolment", may: look, scoped: true},
		func(ctx context.Context, who operator, in *machinesInput) (api.List[api.Machine], error) {
			return s.machines(ctx, in, who.limit())
		})
	answer(o, op{id: "get-machine", method: "GET", path: "/v1/machines/{id}", summary: "One machine, with the CVEs that are fixed live on it", may: look, scoped: true},
		func(ctx context.Context, who operator, in *byID) (api.Machine, error) {
			if err := s.seesMachine(ctx, who, in.ID); err != nil {
				return api.Machine{}, err
			}
			return s.oneMachine(ctx, in.ID)
		})
	answer(o, op{id: "get-machine-modules", method: "GET", path: "/v1/machines/{id}/modules", summary: "The kernel modules that a machine has loaded, with their build-ids", may: look, scoped: true},
		func(ctx context.Context, who operator, in *byID) (api.List[api.Module], error) {
			if err := s.seesMachine(ctx, who, in.ID); err != nil {
				return api.List[api.Module]{}, err
			}
			return s.machineModules(ctx, in.ID)
		})
	answer(o, op{id: "change-machine", method: "PATCH", path: "/v1/machines/{id}", summary: "Change tier, group or hold", may: change, scoped: true},
		func(ctx context.Context, who operator, in *machineChange) (api.Machine, error) {
			return s.changeMachine(ctx, who, in.ID, in.Body)
		})
	quiet(o, op{id: "remove-machine", method: "DELETE", path: "/v1/machines/{id}", summary: "End a machine's enrolment; what it has loaded stays loaded", may: change, scoped: true},
		func(ctx context.Context, who operator, in *byID) error {
			if err := s.seesMachine(ctx, who, in.ID); err != nil {
				return err
			}
			return s.decommission(ctx, in.ID, who.name)
		})
}

// fits says whether a machine is one that is asked for, and leaves of what is
// open on it what is asked about.
func (in *machinesInput) fits(m *api.Machine, open exposure) bool {
	if in.Protection != "" && string(m.Protection) != in.Protection {
		return false
	}
	if in.CVE == "" && in.Need == "" {
		return true
	}
	m.Open = open.asked(in.CVE, in.Need)
	return len(m.Open) > 0
}

func (s *Server) oneMachine(ctx context.Context, id string) (api.Machine, error) {
	row, err := s.store.Machine(ctx, id)
	if err != nil {
		return api.Machine{}, missing(err, "machine", id)
	}
	m, exposed, err := s.machineOf(ctx, row)
	if err != nil {
		return m, err
	}
	open := whyOpen(m.Packages, exposed.all())
	if row.Gone == 0 {
		shelf, err := s.shelves.get(ctx, row.Tier, row.BuildID, m.Policy)
		if err != nil {
			return m, err
		}
		if m.Rollout, err = s.rolloutOfMachine(ctx, row.ID, row.Tier, shelf); err != nil {
			return m, err
		}
	}
	m.Open, m.Replacements = open, readFacts(row.JSON).Replacements
	if err := s.morePackages(ctx, row, &m); err != nil {
		return m, err
	}
	if id := runsNow(m.Patch.ID, m.Patch.State); id != "" {
		if p, err := s.store.LivePatch(ctx, id); err == nil {
			m.CVEs = p.CVEs
		}
	}
	for _, p := range m.Packages {
		m.CVEs = append(m.CVEs, p.CVEs...)
	}
	slices.Sort(m.CVEs)
	m.CVEs = slices.DeleteFunc(slices.Compact(m.CVEs), func(cve string) bool {
		return slices.ContainsFunc(open, func(o api.OpenCVE) bool { return o.CVE == cve })
	})
	return m, nil
}

// machineOf is a machine as operators see it, and what is open on it.
func (s *Server) machineOf(ctx context.Context, row store.Machine) (api.Machine, exposure, error) {
	f := readFacts(row.JSON)
	m := api.Machine{
		ID: row.ID, Hostname: row.Hostname, Tier: row.Tier, Group: row.Group, Token: row.Token, OS: row.OS, Agent: row.Agent,
		Kernel: api.Kernel{Release: row.Release, BuildID: row.BuildID, Arch: row.Arch},
		Patch:  f.Patch, Able: row.Able, Problems: f.Problems, Hold: row.Hold || f.Hold, Cloned: row.Cloned,
		Enrolled: row.Enrolled, Seen: row.Seen, Booted: row.Booted, Gone: row.Gone,
	}
	if here := s.fleet.byID(row.ID); here != nil {
		here.mu.Lock()
		m.Seen = max(m.Seen, here.seen) // newer than what is written down
		here.mu.Unlock()
		here.staleNow(f.Stale)
	}
	m.Stale = f.Stale
	m.Policy = s.book.Load().of(row.Group).word
	shelf, err := s.shelves.get(ctx, row.Tier, row.BuildID, m.Policy)
	if err != nil {
		return m, nil, err
	}
	st := standing{
		buildID: row.BuildID, patch: row.Patch, state: api.State(row.PatchState), version: row.PatchVersion, able: row.Able,
		hold: m.Hold, seen: m.Seen, gone: row.Gone != 0, moved: f.Patch.Policy != m.Policy,
	}
	if p := f.Patch.Problem; p != nil {
		st.problem = sentence(*p)
	}
	if len(f.Problems) > 0 {
		st.unable = sentence(f.Problems[0])
	}
	_, _, st.waiting = shelf.admitted(row.ID)
	m.Protection, m.Target, m.Reason = protection(st, shelf.index, s.now(), s.interval.Load())
	m.KernelProtection, m.KernelReason = m.Protection, m.Reason
	if m.Protection == api.Silent {
		m.KernelProtection, _, m.KernelReason = stands(st, shelf.index)
	}
	packages, err := s.packagesOf(ctx, row, f, st, &m)
	if err != nil {
		return m, nil, err
	}
	open, err := s.exposed(ctx, situation{packages: packages, kernelSituation: kernelSituation{
		release: row.Release, policy: m.Policy, runs: runsNow(row.Patch, st.state), should: shouldHave(m.Target, row.Patch, st.state), modules: moduleWords(f.Replacements),
	}})
	if err != nil || row.Gone != 0 {
		return m, nil, err
	}
	m.Needs = open.needs()
	if m.Protection == api.Protected || m.Protection == api.Partly {
		m.Reason += alsoOpen(m.Needs)
	}
	if row.Cloned {
		m.Reason = "two machines use its identity: enrol both again; " + m.Reason
	}
	return m, open, nil
}

// sentence is a problem in one line.
func sentence(p api.Problem) string {
	what := p.What
	if e, ok := code.Lookup(p.Code); ok && what == "" {
		what = e.Title
	}
	parts := make([]string, 0, 3)
	for _, s := range []string{what, p.Where, p.Why} {
		if s != "" {
			parts = append(parts, s)
		}
	}
	return strings.Join(parts, ": ")
}

func (s *Server) changeMachine(ctx context.Context, who operator, id string, c api.MachineChange) (api.Machine, error) {
	if c.Tier == nil && c.Group == nil && c.Hold == nil {
		return api.Machine{}, refuse("TS7601", "body", "nothing is to be changed")
	}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		old, err := tx.Machine(ctx, id)
		if err != nil || old.Gone != 0 {
			return missing(either2(err, store.ErrNotFound), "enrolled machine", id)
		}
		if err := who.mayMove(old, c); err != nil {
			return err
		}
		now, err := tx.UpdateMachine(ctx, id, store.MachineChange{Tier: c.Tier, Group: c.Group, Hold: c.Hold})
		if err != nil {
			return missing(err, "tier", deref(c.Tier))
		}
		var words []string
		note := func(name string, a, b any) {
			if a != b {
				words = append(words, fmt.Sprintf("%s %v → %v", name, a, b))
			}
		}
		note("tier", old.Tier, now.Tier)
		note("group", old.Group, now.Group)
		note("hold", old.Hold, now.Hold)
		return tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "machine.change", Object: id, Detail: strings.Join(words, ", ")})
	})
	if err != nil {
		return api.Machine{}, err
	}
	if _, err := s.fleet.refresh(ctx, s.store, id); err != nil { // lists are made from it
		return api.Machine{}, err
	}
	return s.oneMachine(ctx, id)
}

// either2 is the error that there is, or the other one.
func either2(err, other error) error {
	if err != nil {
		return err
	}
	return other
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}

// expired says whether a time of expiry has come.
func expired(ms int64, now time.Time) bool { return ms != 0 && ms <= now.UnixMilli() }
