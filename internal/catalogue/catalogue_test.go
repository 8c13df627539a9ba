// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"archive/tar"
	"archive/zip"
	"bytes"
	"compress/gzip"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/series"
	"github.com/tsugi-project/tsugi/internal/update"
)

const patch = "--- a/net/foo.c\n+++ b/net/foo.c\n@@ -1 +1 @@\n-int a;\n+int b;\n"

func open(t *testing.T) *Catalogue {
	t.Helper()
	c, err := Open(filepath.Join(t.TempDir(), "catalogue"))
	qt.Assert(t, qt.IsNil(err))
	return c
}

func fixOf(t *testing.T, header string) *series.Fix {
	t.Helper()
	f, err := series.ParseFix("x.diff", []byte("---\n"+header+"\n---\n"+patch), nil)
	qt.Assert(t, qt.IsNil(err))
	return f
}

func TestSeriesOnDisk(t *testing.T) {
	t.Parallel()
	c := open(t)
	_, err := c.Series(Own)
	qt.Check(t, qt.Equals(code.Of(err), "TS1206"))
	qt.Assert(t, qt.IsNil(c.Put(t.Context(), Own, fixOf(t, "id: a"))))
	qt.Assert(t, qt.IsNil(c.Put(t.Context(), Own, fixOf(t, "id: b\nrequires: [a]"))))
	qt.Assert(t, qt.IsNil(c.Put(t.Context(), Own, fixOf(t, "id: a\ntitle: again"))))
	s, err := c.Series(Own)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(s.Fixes, 2))
	qt.Check(t, qt.Equals(s.Fixes[0].Title, "again"))

	// What can't be read back is not written.
	err = c.Put(t.Context(), Own, fixOf(t, "id: c\nrequires: [nothing]"))
	qt.Check(t, qt.Equals(code.Of(err), "TS1204"))
	qt.Check(t, qt.Equals(code.Of(c.Remove(t.Context(), Own, []string{"a"})), "TS1204"))
	qt.Check(t, qt.Equals(code.Of(c.Remove(t.Context(), Own, []string{"z"})), "TS1205"))
	qt.Check(t, qt.Equals(code.Of(c.Put(t.Context(), "../x", fixOf(t, "id: a"))), "TS1206"))
	qt.Assert(t, qt.IsNil(c.Remove(t.Context(), Own, []string{"a", "b"})))
	files, err := filepath.Glob(filepath.Join(c.Dir(), "series", Own, "*"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(files, 1)) // series.yaml
	names, err := c.Names()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(names, []string{Own}))
}

func record(id, vector string, commits ...string) string {
	var versions []string
	for _, x := range commits {
		versions = append(versions, fmt.Sprintf(`{"version":"1da177e4c3f4","lessThan":%q,"status":"affected","versionType":"git"}`, x))
	}
	return fmt.Sprintf(`{"dataType":"CVE_RECORD","cveMetadata":{"cveId":%q,"state":"PUBLISHED"},"containers":{"cna":{"title":"t",
"affected":[{"versions":[%s]}],"metrics":[{"cvssV3_1":{"vectorString":%q}}]}}}`, id, strings.Join(versions, ","), vector)
}

const (
	highVector = "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H"
	lowVector  = "CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"
	kevText    = `{"catalogVersion":"1","vulnerabilities":[{"cveID":"CVE-2026-10001"}]}`
)

func TestFeeds(t *testing.T) {
	t.Parallel()
	c := open(t)
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(path), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(text), 0o644)))
		return path
	}
	write("cves/2026/CVE-2026-10001.json", record("CVE-2026-10001", highVector))
	write("cves/2025/CVE-2025-10002.json", record("CVE-2025-10002", lowVector))
	write("cves/delta.json", "[")
	var z bytes.Buffer
	w := zip.NewWriter(&z)
	e, err := w.Create("a/CVE-2026-10003.json")
	qt.Assert(t, qt.IsNil(err))
	fmt.Fprint(e, record("CVE-2026-10003", lowVector))
	qt.Assert(t, qt.IsNil(w.Close()))
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/all.zip":
			_, _ = w.Write(z.Bytes())
		case "/kev.json":
			fmt.Fprint(w, kevText)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(srv.Close)

	res, err := c.Feed(t.Context(), srv.Client(), []string{filepath.Join(dir, "cves"), srv.URL + "/all.zip", srv.URL + "/kev.json"}, false, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(res, FeedResult{Read: 4, Added: 3, Exploited: 1}))
	before, err := os.ReadFile(c.recordsPath("2026"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(strings.Count(string(before), "\n"), 2))
	res, err = c.Feed(t.Context(), srv.Client(), []string{filepath.Join(dir, "cves"), write("kev.json", kevText)}, false, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(res, FeedResult{Read: 3, Exploited: 1}))
	after, err := os.ReadFile(c.recordsPath("2026"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(after), string(before)))

	for _, bad := range []struct{ source, code string }{
		{filepath.Join(dir, "nowhere"), "TS1209"},
		{srv.URL + "/none", "TS1209"},
		{"http://127.0.0.1:1/x", "TS1209"},
		{write("bad.zip", "PK\x03\x04 and then no more"), "TS1209"},
		{write("bad.json", "{}"), "TS1213"},
	} {
		_, err := c.Feed(t.Context(), srv.Client(), []string{bad.source}, false, progress.Discard)
		qt.Check(t, qt.Equals(string(code.Of(err)), bad.code), qt.Commentf("%s: %v", bad.source, err))
	}

	// Severity, vector and the flag follow from the records; the worst counts.
	qt.Assert(t, qt.IsNil(c.Put(t.Context(), Own, fixOf(t, "id: a\ncves: [CVE-2026-10001, CVE-2025-10002]"))))
	qt.Assert(t, qt.IsNil(c.Put(t.Context(), Own, fixOf(t, "id: b\ncves: [CVE-2026-10001]\nseverity: low"))))
	s, err := c.Series(Own)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.Fix("a").Severity, series.High))
	qt.Check(t, qt.Equals(s.Fix("a").CVSS, highVector))
	qt.Check(t, qt.IsTrue(s.Fix("a").Exploited))
	qt.Check(t, qt.Equals(s.Fix("b").Severity, series.Low)) // the header says so
	text, err := os.ReadFile(filepath.Join(c.Dir(), "series", Own, "a.diff"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(strings.Contains(string(text), "exploited"))) // and nothing of it is kept in the fix
}

func gitTree(t *testing.T) (dir string, git func(args ...string) string) {
	t.Helper()
	dir = t.TempDir()
	git = func(args ...string) string {
		cmd := exec.CommandContext(t.Context(), "git", append([]string{"-C", dir}, args...)...)
		cmd.Env = []string{
			"PATH=" + os.Getenv("PATH"), "GIT_CONFIG_NOSYSTEM=1", "GIT_CONFIG_GLOBAL=/dev/null", "HOME=" + dir,
			"GIT_AUTHOR_NAME=A", "GIT_AUTHOR_EMAIL=a@b", "GIT_COMMITTER_NAME=A", "GIT_COMMITTER_EMAIL=a@b",
			"GIT_AUTHOR_DATE=2026-11-14T10:00:00Z", "GIT_COMMITTER_DATE=2026-11-14T10:00:00Z",
		}
		out, err := cmd.CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("git %v: %s", args, out))
		return strings.TrimSpace(string(out))
	}
	git("init", "-q", "-b", "main")
	return dir, git
}

func TestGit(t *testing.T) {
	t.Parallel()
	dir, git := gitTree(t)
	commit := func(message string, files ...string) string {
		for i := 0; i < len(files); i += 2 {
			path := filepath.Join(dir, files[i])
			qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(path), 0o755)))
			qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(files[i+1]), 0o644)))
		}
		git("add", "-A")
		git("commit", "-q", "--allow-empty", "-m", message)
		return git("rev-parse", "HEAD")
	}
	upstream := strings.Repeat("c", 40)
	first := commit("first", "net/foo.c", "int a;\n")
	one := commit("net: foo: check the length\n\n[ Upstream commit "+upstream+" ]\n\nText.\n", "net/foo.c", "int b;\n")
	git("checkout", "-q", "-b", "side", first)
	commit("net: bar: a new file\n\nFixes CVE-2026-55555 they say.", "net/bar.c", "int bar;\n")
	git("checkout", "-q", "main")
	git("merge", "-q", "--no-ff", "-m", "merge", "side")
	commit("nothing at all")
	two := commit("fs: rename it", "fs/new.c", "int new;\n", "net/foo.c", "int c;\n")
	git("config", "diff.noprefix", "true") // the tree's configuration has no say

	c := open(t)
	feed := filepath.Join(t.TempDir(), "x.json")
	qt.Assert(t, qt.IsNil(os.WriteFile(feed, []byte("["+record("CVE-2026-10001", highVector, upstream)+","+record("CVE-2026-10002", lowVector, two)+"]"), 0o644)))
	_, err := c.Feed(t.Context(), http.DefaultClient, []string{feed}, false, progress.Discard)
	qt.Assert(t, qt.IsNil(err))

	fixes, err := c.Git(t.Context(), GitRequest{Dir: dir, Commits: []string{first + "..main"}}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(fixes, 3)) // neither the merge nor what changes nothing
	byTitle := make(map[string]*series.Fix)
	for _, f := range fixes {
		byTitle[f.Title] = f
	}
	f := byTitle["net: foo: check the length"]
	qt.Check(t, qt.Equals(f.ID, one[:12]+"-net-foo-check-the-length"))
	qt.Check(t, qt.DeepEquals(f.CVEs, []string{"CVE-2026-10001"}))
	qt.Check(t, qt.Equals(f.Origin, upstream))
	qt.Check(t, qt.Equals(f.Commit, one))
	qt.Check(t, qt.Equals(f.FirstSeen, "2026-11-14"))
	qt.Check(t, qt.Equals(f.Subsystem, "net"))
	qt.Check(t, qt.Equals(f.Entries[0].Confidence, series.Stated))
	qt.Check(t, qt.DeepEquals(byTitle["net: bar: a new file"].CVEs, []string{"CVE-2026-55555"}))
	qt.Check(t, qt.DeepEquals(byTitle["fs: rename it"].CVEs, []string{"CVE-2026-10002"}))
	qt.Check(t, qt.DeepEquals(byTitle["fs: rename it"].Paths(), []string{"fs/new.c", "net/foo.c"}))

	some, err := c.Git(t.Context(), GitRequest{Dir: dir, Commits: []string{first + "..main"}, Paths: []string{"fs"}}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(some, 1))
	some, err = c.Git(t.Context(), GitRequest{Dir: dir, Commits: []string{two, one}}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals([]string{some[0].Commit, some[1].Commit}, []string{two, one})) // in the order given

	qt.Assert(t, qt.IsNil(c.Change(t.Context(), "git", func(s *series.Series) error { s.Fixes = fixes; return nil })))
	s, err := c.Series("git")
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.Fix(f.ID).Severity, series.High))

	for _, bad := range []GitRequest{
		{Dir: t.TempDir(), Commits: []string{"main"}},
		{Dir: dir, Commits: []string{"nothing..main"}},
		{Dir: dir, Commits: []string{"--all"}},
		{Dir: dir, Commits: []string{"main..main"}},
	} {
		_, err := c.Git(t.Context(), bad, progress.Discard)
		qt.Check(t, qt.Equals(code.Of(err), "TS1208"), qt.Commentf("%v", bad.Commits))
	}
}

// sourceStore is a store with two versions of a small source and the package
// of the newer one, with its changelog.
func sourceStore(t *testing.T) *kernel.Store {
	t.Helper()
	store, err := kernel.OpenStore(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	for path, text := range map[string]string{
		"linux-6.1.1-1/net/foo.c": "int foo_len(void)\n{\n\treturn 0;\n}\n", "linux-6.1.2-1/net/foo.c": "int foo_len(void)\n{\n\treturn 1;\n}\n",
		"linux-6.1.1-1/fs/bar.c": "int bar_open(void)\n{\n\treturn 0;\n}\n", "linux-6.1.2-1/fs/bar.c": "int bar_open(void)\n{\n\treturn 2;\n}\n",
		"linux-6.1.1-1/same.c": "int same;\n", "linux-6.1.2-1/same.c": "int same;\n",
	} {
		path = filepath.Join(store.Home(), "sources", path)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(path), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(text), 0o644)))
	}
	changelog := `linux (6.1.2-1) bookworm; urgency=high

  * New upstream stable update:
    - net: foo: fix foo_len() (CVE-2026-10001)
    - fs: bar: repair bar_open()
    - [arm64] errata: something else

 -- A B <a@b>  Sat, 14 Nov 2026 11:29:58 +0100

linux (6.1.1-1) bookworm; urgency=high

  * old

 -- A B <a@b>  Sat, 07 Nov 2026 11:29:58 +0100
`
	pack := func(name string, data []byte) []byte {
		var b bytes.Buffer
		z := gzip.NewWriter(&b)
		w := tar.NewWriter(z)
		qt.Assert(t, qt.IsNil(w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(data)), Typeflag: tar.TypeReg})))
		_, err := w.Write(data)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(w.Close()))
		qt.Assert(t, qt.IsNil(z.Close()))
		return b.Bytes()
	}
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	fmt.Fprint(z, changelog)
	qt.Assert(t, qt.IsNil(z.Close()))
	deb := bytes.NewBufferString("!<arch>\n")
	for _, m := range []struct {
		name string
		data []byte
	}{
		{"debian-binary", []byte("2.0\n")},
		{"control.tar.gz", pack("./control", []byte("Package: linux-source-6.1\n"))},
		{"data.tar.gz", pack("./usr/share/doc/linux-source-6.1/changelog.Debian.gz", gz.Bytes())},
	} {
		fmt.Fprintf(deb, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", m.name, 0, 0, 0, "100644", len(m.data))
		deb.Write(m.data)
		if len(m.data)%2 == 1 {
			deb.WriteByte('\n')
		}
	}
	path := filepath.Join(store.Home(), "debs", "linux-source-6.1_6.1.2-1_all.deb")
	qt.Assert(t, qt.IsNil(os.WriteFile(path, deb.Bytes(), 0o644)))
	return store
}

func TestUpdate(t *testing.T) {
	t.Parallel()
	c, store := open(t), sourceStore(t)
	get := func() *series.Series {
		s, err := c.Update(t.Context(), store, "6.1.1-1", "6.1.2-1", progress.Discard)
		qt.Assert(t, qt.IsNil(err))
		return s
	}
	s := get()
	qt.Assert(t, qt.HasLen(s.Fixes, 2))
	qt.Check(t, qt.DeepEquals(s.Fix("net-foo").CVEs, []string{"CVE-2026-10001"}))
	qt.Check(t, qt.Equals(s.Fix("net-foo").Title, "net: foo: fix foo_len()"))
	qt.Check(t, qt.HasLen(s.Unattributed, 1))

	// What is kept does: sources and package may be gone.
	qt.Assert(t, qt.IsNil(os.RemoveAll(filepath.Join(store.Home(), "debs"))))
	again := get()
	qt.Check(t, qt.Equals(series.Digest(again.Fixes), series.Digest(s.Fixes)))
	qt.Check(t, qt.DeepEquals(again.Fix("net-foo").Meta, s.Fix("net-foo").Meta))

	// A correction holds from then on, and one that is taken back does not.
	correct := func(change func(*update.Corrections) error) error {
		return c.Correct(t.Context(), "6.1.1-1", "6.1.2-1", change)
	}
	qt.Assert(t, qt.IsNil(correct(func(x *update.Corrections) error {
		x.Attribute("net: foo: fix foo_len()", []string{"fs-bar"})
		x.Fixes = map[string]update.Correction{"fs-bar": {Severity: series.Critical}, "net-foo": {}}
		return nil
	})))
	s = get()
	qt.Check(t, qt.HasLen(s.Fix("net-foo").CVEs, 0))
	qt.Check(t, qt.DeepEquals(s.Fix("fs-bar").CVEs, []string{"CVE-2026-10001"}))
	qt.Check(t, qt.Equals(s.Fix("fs-bar").Severity, series.Critical))
	kept, err := os.ReadFile(c.correctionsPath("6.1.1-1", "6.1.2-1"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(strings.Contains(string(kept), "net-foo:"))) // it says nothing

	err = correct(func(x *update.Corrections) error { x.Entries[0].Subject = ""; return nil })
	qt.Check(t, qt.Equals(code.Of(err), "TS1202"))
	after, err := os.ReadFile(c.correctionsPath("6.1.1-1", "6.1.2-1"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(after), string(kept)))
	qt.Assert(t, qt.IsNil(os.WriteFile(c.correctionsPath("6.1.1-1", "6.1.2-1"), []byte("entrys: []\n"), 0o644)))
	_, err = c.Update(t.Context(), store, "6.1.1-1", "6.1.2-1", progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS1201"))
}

func FuzzParseYear(f *testing.F) {
	f.Add(`{"id":"CVE-2026-1234","severity":"high"}` + "\n")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := parseYear("x", []byte(text))
		if (err == nil) == (all == nil) {
			t.Fatalf("%v and %v", all, err)
		}
		if err != nil {
			return
		}
		b, err := yearText(all)
		if err != nil {
			t.Fatal(err)
		}
		if back, err := parseYear("x", b); err != nil || len(back) != len(all) {
			t.Fatalf("%v of %q", err, b)
		}
	})
}
