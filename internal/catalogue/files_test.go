// SPDX-License-Identifier: Apache-2.0

package catalogue

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/cve"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/series"
)

// TestUpdateIsHeldAgainstRecords: a file that a CVE's record names and only
// one other fix changes makes that fix carry the CVE too.
func TestUpdateIsHeldAgainstRecords(t *testing.T) {
	t.Parallel()
	c, store := open(t), sourceStore(t)
	_, _, err := c.addRecords(t.Context(), []cve.Record{{ID: "CVE-2026-10001", Severity: "high", Files: []string{"fs/bar.c", "net/foo.c", "net/gone.c"}}})
	qt.Assert(t, qt.IsNil(err))
	for range 2 { // as it is computed, and as it was kept
		s, err := c.Update(t.Context(), store, "6.1.1-1", "6.1.2-1", progress.Discard)
		qt.Assert(t, qt.IsNil(err))
		f := s.Fix("fs-bar")
		qt.Check(t, qt.DeepEquals(f.CVEs, []string{"CVE-2026-10001"}))
		qt.Check(t, qt.DeepEquals(f.Diff.CVEs, f.CVEs))
		qt.Check(t, qt.Equals(f.Severity, series.High))
		qt.Check(t, qt.DeepEquals(f.PossibleCVEs(), []string{"CVE-2026-10001"}))
		qt.Check(t, qt.HasLen(s.Fix("net-foo").PossibleCVEs(), 0))
		qt.Check(t, qt.HasLen(s.Unattributed, 1))
	}
}

func TestHoldAgainst(t *testing.T) {
	t.Parallel()
	// Three fixes: two of a.c, of which the first carries the CVE, and one of b.c.
	for _, test := range []struct {
		name, header, entry string
		record              cve.Record
		carriers, left      string
	}{
		{name: "all there", record: cve.Record{Files: []string{"a.c"}}, carriers: "a1"},
		{name: "nothing of the update", record: cve.Record{Files: []string{"c.c"}}, carriers: "a1"},
		{name: "another file", record: cve.Record{Files: []string{"a.c", "b.c"}}, carriers: "a1 b"},
		{name: "rejected", record: cve.Record{Files: []string{"b.c"}, Rejected: true}, carriers: "a1"},
		{name: "stated", header: "\nentries: [{subject: s, cves: [CVE-2026-1234], confidence: stated}]", record: cve.Record{Files: []string{"b.c"}}, carriers: "a1"},
		{
			name: "by a header alone", header: "\ncves: [CVE-2026-1234]", record: cve.Record{Files: []string{"b.c"}}, carriers: "a1",
		},
		{
			name: "several", header: "\n", entry: "CVE-2026-1234", record: cve.Record{Files: []string{"a.c"}}, carriers: "",
			left: "no fix fits; the record of CVE-2026-1234 names a.c, which 2 fixes change, and none of those that carry it",
		},
		{name: "found by its file", header: "\n", entry: "CVE-2026-1234", record: cve.Record{Files: []string{"b.c"}}, carriers: "b"},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			header := test.header
			if header == "" {
				header = "\ncves: [CVE-2026-1234]\nentries: [{subject: s, cves: [CVE-2026-1234], confidence: likely}]"
			} else if strings.Contains(header, "entries") {
				header += "\ncves: [CVE-2026-1234]"
			}
			s := &series.Series{}
			for _, x := range []struct{ id, header, path string }{{"a1", header, "a.c"}, {"a2", "", "a.c"}, {"b", "", "b.c"}} {
				f, err := series.ParseFix("x.diff", fmt.Appendf(nil, "---\nid: %s%s\n---\n--- a/%s\n+++ b/%s\n@@ -1 +1 @@\n-int a;\n+int b;\n", x.id, x.header, x.path, x.path), nil)
				qt.Assert(t, qt.IsNil(err))
				s.Fixes = append(s.Fixes, f)
			}
			if test.entry != "" {
				s.Unattributed = []series.Entry{{Subject: "s", CVEs: []string{test.entry}, Confidence: series.Possible, Why: "no fix fits"}}
			}
			test.record.ID = "CVE-2026-1234"
			holdAgainst(s, map[string]cve.Record{"CVE-2026-1234": test.record})
			var carriers, left []string
			for _, f := range s.Fixes {
				if len(f.CVEs) > 0 {
					carriers = append(carriers, f.ID)
				}
			}
			for _, e := range s.Unattributed {
				left = append(left, e.Why)
			}
			qt.Check(t, qt.Equals(strings.Join(carriers, " "), test.carriers))
			qt.Check(t, qt.Equals(strings.Join(left, "; "), test.left))
		})
	}
}
