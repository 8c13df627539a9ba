// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/update"
)

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		p := filepath.Join(dir, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(p), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(p, []byte(text), 0o600)))
	}
	return dir
}

func function(n int) string { return fmt.Sprintf("int work(int x)\n{\n\treturn x + %d;\n}\n", n) }

// TestAPackagesUpdate: upstream's change comes first, then the distribution's
// new patches on top of it, one of which makes a file. Each with its CVE.
// Packaging, tests and documentation are none of it, nor is what quilt keeps.
func TestAPackagesUpdate(t *testing.T) {
	t.Parallel()
	diff := "Subject: mend work\n\nFixes CVE-2026-1111\n---\n--- a/work.c\n+++ b/work.c\n@@ -1,4 +1,4 @@\n int work(int x)\n {\n-\treturn x + 2;\n+\treturn x + 3;\n }\n"
	create := "CVE-2026-2222\n--- /dev/null\n+++ b/fresh.c\n@@ -0,0 +1,1 @@\n+int fresh;\n"
	changelog := func(versions ...string) string {
		var b strings.Builder
		for _, v := range versions {
			fmt.Fprintf(&b, "x (%s) stable; urgency=high\n\n  * CVE-2026-1111 (%s)\n  * Fix the overflow in lookups (CVE-2026-3333)\n\n -- A B <a@b.c>  Mon, 25 Aug 2025 21:11:05 +0200\n\n", v, v)
		}
		return b.String()
	}
	trees := func() (old, new string) {
		return tree(t, map[string]string{
				"work.c": function(1), "lookups.c": strings.Replace(function(5), "work", "lookups", 1), "README": "one\n", ".pc/applied-patches": "",
				"debian/changelog": changelog("1-1"),
			}), tree(t, map[string]string{
				"work.c": function(3), "lookups.c": strings.Replace(function(6), "work", "lookups", 1), "fresh.c": "int fresh;\n", "README": "two\n", "tests/t.c": "int t;\n",
				"debian/changelog": changelog("2-1", "1-1"), "debian/patches/series": "a.patch\nsub/b.patch\n",
				"debian/patches/a.patch": diff, "debian/patches/sub/b.patch": create,
				".pc/a.patch/work.c": function(2), ".pc/a.patch/.timestamp": "", ".pc/sub/b.patch/fresh.c": "",
			})
	}
	old, new := trees()
	s, err := fromTrees(t.Context(), "x", "1-1", "2-1", old, new, &update.Corrections{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	got := ""
	now := map[string]string{"work.c": function(1), "lookups.c": strings.Replace(function(5), "work", "lookups", 1)}
	for _, f := range s.Fixes {
		got += fmt.Sprintln(f.ID, f.CVEs, f.Paths())
		changes, err := f.Diff.Apply(func(p string) ([]byte, error) {
			if text, ok := now[p]; ok {
				return []byte(text), nil
			}
			return nil, os.ErrNotExist
		})
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", f.ID))
		for _, c := range changes {
			now[c.Path] = string(c.New)
		}
	}
	qt.Check(t, qt.Equals(got, "lookups [CVE-2026-3333] [lookups.c]\nwork [] [work.c]\na [CVE-2026-1111] [work.c]\nb [CVE-2026-2222] [fresh.c]\n"))
	qt.Check(t, qt.DeepEquals(now, map[string]string{"work.c": function(3), "lookups.c": strings.Replace(function(6), "work", "lookups", 1), "fresh.c": "int fresh;\n"}))
	qt.Check(t, qt.HasLen(s.Unattributed, 0))

	old, new = trees()
	qt.Assert(t, qt.IsNil(os.RemoveAll(filepath.Join(new, ".pc/a.patch"))))
	_, err = fromTrees(t.Context(), "x", "1-1", "2-1", old, new, &update.Corrections{}, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS3535"))

	old, new = trees()
	_, err = fromTrees(t.Context(), "x", "0-1", "2-1", old, new, &update.Corrections{}, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS1211"))
}

// TestAPackageThatIsFormattedAnew: what only lies otherwise is in no fix, the
// rest comes in the old layout, and so do patches that lie on the new one. A patch
// of tests alone is no fix of the CVE that it names.
func TestAPackageThatIsFormattedAnew(t *testing.T) {
	t.Parallel()
	anew := func(n int, text string) string {
		return fmt.Sprintf("int\nwork (int x)\n{\n  say (\"%s\");\n  return x\n         + %d;\n}\n", text, n)
	}
	was := func(n int, text string) string {
		return fmt.Sprintf("int work(int x)\n{\n\tsay(\"%s\");\n\treturn x + %d;\n}\n", text, n)
	}
	patch := "CVE-2026-1111\n--- a/work.c\n+++ b/work.c\n@@ -1,5 +1,5 @@\n int\n work (int x)\n {\n-  say (\"a\");\n+  say (\"b\");\n   return x\n"
	tests := "CVE-2026-2222\n--- a/tests/t.c\n+++ b/tests/t.c\n@@ -1 +1 @@\n-int t;\n+int u;\n"
	changelog := func(versions ...string) string {
		var b strings.Builder
		for _, v := range versions {
			fmt.Fprintf(&b, "x (%s) stable; urgency=high\n\n  * CVE-2026-1111 (%s)\n  * CVE-2026-2222 (wrong in other())\n\n -- A B <a@b.c>  Mon, 25 Aug 2025 21:11:05 +0200\n\n", v, v)
		}
		return b.String()
	}
	old := tree(t, map[string]string{"work.c": was(1, "a"), "same.c": was(5, "a"), "tests/t.c": "int t;\n", "debian/changelog": changelog("1-1")})
	new := tree(t, map[string]string{
		"work.c": anew(2, "b"), "same.c": anew(5, "a"), "tests/t.c": "int u;\n", "debian/changelog": changelog("2-1", "1-1"),
		"debian/patches/series": "a.patch\nt.patch\n", "debian/patches/a.patch": patch, "debian/patches/t.patch": tests,
		".pc/a.patch/work.c": anew(2, "a"), ".pc/t.patch/tests/t.c": "int t;\n",
	})
	s, err := fromTrees(t.Context(), "x", "1-1", "2-1", old, new, &update.Corrections{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.Formatted, 1))
	got, now := "", was(1, "a")
	for _, f := range s.Fixes {
		changes, err := f.Diff.Apply(func(string) ([]byte, error) { return []byte(now), nil })
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", f.ID))
		now = string(changes[0].New)
		got += fmt.Sprintln(f.ID, f.CVEs, f.Paths())
	}
	qt.Check(t, qt.Equals(got, "work [] [work.c]\na [CVE-2026-1111] [work.c]\n"))
	qt.Check(t, qt.Equals(now, "int work(int x)\n{\n  say (\"b\");\n  return x\n         + 2;\n}\n"))
	qt.Assert(t, qt.HasLen(s.Unattributed, 1))
	qt.Check(t, qt.DeepEquals(s.Unattributed[0].CVEs, []string{"CVE-2026-2222"}))
}
