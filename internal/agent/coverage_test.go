// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// TestAPossibleAttributionIsToldAsOne.
func TestAPossibleAttributionIsToldAsOne(t *testing.T) {
	t.Parallel()
	c := &Card{
		Fixes: []livepatch.FixRef{
			{ID: "a", CVEs: []string{"CVE-2026-1001", "CVE-2026-1002", "CVE-2026-1003"}, Possible: []string{"CVE-2026-1002", "CVE-2026-1003"}},
			{ID: "b", CVEs: []string{"CVE-2026-1003"}},
		},
		Open: []livepatch.OpenFix{{ID: "x", CVEs: []string{"CVE-2026-1004"}, Possible: []string{"CVE-2026-1004"}, Kind: livepatch.OpenReboot}},
	}
	got := coverage(c, nil)
	qt.Check(t, qt.DeepEquals(got.Possible, []string{"CVE-2026-1002"}))
	qt.Check(t, qt.IsTrue(got.Open[0].Possible))
	qt.Check(t, qt.DeepEquals(fixedCVEs(c, got), []string{"CVE-2026-1001", "CVE-2026-1003"}))
	qt.Check(t, qt.Equals(got.Sentence(), "protected from 3 of 4 (1 of them by a possible attribution); none of the rest is known to be high"))
}

// TestAReasonToRebootWins over a fix of the same vulnerability that was left
// out on purpose, however severe that one is called.
func TestAReasonToRebootWins(t *testing.T) {
	t.Parallel()
	c := &Card{Open: []livepatch.OpenFix{
		{ID: "x", CVEs: []string{"CVE-2026-1002"}, Severity: "low", Kind: livepatch.OpenReboot},
		{ID: "y", CVEs: []string{"CVE-2026-1002"}, Severity: "high", Kind: livepatch.OpenExcluded},
	}}
	got := coverage(c, nil)
	qt.Check(t, qt.DeepEquals(got.Reboot(), []string{"CVE-2026-1002"}))
	qt.Check(t, qt.Equals(got.Open[0].Severity, "high"))
}

func TestSentence(t *testing.T) {
	t.Parallel()
	open := func(severities ...string) (out []OpenVulnerability) {
		for i, s := range severities {
			out = append(out, OpenVulnerability{CVE: fmt.Sprintf("CVE-2026-%d", 1000+i), Severity: s, Kind: livepatch.OpenReboot})
		}
		return out
	}
	exploited := open("high")
	exploited[0].Exploited = true
	for _, c := range []struct {
		open  []OpenVulnerability
		total int
		want  string
	}{
		{nil, 0, ""},
		{nil, 7, "protected from all 7"},
		{open("high", "low", "high", "", "medium", "", "", ""), 151, "protected from 143 of 151; 2 of the rest are high"},
		{open("critical", "high"), 10, "protected from 8 of 10; 1 of the rest is critical, 1 is high"},
		{open("low"), 10, "protected from 9 of 10; none of the rest is known to be high"},
		{exploited, 3, "protected from 2 of 3; 1 of the rest is known to be exploited, 1 is high"},
	} {
		got := (&Coverage{Fixed: c.total - len(c.open), Total: c.total, Open: c.open}).Sentence()
		qt.Check(t, qt.Equals(got, c.want))
	}
	qt.Check(t, qt.Equals((*Coverage)(nil).Sentence(), ""))
}

// TestAVulnerabilityWithOneOpenFixIsOpen: and left out on purpose is no
// reason to reboot.
func TestAVulnerabilityWithOneOpenFixIsOpen(t *testing.T) {
	t.Parallel()
	c := &Card{
		Fixes: []livepatch.FixRef{{ID: "a", CVEs: []string{"CVE-2026-1001", "CVE-2026-1002"}}, {ID: "b"}},
		Open: []livepatch.OpenFix{
			{ID: "x", CVEs: []string{"CVE-2026-1002"}, Severity: "low", Kind: livepatch.OpenReboot, Code: "TS4010"},
			{ID: "y", CVEs: []string{"CVE-2026-1003"}, Severity: "critical", Kind: livepatch.OpenExcluded},
			{ID: "z", CVEs: []string{"CVE-2026-1002"}, Severity: "high", Kind: livepatch.OpenReboot},
		},
		Selection: &livepatch.Selection{Update: "6.1.192-1"},
	}
	got := coverage(c, nil)
	qt.Check(t, qt.Equals(got.Fixed, 1))
	qt.Check(t, qt.Equals(got.Total, 3))
	qt.Check(t, qt.DeepEquals(got.Reboot(), []string{"CVE-2026-1002"}))
	qt.Check(t, qt.Equals(got.Open[0].CVE, "CVE-2026-1003"))
	qt.Check(t, qt.Equals(got.Open[1].Severity, "high"))
	qt.Check(t, qt.DeepEquals(fixedCVEs(c, got), []string{"CVE-2026-1001"}))
}
