// SPDX-License-Identifier: Apache-2.0

package server

import (
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
)

// openPart is what is open in a kernel, or in the processes of a package, where
// machines stand alike. Large fleets have few of them, and many exposures that
// are made of them. Nobody changes one.
type openPart struct {
	all       []api.OpenCVE // the gravest first
	by        map[string]int
	needs     map[api.Need]int         // how many
	worst     map[api.Need]api.OpenCVE // the gravest of each
	first     *api.OpenCVE             // the gravest that somebody should do something about
	exploited []string                 // somebody should, and it is known to be exploited
}

// newOpenPart takes what is open, in order.
func newOpenPart(all []api.OpenCVE) *openPart {
	p := &openPart{all: all, by: make(map[string]int, len(all)), needs: needsOf(all), worst: map[api.Need]api.OpenCVE{}}
	for i, o := range all {
		p.by[o.CVE] = i
		if _, there := p.worst[o.Need]; !there {
			p.worst[o.Need] = o
		}
		if !o.Need.Counts() {
			continue
		}
		if p.first == nil {
			p.first = &all[i]
		}
		if o.Exploited {
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

// worst is the gravest of each need.
func (x exposure) worst() map[api.Need]api.OpenCVE {
	if len(x) == 1 {
		return x[0].worst
	}
	out := make(map[api.Need]api.OpenCVE, 8)
	for _, p := range x {
		for need, o := range p.worst {
			if old, there := out[need]; !there || weight(o) > weight(old) {
				out[need] = o
			}
		}
	}
	return out
}

// first is the gravest that somebody should do something about; nil: nothing is.
func (x exposure) first() *api.OpenCVE {
	var first *api.OpenCVE
	for _, p := range x {
		if p.first != nil && (first == nil || weight(*p.first) > weight(*first)) {
			first = p.first
		}
	}
	return first
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
