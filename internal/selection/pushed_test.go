// SPDX-License-Identifier: Apache-2.0

package selection

import (
	"bytes"
	"fmt"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/series"
)

func pushable(t interface {
	Helper()
	Fatalf(string, ...any)
}, ids ...string,
) *series.Series {
	t.Helper()
	s := &series.Series{Name: "n", From: "1", To: "2"}
	for i, id := range ids {
		d, err := fix.Parse(id, fmt.Appendf(nil, "--- a/fs/%d.c\n+++ b/fs/%d.c\n@@ -1 +1 @@\n-a\n+<&>\n", i, i))
		if err != nil {
			t.Fatalf("%v", err)
		}
		s.Fixes = append(s.Fixes, &series.Fix{Meta: series.Meta{ID: id, CVEs: []string{fmt.Sprintf("CVE-2026-%d", 1000+i)}}, Diff: d})
	}
	return s
}

// TestWhatIsPushedIsChosenFromAlike: a server and a worker that have the bytes
// choose as the one who pushed them does.
func TestWhatIsPushedIsChosenFromAlike(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ids := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z][a-z0-9+._-]{0,20}`), 1, 6, rapid.ID[string]).Draw(t, "ids")
		s := pushable(t, ids...)
		facts := map[string]Fact{}
		for _, id := range ids {
			if rapid.Bool().Draw(t, "known") {
				facts[id] = Fact{Verdict: rapid.SampledFrom([]Verdict{IsLive, NeedsReboot, IsNotAffected, IsError}).Draw(t, "verdict")}
			}
		}
		b, err := Push("debian:x", s, facts).Bytes()
		if err != nil {
			t.Fatal(err)
		}
		p, there, known, err := ReadPushed(b)
		if err != nil {
			t.Fatal(err)
		}
		again, err := p.Bytes()
		if err != nil || !bytes.Equal(again, b) {
			t.Fatalf("%v\n%s\n%s", err, b, again)
		}
		q := Policy{Exclusions: []Exclusion{{Fix: rapid.SampledFrom(ids).Draw(t, "excluded"), Reason: "r", Owner: "o"}}}
		if x, y := Choose(s, q, facts, time.Unix(2_000_000_000, 0)), Choose(there, q, known, time.Unix(2_000_000_000, 0)); x.Digest != y.Digest || len(x.Left) != len(y.Left) {
			t.Fatalf("%+v\n%+v", x, y)
		}
	})
}

func TestSeriesAreJoinedInOrder(t *testing.T) {
	t.Parallel()
	all, err := Join(pushable(t, "a", "b"), pushable(t, "c"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(all.Fixes, 3))
	qt.Check(t, qt.Equals(all.To, "2"))
	_, err = Join(pushable(t, "a", "b"), pushable(t, "b"))
	qt.Check(t, qt.Equals(code.Of(err), "TS7901"))
}

func FuzzReadPushed(f *testing.F) {
	b, err := Push("debian:x", pushable(f, "a", "b"), map[string]Fact{"a": {Verdict: NeedsReboot, Code: "TS5103"}}).Bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(b)
	f.Add([]byte(`{"format":1,"target":"t","fixes":[{"id":"","diff":""}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, s, facts, err := ReadPushed(b)
		if (err == nil) != (p != nil && s != nil && facts != nil) {
			t.Fatalf("%v and %v", p, err)
		}
		if err != nil {
			return
		}
		again, err := p.Bytes()
		if err != nil {
			t.Fatal(err)
		}
		if _, other, _, err := ReadPushed(again); err != nil || series.Digest(other.Fixes) != series.Digest(s.Fixes) {
			t.Fatalf("it does not come back: %v", err)
		}
	})
}
