// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
)

// openPart is what is open in a kernel, or in the processes of a package, where
// machines stand alike. Large fleets have few of them, and many exposures that
// are made of them. Nobody changes one.
type openPart struct {
	all       []api.OpenCVE // the gravest first
	by        map[string]int
	needs     map[api.Need]int // how many
	grave     grave
	exploited []string // somebody should do something about it, and it is known to be exploited
}

// severityWords are the classes that vulnerabilities are counted in, the gravest
// last.
var severityWords = [...]string{"", "unknown", "low", "medium", "high", "critical", "exploited"}

// grave is how bad the worst is that is open, in places of severityWords: for each
// of api.Needs, and last of what somebody should do something about.
type grave [9]int8

// worse is the worse of both in all.
func (g grave) worse(h grave) grave {
	for i := range g {
		g[i] = max(g[i], h[i])
	}
	return g
}

func (g *grave) add(o api.OpenCVE) {
	class := int8(max(1, slices.Index(severityWords[:], severityWord(o))))
	i := slices.Index(api.Needs(), o.Need)
	g[i] = max(g[i], class)
	if o.Need.Counts() {
		g[len(g)-1] = max(g[len(g)-1], class)
	}
}

// newOpenPart takes what is open, in order.
func newOpenPart(all []api.OpenCVE) *openPart {
	p := &openPart{all: all, by: make(map[string]int, len(all)), needs: needsOf(all)}
	for i, o := range all {
		p.by[o.CVE] = i
		p.grave.add(o)
		if o.Exploited && o.Need.Counts() {
			p.exploited = append(p.exploited, o.CVE)
		}
	}
	return p
}

// exposure is what is open on a machine: in its kernel, and in each of its
// packages.
type exposure []*openPart

// all lists it, the gravest first. Nobody changes what it returns.
func (x exposure) all() []api.OpenCVE {
	switch len(x) {
	case 0:
		return nil
	case 1:
		return x[0].all
	}
	var out []api.OpenCVE
	for _, p := range x {
		out = append(out, p.all...)
	}
	sortOpen(out)
	return out
}

// asked lists what is open of a vulnerability, or of all if it is "", that a need
// would end, or any if it is "".
func (x exposure) asked(cve, need string) []api.OpenCVE {
	var out []api.OpenCVE
	for _, p := range x {
		if cve != "" {
			if i, ok := p.by[cve]; ok && (need == "" || string(p.all[i].Need) == need) {
				out = append(out, p.all[i])
			}
			continue
		}
		for _, o := range p.all {
			if need == "" || string(o.Need) == need {
				out = append(out, o)
			}
		}
	}
	if len(x) > 1 {
		sortOpen(out)
	}
	return out
}

// has says whether asked lists anything.
func (p *openPart) has(cve, need string) bool {
	if cve == "" {
		return need == "" && len(p.all) > 0 || p.needs[api.Need(need)] > 0
	}
	i, ok := p.by[cve]
	return ok && (need == "" || string(p.all[i].Need) == need)
}

// needs counts what is open by need; nil: nothing is.
func (x exposure) needs() map[api.Need]int {
	var out map[api.Need]int
	for _, p := range x {
		for need, n := range p.needs {
			if out == nil {
				out = map[api.Need]int{}
			}
			out[need] += n
		}
	}
	return out
}

// of is what is open of a vulnerability: the gravest of kernel and packages; nil:
// nothing.
func (x exposure) of(cve string) *api.OpenCVE {
	var worst *api.OpenCVE
	for _, p := range x {
		if i, ok := p.by[cve]; ok && (worst == nil || graver(p.all[i], *worst)) {
			worst = &p.all[i]
		}
	}
	return worst
}

// graves says how bad the worst is in situations, and remembers for a while: many
// share a kernel's, or a package's.
type graves struct {
	server   *Server
	kernels  map[kernelSituation]grave
	packages map[*packageSituations]grave
}

func (s *Server) graves() *graves {
	return &graves{server: s, kernels: map[kernelSituation]grave{}, packages: map[*packageSituations]grave{}}
}

func (g *graves) of(ctx context.Context, at situation) (grave, error) {
	kernel, known := g.kernels[at.kernelSituation]
	if !known {
		x, err := g.server.exposed(ctx, situation{kernelSituation: at.kernelSituation})
		if err != nil {
			return grave{}, err
		}
		kernel = x[0].grave
		g.kernels[at.kernelSituation] = kernel
	}
	packages, known := g.packages[at.packages]
	if !known {
		for _, k := range at.packages.each() {
			x, err := g.server.exposedIn(ctx, k)
			if err != nil {
				return grave{}, err
			}
			packages = packages.worse(x.grave)
		}
		g.packages[at.packages] = packages
	}
	return kernel.worse(packages), nil
}

// holder says of situations whether anything is open that is asked for, and
// remembers as graves does.
type holder struct {
	server    *Server
	cve, need string
	kernels   map[kernelSituation]bool
	packages  map[*packageSituations]bool
}

func (h *holder) of(ctx context.Context, at situation) (bool, error) {
	yes, known := h.kernels[at.kernelSituation]
	if !known {
		x, err := h.server.exposed(ctx, situation{kernelSituation: at.kernelSituation})
		if err != nil {
			return false, err
		}
		yes = x[0].has(h.cve, h.need)
		h.kernels[at.kernelSituation] = yes
	}
	if yes || at.packages == nil {
		return yes, nil
	}
	if yes, known = h.packages[at.packages]; known {
		return yes, nil
	}
	for _, k := range at.packages.each() {
		x, err := h.server.exposedIn(ctx, k)
		if err != nil {
			return false, err
		}
		yes = yes || x.has(h.cve, h.need)
	}
	h.packages[at.packages] = yes
	return yes, nil
}

// again visits the vulnerabilities that count in more than one part, of those that
// shared has: one machine may have them in its kernel and in packages. times is
// how often. of remembers what parts have of them.
func (x exposure) again(shared map[string]bool, of map[*openPart][]string, visit func(cve string, times int)) {
	var seen map[string]int
	for _, p := range x {
		mine, known := of[p]
		if !known {
			for cve := range shared {
				if i, ok := p.by[cve]; ok && p.all[i].Need.Counts() {
					mine = append(mine, cve)
				}
			}
			slices.Sort(mine)
			of[p] = mine
		}
		for _, cve := range mine {
			if seen == nil {
				seen = map[string]int{}
			}
			seen[cve]++
		}
	}
	for cve, n := range seen {
		if n > 1 {
			visit(cve, n)
		}
	}
}
