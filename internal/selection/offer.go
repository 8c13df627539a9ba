// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"slices"
)

// Offer is one way in which exclusions take other fixes with them, and what a
// policy can do about it: exclude the others too, which is what the selection
// has done, or keep what they need.
type Offer struct {
	// Excluded are the fixes that the policy leaves out.
	Excluded []string `json:"excluded"`
	// Dragged are those that don't work without them, in the order of the series.
	Dragged []string `json:"dragged"`
	// Keep says for each dragged fix the smallest set of excluded ones with
	// which it would work.
	Keep []Keep `json:"keep"`
}

// Keep is what has to be kept for one fix.
type Keep struct {
	Fix  string   `json:"fix"`
	Keep []string `json:"keep"`
}

// Offers groups what was dragged along by the exclusions that it hangs on, so
// that each group can be decided for itself.
func (s *Selection) Offers() []Offer {
	by := map[string]Left{}
	for _, l := range s.Left {
		by[l.ID] = l
	}
	var out []Offer
	for _, l := range s.Left {
		if l.Kind != Dragged {
			continue
		}
		roots := roots(by, l.ID, map[string]bool{})
		if len(roots) == 0 {
			continue // it hangs on what can't be live: nobody's choice
		}
		o := Offer{Excluded: roots, Dragged: []string{l.ID}, Keep: []Keep{{l.ID, roots}}}
		// What shares an exclusion with an earlier group belongs to it.
		out = slices.DeleteFunc(out, func(p Offer) bool {
			if !slices.ContainsFunc(p.Excluded, func(id string) bool { return slices.Contains(roots, id) }) {
				return false
			}
			o.Excluded = append(o.Excluded, p.Excluded...)
			o.Dragged = append(p.Dragged, o.Dragged...)
			o.Keep = append(p.Keep, o.Keep...)
			return true
		})
		slices.Sort(o.Excluded)
		o.Excluded = slices.Compact(o.Excluded)
		out = append(out, o)
	}
	return out
}

// roots are the excluded fixes that a dragged one needs, through however many
// others; nil when it also needs one that can't be had.
func roots(by map[string]Left, id string, seen map[string]bool) []string {
	if seen[id] {
		return nil
	}
	seen[id] = true
	var out []string
	for _, need := range by[id].Needs {
		switch l, ok := by[need]; {
		case ok && l.Kind == Excluded:
			out = append(out, need)
		case ok && l.Kind == Dragged:
			out = append(out, roots(by, need, seen)...)
		case ok && l.Kind.Yields():
		default:
			return nil
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}
