// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Wire is a policy in the words of the API.
func Wire(p selection.Policy) api.Policy {
	out := api.Policy{
		Name: p.Name, Description: p.Description, MinSeverity: string(p.MinSeverity), Scope: string(p.Scope), Extra: p.Extra, SwapUnused: p.SwapUnused,
	}
	for _, x := range p.Exclusions {
		e := api.Exclusion{CVE: x.CVE, Fix: x.Fix, Reason: x.Reason, Owner: x.Owner}
		if !x.Expires.IsZero() {
			e.Expires = x.Expires.UnixMilli()
		}
		out.Exclusions = append(out.Exclusions, e)
	}
	return out
}

func (p *planner) policies() {
	p.goneFrom = map[string]bool{}
	have := map[string]api.PolicyInfo{}
	for _, info := range p.have.Policies {
		have[info.Name] = info
	}
	for _, name := range slices.Sorted(maps.Keys(p.file.Policies)) {
		want := Wire(p.file.Policies[name])
		old, there := have[name]
		s := Step{Do: Change, Kind: KindPolicy, Name: name, policy: want, Changes: differences(old.Policy, want)}
		switch {
		case !there:
			s.Do = Create
			p.step(s)
		case len(s.Changes) > 0:
			p.step(s)
		}
	}
	for _, info := range p.have.Policies {
		if _, ok := p.file.Policies[info.Name]; ok || p.file.Policies == nil || isDefault(info.Name) {
			continue
		}
		if p.prune {
			p.goneFrom[info.Name] = true
		} else {
			p.note("policy " + info.Name + " is not in the file and stays")
		}
	}
}

// differences says what of a policy would be another. The order of exclusions
// means nothing, that of further series does.
func differences(old, want api.Policy) []Difference {
	var out []Difference
	note := func(what, from, to string) {
		if from != to {
			out = append(out, Difference{What: what, From: from, To: to})
		}
	}
	note("description", old.Description, want.Description)
	note("min_severity", old.MinSeverity, want.MinSeverity)
	note("scope", cmp.Or(old.Scope, string(selection.Security)), cmp.Or(want.Scope, string(selection.Security)))
	note("extra", strings.Join(old.Extra, " "), strings.Join(want.Extra, " "))
	note("swap_unused", yes(old.SwapUnused), yes(want.SwapUnused))
	before, after := exclusions(old), exclusions(want)
	names := slices.Sorted(maps.Keys(before))
	for n := range after {
		if _, ok := before[n]; !ok {
			names = append(names, n)
		}
	}
	slices.Sort(names)
	for _, n := range names {
		note("excludes "+n, before[n], after[n])
	}
	return out
}

func exclusions(p api.Policy) map[string]string {
	out := map[string]string{}
	for _, x := range p.Exclusions {
		out[cmp.Or(x.CVE, x.Fix)] = fmt.Sprintf("%s (%s, %s)", until(x.Expires), x.Reason, x.Owner)
	}
	return out
}

// until is exact, for two moments that differ must not read the same.
func until(ms int64) string {
	if ms == 0 {
		return "for good"
	}
	t := time.UnixMilli(ms).UTC()
	if t.Equal(t.Truncate(24 * time.Hour)) {
		return "until " + t.Format(time.DateOnly)
	}
	return "until " + t.Format(time.RFC3339Nano)
}

func yes(b bool) string {
	if b {
		return strconv.FormatBool(b)
	}
	return ""
}

// maxGroupsAtOnce is how many one request may name.
const maxGroupsAtOnce = 1000

// groups plans who has which policy, and finds those that nobody has.
func (p *planner) groups() {
	p.given = map[string]string{}
	known := map[string]bool{trust.DefaultPolicy: true}
	for _, info := range p.have.Policies {
		known[info.Name] = true
		for _, g := range info.Groups {
			if !isDefault(info.Name) {
				p.given[g] = info.Name
			}
		}
	}
	for name := range p.file.Policies {
		known[name] = true
	}
	before := maps.Clone(p.given)
	to := map[string][]string{} // policy → groups that get it
	for _, g := range slices.Sorted(maps.Keys(p.file.Groups)) {
		want := p.file.Groups[g].Policy
		if !known[want] {
			p.unknown("groups."+g, "no policy "+want)
			continue
		}
		if cmp.Or(before[g], trust.DefaultPolicy) != want {
			to[want] = append(to[want], g)
		}
		p.given[g] = want
	}
	var back []string
	for _, g := range slices.Sorted(maps.Keys(before)) {
		if _, ok := p.file.Groups[g]; ok || p.file.Groups == nil {
			continue
		}
		if p.prune {
			p.given[g] = trust.DefaultPolicy
			back = append(back, g)
		} else {
			p.note("group " + g + " is not in the file and keeps policy " + before[g])
		}
	}
	for _, policy := range slices.Sorted(maps.Keys(to)) {
		for _, s := range give(policy, to[policy], before) {
			p.step(s)
		}
	}
	p.groupsTo = give(trust.DefaultPolicy, back, before)
}

// give are the steps that give groups a policy.
func give(policy string, groups []string, before map[string]string) []Step {
	var out []Step
	for part := range slices.Chunk(groups, maxGroupsAtOnce) {
		s := Step{Do: Change, Kind: KindGroups, Name: policy, groups: part}
		for _, g := range part {
			s.Changes = append(s.Changes, Difference{What: "group " + g, From: cmp.Or(before[g], trust.DefaultPolicy), To: policy})
		}
		out = append(out, s)
	}
	return out
}
