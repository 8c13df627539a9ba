// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"context"
	"fmt"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// engine stands in for the compiler: it knows which fixes can't be live.
type engine struct {
	// refused are fixes with the place that the refusal names: a line of the
	// fix's own, or "" when only an object is named.
	refused map[string]string
	built   [][]string
}

func (e *engine) build(_ context.Context, req builder.Request, _ progress.Reporter) (*builder.Report, error) {
	r := &builder.Report{Name: req.Name, Verdict: builder.Live}
	var ids []string
	object := ""
	for _, f := range req.Fixes {
		ids = append(ids, f.ID)
		if p := f.Files[0].Path; object == "" && path.Ext(p) == ".c" {
			object = strings.TrimSuffix(p, ".c") + ".o" // which reads all headers
		}
	}
	e.built = append(e.built, ids)
	for _, f := range req.Fixes {
		source, is := e.refused[f.ID]
		if !is {
			continue
		}
		p := code.New("TS4030", "struct "+f.ID, "it grows")
		own := f.Files[0].Path
		if file, _, ok := strings.Cut(source, ":"); ok && path.Ext(file) == ".c" {
			own = file
		}
		if path.Ext(own) == ".c" {
			r.Refusals = append(r.Refusals, builder.Refusal{Problem: p, Object: strings.TrimSuffix(own, ".c") + ".o", Source: source})
		} else {
			r.Refusals = append(r.Refusals, builder.Refusal{Problem: p, Object: object, Source: source})
		}
		r.Verdict = builder.Reboot
	}
	return r, nil
}

// run builds a series with an engine.
func (e *engine) run(t interface{ Fatal(...any) }, dir string, s *series.Series, p selection.Policy, facts map[string]selection.Fact) *Result {
	c := choose(Request{Target: &kernel.Target{Name: "debian:6.1.0-54-amd64", Source: dir}, Series: s, Policy: p, Verdicts: facts, Kernel: &builder.Kernel{}}, progress.Discard)
	c.build = e.build
	r, err := c.run(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func described(sel *selection.Selection) string {
	var words []string
	for _, f := range sel.Fixes {
		words = append(words, f.ID)
	}
	for _, l := range sel.Left {
		words = append(words, l.ID+"="+string(l.Kind))
	}
	return strings.Join(words, " ")
}

// own makes a series of fixes that each bring a file: of a source, or of a
// header where the id begins with h.
func own(t testing.TB, ids ...string) *series.Series {
	s := &series.Series{Name: "own", To: "2"}
	for i, id := range ids {
		file := "lib/" + id + ".c"
		if id[0] == 'h' {
			file = "include/" + id + ".h"
		}
		f := fixOf(t, id, file, "", "int "+id+"(int n)\n{\n\treturn n;\n}\n")
		f.CVEs = []string{fmt.Sprintf("CVE-2026-%04d", i+1)}
		s.Fixes = append(s.Fixes, f)
	}
	return s
}

// TestWhoIsInnocentStays: a struct of a header grows, and what is refused is the
// one object that reads it, which another fix changes.
func TestWhoIsInnocentStays(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, source string
		rounds       int
	}{
		{"the refusal names the header's line", "include/h0.h:1", 2},
		{"the refusal names the object alone", "", 6},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			e := &engine{refused: map[string]string{"h0": c.source}}
			r := e.run(t, t.TempDir(), own(t, "a", "h0", "b"), selection.Policy{Name: "default"}, nil)
			qt.Check(t, qt.Equals(described(r.Selection), "a b h0=reboot"))
			qt.Check(t, qt.Equals(r.Report.Verdict, builder.Live))
			qt.Check(t, qt.Equals(r.Rounds, c.rounds), qt.Commentf("%v", e.built))
		})
	}
}

// TestOfTwoThatDoNotGoTogetherOneStays: each is live alone, as two fixes are
// whose new members would lie in the same padding. It is the first of the series.
func TestOfTwoThatDoNotGoTogetherOneStays(t *testing.T) {
	t.Parallel()
	s := chain(t, "b *= 7; => b *= 70;", "a += 1; => a += 10;", "a += 3; => a += 30;")
	c := construct(t, s)
	c.kernel = &builder.Kernel{}
	c.build = func(_ context.Context, req builder.Request, _ progress.Reporter) (*builder.Report, error) {
		r := &builder.Report{Name: req.Name, Verdict: builder.Live}
		both := 0
		for _, f := range req.Fixes {
			if f.ID != "f0" {
				both++
			}
		}
		if both == 2 {
			r.Verdict = builder.Reboot
			r.Refusals = append(r.Refusals, builder.Refusal{Problem: code.New("TS4030", "struct", "no room for both"), Object: "lib/x.o", Source: "lib/x.c:3"})
		}
		return r, nil
	}
	r, err := c.run(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(described(r.Selection), "f0 f1 f2=reboot"))
}

// TestTheOutcomeIsOneOfTheFixes, and not of what was known of them before: with
// verdicts that are right, wrong, or of several fixes, and without any.
func TestTheOutcomeIsOneOfTheFixes(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	rapid.Check(t, func(rt *rapid.T) {
		n := rapid.IntRange(1, 7).Draw(rt, "fixes")
		var names, good []string
		e := &engine{refused: map[string]string{}}
		facts := map[string]selection.Fact{}
		for i := range n {
			id := rapid.SampledFrom([]string{"a", "h"}).Draw(rt, "what") + fmt.Sprint(i)
			names = append(names, id)
		}
		for _, id := range names {
			known := rapid.Bool().Draw(rt, "known")
			switch rapid.SampledFrom([]string{"good", "good", "line", "object"}).Draw(rt, "is") {
			case "good":
				good = append(good, id)
				if known {
					facts[id] = rapid.SampledFrom([]selection.Fact{
						{Verdict: selection.IsLive},
						{Verdict: selection.IsError, Code: "TS3106"},
						{Verdict: selection.NeedsReboot, Code: "TS4030", With: []string{names[0]}},
					}).Draw(rt, "fact")
				}
				continue
			case "line":
				e.refused[id] = "lib/" + id + ".c:1"
				if id[0] == 'h' {
					e.refused[id] = "include/" + id + ".h:1"
				}
			case "object":
				e.refused[id] = ""
			}
			if known {
				facts[id] = selection.Fact{Verdict: selection.NeedsReboot, Code: "TS4030"}
			}
		}
		s := own(t, names...)
		p := selection.Policy{Name: "default"}
		without := e.run(rt, dir, s, p, nil)
		with := e.run(rt, dir, s, p, facts)
		if got := ids(without.Selection.Fixes); !slices.Equal(got, good) && len(got)+len(good) > 0 {
			rt.Fatalf("of %v, %v can be live; chosen were %v (refused %v)", names, good, got, e.refused)
		}
		if described(with.Selection) != described(without.Selection) {
			rt.Fatalf("with %v: %s, without: %s", facts, described(with.Selection), described(without.Selection))
		}
		if with.Report.Verdict != without.Report.Verdict || with.Report.Name != without.Report.Name {
			rt.Fatalf("another report with verdicts: %s %s", with.Report.Verdict, with.Report.Name)
		}
	})
}

// TestWhatIsTooMildComesBack when a chosen fix applies on top of it only, and
// goes again when that one has to go.
func TestWhatIsTooMildComesBack(t *testing.T) {
	t.Parallel()
	edits := []string{"a += 1; => a += 10;", "b *= 7; => b *= 70;", "a += 10; => a += 100;", "a += 100; => a += 1000;"}
	mild := func(s *series.Series, n ...int) *series.Series {
		for _, i := range n {
			s.Fixes[i].CVEs = nil
		}
		return s
	}
	for _, c := range []struct {
		name    string
		mild    []int
		without []string
		want    string
	}{
		{"what lies below", []int{0}, nil, "f0 f1 f2 f3"},
		{"several that lie below, and not the one beside", []int{0, 1, 2}, nil, "f0 f2 f3 f1=out-of-scope"},
		{"the top", []int{3}, nil, "f0 f1 f2 f3=out-of-scope"},
		{"one below is excluded", []int{2}, []string{"f0"}, "f1 f0=excluded f2=out-of-scope f3=dragged"},
		{"one below, and what is on it is excluded", []int{0}, []string{"f2"}, "f1 f0=out-of-scope f2=excluded f3=dragged"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			cons := construct(t, mild(chain(t, edits...), c.mild...), c.without...)
			qt.Check(t, qt.Equals(described(cons.result.Selection), c.want))
			for _, o := range open(cons.result.Selection) {
				qt.Check(t, qt.Equals(o.Kind, "excluded"))
			}
		})
	}
	t.Run("it goes with the one that needs it", func(t *testing.T) {
		t.Parallel()
		s := mild(chain(t, edits...), 0)
		other := fixOf(t, "f9", "lib/z.c", "", "int z;\n").Diff.Raw
		both, err := fix.Parse("f2.diff", append(slices.Clone(s.Fixes[2].Diff.Raw), other...))
		qt.Assert(t, qt.IsNil(err))
		s.Fixes[2].Diff = both
		cons := construct(t, s)
		cons.kernel = &builder.Kernel{}
		cons.build = (&engine{refused: map[string]string{"f2": "lib/z.c:1"}}).build
		r, err := cons.run(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(described(r.Selection), "f1 f0=out-of-scope f2=reboot f3=dragged"))
	})
}

// TestWhatChangesNothingAloneMayHaveToDo: a fix that is known to change nothing
// is built all the same where a chosen one uses what it changes.
func TestWhatChangesNothingAloneMayHaveToDo(t *testing.T) {
	t.Parallel()
	s := own(t, "helper", "user", "other", "mild", "header")
	user, err := fix.Parse("user.diff", append(
		fixOf(t, "user", "lib/user.c", "", "int user(int n)\n{\n\treturn helper(n) + mild(n);\n}\n").Diff.Raw,
		fixOf(t, "user", "include/all.h", "", "int a;\n").Diff.Raw...))
	qt.Assert(t, qt.IsNil(err))
	s.Fixes[1].Diff = user
	s.Fixes[3].CVEs = nil
	s.Fixes[4].Diff = fixOf(t, "header", "include/all.h", "int a;\n", "int a;\nint b;\n").Diff
	facts := map[string]selection.Fact{}
	for _, id := range []string{"helper", "other", "mild", "header"} {
		facts[id] = selection.Fact{Verdict: selection.IsNotAffected}
	}
	e := &engine{}
	r := e.run(t, t.TempDir(), s, selection.Policy{Name: "default"}, facts)
	qt.Check(t, qt.Equals(described(r.Selection), "helper user other=not-affected mild=not-affected header=not-affected"))
}
