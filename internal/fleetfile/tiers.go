// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/api"
)

// tiers plans the tiers: new ones each after the one that is listed before it.
// Tiers have keys and machines and can't trade places.
func (p *planner) tiers() {
	have := slices.Clone(p.have.Tiers)
	slices.SortFunc(have, func(a, b api.Tier) int { return cmp.Compare(a.Rank, b.Rank) })
	for _, t := range have {
		p.order = append(p.order, t.Name)
	}
	last := -1
	after := ""
	for _, name := range p.file.Tiers {
		at := slices.Index(p.order, name)
		if at < 0 {
			at = last + 1
			p.order = slices.Insert(p.order, at, name)
			p.step(Step{
				Do: Create, Kind: KindTier, Name: name, tier: api.NewTier{Name: name, After: after},
				Changes: []Difference{{What: "place", To: place(after)}},
			})
		} else if at < last {
			p.impossible("tiers", fmt.Sprintf("%s comes before %s on the server and after it in the file: tiers can't trade places", name, after)).
				WithFix("list the tiers in the server's order: tsugictl tier ls")
			return
		}
		last, after = at, name
	}
	for _, t := range have {
		if p.file.Tiers == nil || slices.Contains(p.file.Tiers, t.Name) {
			continue
		}
		if !p.prune {
			p.note("tier " + t.Name + " is not in the file and stays")
			continue
		}
		var in []string
		if t.Machines > 0 {
			in = append(in, count(t.Machines, "machine"))
		}
		if t.Patches > 0 {
			in = append(in, count(t.Patches, "live patch"))
		}
		if len(in) > 0 {
			p.impossible("tier "+t.Name, "it would be removed and has "+strings.Join(in, " and "))
			continue
		}
		p.leaving = append(p.leaving, t.Name)
		p.order = slices.DeleteFunc(p.order, func(s string) bool { return s == t.Name })
	}
}

func place(after string) string {
	if after == "" {
		return "the first"
	}
	return "after " + after
}

func count(n int, noun string) string {
	switch {
	case n == 1:
	case strings.HasSuffix(noun, "ch"):
		noun += "es"
	default:
		noun += "s"
	}
	return fmt.Sprintf("%d %s", n, noun)
}

// listed names things, and not all of many.
func listed(noun string, names []string) string {
	const most = 5
	if len(names) != 1 {
		noun += "s"
	}
	if more := len(names) - most; more > 0 {
		return fmt.Sprintf("%s %s and %d more", noun, strings.Join(names[:most], ", "), more)
	}
	return noun + " " + strings.Join(names, ", ")
}
