// SPDX-License-Identifier: Apache-2.0

package livepatch

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/order"
)

// Member is a new member of a struct whose objects exist: it lies where they
// have padding, or memory behind their end. What a live patch puts there stays in
// the objects when it is replaced, so that place is never another member's again
// before the next boot.
type Member struct {
	Struct string `json:"struct"` // "struct steam_device", or the typedef of one without a tag
	File   string `json:"file"`   // that defines it
	Behind string `json:"behind"` // the old member in front of the padding
	Name   string `json:"name"`
}

func (m Member) place() Member { return Member{m.Struct, m.File, m.Behind, ""} }

// places are the names in each place, in the order in which they lie there.
func places(list []Member) map[Member][]string {
	out := map[Member][]string{}
	for _, m := range list {
		if names := out[m.place()]; !slices.Contains(names, m.Name) {
			out[m.place()] = append(names, m.Name)
		}
	}
	return out
}

// Clash says which of some members lies where another lay before, or "".
func Clash(members, before []Member) string {
	was := places(before)
	is := places(members)
	for _, m := range members { // in their order, so that the answer is always the same one
		names, old := is[m.place()], was[m.place()]
		for i := range min(len(names), len(old)) {
			if names[i] != old[i] {
				return fmt.Sprintf("%s of %s (%s) would lie where objects hold %s of a live patch before", names[i], m.Struct, m.File, old[i])
			}
		}
	}
	return ""
}

// Remember is what a live patch has to name: its own members, and those of the ones
// before it, which do not clash with them, ordered by place.
func Remember(own, before []Member) []Member {
	all := places(before)
	for p, names := range places(own) {
		if len(names) >= len(all[p]) {
			all[p] = names
		}
	}
	var out []Member
	for p, names := range all {
		for _, n := range names {
			p.Name = n
			out = append(out, p)
		}
	}
	order.SortStable(out, byPlace)
	return out
}

func byPlace(a, b Member) int {
	return cmp.Or(cmp.Compare(a.Struct, b.Struct), cmp.Compare(a.File, b.File), cmp.Compare(a.Behind, b.Behind))
}

func (m *Manifest) checkMembers() error {
	seen := map[Member]bool{}
	for _, f := range m.Members {
		if f.Struct == "" || f.File == "" || f.Name == "" || seen[f] {
			return invalid("member %q of %q: no name, no struct, no file, or twice", f.Name, f.Struct)
		}
		seen[f] = true
	}
	if !slices.IsSortedFunc(m.Members, byPlace) {
		return invalid("members of structs are out of order")
	}
	return nil
}
