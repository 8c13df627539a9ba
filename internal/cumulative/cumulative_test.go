// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

const source = `#include "y.h"

static int first(int n)
{
	int a = n;

	a += 1;
	a += 2;
	a += 3;
	a += 4;
	a += 5;
	a += 6;
	a += 7;
	a += 8;
	return a;
}

int second(int n)
{
	int b = n;

	b *= 2;
	b *= 3;
	b *= 4;
	b *= 5;
	b *= 6;
	b *= 7;
	return first(b);
}
`

// chain makes a series of edits of one file, each on top of those before; an
// edit is "old => new". Every fix has a CVE.
func chain(t testing.TB, edits ...string) *series.Series {
	t.Helper()
	s := &series.Series{Name: "chain", To: "2"}
	now := source
	for i, e := range edits {
		old, new, _ := strings.Cut(e, " => ")
		qt.Assert(t, qt.IsTrue(strings.Contains(now, old)), qt.Commentf("%q", old))
		text := strings.Replace(now, old, new, 1)
		s.Fixes = append(s.Fixes, fixOf(t, fmt.Sprintf("f%d", i), "lib/x.c", now, text))
		now = text
	}
	return s
}

func fixOf(t testing.TB, id, path, old, new string) *series.Fix {
	t.Helper()
	var before []byte // nil: the fix brings the file
	if old != "" {
		before = []byte(old)
	}
	f, err := fix.Parse(id+".diff", fix.Unified(path, before, []byte(new)))
	qt.Assert(t, qt.IsNil(err))
	return &series.Fix{Meta: series.Meta{ID: id, CVEs: []string{"CVE-2026-000" + id[1:]}}, Diff: f}
}

// construct chooses and settles the texts, which needs no compiler.
func construct(t testing.TB, s *series.Series, without ...string) *construction {
	t.Helper()
	dir := t.TempDir()
	qt.Assert(t, qt.IsNil(os.Mkdir(filepath.Join(dir, "lib"), 0o700)))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "lib", "x.c"), []byte(source), 0o600)))
	p := selection.Policy{Name: "default"}
	for _, id := range without {
		p.Exclusions = append(p.Exclusions, selection.Exclusion{Fix: id, Reason: "r", Owner: "o"})
	}
	c := choose(Request{Target: &kernel.Target{Source: dir}, Series: s, Policy: p}, progress.Discard)
	qt.Assert(t, qt.IsNil(c.settle()))
	c.result.Selection.Sort(s)
	return c
}

// TestWhatDoesNotApplyIsDraggedAlong with the smallest set that it needs.
func TestWhatDoesNotApplyIsDraggedAlong(t *testing.T) {
	t.Parallel()
	s := chain(t, "a += 1; => a += 10;", "a += 10; => a += 100;", "b *= 7; => b *= 70;", "a += 100; => a += 1000;", "b *= 70; => b *= 700;\n\tb++;")
	for _, c := range []struct {
		name    string
		without []string
		want    string
	}{
		{"nothing is left out", nil, ""},
		{"the end of a chain", []string{"f3"}, "f3=excluded"},
		{"the start of a chain", []string{"f0"}, "f0=excluded f1=dragged[f0] f3=dragged[f0]"},
		{"the middle of a chain", []string{"f1"}, "f1=excluded f3=dragged[f1]"},
		{"two chains", []string{"f1", "f2"}, "f1=excluded f2=excluded f3=dragged[f1] f4=dragged[f2]"},
		{"two of one chain", []string{"f0", "f1"}, "f0=excluded f1=excluded f3=dragged[f0 f1]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			var left []string
			for _, l := range construct(t, s, c.without...).result.Selection.Left {
				w := l.ID + "=" + string(l.Kind)
				if len(l.Needs) > 0 {
					w += fmt.Sprint(l.Needs)
				}
				left = append(left, w)
			}
			qt.Check(t, qt.Equals(strings.Join(left, " "), c.want))
		})
	}
	o := construct(t, s, "f0").result.Selection.Offers()
	qt.Assert(t, qt.HasLen(o, 1))
	qt.Check(t, qt.DeepEquals(o[0].Excluded, []string{"f0"}))
	qt.Check(t, qt.DeepEquals(o[0].Dragged, []string{"f1", "f3"}))
}

func TestFixesOfOneFunctionAreTold(t *testing.T) {
	t.Parallel()
	t.Run("lines count from the text that the fixes before leave", func(t *testing.T) {
		t.Parallel()
		long := strings.Repeat("\tint pad(int);\n", 14)
		s := chain(t, "#include \"y.h\" => #include \"y.h\"\n"+long, "b *= 2; => b *= 20;", "b *= 7; => b *= 70;")
		c := construct(t, s, "f1")
		qt.Check(t, qt.DeepEquals(c.overlaps(), []selection.Overlap{{Fix: "f2", With: "f1", Functions: []string{"lib/x.c: second"}}}))
	})
	s := chain(t, "a += 1; => a += 10;", "a += 8; => a += 80;", "b *= 2; => b *= 20;")
	c := construct(t, s, "f0")
	qt.Check(t, qt.DeepEquals(c.overlaps(), []selection.Overlap{{Fix: "f1", With: "f0", Functions: []string{"lib/x.c: first"}}}))
}

// TestBlameOfMessages reads messages as gcc writes them.
func TestBlameOfMessages(t *testing.T) {
	t.Parallel()
	header := "#define OLD 1\n"
	s := chain(t, "a += 1; => a += 1;\n\ta += helper(a);", "b *= 2; => b *= 2 + NEW;")
	s.Fixes = append(s.Fixes,
		fixOf(t, "f2", "lib/y.h", "", header),
		fixOf(t, "f3", "include/new.h", "", "#define NEW 1\n"),
	)
	s.Fixes[3].CVEs = nil // out of scope, unless it is needed
	c := construct(t, s)
	qt.Assert(t, qt.HasLen(c.result.Selection.Fixes, 3))

	out := c.blameCompile(code.New("TS3101", "lib/x.c", "lib/x.c: In function 'first':\nlib/x.c:8:7: error: implicit declaration of function 'helper' [-Werror]"))
	qt.Assert(t, qt.HasLen(out, 1))
	qt.Check(t, qt.Equals(out[0].ID, "f0"))
	qt.Check(t, qt.Equals(out[0].Kind, selection.Failed))
	qt.Check(t, qt.Equals(out[0].Why, "lib/x.c:8:7: error: implicit declaration of function 'helper' [-Werror]"))

	out = c.blameCompile(code.New("TS3101", "lib/x.c", "lib/x.c:24:11: error: 'NEW' undeclared (first use in this function)"))
	qt.Check(t, qt.HasLen(out, 0))
	qt.Check(t, qt.Equals(c.take(), 1), qt.Commentf("what it needs comes back"))
	qt.Check(t, qt.HasLen(c.result.Selection.Fixes, 4))

	// A type that an excluded fix changes is told as what it is.
	out = typed(t)
	qt.Assert(t, qt.HasLen(out, 1))
	qt.Check(t, qt.Equals(fmt.Sprintf("%s %s %v", out[0].ID, out[0].Kind, out[0].Needs), "f1 dragged [f0]"))

	out = c.blameCompile(code.New("TS3101", "lib/z.c", "no line in it"))
	qt.Assert(t, qt.HasLen(out, 1))
	qt.Check(t, qt.Equals(out[0].ID, "f3"), qt.Commentf("nobody changed the file: the last header"))
}

// typed is what becomes of an implementation of an op whose type an excluded
// fix changes.
func typed(t *testing.T) []selection.Left {
	s := &series.Series{Fixes: []*series.Fix{
		fixOf(t, "f0", "include/ops.h", "struct ops {\n\tint (*dump)(struct sk_buff *);\n};\n", "struct ops {\n\tint (*dump)(struct sk_buff *, bool);\n};\n"),
		fixOf(t, "f1", "lib/ops.c", "", "struct ops ops = { .dump = dump };\n"),
	}}
	c := construct(t, s, "f0")
	return c.blameCompile(code.New("TS3101", "lib/ops.c",
		"lib/ops.c:1:27: error: initialization of 'int (*)(struct sk_buff *)' from incompatible pointer type 'int (*)(struct sk_buff *, bool)'"))
}

func TestBlameOfRefusals(t *testing.T) {
	t.Parallel()
	s := chain(t, "a += 1; => a += 10;", "b *= 2; => b *= 20;")
	c := construct(t, s)
	at := func(object, source, where string) []string {
		var ids []string
		for _, l := range c.blameRefusal(builder.Refusal{Problem: code.New("TS4010", where, ""), Object: object, Source: source}) {
			qt.Check(t, qt.Equals(l.Kind, selection.Reboot))
			ids = append(ids, l.ID)
		}
		return ids
	}
	qt.Check(t, qt.DeepEquals(at("lib/x.o", "lib/x.c:3", "first"), []string{"f0"}))
	qt.Check(t, qt.DeepEquals(at("lib/x.o", "lib/x.c:18", "second"), []string{"f1"}))
	qt.Check(t, qt.DeepEquals(at("lib/x.o", "", "somewhere"), []string{"f0", "f1"}), qt.Commentf("no line tells them apart"))
	qt.Check(t, qt.DeepEquals(at("", "", "lib/x.o: second"), []string{"f0", "f1"}))
}

// TestBlameFollowsLines: whatever fixes do to a file, each line that is there in
// the end is owned by the last fix that brought a line of its text.
func TestBlameFollowsLines(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		type line struct{ text, by string }
		var now []line
		render := func() string {
			var b strings.Builder
			for _, l := range now {
				b.WriteString(l.text + "\n")
			}
			return b.String()
		}
		for i := range rapid.IntRange(1, 20).Draw(t, "lines") {
			now = append(now, line{fmt.Sprintf("line %d", i), ""})
		}
		before := render()
		x := newText(&original{read: func(path string) ([]byte, error) {
			if path == "lib/x.c" {
				return []byte(before), nil
			}
			return nil, fs.ErrNotExist
		}, relevant: func(f *fix.Fix) (*fix.Fix, error) { return f, nil }})
		for i := range rapid.IntRange(1, 4).Draw(t, "fixes") {
			id := fmt.Sprintf("f%d", i)
			old := render()
			for j := range rapid.IntRange(1, 3).Draw(t, "edits") {
				at := rapid.IntRange(0, len(now)).Draw(t, "at")
				if rapid.Bool().Draw(t, "cut") && at < len(now) && len(now) > 1 {
					now = slices.Delete(now, at, at+1)
				}
				at = min(at, len(now))
				now = slices.Insert(now, at, line{fmt.Sprintf("%s brings %d", id, j), id})
			}
			f, err := fix.Parse(id+".diff", fix.Unified("lib/x.c", []byte(old), []byte(render())))
			if err != nil {
				t.Fatal(err)
			}
			if err := x.apply(&series.Fix{Meta: series.Meta{ID: id}, Diff: f}); err != nil {
				t.Fatal(err)
			}
		}
		for n, l := range now {
			if got := x.owner("lib/x.c", n+1); got != l.by {
				t.Fatalf("line %d, %q: owned by %q, brought by %q", n+1, l.text, got, l.by)
			}
		}
	})
}

func TestOpen(t *testing.T) {
	t.Parallel()
	f := func(id string, cves ...string) *series.Fix { return &series.Fix{Meta: series.Meta{ID: id, CVEs: cves}} }
	doubted := f("r", "CVE-2026-0003")
	doubted.Entries = []series.Entry{{CVEs: doubted.CVEs, Confidence: series.Possible}}
	sel := &selection.Selection{Left: []selection.Left{
		{Fix: f("e", "CVE-2026-0001"), ID: "e", Kind: selection.Excluded, By: "CVE-2026-0001", Why: "a reason of one policy"},
		{Fix: f("d", "CVE-2026-0002"), ID: "d", Kind: selection.Dragged, By: "e", Why: "it requires e"},
		{Fix: doubted, ID: "r", Kind: selection.Reboot, Code: "TS4010", Why: "data"},
		{Fix: f("s", "CVE-2026-0004"), ID: "s", Kind: selection.Dragged, By: "r", Why: "it requires r"},
		{Fix: f("n", "CVE-2026-0005"), ID: "n", Kind: selection.NotHere},
		{Fix: f("o"), ID: "o", Kind: selection.OutOf},
	}}
	qt.Check(t, qt.DeepEquals(open(sel), []livepatch.OpenFix{
		{ID: "d", CVEs: []string{"CVE-2026-0002"}, Kind: livepatch.OpenExcluded},
		{ID: "e", CVEs: []string{"CVE-2026-0001"}, Kind: livepatch.OpenExcluded},
		{ID: "r", CVEs: []string{"CVE-2026-0003"}, Possible: []string{"CVE-2026-0003"}, Kind: livepatch.OpenReboot, Code: "TS4010", Why: "data"},
		{ID: "s", CVEs: []string{"CVE-2026-0004"}, Kind: livepatch.OpenReboot, Code: "TS4010", Why: "it requires r"},
	}))
}
