// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/order"
)

// Coverage is what of an update's vulnerabilities is fixed on this machine by
// the live patch that it runs, and what is not.
type Coverage struct {
	Update string `json:"update,omitempty"` // source version up to which fixes were taken
	// Fixed of Total vulnerabilities are fixed here. Fixes without a number are
	// not counted.
	Fixed int `json:"fixed"`
	Total int `json:"total"`
	// Possible are those of the fixed ones of which it is not sure that what was
	// applied is their fix: they are counted, and told as what they are.
	Possible []string `json:"possible,omitempty"`
	// Open are the others, the most severe first.
	Open []OpenVulnerability `json:"open,omitempty"`
	// Modules are where the fixed modules stand that the live patch brought.
	Modules []api.Replacement `json:"modules,omitempty"`
}

// OpenModule is a kind of OpenVulnerability beside those of livepatch.OpenFix:
// the fixed module is not what this machine has loaded, or would load.
const OpenModule = "module"

// OpenVulnerability is a vulnerability that this machine has.
type OpenVulnerability struct {
	CVE       string    `json:"cve"`
	Possible  bool      `json:"possible,omitempty"` // it is not sure that this is its fix
	Severity  string    `json:"severity,omitempty"`
	Exploited bool      `json:"exploited,omitempty"`
	Fix       string    `json:"fix"` // id
	Title     string    `json:"title,omitempty"`
	Kind      string    `json:"kind"` // reboot, excluded or module
	Code      code.Code `json:"code,omitempty"`
	Why       string    `json:"why,omitempty"`
}

// Sentence sums it up: "protected from 143 of 151 (4 of them by a possible
// attribution); 2 of the rest are high".
// It is "" where nothing has a number.
func (c *Coverage) Sentence() string {
	if c == nil || c.Total == 0 {
		return ""
	}
	possible := ""
	if n := len(c.Possible); n > 0 {
		possible = fmt.Sprintf(" (%d of them by a possible attribution)", n)
	}
	if len(c.Open) == 0 {
		return fmt.Sprintf("protected from all %d", c.Total) + possible
	}
	count := map[string]int{}
	exploited := 0
	for _, o := range c.Open {
		count[o.Severity]++
		if o.Exploited {
			exploited++
		}
	}
	var parts []string
	tell := func(n int, what string) {
		if n == 0 {
			return
		}
		of := ""
		if len(parts) == 0 {
			of = " of the rest"
		}
		verb := "are"
		if n == 1 {
			verb = "is"
		}
		parts = append(parts, fmt.Sprintf("%d%s %s %s", n, of, verb, what))
	}
	tell(exploited, "known to be exploited")
	tell(count["critical"], "critical")
	tell(count["high"], "high")
	if len(parts) == 0 {
		parts = append(parts, "none of the rest is known to be high")
	}
	return fmt.Sprintf("protected from %d of %d%s; %s", c.Fixed, c.Total, possible, strings.Join(parts, ", "))
}

// Reboot lists the open vulnerabilities that a reboot into the updated kernel
// would end: all of them, but those that the policy leaves out are no reason.
func (c *Coverage) Reboot() []string {
	var out []string
	for _, o := range c.Open {
		if o.Kind != livepatch.OpenExcluded {
			out = append(out, o.CVE)
		}
	}
	return out
}

// coverage counts. A vulnerability of which one fix is open is open.
func coverage(c *Card, modules []api.Replacement) *Coverage {
	out := &Coverage{Modules: modules}
	if c.Selection != nil {
		out.Update = c.Selection.Update
	}
	open := map[string]OpenVulnerability{}
	all := map[string]bool{}
	add := func(o OpenVulnerability, cves, possible []string) {
		for _, id := range cves {
			all[id] = true
			o.CVE, o.Possible = id, slices.Contains(possible, id)
			if old, there := open[id]; there {
				open[id] = worse(old, o)
			} else {
				open[id] = o
			}
		}
	}
	var held []livepatch.FixRef
	for _, f := range c.Fixes {
		why := lacking(f, modules)
		if why == "" {
			for _, id := range f.CVEs {
				all[id] = true
			}
			held = append(held, f)
			continue
		}
		add(OpenVulnerability{Severity: f.Severity, Exploited: f.Exploited, Fix: f.ID, Title: f.Title, Kind: OpenModule, Why: why}, f.CVEs, f.Possible)
	}
	for _, f := range c.Open {
		add(OpenVulnerability{Severity: f.Severity, Exploited: f.Exploited, Fix: f.ID, Title: f.Title, Kind: f.Kind, Code: f.Code, Why: f.Why}, f.CVEs, f.Possible)
	}
	for _, id := range livepatch.Doubtful(held) {
		if _, is := open[id]; !is {
			out.Possible = append(out.Possible, id)
		}
	}
	for _, o := range open {
		out.Open = append(out.Open, o)
	}
	order.Sort(out.Open, func(x, y OpenVulnerability) int {
		return cmp.Or(-cmp.Compare(pick(x.Exploited, 1, 0), pick(y.Exploited, 1, 0)), -cmp.Compare(livepatch.SeverityRank(x.Severity), livepatch.SeverityRank(y.Severity)), cmp.Compare(x.CVE, y.CVE))
	})
	out.Total = len(all)
	out.Fixed = out.Total - len(out.Open)
	return out
}

// worse is what to tell of a vulnerability of which two fixes are open: one that
// was left out on purpose is told only when the other was too, because a reboot
// ends the other.
func worse(a, b OpenVulnerability) OpenVulnerability {
	out, other := a, b
	aOut, bOut := a.Kind == livepatch.OpenExcluded, b.Kind == livepatch.OpenExcluded
	if aOut && !bOut || aOut == bOut && livepatch.SeverityRank(b.Severity) > livepatch.SeverityRank(a.Severity) {
		out, other = b, a
	}
	if livepatch.SeverityRank(other.Severity) > livepatch.SeverityRank(out.Severity) {
		out.Severity = other.Severity
	}
	out.Exploited = a.Exploited || b.Exploited
	out.Possible = a.Possible && b.Possible
	return out
}

// lacking says why a fix is not whole on this machine, or "".
func lacking(f livepatch.FixRef, modules []api.Replacement) string {
	for _, name := range f.Modules {
		i := slices.IndexFunc(modules, func(r api.Replacement) bool { return r.Module == name })
		switch {
		case i < 0:
			return "the fixed module " + name + " is not here"
		case modules[i].State.Protects():
		case modules[i].State == api.InUse:
			return "module " + name + " is loaded in another build than the fixed one; unload it, or reboot into the updated kernel"
		case modules[i].Problem != nil:
			return "module " + name + ": " + modules[i].Problem.What
		default:
			return "the fixed module " + name + " is not on the disk yet"
		}
	}
	return ""
}

// problemOfModule is why a fixed module is kept out, or nil.
func problemOfModule(s *State, m *moment, r FixedBuild) *code.Problem {
	if p := badProblem(s, r); p != nil {
		return unwire(p)
	}
	key := r.Name + r.Module.Digest
	return cmp.Or(m.blockedModules[key], m.unfitModules[key])
}

func badProblem(s *State, r FixedBuild) *api.Problem {
	return s.Bad[badKey(r.Name, r.Module.Digest)].Problem
}

// leftModules are the fixed modules on the disk while their live patch is not
// applied: it is on its way, or waits.
func leftModules(s *State, h *Host) []api.Replacement {
	var out []api.Replacement
	for _, f := range s.Modules[h.Kernel.BuildID].Files {
		st := api.Replacement{Module: f.Name, State: api.OnDisk}
		if loaded, is := loadedModule(h, f.Name); is {
			st.State = pick(loaded.BuildID == f.BuildID, api.LoadedNow, api.InUse)
		}
		out = append(out, st)
	}
	return out
}

// replacements is where the fixed modules of a live patch stand.
func replacements(c *Card, s *State, m *moment) []api.Replacement {
	if m.host == nil {
		return nil
	}
	have := s.Modules[m.host.Kernel.BuildID]
	var out []api.Replacement
	for _, r := range c.Replacements {
		f, there := have.file(r.Name)
		there = there && !have.Changing && f.Digest == r.Module.Digest
		loaded, is := loadedModule(m.host, r.Name)
		problem := problemOfModule(s, m, r)
		st := api.Replacement{Module: r.Name}
		switch {
		case is && loaded.BuildID == r.Fixed:
			st.State, st.Problem = api.LoadedNow, wire(unwire(badProblem(s, r)))
		case problem != nil:
			st.State, st.Problem = api.NotHere, wire(problem)
		case is:
			st.State = api.InUse
		case there:
			st.State = api.OnDisk
		default:
			st.State = api.NotYet
		}
		out = append(out, st)
	}
	return out
}
