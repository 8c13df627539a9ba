// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

// reader serves files from a map.
func reader(files map[string]string) func(string) ([]byte, error) {
	return func(p string) ([]byte, error) {
		s, ok := files[p]
		if !ok {
			return nil, fs.ErrNotExist
		}
		return []byte(s), nil
	}
}

const gitFix = `From 0123456789abcdef0123456789abcdef01234567 Mon Sep 17 00:00:00 2001
From: A Hacker <a@example.org>
Subject: [PATCH 6.1 3/7] ext4: do not
 trust the folio

commit fedcba9876543210fedcba9876543210fedcba98 upstream.

Fixes CVE-2026-12345 and CVE-2025-1111, again CVE-2026-12345.
---
 fs/a.c | 2 +-

diff --git a/fs/a.c b/fs/a.c
index 111..222 100644
--- a/fs/a.c
+++ b/fs/a.c
@@ -1,3 +1,3 @@
 one
--- two
+-- zwei
 three
-- 
2.39.5
`

const quiltFix = `Description: a quilt patch
Origin: upstream, https://example.org/1
Index: linux/fs/a.c
===================================================================
--- linux.orig/fs/a.c	2026-01-01 00:00:00.000000000 +0000
+++ linux/fs/a.c	2026-01-02 00:00:00.000000000 +0000
@@ -1,3 +1,3 @@
 one
--- two
+-- zwei
 three
Index: linux/fs/b.c
===================================================================
--- linux.orig/fs/b.c
+++ linux/fs/b.c
@@ -1 +1,2 @@
 x
+y
`

func TestParseReadsGitAndQuiltDiffs(t *testing.T) {
	f, err := Parse("dir/CVE-2024-9999-x.patch", []byte(gitFix))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(f.ID, "CVE-2024-9999-x"))
	qt.Check(t, qt.Equals(f.Title, "ext4: do not trust the folio"))
	qt.Check(t, qt.DeepEquals(f.CVEs, []string{"CVE-2024-9999", "CVE-2025-1111", "CVE-2026-12345"}))
	qt.Check(t, qt.Equals(f.Origin, "0123456789abcdef0123456789abcdef01234567"))
	qt.Assert(t, qt.HasLen(f.Files, 1))
	qt.Check(t, qt.Equals(f.Files[0].Path, "fs/a.c"))
	qt.Check(t, qt.Equals(f.Files[0].Hunks[0].Line, 16))

	crlf, err := Parse("CVE-2024-9999-x", []byte(strings.ReplaceAll(gitFix, "\n", "\r\n")))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(crlf.Files, f.Files))

	q, err := Parse("q.diff", []byte(quiltFix))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(q.Files, 2))
	qt.Check(t, qt.Equals(q.Title, "a quilt patch"))
	qt.Check(t, qt.Equals(q.Files[0].Path, "fs/a.c"))
	qt.Check(t, qt.DeepEquals(q.Files[0].Hunks[0].Lines, f.Files[0].Hunks[0].Lines))
	qt.Check(t, qt.Equals(q.Files[1].Path, "fs/b.c"))
}

func TestParseRefuses(t *testing.T) {
	hunk := "@@ -1 +1 @@\n-a\n+b\n"
	for _, c := range []struct{ name, diff, code string }{
		{"nothing", "", "TS1101"},
		{"prose", "this is\nno diff\n", "TS1101"},
		{"a path that climbs out", "--- a/../x.c\n+++ b/../x.c\n" + hunk, "TS1102"},
		{"a path that climbs out later", "--- a/x/../../y\n+++ b/x/../../y\n" + hunk, "TS1102"},
		{"an absolute path", "--- /etc/passwd\n+++ /etc/passwd\n" + hunk, "TS1102"},
		{"an absolute path in a git header", "diff --git a//etc/passwd b//etc/passwd\n--- a//etc/passwd\n+++ b//etc/passwd\n" + hunk, ""},
		{"a path without a component to strip", "--- x.c\n+++ x.c\n" + hunk, "TS1102"},
		{"a control character in a path", "diff --git \"a/x\\ny\" \"b/x\\ny\"\n--- \"a/x\\ny\"\n+++ \"b/x\\ny\"\n" + hunk, "TS1102"},
		{"a binary file", "diff --git a/x b/x\nBinary files a/x and b/x differ\n", "TS1106"},
		{"a git binary patch", "diff --git a/x b/x\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n\nliteral 0\nHcmV?d00001\n\n", "TS1106"},
		{"only a mode", "diff --git a/x b/x\nold mode 100644\nnew mode 100755\n", "TS1107"},
		{"a hunk cut short", "--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n a\n-b\n", "TS1101"},
		{"a hunk too long", "--- a/x\n+++ b/x\n@@ -1,1 +1,2 @@\n-a\n-b\n+c\n", "TS1101"},
		{"the same file twice", "--- a/x\n+++ b/x\n" + hunk + "--- a/x\n+++ b/x\n" + hunk, "TS1108"},
		{"huge line numbers", "--- a/x\n+++ b/x\n@@ -99999999999999999999 +1 @@\n-a\n+b\n", "TS1101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := Parse("x.diff", []byte(c.diff))
			qt.Check(t, qt.Equals(string(code.Of(err)), c.code), qt.Commentf("%v", err))
			qt.Check(t, qt.Equals(f == nil, err != nil))
		})
	}
}

func TestApplyFindsMovedHunksAndSaysSo(t *testing.T) {
	f, err := Parse("x.diff", []byte("--- a/x\n+++ b/x\n@@ -2,5 +2,5 @@\n b\n c\n-d\n+D\n e\n f\n"))
	qt.Assert(t, qt.IsNil(err))
	for _, c := range []struct {
		name, old, new string
		notes          int
		code           string
	}{
		{"in place", "a\nb\nc\nd\ne\nf\n", "a\nb\nc\nD\ne\nf\n", 0, ""},
		{"four lines lower", "1\n2\n3\n4\na\nb\nc\nd\ne\nf\n", "1\n2\n3\n4\na\nb\nc\nD\ne\nf\n", 1, ""},
		{"with one line of context changed", "a\nB\nc\nd\ne\nf\n", "a\nB\nc\nD\ne\nf\n", 1, ""},
		{"with all context gone", "a\nB\nC\nd\nE\nF\n", "", 0, "TS1103"},
		{"with the line gone", "a\nb\nc\nx\ne\nf\n", "", 0, "TS1103"},
		{"already applied", "a\nb\nc\nD\ne\nf\n", "", 0, "TS1104"},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := f.Apply(reader(map[string]string{"x": c.old}))
			qt.Assert(t, qt.Equals(string(code.Of(err)), c.code), qt.Commentf("%v", err))
			if err != nil {
				return
			}
			qt.Check(t, qt.Equals(string(got[0].New), c.new))
			qt.Check(t, qt.HasLen(got[0].Notes, c.notes))
		})
	}
}

func TestApplyNamesFileHunkAndLine(t *testing.T) {
	f, err := Parse("two.diff", []byte(quiltFix))
	qt.Assert(t, qt.IsNil(err))
	_, err = f.Apply(reader(map[string]string{"fs/a.c": "q\nw\ne\n", "fs/b.c": "x\n"}))
	qt.Check(t, qt.ErrorMatches(err, `TS1103: .*fs/a.c: hunk 1 \(line 7 of two, for line 1\).*`))
	_, err = f.Apply(reader(map[string]string{"fs/b.c": "x\n"}))
	qt.Check(t, qt.Equals(string(code.Of(err)), "TS1105"))
}

func TestApplyCreatesDeletesAndRenames(t *testing.T) {
	f, err := Parse("x", []byte(`diff --git a/new.c b/new.c
new file mode 100644
--- /dev/null
+++ b/new.c
@@ -0,0 +1,2 @@
+one
+two
diff --git a/old.c b/old.c
deleted file mode 100644
--- a/old.c
+++ /dev/null
@@ -1,2 +0,0 @@
-x
-y
diff --git a/from.c b/to.c
similarity index 50%
rename from from.c
rename to to.c
--- a/from.c
+++ b/to.c
@@ -1,2 +1,2 @@
 p
-q
+Q
`))
	qt.Assert(t, qt.IsNil(err))
	files := map[string]string{"old.c": "x\ny\n", "from.c": "p\nq\n"}
	got, err := f.Apply(reader(files))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []Change{
		{Path: "new.c", New: []byte("one\ntwo\n"), Created: true},
		{Path: "old.c", Old: []byte("x\ny\n"), Deleted: true},
		{Path: "from.c", Old: []byte("p\nq\n"), Deleted: true},
		{Path: "to.c", New: []byte("p\nQ\n"), Created: true},
	}))
	files["new.c"] = "other\n"
	_, err = f.Apply(reader(files))
	qt.Check(t, qt.Equals(string(code.Of(err)), "TS1105"))
}

// text draws files of few different lines, so that much of them is ambiguous.
func text(t *rapid.T, label string) string {
	lines := rapid.SliceOfN(rapid.SampledFrom([]string{"{", "}", "", "int a;", "int b;", "f();", "return 0;"}), 0, 40).Draw(t, label)
	s := strings.Join(lines, "\n")
	if rapid.Bool().Draw(t, label+" newline") && s != "" {
		s += "\n"
	}
	return s
}

// edited draws a text and another made from it by a few edits.
func edited(t *rapid.T) (old, new string) {
	old = text(t, "old")
	lines := splitLines([]byte(old))
	for range rapid.IntRange(0, 4).Draw(t, "edits") {
		at := rapid.IntRange(0, len(lines)).Draw(t, "at")
		to := min(len(lines), at+rapid.IntRange(0, 3).Draw(t, "deleted"))
		var add []string
		for range rapid.IntRange(0, 3).Draw(t, "added") {
			add = append(add, rapid.SampledFrom([]string{"}\n", "int a;\n", "new();\n"}).Draw(t, "line"))
		}
		if at == len(lines) && at > 0 && !strings.HasSuffix(lines[at-1], "\n") {
			continue
		}
		lines = append(lines[:at:at], append(add, lines[to:]...)...)
	}
	return old, strings.Join(lines, "")
}

func TestDerivedDiffsApplyAndRevert(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		old, new := edited(t)
		checkDerive(t, old, new)
	})
	rapid.Check(t, func(t *rapid.T) { checkDerive(t, text(t, "old"), text(t, "new")) })
}

func checkDerive(t *rapid.T, old, new string) {
	a := fstest.MapFS{"d/x.c": {Data: []byte(old)}, "d/same": {Data: []byte("s")}}
	b := fstest.MapFS{"d/x.c": {Data: []byte(new)}, "d/same": {Data: []byte("s")}}
	diff, err := Derive(a, b, []string{"d"})
	if err != nil {
		t.Fatal(err)
	}
	if old == new {
		if len(diff) != 0 {
			t.Fatalf("equal trees differ: %s", diff)
		}
		return
	}
	f, err := Parse("p", diff)
	if err != nil {
		t.Fatalf("%v\n%s", err, diff)
	}
	got, err := f.Apply(reader(map[string]string{"d/x.c": old}))
	if err != nil {
		t.Fatalf("%v\n%s", err, diff)
	}
	if string(got[0].New) != new || len(got[0].Notes) > 0 {
		t.Fatalf("got %q, want %q, notes %v\n%s", got[0].New, new, got[0].Notes, diff)
	}
}

func TestDeriveCreatesAndDeletes(t *testing.T) {
	a := fstest.MapFS{"gone.c": {Data: []byte("x\n")}, "same.c": {Data: []byte("s\n")}, "empty": {}}
	b := fstest.MapFS{"new/n.c": {Data: []byte("y")}, "same.c": {Data: []byte("s\n")}}
	diff, err := Derive(a, b, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(diff), `diff --git a/empty b/empty
deleted file mode 100644
diff --git a/gone.c b/gone.c
deleted file mode 100644
--- a/gone.c
+++ /dev/null
@@ -1 +0,0 @@
-x
diff --git a/new/n.c b/new/n.c
new file mode 100644
--- /dev/null
+++ b/new/n.c
@@ -0,0 +1 @@
+y
\ No newline at end of file
`))
	f, err := Parse("p", diff)
	qt.Assert(t, qt.IsNil(err))
	got, err := f.Apply(reader(map[string]string{"gone.c": "x\n", "same.c": "s\n", "empty": ""}))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(got, 3))
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(gitFix))
	f.Add([]byte(quiltFix))
	f.Add([]byte("diff --git a/x b/x\nindex 1..2 100644\nGIT binary patch\nliteral 1\nIcmZPo000310RR91\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		fix, err := Parse("x.diff", b)
		if (fix == nil) == (err == nil) {
			t.Fatal("fix xor error")
		}
		if err != nil {
			if code.Of(err) == "" {
				t.Fatalf("no code: %v", err)
			}
			return
		}
		_, _ = fix.Apply(func(string) ([]byte, error) { return []byte("one\n-- two\nthree\n"), nil })
		_, _ = fix.Apply(func(string) ([]byte, error) { return nil, fs.ErrNotExist })
	})
}
