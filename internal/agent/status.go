// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Status is all that there is to know about this machine. It is the answer of
// the local API and, in the frame that package ui writes, of tsugi status
// --json. Times are milliseconds since 1970 UTC, 0 for never.
type Status struct {
	Agent   string `json:"agent"` // version
	Running bool   `json:"running"`
	// Protection and Reason sum the machine up.
	Protection api.Protection `json:"protection"`
	Reason     string         `json:"reason"`
	Kernel     api.Kernel     `json:"kernel"`
	Booted     int64          `json:"booted"`
	Off        bool           `json:"off"` // tsugi=off
	Server     *ServerStatus  `json:"server,omitempty"`
	// Applied is the live patch that the kernel runs, Patch where the last one
	// stands that anything was done with.
	Applied *AppliedStatus `json:"applied,omitempty"`
	Patch   *api.Patch     `json:"patch,omitempty"`
	// Packages are those that the tier has live patches for and processes here map
	// files of, or that something is applied of.
	Packages []PackageStatus `json:"packages,omitempty"`
	// Listed is how many packages the tier has live patches for; nil: not known.
	Listed *int `json:"packages_listed,omitempty"`
	// Deaf is why programs that crash can't be seen: live patches of packages count
	// as healthy by the health command alone.
	Deaf *code.Problem `json:"deaf,omitempty"`
	// Modules are the fixed modules on the disk while no live patch is applied.
	Modules    []api.Replacement `json:"modules,omitempty"`
	Decision   string            `json:"decision,omitempty"`
	Offer      *trust.Offer      `json:"offer,omitempty"` // what the decision waits for
	Retry      int64             `json:"retry,omitempty"`
	NextWindow int64             `json:"next_window,omitempty"`
	Stalls     []api.Stall       `json:"stalls,omitempty"` // who holds up the transition
	Hold       bool              `json:"hold"`
	ServerHold bool              `json:"server_hold"`
	Quarantine []api.Patch       `json:"quarantine,omitempty"`
	ByHand     []api.Patch       `json:"reverted_by_hand,omitempty"`
	Able       bool              `json:"able"`
	Problems   []code.Problem    `json:"problems,omitempty"`
	Waiting    int               `json:"reports_waiting"`
	Dropped    int               `json:"reports_dropped,omitempty"`
}

// ServerStatus is how the machine stands with its server.
type ServerStatus struct {
	URL      string `json:"url"`
	Machine  string `json:"machine"`
	Tier     string `json:"tier"`
	Group    string `json:"group,omitempty"`
	Answered int64  `json:"answered,omitempty"` // last good check-in
	Tried    int64  `json:"tried,omitempty"`
	Metadata int64  `json:"metadata,omitempty"` // last refresh of the signed metadata
	Sequence int64  `json:"sequence,omitempty"` // of the index
	Skew     int64  `json:"skew_ms,omitempty"`  // of this machine's clock
}

// AppliedStatus is a live patch that the kernel runs.
type AppliedStatus struct {
	api.Patch
	Transition int64    `json:"transition_ms,omitempty"`
	CVEs       []string `json:"cves,omitempty"` // without those that are fixed by a possible attribution
	Fixes      []string `json:"fixes,omitempty"`
	Functions  int      `json:"functions,omitempty"`
	// Coverage is what of the update is fixed here; CVEs are those.
	Coverage *Coverage `json:"coverage,omitempty"`
}

// Status never waits for the network, the kernel or a change under way.
func (a *Agent) Status() Status {
	s, bad := a.journal.view()
	a.mu.Lock()
	m := a.now
	a.mu.Unlock()
	now := time.Now()
	out := Status{
		Agent: a.opts.Version, Running: m.running, Hold: s.Hold, Patch: s.Last, Waiting: len(s.Pending), Dropped: s.Dropped,
		Stalls: m.stalls, Quarantine: sorted(s.Quarantined), ByHand: sorted(s.ByHand),
	}
	add := func(err error, c code.Code) {
		if err != nil {
			p := *problemOf(c, "", err)
			p.Why, p.Err = wire(&p).Why, nil
			if !slices.ContainsFunc(out.Problems, func(q code.Problem) bool { return q.Code == p.Code && q.Why == p.Why }) {
				out.Problems = append(out.Problems, p)
			}
		}
	}
	add(bad, "TS9402")
	if m.problem != nil {
		add(m.problem, "")
	}
	add(m.machineErr, "TS9404")
	add(m.hostErr, "TS9400")
	add(m.linkErr, "TS9400")
	add(m.checkErr, "TS9400")
	add(m.indexErr, "TS9400")
	if m.modulesErr != nil {
		add(m.modulesErr, "")
	}
	a.serverStatus(&out, &m, add)
	if k := m.keeper; k != nil && k.Deaf != nil && len(s.Packages) > 0 {
		out.Deaf = k.Deaf
	}
	if h := m.host; h != nil {
		out.Kernel, out.Booted, out.Off, out.Able = h.Kernel, h.Booted.UnixMilli(), h.Off, len(h.Problems) == 0
		for _, p := range h.Problems {
			add(p, "")
		}
		var card *Card
		if a.current(s, h) == 0 {
			out.Modules = leftModules(s, h)
		} else {
			card, _ = a.card(s.Current.Patch.ID) // appliedStatus copes without
			out.Applied = a.appliedStatus(s, &m)
			for _, r := range out.Applied.modules() {
				if r.Problem != nil {
					add(unwire(r.Problem), "")
				}
			}
		}
		if p := takenBack(s, h, card); p != nil {
			add(p, "")
		}
	}
	if d := m.decision; d != nil {
		out.Decision, out.Offer = d.Reason, d.Offer
		if d.Action == policy.Wait {
			out.NextWindow = milli(a.cfg.NextWindow(now))
		}
	}
	if m.retry.After(now) {
		out.Retry = milli(m.retry)
	}
	out.Protection, out.Reason = a.protection(&m, s)
	if a.userland() {
		out.Packages = a.packageStatus(s, &m)
		add(errorOf(a.keeperProblem(s)), "")
		add(m.catalogueErr, "TS9400")
		if m.keeper != nil && !m.keeper.Absent && !m.indexed.IsZero() && m.catalogueErr == nil {
			n := 0
			if m.catalogue != nil {
				n = len(m.catalogue.Packages)
			}
			out.Listed = &n
		}
		for i := range out.Packages {
			add(errorOf(m.packages[out.Packages[i].ID].problem), "")
			out.with(&out.Packages[i])
		}
	}
	return out
}

// errorOf keeps a nil problem from being an error.
func errorOf(p *code.Problem) error {
	if p == nil {
		return nil
	}
	return p
}

func (a *Agent) serverStatus(out *Status, m *moment, add func(error, code.Code)) {
	if m.machine == nil {
		return
	}
	out.Server = &ServerStatus{
		URL: m.machine.Server, Machine: m.machine.ID, Tier: m.machine.Tier, Group: m.machine.Group,
		Answered: milli(m.answered), Tried: milli(m.tried), Metadata: milli(m.indexed), Skew: m.skew.Milliseconds(),
	}
	if as := m.assignment; as != nil {
		out.Server.Tier, out.Server.Group, out.ServerHold = as.Tier, as.Group, as.Hold
		if slices.Contains(as.Want, api.WantReenroll) {
			add(code.New("TS9428", "", ""), "")
		}
	}
	if m.index != nil {
		out.Server.Sequence = m.index.Sequence
	}
	if m.skew.Abs() > badSkew {
		add(clockProblem(m.skew, time.Now()), "")
	}
}

func (a *Agent) appliedStatus(s *State, m *moment) *AppliedStatus {
	c := s.Current
	out := &AppliedStatus{Patch: c.Patch, Transition: c.Transition}
	card, err := a.card(c.Patch.ID)
	if err != nil || card == nil {
		return out
	}
	out.Coverage = coverage(card, replacements(card, s, m))
	out.CVEs, out.Functions = fixedCVEs(card, out.Coverage), len(card.Functions)
	for _, f := range card.Fixes {
		out.Fixes = append(out.Fixes, cmp.Or(f.Title, f.ID))
	}
	return out
}

func (s *AppliedStatus) modules() []api.Replacement {
	if s.Coverage == nil {
		return nil
	}
	return s.Coverage.Modules
}

// fixedCVEs are the vulnerabilities that are fixed here for sure, in order.
func fixedCVEs(c *Card, cover *Coverage) []string {
	var ids []string
	for _, f := range c.Fixes {
		for _, id := range f.CVEs {
			if !slices.Contains(cover.Possible, id) && !slices.ContainsFunc(cover.Open, func(o OpenVulnerability) bool { return o.CVE == id }) {
				ids = append(ids, id)
			}
		}
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// protection is the machine in one word.
func (a *Agent) protection(m *moment, s *State) (api.Protection, string) {
	switch {
	case m.host == nil:
		return api.Failing, "this machine's kernel cannot be read"
	case m.host.Off:
		return api.Unprotected, "tsugi=off is on the kernel command line"
	}
	version := a.current(s, m.host)
	reason := ""
	if m.decision != nil {
		reason = m.decision.Reason
	}
	if i := s.Intent; i != nil && i.Boot == m.host.BootID && i.Patch.State != api.Applied {
		return pick(version > 0, api.Outdated, api.Unprotected), fmt.Sprintf("version %d is on its way: %s", i.Patch.Version, i.Patch.State)
	}
	if m.problem != nil {
		return api.Failing, m.problem.What
	}
	waits := m.decision != nil && m.decision.Offer != nil
	switch {
	case version > 0 && waits:
		return api.Outdated, reason
	case version > 0:
		return api.Protected, reason
	case waits:
		return api.Unprotected, reason
	case m.machine == nil && m.machineErr == nil:
		return api.Unprotected, "this machine is not enrolled"
	case m.index == nil && m.indexErr == nil && m.assignment == nil:
		return api.Unprotected, "the server has not been reached since the agent started"
	case m.index != nil && len(m.index.Patches) > 0:
		if len(s.Quarantined) > 0 {
			return api.Failing, reason
		}
		return api.Unprotected, reason
	}
	return api.NotCovered, reason
}

// standing is what a check-in says about the live patch.
func (a *Agent) standing() api.Patch {
	s, bad := a.journal.view()
	a.mu.Lock()
	m := a.now
	a.mu.Unlock()
	var p api.Patch
	switch {
	case s.Intent != nil && m.host != nil && s.Intent.Boot == m.host.BootID:
		p = s.Intent.Patch
	case m.host != nil && a.current(s, m.host) > 0:
		p = s.Current.Patch
	case m.decision != nil && m.decision.Action == policy.Wait && m.decision.Offer != nil:
		o := m.decision.Offer
		p = api.Patch{ID: o.ID, Name: o.Name, Version: o.Version, State: api.Waiting}
	case s.Last != nil && slices.Contains([]api.State{api.Blocked, api.Waiting, api.Quarantined, api.Reverted}, s.Last.State):
		p = *s.Last
	}
	if bad != nil {
		p.Problem = wire(problemOf("TS9402", journalName, bad))
		if p.State == "" {
			p.State = api.Blocked
		}
	} else if m.problem != nil {
		p.Problem = wire(m.problem)
	}
	return p
}

func sorted(m map[string]api.Patch) []api.Patch {
	all := slices.Collect(maps.Values(m))
	order.Sort(all, func(a, b api.Patch) int { return cmp.Compare(a.ID, b.ID) })
	return all
}

func pick[T any](on bool, a, b T) T {
	if on {
		return a
	}
	return b
}

func milli(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

// History returns the last things that happened, oldest first.
func (a *Agent) History() []api.Report {
	s, _ := a.journal.view()
	return s.History
}
