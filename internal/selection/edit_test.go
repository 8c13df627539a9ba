// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/series"
)

func TestAPolicyIsEditedAndSaysHow(t *testing.T) {
	t.Parallel()
	day := time.Date(2026, 12, 31, 0, 0, 0, 0, time.UTC)
	old := Policy{Name: "db", Exclusions: []Exclusion{
		{CVE: "CVE-2026-1001", Reason: "r", Owner: "ann"}, {Fix: "own", Reason: "r", Owner: "ann"},
	}}
	p, err := old.Edit([]Exclusion{
		{CVE: "CVE-2026-1001", Reason: "r", Owner: "ann", Expires: day}, {CVE: "CVE-2026-1002", Reason: "s", Owner: "bob"},
	}, []string{"own"})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(old.Exclusions, 2)) // the old text stays
	p.MinSeverity, p.Extra = series.High, []string{"ours"}
	qt.Check(t, qt.Equals(p.Changes(&old), "exclude CVE-2026-1001 until 2026-12-31 (r, ann), exclude CVE-2026-1002 for good (s, bob), "+
		"include own, min_severity none → high, extra none → ours"))
	qt.Check(t, qt.Equals(p.Changes(&p), ""))
	qt.Check(t, qt.Equals(Policy{Name: "x"}.Changes(nil), "new"))
	_, err = p.Edit(nil, []string{"own"})
	qt.Check(t, qt.Equals(code.Of(err), "TS7905"))
}

func TestAKeyIsOfASelectionAndOfHowOftenItIsBuilt(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.Equals(Key("s", 0), "s"))
	seen := map[string]bool{}
	for _, k := range []string{Key("s", 1), Key("s", 2), Key("t", 1), Key(Key("s", 1), 1)} {
		qt.Check(t, qt.HasLen(k, 64))
		qt.Check(t, qt.IsFalse(seen[k]))
		seen[k] = true
	}
	_, err := From(nil, Policy{}, time.Time{})
	qt.Check(t, qt.Equals(code.Of(err), "TS7901"))
}
