// SPDX-License-Identifier: Apache-2.0

package keeper

import "cmp"

// settled says of those that a later one has replaced that it did, though their
// records do not: who applied it was killed before he could write that. Two of
// one target in effect would take each other's place in every process, on every
// pass; and the older would come back when the later is taken out.
func settled(all []Patch) []Patch {
	for i := range all {
		p := &all[i]
		if !p.inEffect() {
			continue
		}
		for _, o := range all {
			later := cmp.Or(cmp.Compare(o.Applied, p.Applied), cmp.Compare(o.Version, p.Version)) > 0
			if o.Target == p.Target && o.ID != p.ID && o.Only == nil && o.By == "" && later {
				p.By, p.unwritten = o.ID, true
			}
		}
	}
	return all
}
