// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// TestWhatABuildHolds counts as machines will: what is open in one of its fixes
// is not held, and what nobody is sure of is said.
func TestWhatABuildHolds(t *testing.T) {
	t.Parallel()
	fix := func(id string, c series.Confidence, cves ...string) *series.Fix {
		return &series.Fix{Meta: series.Meta{ID: id, CVEs: cves, Entries: []series.Entry{{CVEs: cves, Confidence: c}}}}
	}
	r := choiceResult{
		Selection: &selection.Selection{Fixes: []*series.Fix{
			fix("a", series.Certain, "CVE-2026-0001", "CVE-2026-0002"),
			fix("b", series.Possible, "CVE-2026-0003", "CVE-2026-0004"),
			fix("c", series.Likely, "CVE-2026-0004"),
			fix("d", series.Possible, "CVE-2026-0005"),
		}},
		Open: []livepatch.OpenFix{
			{ID: "x", CVEs: []string{"CVE-2026-0002", "CVE-2026-0005"}, Severity: "low", Kind: livepatch.OpenReboot},
			{ID: "y", CVEs: []string{"CVE-2026-0002"}, Severity: "high", Kind: livepatch.OpenReboot},
		},
	}
	qt.Check(t, qt.DeepEquals(chosen(r, &livepatch.Patch{}), [][2]string{
		{"holds", "4 fixes, 3 CVEs, 1 of them by a possible attribution"},
		{"stays open", "2 CVEs, 1 of them known to be high or critical"},
	}))
}
