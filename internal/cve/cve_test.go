// SPDX-License-Identifier: Apache-2.0

package cve

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

// The examples of the CVSS specifications and of FIRST's calculators.
func TestVectors(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		vector   string
		base     float64
		severity string
	}{
		{"CVSS:3.0/AV:N/AC:L/PR:L/UI:N/S:C/C:L/I:L/A:N", 6.4, "medium"},
		{"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", 9.8, "critical"},
		{"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H", 7.8, "high"},
		{"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:N/I:N/A:H", 5.5, "medium"},
		{"CVSS:3.1/AV:P/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N", 1.6, "low"},
		{"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:N", 0, ""},
		{"CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 9.3, "critical"},
		{"CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N", 8.5, "high"},
	} {
		s, err := ParseVector(c.vector)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(s.Base, c.base), qt.Commentf("%s", c.vector))
		qt.Check(t, qt.Equals(s.Severity, c.severity))
	}
	for _, bad := range []string{"", "AV:N", "CVSS:2.0/AV:N", "CVSS:3.1/AV:N", "CVSS:3.1/AV:Q/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", strings.Repeat("CVSS:3.1/", 100)} {
		_, err := ParseVector(bad)
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", bad))
	}
}

const kernelCNA = `{"dataType":"CVE_RECORD","dataVersion":"5.1","cveMetadata":{"cveId":"CVE-2026-10001","state":"PUBLISHED","datePublished":"2026-11-01T10:00:00Z"},
"containers":{"cna":{"title":"foo: check\n the length","descriptions":[{"lang":"en","value":"In the Linux kernel, the following vulnerability has been resolved"}],
"affected":[{"product":"Linux","programFiles":["net/foo/foo.c","../etc/passwd"],"versions":[
{"version":"1da177e4c3f41524e886b7f1b8a0c1fc7321cac2","lessThan":"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa","status":"affected","versionType":"git"},
{"version":"1da177e4c3f41524e886b7f1b8a0c1fc7321cac2","lessThan":"bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb","status":"affected","versionType":"git"}]},
{"product":"Linux","versions":[{"version":"5.10","status":"affected"},{"version":"0","lessThan":"5.10","status":"unaffected","versionType":"semver"}]}]},
"adp":[{"metrics":[{"cvssV3_1":{"vectorString":"CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H","baseScore":1.0}},{"cvssV4_0":{"vectorString":"CVSS:4.0/AV:L/AC:L/AT:N/PR:L/UI:N/VC:N/VI:N/VA:L/SC:N/SI:N/SA:N"}}]},
{"metrics":[{"other":{"type":"kev","content":{}}}]}]}}`

const osv = `{"schema_version":"1.7.3","id":"DEBIAN-CVE-2026-10002","upstream":["CVE-2026-10002"],"modified":"2026-11-02T00:00:00Z","published":"2026-11-01T00:00:00Z",
"details":"A flaw.\nMore of it.","severity":[{"type":"CVSS_V3","score":"CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
"affected":[{"ranges":[{"type":"GIT","events":[{"introduced":"0"},{"fixed":"cccccccccccccccccccccccccccccccccccccccc"}]},{"type":"ECOSYSTEM","events":[{"introduced":"0"},{"fixed":"6.1.192-1"}]}]}]}`

const kev = `{"title":"CISA Catalog of Known Exploited Vulnerabilities","catalogVersion":"2026.11.14","count":1,
"vulnerabilities":[{"cveID":"CVE-2026-10001","vendorProject":"Linux","product":"Kernel","vulnerabilityName":"x"}]}`

func TestRecords(t *testing.T) {
	t.Parallel()
	rs, err := Read("CVE-2026-10001.json", []byte(kernelCNA))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(rs, 1))
	qt.Check(t, qt.DeepEquals(rs[0], Record{
		ID: "CVE-2026-10001", Title: "foo: check the length", Published: "2026-11-01", CVSS: "CVSS:3.1/AV:L/AC:L/PR:L/UI:N/S:U/C:H/I:H/A:H",
		Score: 7.8, Severity: "high", Exploited: true, Files: []string{"net/foo/foo.c"},
		Commits: []Pair{
			{"1da177e4c3f41524e886b7f1b8a0c1fc7321cac2", strings.Repeat("a", 40)},
			{"1da177e4c3f41524e886b7f1b8a0c1fc7321cac2", strings.Repeat("b", 40)},
		},
	}))
	qt.Check(t, qt.IsTrue(rs[0].FixedBy(strings.Repeat("b", 40))))
	qt.Check(t, qt.IsTrue(rs[0].FixedBy(strings.Repeat("b", 12))))
	qt.Check(t, qt.IsFalse(rs[0].FixedBy(strings.Repeat("b", 11))))
	qt.Check(t, qt.IsFalse(rs[0].FixedBy("1da177e4c3f41524e886b7f1b8a0c1fc7321cac2")))

	rs, err = Read("osv", []byte(osv))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(rs, []Record{{
		ID: "CVE-2026-10002", Title: "A flaw.", Published: "2026-11-01", CVSS: "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", Score: 9.8,
		Severity: "critical", Commits: []Pair{{"", strings.Repeat("c", 40)}},
	}}))

	rs, err = Read("kev", []byte(kev))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(rs, []Record{{ID: "CVE-2026-10001", Exploited: true}}))

	rs, err = Read("list", []byte("["+osv+","+kernelCNA+"]"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(rs, 2))

	rs, err = Read("other", []byte(`{"id":"GHSA-1","modified":"2026-11-02T00:00:00Z"}`))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(rs, 0))

	rs, err = Read("rejected", []byte(`{"dataType":"CVE_RECORD","cveMetadata":{"cveId":"CVE-2026-10003","state":"REJECTED"},"containers":{"cna":{}}}`))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(rs[0].Rejected))
}

func TestBadRecords(t *testing.T) {
	t.Parallel()
	for _, text := range []string{
		"", "x", "{}", "[{}]", `{"dataType":"CVE_RECORD"}`, `{"dataType":"CVE_RECORD","cveMetadata":{"cveId":"CVE-1"}}`, `{"vulnerabilities":[{"cveID":"x"}]}`,
		`{"schema_version":"1"}`, kev + kev, `{"dataType":"CVE_RECORD","cveMetadata":7}`,
	} {
		rs, err := Read("x", []byte(text))
		qt.Check(t, qt.Equals(code.Of(err), "TS1213"), qt.Commentf("%q: %v", text, rs))
	}
}

func TestMerge(t *testing.T) {
	t.Parallel()
	rs, err := Read("x", []byte("["+kernelCNA+"]"))
	qt.Assert(t, qt.IsNil(err))
	r := rs[0]
	qt.Check(t, qt.DeepEquals(r.Merge(r), r)) // the same again changes nothing
	known := Record{ID: r.ID, Exploited: true}
	qt.Check(t, qt.DeepEquals(known.Merge(r), r))
	r.Exploited = false
	merged := r.Merge(known)
	qt.Check(t, qt.IsTrue(merged.Exploited))
	qt.Check(t, qt.Equals(merged.Severity, "high"))
}

func TestSeverityNeverFallsAsTheScoreRises(t *testing.T) {
	t.Parallel()
	rank := map[string]int{"": 0, "low": 1, "medium": 2, "high": 3, "critical": 4}
	rapid.Check(t, func(rt *rapid.T) {
		a := rapid.Float64Range(0, 10).Draw(rt, "a")
		b := rapid.Float64Range(a, 10).Draw(rt, "b")
		if rank[Severity(a)] > rank[Severity(b)] {
			rt.Fatalf("%v %v", a, b)
		}
	})
}

func FuzzRead(f *testing.F) {
	for _, s := range []string{kernelCNA, osv, kev, "[" + kev + "]"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, text string) {
		rs, err := Read("x", []byte(text))
		if err != nil && rs != nil {
			t.Fatalf("records and %v", err)
		}
		for _, r := range rs {
			if !ValidID(r.ID) {
				t.Fatalf("id %q", r.ID)
			}
			if _, err := json.Marshal(r); err != nil {
				t.Fatal(err)
			}
			if r.CVSS != "" && r.Severity != Severity(r.Score) {
				t.Fatalf("%+v", r)
			}
		}
	})
}

func FuzzVector(f *testing.F) {
	f.Add("CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H")
	f.Add("CVSS:4.0/AV:N/AC:L/AT:N/PR:N/UI:N/VC:H/VI:H/VA:H/SC:N/SI:N/SA:N/E:A")
	f.Fuzz(func(t *testing.T, v string) {
		s, err := ParseVector(v)
		if err == nil && (s.Base < 0 || s.Base > 10 || s.Vector != v) || err != nil && s != (Score{}) {
			t.Fatalf("%+v, %v", s, err)
		}
	})
}
