// SPDX-License-Identifier: Apache-2.0

package update

import (
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-quicktest/qt"
	"golang.org/x/tools/txtar"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/fix"
)

var rewrite = flag.Bool("update", false, "rewrite what testdata/split wants")

// delta makes the two trees of an archive, old/… and new/…, and their
// difference.
func delta(t testing.TB, files map[string]string) Delta {
	t.Helper()
	old, new := fstest.MapFS{}, fstest.MapFS{}
	for name, text := range files {
		if p, ok := strings.CutPrefix(name, "old/"); ok {
			old[p] = &fstest.MapFile{Data: []byte(text)}
		} else if p, ok := strings.CutPrefix(name, "new/"); ok {
			new[p] = &fstest.MapFile{Data: []byte(text)}
		}
	}
	diff, err := fix.Derive(old, new, nil)
	qt.Assert(t, qt.IsNil(err))
	f, err := fix.Parse("update.diff", diff)
	qt.Assert(t, qt.IsNil(err))
	return Delta{Old: old, New: new, Diff: f}
}

func items(text string) []Item {
	var out []Item
	for l := range strings.Lines(text) {
		if it, ok := parseItem(strings.TrimSpace(l)); ok {
			out = append(out, it)
		}
	}
	return out
}

// TestSplit: each archive in testdata/split is a small update: old and new
// files, the entries of its changelog, and what must come of it, a line for
// each fix: its id and the entries that it is attributed. Many are modelled on
// files of real updates that do not compile alone.
func TestSplit(t *testing.T) {
	t.Parallel()
	cases, err := filepath.Glob("testdata/split/*.txtar")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(len(cases) > 5))
	for _, file := range cases {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txtar"), func(t *testing.T) {
			t.Parallel()
			a, err := txtar.ParseFile(file)
			qt.Assert(t, qt.IsNil(err))
			files := make(map[string]string)
			for _, f := range a.Files {
				files[f.Name] = string(f.Data)
			}
			d := delta(t, files)
			entries := items(files["entries"])
			groups, err := Split(d, entries)
			qt.Assert(t, qt.IsNil(err))
			s, err := Series("1-1", "1-2", groups, entries, nil)
			qt.Assert(t, qt.IsNil(err))
			var got strings.Builder
			for _, f := range s.Fixes {
				got.WriteString(f.ID + ": " + strings.Join(f.Paths(), " ") + "\n")
				for _, e := range f.Entries {
					got.WriteString("  " + string(e.Confidence) + " " + e.Subject + "\n")
				}
			}
			for _, e := range s.Unattributed {
				got.WriteString("none " + e.Subject + "\n")
			}
			if *rewrite {
				a.Files[slices.IndexFunc(a.Files, func(f txtar.File) bool { return f.Name == "want" })].Data = []byte(got.String())
				qt.Assert(t, qt.IsNil(os.WriteFile(file, txtar.Format(a), 0o644)))
				return
			}
			qt.Check(t, qt.Equals(got.String(), files["want"]))
			var all []*fix.Fix
			for _, f := range s.Fixes {
				all = append(all, f.Diff)
			}
			for p, b := range apply(t, d.Old, all...) {
				qt.Check(t, qt.Equals(b, files["new/"+p]), qt.Commentf("%s", p))
			}
		})
	}
}

// apply applies diffs one after the other and returns what they leave of the
// files that they touch; a deleted file is "". No hunk may be found by less
// context, or fit several places.
func apply(t testing.TB, old fs.FS, fixes ...*fix.Fix) map[string]string {
	t.Helper()
	tree, gone := map[string]string{}, map[string]bool{}
	for _, f := range fixes {
		cs, err := f.Apply(func(p string) ([]byte, error) {
			if b, ok := tree[p]; ok {
				if gone[p] {
					return nil, fs.ErrNotExist
				}
				return []byte(b), nil
			}
			return fs.ReadFile(old, p)
		})
		if err != nil {
			t.Fatalf("%s: %v", f.ID, err)
		}
		for _, c := range cs {
			tree[c.Path], gone[c.Path] = string(c.New), c.Deleted
			for _, n := range c.Notes {
				if strings.Contains(n, "less context") || strings.Contains(n, "fits") {
					t.Errorf("%s: %s", f.ID, n)
				}
			}
		}
	}
	return tree
}

// TestAnyChoiceOfGroupsIsExact: whatever fixes of a file are chosen, the file
// becomes what it was with just their edits, found without guessing.
func TestAnyChoiceOfGroupsIsExact(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		// Few different lines, so that many places look alike.
		line := rapid.SampledFrom([]string{"\n", "}\n", "\tint a;\n", "\tint b;\n", "#define X 1\n", "#define Y 2\n", "void f(void);\n"})
		old := rapid.SliceOfN(line, 1, 40).Draw(rt, "old")
		var want, new []string
		for i, l := range old {
			switch rapid.IntRange(0, 5).Draw(rt, "edit") {
			case 0: // gone
			case 1:
				new = append(new, l, rapid.SampledFrom([]string{"}\n", "#define NEW " + string(rune('a'+i%26)) + "\n"}).Draw(rt, "line"))
			default:
				new = append(new, l)
			}
		}
		a, b := strings.Join(old, ""), strings.Join(new, "")
		if a == b || b == "" {
			rt.Skip()
		}
		d := delta(t, map[string]string{"old/include/x.h": a, "new/include/x.h": b})
		groups, err := Split(d, nil)
		if err != nil {
			rt.Fatal(err)
		}
		s, err := Series("1", "2", groups, nil, nil)
		if err != nil {
			rt.Fatal(err)
		}
		edits := editsOf(d.Diff.Files[0])
		take := make([]bool, len(edits))
		var chosen []*fix.Fix
		for i, g := range groups {
			if rapid.Bool().Draw(rt, "take") {
				chosen = append(chosen, s.Fixes[i].Diff)
				for _, e := range g.Files[0].edits {
					take[e] = true
				}
			}
		}
		at := 0
		for i, e := range edits {
			want = append(want, old[at:e.oldFrom]...)
			if take[i] {
				want = append(want, new[e.newFrom:e.newTo]...)
			} else {
				want = append(want, old[e.oldFrom:e.oldTo]...)
			}
			at = e.oldTo
		}
		want = append(want, old[at:]...)
		got := a
		if tree := apply(t, d.Old, chosen...); len(chosen) > 0 {
			got = tree["include/x.h"]
		}
		if got != strings.Join(want, "") {
			rt.Fatalf("got\n%s\nwant\n%s", got, strings.Join(want, ""))
		}
	})
}

func TestSplitIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	a, err := txtar.ParseFile("testdata/split/signature.txtar")
	qt.Assert(t, qt.IsNil(err))
	files := make(map[string]string)
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
	}
	d := delta(t, files)
	var first []string
	for range 10 {
		groups, err := Split(d, items(files["entries"]))
		qt.Assert(t, qt.IsNil(err))
		var got []string
		for _, g := range groups {
			for _, l := range g.Links {
				got = append(got, l.Name+" "+l.From+" "+l.To)
			}
			for _, p := range g.Files {
				got = append(got, string(p.diff()))
			}
		}
		if first == nil {
			first = got
		}
		qt.Assert(t, qt.IsTrue(slices.Equal(got, first)))
	}
}

func TestADifferenceOfOtherSourcesIsRefused(t *testing.T) {
	t.Parallel()
	d := delta(t, map[string]string{"old/a.c": "int a;\n", "new/a.c": "int b;\n"})
	d.New = fstest.MapFS{"a.c": {Data: []byte("int c;\nint d;\n")}}
	_, err := Split(d, nil)
	qt.Assert(t, qt.ErrorMatches(err, ".*not that of the two sources"))
}
