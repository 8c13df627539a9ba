// SPDX-License-Identifier: Apache-2.0

package survey

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/series"
)

func TestServedByModules(t *testing.T) {
	changed := &objdiff.Result{}
	obj := func(module string, d *objdiff.Result) builder.Object {
		return builder.Object{Path: "a.o", Module: module, Diff: d}
	}
	for name, x := range map[string]struct {
		verdict builder.Verdict
		objects []builder.Object
		want    bool
	}{
		"one module":            {builder.Reboot, []builder.Object{obj("ext4", changed)}, true},
		"two modules":           {builder.Reboot, []builder.Object{obj("ext4", changed), obj("jbd2", changed)}, true},
		"the kernel proper":     {builder.Reboot, []builder.Object{obj("", changed)}, false},
		"both":                  {builder.Reboot, []builder.Object{obj("ext4", changed), obj("", changed)}, false},
		"both, other way round": {builder.Reboot, []builder.Object{obj("", changed), obj("ext4", changed)}, false},
		"kernel unchanged":      {builder.Reboot, []builder.Object{obj("", nil), obj("ext4", changed)}, true},
		"nothing changed":       {builder.Reboot, []builder.Object{obj("ext4", nil)}, false},
		"nothing known":         {builder.Reboot, nil, false},
		"live":                  {builder.Live, []builder.Object{obj("ext4", changed)}, false},
	} {
		v := fromReport(&builder.Report{Verdict: x.verdict, Objects: x.objects})
		qt.Check(t, qt.Equals(v.Served, x.want), qt.Commentf(name))
	}
}

func verdict(o Outcome, served bool, codes ...code.Code) *Verdict {
	v := &Verdict{Outcome: o, Served: served}
	for _, c := range codes {
		v.Reasons = append(v.Reasons, Reason{Code: c, What: "it is so", Where: "f", Source: "fs/a.c:7"})
	}
	return v
}

func fixOf(id string, cve string, v *Verdict) Fix {
	f := Fix{Meta: series.Meta{ID: id}, Files: []string{"fs/" + id + ".c"}, Verdict: v}
	if cve != "" {
		f.CVEs = []string{cve}
	}
	return f
}

func TestACVEIsAsItsWorstFix(t *testing.T) {
	const cve = "CVE-2026-1000"
	for name, x := range map[string]struct {
		fixes  []*Verdict
		want   Outcome
		served bool
	}{
		"all live":             {[]*Verdict{verdict(Live, false), verdict(Live, false)}, Live, false},
		"what is not built":    {[]*Verdict{verdict(NotAffected, false), verdict(Live, false)}, Live, false},
		"nothing built":        {[]*Verdict{verdict(NotAffected, false)}, NotAffected, false},
		"one needs a reboot":   {[]*Verdict{verdict(Live, false), verdict(Reboot, false, "TS4010")}, Reboot, false},
		"by module":            {[]*Verdict{verdict(Live, false), verdict(Reboot, true, "TS4010")}, Reboot, true},
		"by module in part":    {[]*Verdict{verdict(Reboot, true, "TS4010"), verdict(Reboot, false, "TS4011")}, Reboot, false},
		"error before reboot":  {[]*Verdict{verdict(Failed, false, "TS3101"), verdict(Reboot, true, "TS4011")}, Failed, false},
		"error before nothing": {[]*Verdict{verdict(NotAffected, false), verdict(Failed, false, "TS3101")}, Failed, false},
	} {
		var fixes []Fix
		for i, v := range x.fixes {
			fixes = append(fixes, fixOf(string(rune('a'+i)), cve, v))
		}
		got := group(fixes)
		qt.Assert(t, qt.HasLen(got, 1))
		qt.Check(t, qt.Equals(got[0].Verdict, x.want), qt.Commentf(name))
		qt.Check(t, qt.Equals(got[0].Served, x.served), qt.Commentf(name))
	}
}

// example is a report with something of everything.
func example() *Report {
	r := &Report{Schema: schema, Name: "1-2", From: "1-1", To: "1-2", Engine: "e", Made: "2026-11-22", Fixes: []Fix{
		fixOf("a", "CVE-2026-1000", verdict(Live, false)),
		fixOf("b", "CVE-2026-10001", verdict(Reboot, true, "TS4010", "TS4010")),
		fixOf("c", "CVE-2026-9999", verdict(Reboot, false, "TS4010", "TS4030")),
		fixOf("d", "", verdict(NotAffected, false)),
		fixOf("e", "", verdict(Failed, false, "TS3101")),
	}}
	r.Target.Name, r.Target.Release = "debian:test", "test"
	r.Fixes[2].Severity, r.Fixes[2].Exploited = series.High, true
	r.Fixes[2].Entries = []series.Entry{{Subject: `fs: <script>alert("x")</script>`, CVEs: []string{"CVE-2026-9999"}, Confidence: series.Likely}}
	r.Fixes[0].Entries = []series.Entry{{Subject: "net: guess", CVEs: []string{"CVE-2026-1000"}, Confidence: series.Possible, Why: "it fits, and others do"}}
	r.Unattributed = []series.Entry{{Subject: "Linux 1.2"}}
	r.count()
	return r
}

func TestReasonsAreCountedOncePerFix(t *testing.T) {
	r := example()
	qt.Assert(t, qt.Equals(r.Codes[0], CodeCount{
		Code: "TS4010", Title: r.Codes[0].Title, Fixes: 2, CVEs: 2, Only: 1, OnlyCVEs: 1,
	}))
	qt.Assert(t, qt.Equals(r.Summary.Security, Tally{Live: 1, Served: 1, Reboot: 2}))
	qt.Assert(t, qt.Equals(r.Summary.Fixes, Tally{Live: 1, Served: 1, Reboot: 2, Failed: 1, NotAffected: 1}))
	qt.Assert(t, qt.Equals(r.CVEs[0].ID, "CVE-2026-1000"))
	qt.Assert(t, qt.Equals(r.CVEs[1].ID, "CVE-2026-9999"), qt.Commentf("by number"))
	qt.Assert(t, qt.Equals(r.CVEs[1].Confidence, series.Likely))
}

func TestShares(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var tally Tally
		n := rapid.IntRange(0, 50).Draw(t, "fixes")
		for range n {
			o := rapid.SampledFrom([]Outcome{Live, Reboot, NotAffected, Failed, Unknown}).Draw(t, "outcome")
			tally.add(o, o == Reboot && rapid.Bool().Draw(t, "served"))
		}
		if tally.Total() != n || tally.Served > tally.Reboot || tally.Share() < 0 || tally.Share() > 100 {
			t.Fatalf("%+v of %d: %v", tally, n, tally.Share())
		}
		if tally.Reboot+tally.Failed > 0 && tally.Share() == 100 {
			t.Fatalf("%+v: not all is live", tally)
		}
	})
}

func TestTheReportIsReadAgain(t *testing.T) {
	r := example()
	b, err := json.Marshal(map[string]any{"schema": 1, "kind": "survey", "result": r})
	qt.Assert(t, qt.IsNil(err))
	got, err := ReadReport("x.json", b)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(got, r))
	qt.Assert(t, qt.DeepEquals(got.Facts(), r.Facts()))
	qt.Assert(t, qt.Equals(got.Facts().Verdicts["c"].Code, code.Code("TS4010")))
}

func FuzzReadReport(f *testing.F) {
	b, err := json.Marshal(map[string]any{"schema": 1, "kind": "survey", "result": example()})
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	f.Add([]byte(`{"kind":"survey","result":{"schema":1,"fixes":[{"id":"a"}]}}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ReadReport("x", b)
		if (err == nil) == (r == nil) {
			t.Fatal("error and value, or neither")
		}
		if r != nil {
			r.Facts()
			r.CVEs, r.Codes, r.Summary = nil, nil, Summary{}
			r.count()
			if _, err := r.HTML(); err != nil {
				t.Fatal(err)
			}
		}
	})
}

func TestThePageStandsAlone(t *testing.T) {
	page, err := example().HTML()
	qt.Assert(t, qt.IsNil(err))
	text := string(page)
	for _, never := range []string{"http:", "https:", "src=", "url(", "@import", "<script", "<link"} {
		qt.Check(t, qt.IsFalse(strings.Contains(text, never)), qt.Commentf(never))
	}
	for _, has := range []string{
		"33.3 %", "CVE-2026-9999", "&lt;script&gt;", "exploited", "TS4030", "fs/a.c:7", "reboot or module", "<svg", "prefers-color-scheme:dark", "@media print", "Linux 1.2",
		"to look at (1)", "it fits, and others do",
	} {
		qt.Check(t, qt.StringContains(text, has))
	}
	again, err := example().HTML()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(again, page))
}

func TestAPageOfNothing(t *testing.T) {
	r := &Report{}
	r.count()
	page, err := r.HTML()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.StringContains(string(page), "100.0 %"))
}
