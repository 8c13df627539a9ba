// SPDX-License-Identifier: Apache-2.0

package server

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// cover is what a live patch says of vulnerabilities.
type cover struct {
	id       string
	fixes    []livepatch.FixRef
	held     map[string][]livepatch.FixRef // by CVE
	open     map[string][]api.OpenCVE      // by CVE
	doubtful map[string]bool
	served   map[string][]string // by fix, the fixed modules that it needs
	states   livepatch.Manifest  // its name, klp_states and members alone
}

func newCover(id string, m *livepatch.Manifest) *cover {
	c := &cover{id: id, fixes: m.Fixes, held: map[string][]livepatch.FixRef{}, open: map[string][]api.OpenCVE{}, doubtful: map[string]bool{}, served: map[string][]string{}}
	c.states = livepatch.Manifest{Name: m.Name, States: m.States, Members: m.Members}
	for _, f := range m.Fixes {
		for _, id := range f.CVEs {
			c.held[id] = append(c.held[id], f)
		}
		if len(f.Modules) > 0 {
			c.served[f.ID] = f.Modules
		}
	}
	for _, id := range livepatch.Doubtful(m.Fixes) {
		c.doubtful[id] = true
	}
	for _, f := range m.Open {
		need := api.NeedReboot
		if f.Kind == livepatch.OpenExcluded {
			need = api.NeedPolicy
		}
		for _, id := range f.CVEs {
			c.open[id] = append(c.open[id], api.OpenCVE{
				CVE: id, Severity: f.Severity, Exploited: f.Exploited, Need: need, Fix: f.ID, Title: f.Title, Code: string(f.Code), Why: f.Why,
			})
		}
	}
	return c
}

// says reports whether the live patch says anything of a vulnerability.
func (c *cover) says(cve string) bool { return c.held[cve] != nil || c.open[cve] != nil }

// lists are all vulnerabilities that it says something of.
func (c *cover) lists(visit func(cve string)) {
	for cve := range c.held {
		visit(cve)
	}
	for cve := range c.open {
		if c.held[cve] == nil {
			visit(cve)
		}
	}
}

// running says whether a vulnerability is open where the live patch runs and
// its fixed modules stand as told; nil is not. One of whose fixes one is open
// is open.
func (c *cover) running(cve string, modules map[string]api.ReplacementState) *api.OpenCVE {
	var worst *api.OpenCVE
	add := func(o api.OpenCVE) {
		if worst == nil || graver(o, *worst) {
			worst = &o
		}
	}
	for _, o := range c.open[cve] {
		add(o)
	}
	for _, f := range c.held[cve] {
		o := api.OpenCVE{CVE: cve, Severity: f.Severity, Exploited: f.Exploited, Need: api.NeedModule, Fix: f.ID, Title: f.Title}
		for _, name := range f.Modules {
			if !modules[name].Protects() {
				o.Modules = append(o.Modules, name)
			}
		}
		switch {
		case len(o.Modules) > 0:
			o.Why = inTheWay(o.Modules, modules)
			add(o)
		case c.doubtful[cve]:
			o.Need, o.Why = api.NeedLook, "that this is its fix is only possible"
			add(o)
		}
	}
	return worst
}

// inTheWay says why fixed modules do not protect.
func inTheWay(names []string, modules map[string]api.ReplacementState) string {
	var words []string
	for _, n := range names {
		switch modules[n] {
		case api.InUse:
			words = append(words, fmt.Sprintf("module %s is loaded in another build: rmmod %s, or reboot", n, n))
		case api.NotHere:
			words = append(words, fmt.Sprintf("this machine can't have the fixed module %s", n))
		default:
			words = append(words, fmt.Sprintf("the fixed module %s is not on the disk yet", n))
		}
	}
	return strings.Join(words, "; ")
}

// offering says what of a vulnerability would be another if the live patch
// ran; nil when it says nothing of it.
func (c *cover) offering(cve string) *api.OpenCVE {
	if all := c.held[cve]; len(all) > 0 && len(c.open[cve]) == 0 {
		f := all[0]
		return &api.OpenCVE{
			CVE: cve, Severity: f.Severity, Exploited: f.Exploited, Need: api.NeedLivePatch, Fix: f.ID, Title: f.Title, Patch: c.id,
			Why: "it is in " + c.id,
		}
	}
	var worst *api.OpenCVE
	for _, o := range c.open[cve] {
		if worst == nil || graver(o, *worst) {
			worst = &o
		}
	}
	return worst
}

// graver orders what is open of one vulnerability: what nobody would do
// anything about is not the reason while there is another one.
func graver(a, b api.OpenCVE) bool {
	return slices.Index(api.Needs(), a.Need) < slices.Index(api.Needs(), b.Need)
}

// chosen is what a policy's choice says of vulnerabilities: those that a build
// would fix, and those that it would not.
func chosen(sel *selection.Selection) map[string]api.OpenCVE {
	out := map[string]api.OpenCVE{}
	add := func(f *series.Fix, o api.OpenCVE) {
		o.Severity, o.Exploited, o.Fix, o.Title = string(f.Severity), f.Exploited, f.ID, f.Title
		for _, o.CVE = range f.CVEs {
			if old, there := out[o.CVE]; !there || graver(o, old) {
				out[o.CVE] = o
			}
		}
	}
	for _, f := range sel.Fixes {
		add(f, api.OpenCVE{Need: api.NeedBuild, Why: "no live patch with its fix is in this tier yet"})
	}
	by := map[string]selection.Left{}
	for _, l := range sel.Left {
		by[l.ID] = l
	}
	for _, l := range sel.Left {
		switch root := l.Root(by); {
		case l.Kind == selection.NotHere:
		case root.Kind == selection.Reboot || root.Kind == selection.Failed:
			add(l.Fix, api.OpenCVE{Need: api.NeedReboot, Code: string(root.Code), Why: l.Why})
		default:
			add(l.Fix, api.OpenCVE{Need: api.NeedPolicy, Why: l.Why})
		}
	}
	return out
}

// exposed lists what is open on a machine: by the live patch that it runs, by
// the one that it should have, and by what is pushed for its kernel. Each may
// be missing. What runs has the first word on what it knows.
func exposed(runs, should *cover, pushed map[string]api.OpenCVE, modules map[string]api.ReplacementState) []api.OpenCVE {
	found := map[string]*api.OpenCVE{}
	settled := func(cve string) bool { return runs != nil && runs.says(cve) && found[cve] == nil }
	if runs != nil {
		runs.lists(func(cve string) {
			if o := runs.running(cve, modules); o != nil {
				found[cve] = o
			}
		})
	}
	if should != nil && (runs == nil || should.id != runs.id) {
		should.lists(func(cve string) {
			if o := should.offering(cve); !settled(cve) && (found[cve] == nil || o.Need == api.NeedLivePatch) {
				found[cve] = o
			}
		})
	}
	for cve, o := range pushed {
		switch old := found[cve]; {
		case settled(cve):
		case old == nil, old.Need == api.NeedPolicy && o.Need == api.NeedBuild: // an exclusion has ended
			found[cve] = &o
		}
	}
	out := make([]api.OpenCVE, 0, len(found))
	for _, o := range found {
		out = append(out, *o)
	}
	sortOpen(out)
	return out
}

// sortOpen puts the gravest first.
func sortOpen(all []api.OpenCVE) {
	slices.SortFunc(all, func(a, b api.OpenCVE) int {
		return cmp.Or(-cmp.Compare(weight(a), weight(b)), cmp.Compare(a.CVE, b.CVE), cmp.Compare(a.Package, b.Package))
	})
}

// unreached is what the live patch of a package fixes, and some processes still
// have, although it is there. open is what is open anyway.
func (c *cover) unreached(open []api.OpenCVE) []api.OpenCVE {
	var out []api.OpenCVE
	for cve, fixes := range c.held {
		if slices.ContainsFunc(open, func(o api.OpenCVE) bool { return o.CVE == cve }) {
			continue
		}
		f := fixes[0]
		out = append(out, api.OpenCVE{
			CVE: cve, Severity: f.Severity, Exploited: f.Exploited, Need: api.NeedRestart, Fix: f.ID, Title: f.Title,
			Why: "some processes run the old code: what is pending is tried again, the others have to be started anew",
		})
	}
	return out
}

// weight orders vulnerabilities by how much they matter.
func weight(o api.OpenCVE) int {
	return gravity(api.LeftFix{Severity: o.Severity, Exploited: o.Exploited})
}
