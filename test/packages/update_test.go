// SPDX-License-Identifier: Apache-2.0

package packages

import (
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/catalogue"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/cumulative"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// TestAnUpdateOfGlibc takes what Debian's u14 changes in u7 apart, and builds
// one live patch of what has a CVE and can be live; then all of it less one CVE.
func TestAnUpdateOfGlibc(t *testing.T) {
	of := target(t, "debian:libc6=2.36-9+deb12u7")
	c, err := catalogue.Open(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	s, err := c.PackageUpdate(t.Context(), store(t), of, glibcFixed, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	t.Logf("%d fixes, %d entries without one", len(s.Fixes), len(s.Unattributed))
	for _, x := range []struct {
		exclude   string
		functions []string
	}{
		{"", []string{"_debug_mid_memalign", "_int_memalign", "parse_expression", "wordexp"}},
		{"CVE-2026-0861", []string{"parse_expression", "wordexp"}},
	} {
		p := selection.Policy{Name: "default"}
		if x.exclude != "" {
			p.Exclusions = []selection.Exclusion{{CVE: x.exclude, Reason: "r", Owner: "o"}}
		}
		r, err := cumulative.BuildPackage(t.Context(), cumulative.PackageRequest{Target: of, Series: s, Policy: p, Now: time.Now()}, progress.Discard)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(r.Report.Verdict, build.Live))
		var cves, functions []string
		for _, f := range r.Artifact.Manifest.Fixes {
			cves = append(cves, f.CVEs...)
		}
		for _, f := range r.Report.Replaced {
			functions = append(functions, f.Name)
		}
		for _, l := range r.Selection.Left { // each of the others has a verdict
			qt.Check(t, qt.Not(qt.Equals(l.Kind, "")), qt.Commentf("%s", l.ID))
		}
		slices.Sort(functions)
		want := slices.DeleteFunc([]string{"CVE-2025-15281", "CVE-2025-8058", "CVE-2026-0861"}, func(c string) bool { return c == x.exclude })
		slices.Sort(cves)
		qt.Check(t, qt.DeepEquals(cves, want))
		qt.Check(t, qt.DeepEquals(functions, x.functions))
	}
}

// TestAnUpdateWhoseSourceIsGone: the archive lists it and does not have it.
func TestAnUpdateWhoseSourceIsGone(t *testing.T) {
	of := target(t, "debian:libssl3=3.0.20-1~deb12u2")
	c, err := catalogue.Open(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	_, err = c.PackageUpdate(t.Context(), store(t), of, "3.0.20-1~deb12u99", progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS3532"))
}
