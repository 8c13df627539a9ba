// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

func patch(name, head, file, old, new string) QuiltPatch {
	return QuiltPatch{name, fmt.Appendf(nil, "%s---\n--- a/%s\t2026-01-01\n+++ b/%s\t2026-01-02\n@@ -1,3 +1,3 @@\n int a;\n-%s\n+%s\n int z;\n", head, file, file, old, new)}
}

func TestQuiltNames(t *testing.T) {
	t.Parallel()
	names, err := QuiltNames([]byte("# first\na.patch\n\n any/b.diff -p1 # why\n"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{"a.patch", "any/b.diff"}))
	for _, bad := range []string{"../x", "/etc/x", ".", "a//b"} {
		_, err := QuiltNames([]byte(bad + "\n"))
		qt.Check(t, qt.Equals(code.Of(err), "TS1214"), qt.Commentf("%s", bad))
	}
}

// TestNewPatches: those at the end that the old series has not. A patch whose
// context alone has changed is not new, and one that is no text is not a fix.
func TestNewPatches(t *testing.T) {
	t.Parallel()
	a, b, c := patch("a", "", "x.c", "int\tb;", "int\tc;"), patch("b", "", "x.c", "int\tb;", "int\td;"), patch("c", "", "y.c", "1", "2")
	moved := a
	moved.Text = []byte(strings.Replace(string(a.Text), " int a;", " int aa;", 1))
	binary := QuiltPatch{"bin", []byte("diff --git a/x.der b/x.der\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\n")}
	for _, x := range []struct {
		name     string
		old, new []QuiltPatch
		want     string
	}{
		{"appended", []QuiltPatch{a}, []QuiltPatch{a, b, c}, "bc"},
		{"refreshed", []QuiltPatch{a}, []QuiltPatch{moved, b}, "b"},
		{"in the middle", []QuiltPatch{a, c}, []QuiltPatch{a, b, c}, ""},
		{"none before", nil, []QuiltPatch{a, b}, "ab"},
		{"gone", []QuiltPatch{a, b}, []QuiltPatch{a}, ""},
		{"behind what is no text", nil, []QuiltPatch{a, binary, c}, "c"},
	} {
		got := ""
		for _, p := range NewPatches(x.old, x.new) {
			got += p.Name
		}
		qt.Check(t, qt.Equals(got, x.want), qt.Commentf("%s", x.name))
	}
}

// TestPatched: what a patch's head and name say, and the entries that name it or
// its CVEs; the others are left.
func TestPatched(t *testing.T) {
	t.Parallel()
	fixes, rest, err := Patched("2-1", []QuiltPatch{
		patch("any/Do-it.patch", "Subject: Do it\n\nFixes CVE-2026-1111\n", "lib/x.c", "1", "2"),
		patch("any/local-CVE-2026-2222.diff", "Description: as upstream\n", "lib/y.c", "1", "2"),
		patch("more/Do-it.patch", "Subject: More of it\n", "lib/z.c", "1", "2"),
	}, PackageItems([]Item{
		{Subject: "CVE-2026-1111 (Doing nothing at all)"},
		{Subject: "CVE-2026-1111, CVE-2026-3333: two in one"},
		{Subject: "d/p/any/local-CVE-2026-2222.diff: as upstream has it", CVEs: nil},
		{Subject: "debian/patches/old.diff: upstreamed"},
		{Subject: "Fix CVE-2026-4444: something else"},
	}))
	qt.Assert(t, qt.IsNil(err))
	got := ""
	for _, f := range fixes {
		got += fmt.Sprintln(f.ID, f.CVEs, f.Title, len(f.Entries), f.Diff.ID)
	}
	qt.Check(t, qt.Equals(got, `Do-it [CVE-2026-1111] Do it 1 Do-it
local-CVE-2026-2222 [CVE-2026-2222] as upstream 1 local-CVE-2026-2222
Do-it-2 [] More of it 0 Do-it-2
`))
	qt.Check(t, qt.Equals(fixes[0].Entries[0].Subject, "Doing nothing at all"))
	qt.Check(t, qt.Equals(fixes[0].Entries[0].Confidence, series.Stated))
	qt.Check(t, qt.DeepEquals(rest, []Item{
		{Subject: "two in one", CVEs: []string{"CVE-2026-1111", "CVE-2026-3333"}},
		{Subject: "something else", CVEs: []string{"CVE-2026-4444"}},
	}))
}

// TestPackageSeries: what a distribution has put on top comes behind what was
// changed below, and has ids and CVEs of its own.
func TestPackageSeries(t *testing.T) {
	t.Parallel()
	source := func(n int) string { return fmt.Sprintf("int\nregcomp (int x)\n{\n  return x + %d;\n}\n", n) }
	groups, err := Split(delta(t, map[string]string{"old/posix/regcomp.c": source(1), "new/posix/regcomp.c": source(2)}), nil)
	qt.Assert(t, qt.IsNil(err))
	after, _, err := Patched("2", []QuiltPatch{patch("posix-regcomp.diff", "CVE-2026-4444\n", "posix/regcomp.c", "a", "b")}, nil)
	qt.Assert(t, qt.IsNil(err))
	entries := []Item{
		{Subject: "Fix double-free after allocation failure in regcomp", CVEs: []string{"CVE-2026-1"}},
		{Subject: "Fix a crash of the client", CVEs: []string{"CVE-2026-3"}},
	}
	s, err := PackageSeries("1", "2", groups, after, entries, nil, nil)
	qt.Assert(t, qt.IsNil(err))
	got := ""
	for _, f := range s.Fixes {
		got += fmt.Sprintln(f.ID, f.CVEs)
	}
	qt.Check(t, qt.Equals(got, "posix-regcomp [CVE-2026-1]\nposix-regcomp-2 [CVE-2026-4444]\n"))
	qt.Assert(t, qt.HasLen(s.Unattributed, 1))
	qt.Check(t, qt.DeepEquals(s.Unattributed[0].CVEs, []string{"CVE-2026-3"}))
}

// TestTheFileThatAnEntryNames: a patch is named by its file's whole name.
func TestTheFileThatAnEntryNames(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text, name string
		want       bool
	}{
		{"Add CVE-2026-1.patch", "CVE-2026-1.patch", true},
		{"d/p/any/fix-it.diff: new.", "fix-it.diff", true},
		{"New: fix-it.diff.", "fix-it.diff", true},
		{"More of any/not-fix-it.diff", "fix-it.diff", false},
		{"More of fix-it.diff.gz and 2-fix-it.diff, and then fix-it.diff", "fix-it.diff", true},
		{"Add a.fix.patch", "fix.patch", false},
		{"A crash in regcomp", "regcomp", false},
		{"", "a.patch", false},
	} {
		qt.Check(t, qt.Equals(namesFile(c.text, c.name), c.want), qt.Commentf("%s: %s", c.text, c.name))
	}
}
