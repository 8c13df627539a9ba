// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
)

// plain is text without colours.
func plain(s string) string { return regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(s, "") }

func TestWhatIsOpenIsSaidWithWhatEndsIt(t *testing.T) {
	t.Parallel()
	m := &api.Machine{
		ID: "m1", Hostname: "web-1", Able: true, Protection: api.Protected, CVEs: []string{"CVE-2026-1001"},
		Needs: map[api.Need]int{api.NeedModule: 1, api.NeedReboot: 2, api.NeedPolicy: 1},
		Open: []api.OpenCVE{
			{CVE: "CVE-2026-1002", Severity: "high", Exploited: true, Need: api.NeedModule, Why: "module ext4 is loaded in another build: rmmod ext4, or reboot", Modules: []string{"ext4"}},
			{CVE: "CVE-2026-1003", Severity: "low", Need: api.NeedReboot, Code: "TS5103", Why: "data"},
		},
		Replacements: []api.Replacement{{Module: "ext4", State: api.InUse}, {Module: "nfs", State: api.NotHere, Problem: &api.Problem{Code: "TS9434", What: "a build of its own"}}},
	}
	text := plain(machineText(m))
	for _, want := range []string{
		`open CVEs need +2 reboot, 1 module, 1 policy`, `CVE-2026-1002 +high exploited +module +module ext4 is loaded`,
		`CVE-2026-1003 +low +reboot +TS5103 data`, `fixed module`, `ext4 +in-use`, `nfs +blocked +TS9434 a build of its own`, `fixed +CVE-2026-1001`,
	} {
		qt.Check(t, qt.Matches(text, `(?s).*`+want+`.*`))
	}
	qt.Check(t, qt.Matches(plain(openTable([]api.Machine{*m})), `(?s).*web-1 +m1 .*CVE-2026-1002 +high exploited +module .*CVE-2026-1003.*`))

	text = plain(machineText(&api.Machine{
		ID: "m2", Able: true, Open: []api.OpenCVE{{CVE: "CVE-2026-1004", Need: api.NeedRestart, Package: "debian:libssl3=3.0.20-1", Why: "3 of 10 processes"}},
		Packages: []api.MachinePackage{
			{Package: api.Package{
				Target: "debian:libssl3=3.0.20-1", Patch: api.Patch{ID: "debian-libssl3-v2", Version: 2, State: api.Applied},
				Processes: api.Processes{Protected: 7, Pending: 1, Unprotected: 2},
				Reasons:   []api.ProcessReason{{Problem: api.Problem{Code: "TS9608", What: "a seccomp filter"}, Processes: 2, Program: "sshd"}},
				Stale:     2,
			}, Protection: api.Partly, Reason: "version 2 is the newest of the tier"},
			{Package: api.Package{
				Target: "debian:libc6=2.36-9", Patch: api.Patch{State: api.Blocked, Problem: &api.Problem{Code: "TS9440", What: "tsugi-keep.service does not run"}},
			}, Protection: api.Failing},
		},
		Stale: &api.Stale{Processes: 3, More: 2, Files: []api.StaleFile{{Path: "/usr/lib/libssl.so.3", Processes: 2, Program: "sshd"}}},
	}))
	for _, want := range []string{
		`CVE-2026-1004 +restart +debian:libssl3=3.0.20-1: 3 of 10`, `debian:libssl3=3.0.20-1 +debian-libssl3-v2 \(applied\) +partly +7 protected, 1 pending, 2 unprotected, 2 not of the disk's version +version 2 is`,
		`debian:libc6=2.36-9 +none +failing +none`, `debian:libssl3=3.0.20-1 +TS9608 +2 +sshd +a seccomp filter`, `TS9440`,
		`3 processes to restart: they run files`, `/usr/lib/libssl.so.3 +2 +sshd`, `and 2 files more`,
	} {
		qt.Check(t, qt.Matches(text, `(?s).*`+want+`.*`))
	}
	text = plain(machineTable([]api.Machine{
		{Hostname: "web-1", Reason: "it has the newest", Stale: &api.Stale{Processes: 1}}, {Hostname: "web-2", Stale: &api.Stale{Processes: 4}}, {Hostname: "web-3", Stale: &api.Stale{}},
	}))
	for _, want := range []string{`web-1 .*it has the newest; 1 process to restart\n`, `web-2 .* 4 processes to restart\n`} {
		qt.Check(t, qt.Matches(text, `(?s).*`+want+`.*`))
	}
	qt.Check(t, qt.Equals(strings.Count(text, "to restart"), 2))
	qt.Check(t, qt.Matches(plain(overviewText(&api.Overview{Machines: 4, Stale: 2})), `(?s).*processes to restart +on 2 machines\n.*`))

	p := &api.PolicyInfo{
		Policy: api.Policy{Name: "db"},
		Open:   &api.Exposure{Machines: 3, Needs: map[api.Need]int{api.NeedReboot: 3, api.NeedModule: 1}, Worst: map[string]int{"exploited": 1, "low": 2}},
		Choices: []api.PolicyChoice{{
			Target: "debian:x", State: api.ChoiceEmpty, Keeps: "debian-x-v1", KeepsExcluded: "CVE-2026-1001",
		}},
	}
	qt.Check(t, qt.Matches(plain(policyText(p)), `(?s).*open on +3 machines \(at worst: 1 exploited, 2 low\); machines by need: 3 reboot, 1 module\n.*`+
		`keep debian-x-v1, which holds CVE-2026-1001; nobody else is offered it.*`))

	text = plain(targetPreview(api.TargetPreview{
		Target: "debian:x", Fixes: 1, Patch: "debian-x-v2", Stuck: "machines that run v1 can't go to v2 without a reboot: it does not know state 7 of v1",
		Modules: []api.ModulePreview{
			{Module: "ext4", Fixes: []string{"f"}, CVEs: []string{"CVE-2026-1002"}, Machines: 1}, {Module: "nfs", Comes: true, Fixes: []string{"g"}},
		},
	}))
	qt.Check(t, qt.Matches(text, `(?s).*fixed module ext4 would go, or be there without CVE-2026-1002: 1 machine of these has it\n`+
		`fixed module nfs would come for g, to machines that have not loaded it\nmachines that run v1 can't go.*`))
	text = plain(targetPreview(api.TargetPreview{Target: "debian:x", Problem: &api.Problem{Code: "TS7713", What: "a stored file is damaged"}}))
	qt.Check(t, qt.Matches(text, `(?s).*live patch +not known.*TS7713.*`))
}
