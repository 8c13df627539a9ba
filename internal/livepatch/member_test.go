// SPDX-License-Identifier: Apache-2.0

package livepatch

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func in(place string, names ...string) (out []Member) {
	for _, n := range names {
		out = append(out, Member{Struct: "struct s", File: "a.h", Behind: place, Name: n})
	}
	return out
}

func TestMembersThatLieWhereOthersLay(t *testing.T) {
	for _, tc := range []struct {
		name          string
		own, before   []Member
		clash         bool
		rememberNames int
	}{
		{"nothing before", in("x", "a"), nil, false, 1},
		{"the same", in("x", "a", "b"), in("x", "a", "b"), false, 2},
		{"another place", in("y", "b"), in("x", "a"), false, 2},
		{"another in the same place", in("x", "b"), in("x", "a"), true, 1},
		{"one more behind it", in("x", "a", "b"), in("x", "a"), false, 2},
		{"the second one is gone", in("x", "a"), in("x", "a", "b"), false, 2},
		{"the first one is gone, and the second moves up", in("x", "b"), in("x", "a", "b"), true, 2},
		{"withdrawn", nil, in("x", "a"), false, 1},
	} {
		t.Run(tc.name, func(t *testing.T) {
			qt.Check(t, qt.Equals(Clash(tc.own, tc.before) != "", tc.clash))
			qt.Check(t, qt.HasLen(Remember(tc.own, tc.before), tc.rememberNames))
			if !tc.clash {
				qt.Check(t, qt.Equals(Clash(tc.own, Remember(tc.own, tc.before)), ""))
			}
		})
	}
	// Withdrawn and forgotten by nobody: what comes two versions later clashes.
	second := Remember(nil, in("x", "a"))
	third := Manifest{Name: "third", Members: in("x", "b")}
	qt.Check(t, qt.Matches(third.Supersedes(&Manifest{Name: "second", Members: second}), ".*b of struct s .*where objects hold a.*"))
}
