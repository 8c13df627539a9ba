// SPDX-License-Identifier: Apache-2.0

package vex_test

import (
	"encoding/json"
	"flag"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/gocsaf/csaf/v3/csaf"
	openvex "github.com/openvex/go-vex/pkg/vex"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/agent/vex"
	"github.com/tsugi-project/tsugi/internal/api"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func fixed() *agent.Fixed {
	return &agent.Fixed{
		Kernel: api.Kernel{Release: "6.1.0-55-amd64", BuildID: strings.Repeat("ab", 20), Arch: "x86_64"},
		Target: "debian:6.1.0-55-amd64", Version: "6.1.192-1", Distro: "debian-12",
		Patch: &api.Patch{ID: "debian-6.1.0-55-amd64-v3", Name: "tsugi_x", Version: 3, State: api.Healthy},
		Fixes: []agent.Fix{
			{ID: "a", Title: "net: check the length", CVEs: []string{"CVE-2026-2222", "CVE-2026-1111"}},
			{ID: "b", Title: "ext4: <hold> the lock", CVEs: []string{"CVE-2026-1111"}},
			{ID: "c", Title: "no number yet"},
		},
	}
}

func now() time.Time { return time.Date(2026, 11, 22, 1, 2, 3, 4, time.UTC) }

func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := "testdata/" + name
	if *update {
		qt.Assert(t, qt.IsNil(os.MkdirAll("testdata", 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, got, 0o644)))
	}
	want, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got), string(want)))
}

func TestOpenVEX(t *testing.T) {
	t.Parallel()
	b, err := vex.OpenVEX(fixed(), now())
	qt.Assert(t, qt.IsNil(err))
	golden(t, "openvex.json", b)
	doc, err := openvex.Parse(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(doc.Statements, 2))
	for i, s := range doc.Statements {
		qt.Check(t, qt.IsNil(s.Validate()))
		qt.Check(t, qt.Equals(s.Status, openvex.StatusFixed))
		qt.Check(t, qt.Equals(string(s.Vulnerability.Name), []string{"CVE-2026-1111", "CVE-2026-2222"}[i]))
	}
	// What a scanner asks with: the package that it found on the disk.
	match := doc.Matches("CVE-2026-1111", "pkg:deb/debian/linux-image-6.1.0-55-amd64@6.1.192-1?arch=amd64&distro=debian-12", nil)
	qt.Check(t, qt.HasLen(match, 1))
}

func TestCSAF(t *testing.T) {
	t.Parallel()
	b, err := vex.CSAF(fixed(), now())
	qt.Assert(t, qt.IsNil(err))
	golden(t, "csaf.json", b)
	var any any
	qt.Assert(t, qt.IsNil(json.Unmarshal(b, &any)))
	problems, err := csaf.ValidateCSAF(any)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(problems, 0), qt.Commentf("%v", problems))
	path := t.TempDir() + "/live.json"
	qt.Assert(t, qt.IsNil(os.WriteFile(path, b, 0o644)))
	a, err := csaf.LoadAdvisory(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(a.Validate()))
	qt.Check(t, qt.Equals(string(*a.Document.Category), "csaf_vex"))
}

// TestAPossibleAttributionIsNotToldAsFixed in either form, as long as no other
// fix is its for sure.
func TestAPossibleAttributionIsNotToldAsFixed(t *testing.T) {
	t.Parallel()
	f := fixed()
	f.Fixes = append(f.Fixes, agent.Fix{ID: "d", Title: "tipc: check", CVEs: []string{"CVE-2026-3333", "CVE-2026-1111"}, Possible: []string{"CVE-2026-1111", "CVE-2026-3333"}})
	b, err := vex.OpenVEX(f, now())
	qt.Assert(t, qt.IsNil(err))
	doc, err := openvex.Parse(b)
	qt.Assert(t, qt.IsNil(err))
	got := map[string]openvex.Status{}
	for _, s := range doc.Statements {
		qt.Check(t, qt.IsNil(s.Validate()))
		got[string(s.Vulnerability.Name)] = s.Status
	}
	qt.Check(t, qt.DeepEquals(got, map[string]openvex.Status{
		"CVE-2026-1111": openvex.StatusFixed, "CVE-2026-2222": openvex.StatusFixed, "CVE-2026-3333": openvex.StatusUnderInvestigation,
	}))
	b, err = vex.CSAF(f, now())
	qt.Assert(t, qt.IsNil(err))
	var any any
	qt.Assert(t, qt.IsNil(json.Unmarshal(b, &any)))
	problems, err := csaf.ValidateCSAF(any)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(problems, 0), qt.Commentf("%v", problems))
	qt.Check(t, qt.Equals(strings.Count(string(b), `"under_investigation"`), 1))
	qt.Check(t, qt.Equals(strings.Count(string(b), `"fixed": [`), 2))
}

func TestWithoutALivePatch(t *testing.T) {
	t.Parallel()
	f := &agent.Fixed{Kernel: fixed().Kernel, Fixes: []agent.Fix{}}
	b, err := vex.CSAF(f, now())
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(b))
	b, err = vex.OpenVEX(f, now())
	qt.Assert(t, qt.IsNil(err))
	doc, err := openvex.Parse(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(doc.Statements, 0))
}

func TestProduct(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ target, version, arch, distro, want string }{
		{"debian:6.1.0-55-amd64", "6.1.192-1", "x86_64", "debian-12", "pkg:deb/debian/linux-image-6.1.0-55-amd64@6.1.192-1?arch=amd64&distro=debian-12"},
		{"debian:6.1.0-55-amd64", "6.1.192-1", "x86_64", "", "pkg:deb/debian/linux-image-6.1.0-55-amd64@6.1.192-1?arch=amd64"},
		{"debian:6.1.0-55-amd64", "", "x86_64", "debian-12", ""},
		{"tree:/usr/src/linux", "6.1", "x86_64", "debian-12", ""},
		{"", "", "", "", ""},
	} {
		f := fixed()
		f.Target, f.Version, f.Kernel.Arch, f.Distro = c.target, c.version, c.arch, c.distro
		qt.Check(t, qt.Equals(vex.Product(f), c.want), qt.Commentf("%s", c.target))
	}
}

func withPackages() *agent.Fixed {
	f := fixed()
	f.Packages = []agent.FixedPackage{{
		Target: "debian:libssl3=3.0.20-1~deb12u2", Version: "3.0.20-1~deb12u2", Arch: "x86_64", Names: []string{"libssl3"},
		Patch:     api.Patch{ID: "debian-libssl3-3.0.20-1~deb12u2-v2", Version: 2, State: api.Healthy},
		Fixes:     []agent.Fix{{ID: "d", Title: "ocb: check the length", CVEs: []string{"CVE-2026-45445", "CVE-2026-1111"}}},
		Processes: api.Processes{Protected: 40},
	}}
	return f
}

// TestPackages: what all processes have is fixed, and what one has not is not.
func TestPackages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(p *agent.FixedPackage)
		status openvex.Status
		note   string
	}{
		{"fixed", func(*agent.FixedPackage) {}, openvex.StatusFixed, "fixed in the processes of this machine"},
		{"partly", func(p *agent.FixedPackage) { p.Processes.Pending = 2 }, openvex.StatusAffected, "in 40 of 42 processes"},
		{"unkept", func(p *agent.FixedPackage) {
			p.Problem = &api.Problem{Code: "TS9440", What: "the keeper does not run", Fix: "start it"}
		}, openvex.StatusAffected, "processes that start now"},
		{"half", func(p *agent.FixedPackage) {
			p.Open = []agent.OpenVulnerability{{CVE: "CVE-2026-45445", Fix: "other-half", Kind: "reboot", Why: "it changes a type"}}
		}, openvex.StatusAffected, "other-half is not in it: it changes a type"},
		{"doubtful", func(p *agent.FixedPackage) { p.Fixes[0].Possible = []string{"CVE-2026-45445"} }, openvex.StatusUnderInvestigation, "possibly fixed"},
	} {
		f := withPackages()
		c.change(&f.Packages[0])
		b, err := vex.OpenVEX(f, now())
		qt.Assert(t, qt.IsNil(err))
		doc, err := openvex.Parse(b)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(doc.Statements, 4))
		for _, s := range doc.Statements {
			qt.Check(t, qt.IsNil(s.Validate()))
		}
		s := doc.Statements[3]
		qt.Check(t, qt.Equals(string(s.Vulnerability.Name), "CVE-2026-45445"))
		qt.Check(t, qt.Equals(s.Status, c.status), qt.Commentf("%s", c.name))
		qt.Check(t, qt.StringContains(s.StatusNotes, c.note))
		qt.Check(t, qt.Equals(s.Products[0].ID, "pkg:deb/debian/libssl3@3.0.20-1~deb12u2?arch=amd64&distro=debian-12"))
		b, err = vex.CSAF(f, now())
		qt.Assert(t, qt.IsNil(err))
		var a csaf.Advisory
		qt.Assert(t, qt.IsNil(json.Unmarshal(b, &a)))
		qt.Check(t, qt.IsNil(a.Validate()), qt.Commentf("%s: %s", c.name, b))
		qt.Check(t, qt.HasLen(a.Vulnerabilities, 3)) // one is in both
	}
	f := withPackages()
	f.Patch, f.Fixes = nil, nil
	b, err := vex.CSAF(f, now())
	qt.Assert(t, qt.IsNil(err))
	var a csaf.Advisory
	qt.Assert(t, qt.IsNil(json.Unmarshal(b, &a)))
	qt.Check(t, qt.IsNil(a.Validate()))
	qt.Check(t, qt.HasLen(a.Vulnerabilities, 2))
}
