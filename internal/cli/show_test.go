// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/livepatch"
)

// TestShowTellsWhatStaysOpen by severity, and what is only possible.
func TestShowTellsWhatStaysOpen(t *testing.T) {
	t.Parallel()
	text := manifestText(showResult{Manifest: livepatch.Manifest{
		Name: "tsugi_x", Version: 1,
		Fixes: []livepatch.FixRef{
			{ID: "a", CVEs: []string{"CVE-2026-0001", "CVE-2026-0002"}, Possible: []string{"CVE-2026-0002"}},
			{ID: "b", CVEs: []string{"CVE-2026-0003"}, Modules: []string{"ext4"}},
		},
		Open: []livepatch.OpenFix{
			{ID: "x", CVEs: []string{"CVE-2026-0004"}, Kind: livepatch.OpenExcluded},
			{ID: "y", CVEs: []string{"CVE-2026-0005"}, Possible: []string{"CVE-2026-0005"}, Severity: "high", Kind: livepatch.OpenReboot, Code: "TS4030", Why: "struct y grows"},
		},
	}})
	text = regexp.MustCompile("\x1b\\[[0-9;]*m").ReplaceAllString(text, "")
	for _, has := range []string{
		"a  CVE-2026-0001 CVE-2026-0002 (possible)", "b  CVE-2026-0003  by the fixed ext4", "CVE-2026-0005 (possible)", "TS4030 struct y grows",
	} {
		qt.Check(t, qt.StringContains(text, has))
	}
	qt.Check(t, qt.IsTrue(strings.Index(text, "CVE-2026-0005") < strings.Index(text, "CVE-2026-0004")), qt.Commentf("%s", text))
}
