// SPDX-License-Identifier: Apache-2.0

package series

import (
	"reflect"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

const diff = `diff --git a/net/foo/foo.c b/net/foo/foo.c
--- a/net/foo/foo.c
+++ b/net/foo/foo.c
@@ -10,3 +10,3 @@ static int foo_parse(char *p)
 	int n;
-	return 0;
+	return 1;
 }
@@ -40,2 +40,5 @@ int foo_old(void)
 
+int foo_new(void)
+{
+}
 /* the end */
`

const header = `---
id: foo-parse
title: "foo: check the length"
cves: [CVE-2026-10002, CVE-2026-10001]
severity: high
cvss: CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H
first_seen: 2026-11-14
entries:
  - subject: "foo: check the length"
    confidence: certain
---
`

func TestParseFix(t *testing.T) {
	t.Parallel()
	f, err := ParseFix("x.diff", []byte(header+diff), nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(f.ID, "foo-parse"))
	qt.Check(t, qt.Equals(f.Diff.ID, "foo-parse"))
	qt.Check(t, qt.DeepEquals(f.CVEs, []string{"CVE-2026-10001", "CVE-2026-10002"}))
	qt.Check(t, qt.Equals(string(f.Diff.Raw), diff))
	qt.Check(t, qt.DeepEquals(f.Functions(), []string{"foo_new", "foo_parse"}))
	qt.Check(t, qt.DeepEquals(f.Paths(), []string{"net/foo/foo.c"}))

	beside, err := ParseFix("x.diff", []byte(diff), []byte(strings.TrimSuffix(header, "---\n")))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(beside.Meta, f.Meta))

	bare, err := ParseFix("dir/bare.diff", []byte("Subject: foo: it\n\nCVE-2026-10009\n\n"+diff), nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(bare.Meta, Meta{ID: "bare", Title: "foo: it", CVEs: []string{"CVE-2026-10009"}}))
}

func TestBadHeaders(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, header, code, says string }{
		{"a field that is not there", "title: x\ntitel: y\n", "TS1201", `x.diff line 3: titel is not a field of Meta`},
		{"a field twice", "title: x\ntitle: y\n", "TS1201", `x.diff line 3: mapping key "title" already defined`},
		{"no YAML", "title: [\n", "TS1201", `x.diff line `},
		{"two documents", "title: x\n...\ntitle: y\n", "TS1201", "second document"},
		{"another type", "cves: {a: b}\n", "TS1201", "x.diff line 2"},
		{"an id with a slash", "id: a/b\n", "TS1202", `"a/b"`},
		{"a CVE", "cves: [CVE-26-1]\n", "TS1202", "CVE-26-1"},
		{"a severity", "severity: bad\n", "TS1202", "bad"},
		{"a vector", "cvss: CVSS:3.1/AV:Q\n", "TS1202", "cvss"},
		{"a date", "first_seen: yesterday\n", "TS1202", "yesterday"},
		{"a confidence", "entries: [{subject: x, confidence: sure}]\n", "TS1202", "sure"},
		{"a fix that requires itself", "id: a\nrequires: [a]\n", "TS1202", "requires"},
		{"control characters", "title: \"a\\nb\"\n", "TS1202", "control"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			_, err := ParseFix("x.diff", []byte("---\n"+c.header+"---\n"+diff), nil)
			qt.Check(t, qt.Equals(string(code.Of(err)), c.code))
			qt.Check(t, qt.StringContains(err.Error(), c.says))
		})
	}
	_, err := ParseFix("x.diff", []byte(header+diff), []byte("id: y\n"))
	qt.Check(t, qt.Equals(code.Of(err), "TS1201"))
}

func TestDirectories(t *testing.T) {
	t.Parallel()
	file := func(s string) *fstest.MapFile { return &fstest.MapFile{Data: []byte(s)} }
	fix := func(id, more string) *fstest.MapFile { return file("---\nid: " + id + "\n" + more + "---\n" + diff) }
	for _, c := range []struct {
		name string
		fs   fstest.MapFS
		want string // ids, or a code
	}{
		{"without an order", fstest.MapFS{"b.diff": fix("b", ""), "a.patch": fix("a", ""), "README": file("x"), ".hidden.diff": file("x")}, "a b"},
		{"with one", fstest.MapFS{"b.diff": fix("b", ""), "a.diff": fix("a", "requires: [b]\n"), "series.yaml": file("fixes: [b, a]\n")}, "b a"},
		{"with a header beside", fstest.MapFS{"a.diff": file(diff), "a.yaml": file("id: other\n")}, "other"},
		{"an empty header beside", fstest.MapFS{"a.diff": file(diff), "a.yaml": file("")}, "a"},
		{"a header without a diff", fstest.MapFS{"a.yaml": file("id: x\n")}, "TS1204"},
		{"two of one id", fstest.MapFS{"a.diff": fix("x", ""), "b.diff": fix("x", "")}, "TS1203"},
		{"one that the order leaves out", fstest.MapFS{"a.diff": fix("a", ""), "b.diff": fix("b", ""), "series.yaml": file("fixes: [b]\n")}, "TS1204"},
		{"one that is not there", fstest.MapFS{"a.diff": fix("a", ""), "series.yaml": file("fixes: [a, b]\n")}, "TS1204"},
		{"one twice", fstest.MapFS{"a.diff": fix("a", ""), "series.yaml": file("fixes: [a, a]\n")}, "TS1204"},
		{"required later", fstest.MapFS{"a.diff": fix("a", "requires: [b]\n"), "b.diff": fix("b", "")}, "TS1204"},
		{"required and not there", fstest.MapFS{"a.diff": fix("a", "requires: [c]\n")}, "TS1204"},
		{"an order that is no YAML", fstest.MapFS{"series.yaml": file("fixes: {\n")}, "TS1201"},
		{"a diff that is none", fstest.MapFS{"a.diff": file("text\n")}, "TS1101"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s, err := ReadDir(c.fs)
			if err != nil {
				qt.Check(t, qt.Equals(string(code.Of(err)), c.want))
				return
			}
			var ids []string
			for _, f := range s.Fixes {
				ids = append(ids, f.ID)
			}
			qt.Check(t, qt.Equals(strings.Join(ids, " "), c.want))
		})
	}
}

func metas() *rapid.Generator[Meta] {
	return rapid.Custom(func(t *rapid.T) Meta {
		text := rapid.StringMatching(`[A-Za-zäß0-9:"'#{}\[\] ,&*!|>%@\x60-]{0,20}`)
		m := Meta{
			ID: rapid.StringMatching(`[A-Za-z0-9][A-Za-z0-9._+-]{0,12}`).Draw(t, "id"), Title: text.Draw(t, "title"), Note: text.Draw(t, "note"),
			CVEs:     rapid.SliceOfNDistinct(rapid.StringMatching(`CVE-20[0-9]{2}-[0-9]{4,6}`), 1, 3, rapid.ID[string]).Draw(t, "cves"),
			Severity: rapid.SampledFrom([]Severity{Unknown, Low, High}).Draw(t, "severity"), Exploited: rapid.Bool().Draw(t, "exploited"),
			Origin: rapid.StringMatching(`[0-9a-f]{12}`).Draw(t, "origin"),
			Entries: []Entry{{
				Subject: text.Draw(t, "subject"), Confidence: rapid.SampledFrom([]Confidence{Stated, Possible}).Draw(t, "confidence"),
			}},
		}
		return m
	})
}

func TestWhatIsWrittenIsReadBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		ms := rapid.SliceOfNDistinct(metas(), 1, 4, func(m Meta) string { return m.ID }).Draw(rt, "metas")
		s := Series{Name: "x", From: "6.1.190-1", To: "6.1.192-1", Unattributed: []Entry{{Subject: "y", Confidence: Possible}}}
		for _, m := range ms {
			if m.Check("x") != nil {
				rt.Skip()
			}
			d, err := ParseFix("x.diff", []byte(diff), nil)
			if err != nil {
				rt.Fatal(err)
			}
			if m.Title == "" {
				m.Title = "t"
			}
			s.Fixes = append(s.Fixes, &Fix{Meta: m, Diff: d.Diff})
		}
		files, err := s.Files()
		if err != nil {
			rt.Fatal(err)
		}
		back, err := FromFiles(files)
		if err != nil {
			rt.Fatal(err)
		}
		if len(back.Fixes) != len(s.Fixes) || Digest(back.Fixes) != Digest(s.Fixes) || !reflect.DeepEqual(back.Unattributed, s.Unattributed) {
			rt.Fatalf("%+v", back)
		}
		for i, f := range back.Fixes {
			if !reflect.DeepEqual(f.Meta, s.Fixes[i].Meta) {
				rt.Fatalf("got %+v\nwant %+v", f.Meta, s.Fixes[i].Meta)
			}
		}
	})
}

func TestFilter(t *testing.T) {
	t.Parallel()
	f, err := ParseFix("x.diff", []byte(header+diff), nil)
	qt.Assert(t, qt.IsNil(err))
	bare, err := ParseFix("bare.diff", []byte(diff), nil)
	qt.Assert(t, qt.IsNil(err))
	for _, c := range []struct {
		q          Filter
		want, none bool // of the fix that has a header, and of the one without
	}{
		{Filter{}, true, true},
		{Filter{CVE: "CVE-2026-10001"}, true, false},
		{Filter{CVE: "CVE-2026-1*"}, true, false},
		{Filter{CVE: "CVE-2026-2*"}, false, false},
		{Filter{MinSeverity: High}, true, false},
		{Filter{MinSeverity: Critical}, false, false},
		{Filter{Subsystem: "net/foo/"}, true, true},
		{Filter{Subsystem: "net/fo"}, false, false},
		{Filter{Exploited: true}, false, false},
		{Filter{Security: true}, true, false},
		{Filter{Text: "LENGTH"}, true, false},
		{Filter{IDs: []string{"foo-*"}}, true, false},
		{Filter{IDs: []string{"bare", "foo-*"}}, true, true},
	} {
		qt.Check(t, qt.Equals(c.q.Match(f), c.want), qt.Commentf("%+v", c.q))
		qt.Check(t, qt.Equals(c.q.Match(bare), c.none), qt.Commentf("%+v", c.q))
	}
	qt.Check(t, qt.Equals(SubsystemOf(f.Diff), "net/foo"))
}

func FuzzParseFix(f *testing.F) {
	f.Add(header+diff, "")
	f.Add(diff, "id: x\ncves: [CVE-2026-1234]\n")
	f.Add("---\n---\n"+diff, "")
	f.Fuzz(func(t *testing.T, text, beside string) {
		var sidecar []byte
		if beside != "" {
			sidecar = []byte(beside)
		}
		x, err := ParseFix("x.diff", []byte(text), sidecar)
		if (err == nil) == (x == nil) {
			t.Fatalf("fix %v and error %v", x, err)
		}
		if err != nil {
			return
		}
		_ = x.Functions()
		b, err := x.Encode()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseFix("x.diff", b, nil); err != nil {
			t.Fatalf("%v\n%s", err, b)
		}
	})
}

func FuzzFromFiles(f *testing.F) {
	f.Add("fixes: [a]\n", header+diff)
	f.Add("name: x\nunattributed: [{subject: y, confidence: likely}]\n", diff)
	f.Fuzz(func(t *testing.T, order, text string) {
		s, err := FromFiles(map[string][]byte{Index: []byte(order), "a.diff": []byte(text)})
		if (err == nil) == (s == nil) {
			t.Fatalf("series %v and error %v", s, err)
		}
	})
}

func TestPossibleCVEs(t *testing.T) {
	m := Meta{CVEs: []string{"CVE-2026-0001", "CVE-2026-0002", "CVE-2026-0003", "CVE-2026-0004"}, Entries: []Entry{
		{CVEs: []string{"CVE-2026-0002", "CVE-2026-0003"}, Confidence: Possible},
		{CVEs: []string{"CVE-2026-0003"}, Confidence: Likely},
		{CVEs: []string{"CVE-2026-0004"}, Confidence: Certain},
		{CVEs: []string{"CVE-2026-0004"}, Confidence: Possible},
	}}
	qt.Check(t, qt.DeepEquals(m.PossibleCVEs(), []string{"CVE-2026-0002"}), qt.Commentf("the first is stated, the others have a better entry"))
}

func TestDoubts(t *testing.T) {
	possible := func(c string) Entry {
		return Entry{Subject: "x: " + c, CVEs: []string{c}, Confidence: Possible, Why: "it fits, and others do"}
	}
	s := &Series{Fixes: []*Fix{
		{Meta: Meta{ID: "a", Severity: Low, CVEs: []string{"CVE-2026-0001", "CVE-2026-0002"}, Entries: []Entry{possible("CVE-2026-0001"), possible("CVE-2026-0002")}}},
		{Meta: Meta{ID: "b", Severity: High, CVEs: []string{"CVE-2026-0002"}, Entries: []Entry{possible("CVE-2026-0002")}}},
		{Meta: Meta{ID: "c", CVEs: []string{"CVE-2026-0003"}, Entries: []Entry{possible("CVE-2026-0003")}}},
		{Meta: Meta{ID: "d", CVEs: []string{"CVE-2026-0003"}}},
	}}
	qt.Check(t, qt.DeepEquals(s.Doubts(), []Doubt{
		{CVE: "CVE-2026-0002", Severity: High, Fixes: []string{"a", "b"}, Subject: "x: CVE-2026-0002", Why: "it fits, and others do"},
		{CVE: "CVE-2026-0001", Severity: Low, Fixes: []string{"a"}, Subject: "x: CVE-2026-0001", Why: "it fits, and others do"},
	}), qt.Commentf("the third has a fix of its own"))
}

func TestFunctionAt(t *testing.T) {
	lines := strings.Split(`#include "y.h"

static int first(int n)
{
	return n;
out:
	return first(0);
}

struct ops ops = {
	.second = second,
};

int
second(int n)
{
	return first(b);
}
`, "\n")
	for n, want := range map[int]string{1: "", 3: "first", 5: "first", 7: "first", 8: "first", 9: "", 11: "", 15: "second", 17: "second", 99: ""} {
		qt.Check(t, qt.Equals(FunctionAt(lines, n), want), qt.Commentf("line %d", n))
	}
}
