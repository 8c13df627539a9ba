// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// TestFixedModulesAreBuiltAgainTogether: what the same fixes serve, also over
// others, is built once.
func TestFixedModulesAreBuiltAgainTogether(t *testing.T) {
	old := &livepatch.Patch{Manifest: livepatch.Manifest{Fixes: []livepatch.FixRef{
		{ID: "live"}, {ID: "a", Modules: []string{"x", "y"}}, {ID: "b", Modules: []string{"z"}}, {ID: "c", Modules: []string{"v", "y"}},
	}}}
	var builds [][]string
	f := fixedModules{old: old, made: map[string]Replaced{}, build: func(fixes []*fix.Fix, modules []string) ([]Replaced, error) {
		var names []string
		for _, x := range fixes {
			names = append(names, x.ID)
		}
		builds = append(builds, append(names, modules...))
		var out []Replaced
		for _, m := range modules {
			if m != "gone" {
				out = append(out, Replaced{Replacement: livepatch.Replacement{Name: m}, KO: []byte("ko of " + m)})
			}
		}
		return out, nil
	}}
	for _, ref := range old.Manifest.Fixes {
		f.all = append(f.all, &fix.Fix{ID: ref.ID})
	}
	for _, m := range []string{"v", "x", "y", "z"} {
		ko, err := f.of(livepatch.Replacement{Name: m})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(ko), "ko of "+m))
	}
	qt.Check(t, qt.DeepEquals(builds, [][]string{{"a", "c", "v", "y", "x"}, {"b", "z"}}))
	_, err := f.of(livepatch.Replacement{Name: "gone"})
	qt.Check(t, qt.ErrorMatches(err, "module gone was not built again with gone"))
}

// TestOnlyWhatWasAcceptedIsAcceptedAgain: whoever lived with one refusal got
// the others mended, by structs laid out in another order.
func TestOnlyWhatWasAcceptedIsAcceptedAgain(t *testing.T) {
	b := &build{req: Request{Accept: accepted([]livepatch.Risk{
		{Code: "TS8021", Where: "struct fitted"}, {Code: "TS4010", Where: "sysctl_x"}, {Code: "TS4030", Where: "struct grown"},
	})}}
	for where, want := range map[string]bool{"struct grown": true, "struct fitted": false} {
		qt.Check(t, qt.Equals(b.accepts(code.New("TS4030", where, "")), want), qt.Commentf("%s", where))
	}
	qt.Check(t, qt.IsTrue(b.accepts(code.New("TS4010", "sysctl_x", ""))))
}
