// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
)

// TestDoubtIsShown: what is only possibly fixed, or possibly open, has a mark
// that is explained.
func TestDoubtIsShown(t *testing.T) {
	t.Parallel()
	f := &agent.Fixed{Patch: &api.Patch{ID: "v1"}, Fixes: []agent.Fix{{ID: "a", CVEs: []string{"CVE-2026-1001", "CVE-2026-1002"}}}}
	qt.Check(t, qt.IsFalse(strings.Contains(cvesText(f), "?")))
	f.Fixes[0].Possible = []string{"CVE-2026-1002"}
	f.Open = []agent.OpenVulnerability{{CVE: "CVE-2026-1003", Fix: "x", Kind: "reboot", Possible: true}}
	text := cvesText(f)
	for _, want := range []string{"CVE-2026-1001 CVE-2026-1002?", "CVE-2026-1003?", "possibly"} {
		qt.Check(t, qt.StringContains(text, want))
	}
	s := &agent.Status{Applied: &agent.AppliedStatus{
		CVEs: []string{"CVE-2026-1001"}, Coverage: &agent.Coverage{Fixed: 2, Total: 2, Possible: []string{"CVE-2026-1002"}},
	}}
	text = statusText(s, time.Now())
	qt.Check(t, qt.StringContains(text, "protected from all 2 (1 of them by a possible attribution)"))
	qt.Check(t, qt.StringContains(text, "CVE-2026-1002"))
}

// TestFixedModulesWithoutTheirLivePatchAreShown.
func TestFixedModulesWithoutTheirLivePatchAreShown(t *testing.T) {
	t.Parallel()
	s := &agent.Status{Modules: []api.Replacement{{Module: "option", State: api.OnDisk}}}
	qt.Check(t, qt.StringContains(statusText(s, time.Now()), "1 stay on the disk for it: option"))
}

// TestWhoLooksAfterWhatWasApplied: it is not called watched where nobody watches.
func TestWhoLooksAfterWhatWasApplied(t *testing.T) {
	t.Parallel()
	one := func(s api.State) api.Patch { return api.Patch{ID: "debian-x-v1", State: s} }
	running := &agent.Status{Running: true, Packages: []agent.PackageStatus{{Patch: one(api.Applied)}}}
	deaf := &agent.Status{Running: true, Packages: running.Packages, Deaf: code.New("TS9650", "", "")}
	for _, tt := range []struct {
		name   string
		status *agent.Status
		state  api.State
		want   []string
		not    string
	}{
		{"fresh", running, api.Applied, []string{" is applied", "○ it is watched for a while"}, "crash"},
		{"without an agent", &agent.Status{}, api.Applied, []string{"is applied", "the agent does not run"}, "○ it is watched"},
		{"crashes can't be seen", deaf, api.Applied, []string{"it is watched", "crash can't be seen here: TS9650"}, "agent does not run"},
		{"known to be healthy", deaf, api.Healthy, []string{"is applied"}, "○"},
		{"taken out at once", running, api.Quarantined, []string{" is quarantined"}, " is applied"},
	} {
		text := appliedText(tt.status, one(tt.state))
		for _, want := range tt.want {
			qt.Check(t, qt.StringContains(text, want), qt.Commentf("%s", tt.name))
		}
		qt.Check(t, qt.IsFalse(strings.Contains(text, tt.not)), qt.Commentf("%s: %s", tt.name, text))
	}
	qt.Check(t, qt.StringContains(appliedText(running, one(api.Applied), api.Patch{ID: "debian-y-v1", State: api.Applied}), "they are watched"))
	qt.Check(t, qt.StringContains(statusText(deaf, time.Now()), "TS9650"))
}

// TestWhichPackagesAreLookedFor: a library that nobody looks for must not seem fine.
func TestWhichPackagesAreLookedFor(t *testing.T) {
	t.Parallel()
	none, three := 0, 3
	s := &agent.Status{Server: &agent.ServerStatus{Tier: "stable"}}
	for _, tt := range []struct {
		listed *int
		here   int
		want   string
	}{
		{nil, 0, ""},
		{&none, 0, "tier stable has live patches for none"},
		{&three, 0, "none of the 3 that tier stable has live patches for is mapped"},
		{&three, 2, "2 of the 3 that tier stable has live patches for"},
		{&none, 1, "others are not looked for"},
	} {
		s.Listed, s.Packages = tt.listed, make([]agent.PackageStatus, tt.here)
		text := statusText(s, time.Now())
		qt.Check(t, qt.StringContains(text, tt.want))
		qt.Check(t, qt.Equals(strings.Contains(text, "others are not looked for"), tt.listed != nil && (tt.here > 0 || *tt.listed > 0)))
	}
}
