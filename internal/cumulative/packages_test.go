// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/userland"
	"github.com/tsugi-project/tsugi/internal/userland/build"
)

// compiler stands in for builds of a package. A fix of bad can't be live when
// all that it is named with are there; "f2" with "!f1" does not compile without
// f1. Those of idle change nothing.
type compiler struct {
	bad    map[string][]string
	idle   []string
	builds [][]string
}

func (c *compiler) build(_ context.Context, req build.Request, _ progress.Reporter) (*build.Report, error) {
	var ids []string
	for _, f := range req.Fixes {
		ids = append(ids, f.ID)
	}
	c.builds = append(c.builds, ids)
	r := &build.Report{Name: req.Name, Verdict: build.NotAffected, Target: build.TargetRef(req.Target)}
	m := livepatch.Manifest{
		Name: req.Name, Version: req.Version, Target: r.Target,
		Files:     []livepatch.FileRef{{BuildID: strings.Repeat("ab", 20), Name: "libx.so.1", Path: "/usr/lib/libx.so.1", Package: "libx1"}},
		Functions: []livepatch.Function{{Object: "libx.so.1", Name: "f", Change: "its code"}},
	}
	diffs := map[string][]byte{}
	for _, f := range req.Fixes {
		with, bad := c.bad[f.ID]
		together := !slices.ContainsFunc(with, func(w string) bool {
			w, without := strings.CutPrefix(w, "!")
			return slices.Contains(ids, w) == without
		})
		switch {
		case bad && together && len(with) > 0 && with[0][0] == '!':
			return nil, code.New("TS3101", f.ID, "error: no such thing")
		case bad && together:
			r.Refusals = append(r.Refusals, build.Problem{Problem: code.New("TS4050", f.ID, "a new one")})
		}
		path := f.Files[0].Path
		if slices.Contains(c.idle, f.ID) {
			r.Units = append(r.Units, build.UnitInfo{Source: path})
		} else {
			r.Units = append(r.Units, build.UnitInfo{Source: path, Changed: []string{"f"}})
			r.Verdict = build.Live
		}
		m.Fixes = append(m.Fixes, livepatch.FixRef{ID: f.ID, CVEs: f.CVEs})
		diffs[f.ID] = f.Raw
	}
	if len(r.Refusals) > 0 {
		r.Verdict = build.Reboot
	}
	if r.Verdict != build.Live {
		return r, nil
	}
	var err error
	r.Artifact, err = livepatch.NewUserland(m, map[string][]byte{m.Files[0].BuildID: []byte("splice")}, diffs)
	return r, err
}

// packageOf is a package of n files, x0.c and so on, and a series with a fix
// for each of them, f0 and so on.
func packageOf(t testing.TB, n int) (*userland.Target, *series.Series) {
	t.Helper()
	target := &userland.Target{Name: "debian:libx1=1.0-1", Version: "1.0-1", Build: t.TempDir()}
	s := &series.Series{Name: "fixes"}
	for i := range n {
		name := fmt.Sprintf("x%d.c", i)
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(target.Build, name), []byte(source), 0o600)))
		s.Fixes = append(s.Fixes, fixOf(t, fmt.Sprintf("f%d", i), name, source, strings.Replace(source, "b *= 2;", "b *= 20;", 1)))
	}
	return target, s
}

// told lists what was left out, and why.
func told(sel *selection.Selection) string {
	var out []string
	for _, l := range sel.Left {
		w := l.ID + "=" + string(l.Kind)
		if len(l.Needs) > 0 {
			w += fmt.Sprint(l.Needs)
		}
		out = append(out, w)
	}
	return strings.Join(out, " ")
}

func TestOneLivePatchOfAPackage(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		fixes    int
		compiler compiler
		exclude  []string // ids
		verdict  build.Verdict
		left     string
		most     int // builds
	}{
		{name: "all go", fixes: 3, verdict: build.Live, most: 1},
		{name: "one is excluded", fixes: 3, exclude: []string{"f1"}, verdict: build.Live, left: "f1=excluded", most: 1},
		{
			name: "one can't be live", fixes: 8, compiler: compiler{bad: map[string][]string{"f5": nil}},
			verdict: build.Live, left: "f5=reboot", most: 5,
		},
		{
			name: "the last can't be live", fixes: 4, compiler: compiler{bad: map[string][]string{"f3": nil}},
			verdict: build.Live, left: "f3=reboot", most: 4,
		},
		{
			name: "three can't be live", fixes: 8, compiler: compiler{bad: map[string][]string{"f0": nil, "f3": nil, "f7": nil}},
			verdict: build.Live, left: "f0=reboot f3=reboot f7=reboot", most: 13,
		},
		{
			name: "two can't be live together", fixes: 4, compiler: compiler{bad: map[string][]string{"f1": {"f3"}}},
			verdict: build.Live, left: "f3=reboot", most: 4,
		},
		{
			name: "one does not compile without an excluded one", fixes: 3, compiler: compiler{bad: map[string][]string{"f2": {"!f0"}}},
			exclude: []string{"f0"}, verdict: build.Live, left: "f0=excluded f2=error", most: 4,
		},
		{
			name: "one builds nothing else", fixes: 3, compiler: compiler{idle: []string{"f1"}},
			verdict: build.Live, left: "f1=not-affected", most: 2,
		},
		{
			name: "none can be live", fixes: 2, compiler: compiler{bad: map[string][]string{"f0": nil, "f1": nil}},
			verdict: build.Reboot, left: "f0=reboot f1=reboot", most: 4,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			target, s := packageOf(t, c.fixes)
			p := selection.Policy{Name: "default"}
			for _, id := range c.exclude {
				p.Exclusions = append(p.Exclusions, selection.Exclusion{Fix: id, Reason: "r", Owner: "o"})
			}
			j := choosePackage(PackageRequest{Target: target, Series: s, Policy: p, Version: 2, Now: time.Now()}, progress.Discard)
			j.build = c.compiler.build
			r, err := j.run(t.Context())
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(r.Report.Verdict, c.verdict))
			qt.Check(t, qt.Equals(told(r.Selection), c.left))
			qt.Check(t, qt.IsTrue(r.Rounds <= c.most), qt.Commentf("%d builds: %q", r.Rounds, c.compiler.builds))
			if c.verdict != build.Live {
				qt.Check(t, qt.IsNil(r.Artifact))
				return
			}
			m := r.Artifact.Manifest
			qt.Check(t, qt.Equals(m.Version, 2))
			qt.Check(t, qt.Equals(m.Selection.Digest, r.Selection.Digest))
			qt.Check(t, qt.HasLen(m.Fixes, len(r.Selection.Fixes)))
			open := 0
			for _, l := range r.Selection.Left {
				if l.Kind != selection.NotHere {
					open++
				}
			}
			qt.Check(t, qt.HasLen(m.Open, open))
		})
	}
}

// TestAFixOfAPackageThatNeedsAnExcludedOne is dragged along, by its text or by
// what the compiler says.
func TestAFixOfAPackageThatNeedsAnExcludedOne(t *testing.T) {
	t.Parallel()
	s := chain(t, "a += 1; => a += 10;", "a += 10; => a += 100;", "b *= 7; => b *= 70;")
	target := &userland.Target{Name: "debian:libx1=1.0-1", Version: "1.0-1", Build: t.TempDir()}
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(target.Build, "lib"), 0o700)))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(target.Build, "lib", "x.c"), []byte(source), 0o600)))
	p := selection.Policy{Name: "default", Exclusions: []selection.Exclusion{{Fix: "f0", Reason: "r", Owner: "o"}}}
	j := choosePackage(PackageRequest{Target: target, Series: s, Policy: p, Now: time.Now()}, progress.Discard)
	c := compiler{bad: map[string][]string{"f2": {"!f0"}}}
	j.build = c.build
	r, err := j.run(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(told(r.Selection), "f0=excluded f1=dragged[f0] f2=dragged[f0 f1]"))
}

// TestAFixOfAPackageTakesWhatItNeeds: what only the policy's scope keeps out comes
// back when a chosen fix does not apply or compile without it, and not when that
// can't be live.
func TestAFixOfAPackageTakesWhatItNeeds(t *testing.T) {
	t.Parallel()
	for name, x := range map[string]struct {
		bad   map[string][]string
		fixes []string
		left  string
	}{
		"by its text and the compiler": {map[string][]string{"f2": {"!f0"}}, []string{"f0", "f1", "f2"}, ""},
		"that can't be live":           {map[string][]string{"f0": nil}, []string{"f2"}, "f0=reboot f1=dragged[f0]"},
	} {
		s := chain(t, "a += 1; => a += 10;", "a += 10; => a += 100;", "b *= 7; => b *= 70;")
		s.Fixes[0].CVEs = nil
		target := &userland.Target{Name: "debian:libx1=1.0-1", Version: "1.0-1", Build: t.TempDir()}
		qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(target.Build, "lib"), 0o700)))
		qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(target.Build, "lib", "x.c"), []byte(source), 0o600)))
		j := choosePackage(PackageRequest{Target: target, Series: s, Policy: selection.Policy{Name: "default"}, Now: time.Now()}, progress.Discard)
		c := compiler{bad: x.bad}
		j.build = c.build
		r, err := j.run(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(ids(r.Selection.Fixes), x.fixes), qt.Commentf("%s", name))
		qt.Check(t, qt.Equals(told(r.Selection), x.left), qt.Commentf("%s", name))
	}
}

// TestAFixOfAPackageWhoseNeedCantBeLive: what a fix does not compile without is
// not in scope, and could not be live: that is why the fix is left out.
func TestAFixOfAPackageWhoseNeedCantBeLive(t *testing.T) {
	t.Parallel()
	target := &userland.Target{Name: "debian:libx1=1.0-1", Version: "1.0-1", Build: t.TempDir()}
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(target.Build, "lib"), 0o700)))
	s := chain(t, "a += 1; => a += 10;", "a += 10; => a += 100;", "b *= 7; => b *= 70;")
	s.Fixes[0].CVEs, s.Fixes[1].CVEs = nil, nil
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(target.Build, "lib", "x.c"), []byte(source), 0o600)))
	j := choosePackage(PackageRequest{Target: target, Series: s, Policy: selection.Policy{Name: "default"}, Now: time.Now()}, progress.Discard)
	c := compiler{bad: map[string][]string{"f2": {"!f0"}, "f0": nil}}
	j.build = c.build
	r, err := j.run(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(told(r.Selection), "f0=out-of-scope f1=out-of-scope f2=reboot"))
	l := r.Selection.Left[len(r.Selection.Left)-1]
	qt.Check(t, qt.Equals(l.Code, code.Code("TS4050")))
	qt.Check(t, qt.StringContains(l.Why, "it does not compile without f0 and f1, and with that can't be live: TS4050: "))
}

// TestWhatIsLeftOutOfAPackageIsWhatCantBeLive: every fix that can't be live by
// itself goes, and no other.
func TestWhatIsLeftOutOfAPackageIsWhatCantBeLive(t *testing.T) {
	t.Parallel()
	target, s := packageOf(t, 12)
	rapid.Check(t, func(t *rapid.T) {
		bad := rapid.SliceOfDistinct(rapid.IntRange(0, 11), rapid.ID[int]).Draw(t, "bad")
		c := compiler{bad: map[string][]string{}}
		for _, i := range bad {
			c.bad[fmt.Sprintf("f%d", i)] = nil
		}
		j := choosePackage(PackageRequest{Target: target, Series: s, Policy: selection.Policy{Name: "default"}}, progress.Discard)
		j.build = c.build
		r, err := j.run(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range s.Fixes {
			_, want := c.bad[f.ID]
			if got := slices.ContainsFunc(r.Selection.Left, func(l selection.Left) bool { return l.ID == f.ID }); got != want {
				t.Fatalf("%s is left out: %v", f.ID, got)
			}
		}
	})
}

// TestDocumentationIsNoFixOfAPackage: nobody is told that a process has it.
func TestDocumentationIsNoFixOfAPackage(t *testing.T) {
	t.Parallel()
	target, s := packageOf(t, 1)
	d, err := fix.Parse("doc.diff", fix.Unified("doc/x.pod", []byte("old\n"), []byte("new\n")))
	qt.Assert(t, qt.IsNil(err))
	s.Fixes = append(s.Fixes, &series.Fix{Meta: series.Meta{ID: "doc", CVEs: []string{"CVE-2026-0009"}}, Diff: d})
	j := choosePackage(PackageRequest{Target: target, Series: s, Policy: selection.Policy{Name: "default"}}, progress.Discard)
	c := compiler{}
	j.build = c.build
	r, err := j.run(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(told(r.Selection), "doc=not-affected"))
	qt.Check(t, qt.DeepEquals(c.builds, [][]string{{"f0"}}))
}
