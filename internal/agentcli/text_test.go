// SPDX-License-Identifier: Apache-2.0

package agentcli

import (
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/agent"
	"github.com/tsugi-project/tsugi/internal/api"
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
