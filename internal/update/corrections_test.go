// SPDX-License-Identifier: Apache-2.0

package update

import (
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/tools/txtar"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

func corrected(t *testing.T, c *Corrections) (*series.Series, error) {
	t.Helper()
	a, err := txtar.ParseFile("testdata/split/globals.txtar")
	qt.Assert(t, qt.IsNil(err))
	files := make(map[string]string)
	for _, f := range a.Files {
		files[f.Name] = string(f.Data)
	}
	entries := items(files["entries"])
	groups, err := Split(delta(t, files), entries)
	qt.Assert(t, qt.IsNil(err))
	return Series("1", "2", groups, entries, c)
}

const (
	block = "block-bfq-iosched"
	hello = "drivers-hello-hello"
	nvmet = "drivers-nvme-target-core"
	aen   = "nvmet: flush the AEN workqueue on removal"
)

func TestCorrectionsAreApplied(t *testing.T) {
	t.Parallel()
	s, err := corrected(t, &Corrections{
		Entries: []Attribution{{Subject: aen, Fixes: []string{block}, Note: "I read it"}},
		Fixes: map[string]Correction{
			block: {Severity: series.High, CVEs: []string{"CVE-2026-77777"}, Requires: []string{nvmet}},
			hello: {Title: "a driver", Note: "new"},
		},
	})
	qt.Assert(t, qt.IsNil(err))
	var order []string
	for _, f := range s.Fixes {
		order = append(order, f.ID)
	}
	qt.Check(t, qt.DeepEquals(order, []string{nvmet, block, hello})) // what is required comes first
	f := s.Fix(block)
	qt.Check(t, qt.DeepEquals(f.CVEs, []string{"CVE-2026-10002", "CVE-2026-77777"}))
	qt.Check(t, qt.Equals(f.Severity, series.High))
	qt.Check(t, qt.DeepEquals(f.Requires, []string{nvmet}))
	qt.Check(t, qt.Equals(f.Entries[0].Confidence, series.Stated))
	qt.Check(t, qt.Equals(f.Entries[0].Why, "corrected by hand: I read it"))
	qt.Check(t, qt.HasLen(s.Fix(nvmet).CVEs, 0))
	qt.Check(t, qt.Equals(s.Fix(hello).Title, "a driver"))
}

func TestAnEntryOfNoFix(t *testing.T) {
	t.Parallel()
	s, err := corrected(t, &Corrections{Entries: []Attribution{{Subject: aen}}})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(s.Unattributed, 1))
	qt.Check(t, qt.Equals(s.Unattributed[0].Confidence, series.Stated))
}

func TestJoinedFixesAreOne(t *testing.T) {
	t.Parallel()
	s, err := corrected(t, &Corrections{Fixes: map[string]Correction{nvmet: {Join: []string{block}}}})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(s.Fixes, 2))
	qt.Check(t, qt.IsNil(s.Fix(block)))
	qt.Check(t, qt.DeepEquals(s.Fix(nvmet).Paths(), []string{
		"block/bfq-iosched.c", "drivers/nvme/target/core.c", "drivers/nvme/target/nvmet.h", "drivers/nvme/target/rdma.c", "include/uapi/linux/ioprio.h",
	}))
	qt.Check(t, qt.HasLen(s.Fix(nvmet).Entries, 2))
}

func TestCorrectionsOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*Corrections{
		"an entry's fix": {Entries: []Attribution{{Subject: aen, Fixes: []string{"nothing"}}}},
		"a fix":          {Fixes: map[string]Correction{"nothing": {Title: "x"}}},
		"a joined fix":   {Fixes: map[string]Correction{block: {Join: []string{"nothing"}}}},
		"a required fix": {Fixes: map[string]Correction{block: {Requires: []string{"nothing"}}}},
		"a circle":       {Fixes: map[string]Correction{block: {Requires: []string{nvmet}}, nvmet: {Requires: []string{block}}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := corrected(t, c)
			qt.Check(t, qt.Equals(code.Of(err), "TS1212"))
		})
	}
}

func TestBadCorrections(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]*Corrections{
		"severity":           {Fixes: map[string]Correction{"a": {Severity: "bad"}}},
		"vector":             {Fixes: map[string]Correction{"a": {CVSS: "AV:N"}}},
		"CVE":                {Fixes: map[string]Correction{"a": {CVEs: []string{"2026-1"}}}},
		"joined with itself": {Fixes: map[string]Correction{"a": {Join: []string{"a"}}}},
		"an entry twice":     {Entries: []Attribution{{Subject: "x"}, {Subject: "x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			qt.Check(t, qt.Equals(code.Of(c.Check("x.yaml")), "TS1202"))
		})
	}
}
