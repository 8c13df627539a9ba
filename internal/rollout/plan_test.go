// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"go.yaml.in/yaml/v3"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/code"
)

const wholePlan = `
waves:
  - {upto: 2, soak: 30m}
  - {upto: 0.5%, soak: 2d}
  - {upto: 100%}
max_in_flight: 20
ramp: 25
settle: 10m
watch: 2h
patience: 12h
windows: [Mon-Fri 22:00-04:00]
freezes:
  - {from: 2026-12-20T00:00:00Z, to: 2027-01-04T00:00:00Z, reason: holidays}
timezone: Asia/Tokyo
start: 2026-11-24T12:00:00Z
budget:
  crashes: {count: 1, percent: 0.1}
  failures: {count: 3}
revert: true
approvals: 1
`

func TestPlansAreRead(t *testing.T) {
	t.Parallel()
	p, err := ParsePlan("x", []byte(wholePlan))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(p.Waves, []Wave{
		{Amount{Count: 2}, Duration(30 * time.Minute)}, {Amount{Percent: 0.5}, Duration(48 * time.Hour)}, {Upto: Amount{Percent: 100}},
	}))
	qt.Check(t, qt.Equals(p.Windows[0].String(), "Mon-Fri 22:00-04:00"))
	qt.Check(t, qt.Equals(p.Budget.Crashes, Limit{1, 0.1}))
	qt.Check(t, qt.Equals(p.Budget.Failures, Limit{3, 0}))

	// Both forms hold all of it.
	y, err := yaml.Marshal(p)
	qt.Assert(t, qt.IsNil(err))
	again, err := ParsePlan("x", y)
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", y))
	j, err := json.Marshal(p)
	qt.Assert(t, qt.IsNil(err))
	var third Plan
	qt.Assert(t, qt.IsNil(json.Unmarshal(j, &third)), qt.Commentf("%s", j))
	for _, other := range []Plan{again, third} {
		b, err := json.Marshal(other)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(b), string(j)))
	}
}

func TestAnEmptyPlanIsTheUsualOne(t *testing.T) {
	t.Parallel()
	p, err := ParsePlan("x", nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(p.Waves, 5))
	qt.Check(t, qt.Equals(p.Budget.Crashes.Of(1999), 0.0))
	qt.Check(t, qt.Equals(p.Budget.Crashes.Of(2000), 1.0))
	qt.Check(t, qt.Equals(p.Budget.Failures.Of(10), 2.0))
	// A budget of nothing is not the usual one.
	p, err = ParsePlan("x", []byte("budget: {}"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p.Budget.Failures.Of(10_000), 0.0))
}

func TestBadPlansAreRefused(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ plan, why string }{
		{"wave: []", "field wave not found"},
		{"{}\n---\n{}", "more than one document"},
		{"waves: [{upto: 10%}]", "not to 100%"},
		{"waves: [{upto: 10%}, {upto: 5%}, {upto: 100%}]", "goes further"},
		{"waves: [{upto: 10%}, {upto: 20}, {upto: 10}, {upto: 100%}]", "goes further"},
		{"waves: [{soak: 1h}, {upto: 100%}]", "how many machines"},
		{"waves: [{upto: 0}, {upto: 100%}]", "amount"},
		{"waves: [{upto: 101%}]", "percentage"},
		{"waves: [{upto: NaN%}]", "percentage"},
		{"waves: [{upto: 100%, soak: -1h}]", "durations"},
		{"waves: [{upto: 100%, soak: 91d}]", "soak"},
		{"settle: 2s", "settle"},
		{"settle: 25h\nwatch: 24h", ""}, // Watch grows with it
		{"patience: 400d", "patience"},
		{"ramp: -1", "ramp"},
		{"ramp: .nan", "ramp"},
		{"budget: {crashes: {percent: .nan}}", "budget.crashes"},
		{"budget: {failures: {count: -1}}", "budget.failures"},
		{"timezone: Mars/Olympus", "timezone"},
		{"timezone: Local", "timezone"},
		{`windows: [""]`, "window"},
		{"windows: [Mon 22:00]", "22:00"},
		{"freezes: [{from: 2026-12-20T00:00:00Z, to: 2026-12-19T00:00:00Z, reason: x}]", "later"},
		{"freezes: [{from: 2026-12-20T00:00:00Z, to: 2026-12-21T00:00:00Z}]", "no reason"},
		{"approvals: 11", "approvals"},
		{strings.Repeat("#", maxPlan+1), "longer"},
	} {
		_, err := ParsePlan("x", []byte(c.plan))
		if c.why == "" {
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s", c.plan))
			continue
		}
		qt.Check(t, qt.Equals(code.Of(err), "TS8101"), qt.Commentf("%.60s", c.plan))
		qt.Check(t, qt.ErrorMatches(err, "(?s).*"+c.why+".*"), qt.Commentf("%.60s", c.plan))
	}
}

// FuzzParsePlan: a plan or an error, never both, and what is read is written
// and read again as the same.
func FuzzParsePlan(f *testing.F) {
	f.Add([]byte(wholePlan))
	f.Add([]byte("waves: [{upto: 100%}]\nwindows: [daily 01:00-02:00]"))
	f.Add([]byte("waves: &a [*a]"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p, err := ParsePlan("x", b)
		if err != nil {
			if code.Of(err) != "TS8101" || p.Waves != nil {
				t.Fatalf("%v, %+v", err, p)
			}
			return
		}
		y, err := yaml.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := ParsePlan("x", y)
		if err != nil {
			t.Fatalf("%v\n%s", err, y)
		}
		z, err := yaml.Marshal(q)
		if err != nil || string(z) != string(y) {
			t.Fatalf("%v\n%s\n%s", err, y, z)
		}
		p.Closed(monday)
	})
}

func TestAmounts(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text    string
		n, want int
	}{
		{"5", 3, 5},
		{"1%", 3, 1},
		{"10%", 100, 10},
		{"0.1%", 1000, 1},
		{"0.1%", 1001, 2},
		{"33.3%", 1000, 333},
		{"100%", 7, 7},
		{"100%", 0, 0},
		{"1%", 0, 0},
		{"0.000000001%", 100, 1},
	} {
		var a Amount
		qt.Assert(t, qt.IsNil(a.UnmarshalText([]byte(c.text))))
		qt.Check(t, qt.Equals(a.Of(c.n), c.want), qt.Commentf("%s of %d", c.text, c.n))
		qt.Check(t, qt.Equals(a.String(), c.text))
	}
}

func TestDurationsComeBack(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		d := Duration(rapid.Int64Range(0, int64(maxTime)).Draw(r, "d"))
		if rapid.Bool().Draw(r, "round") {
			d = d / Duration(time.Hour) * Duration(time.Hour)
		}
		var again Duration
		if err := again.UnmarshalText([]byte(d.String())); err != nil || again != d {
			r.Fatalf("%d is written as %s, read as %d: %v", d, d, again, err)
		}
	})
}

func TestWhenNothingIsOffered(t *testing.T) {
	t.Parallel()
	p, err := ParsePlan("x", []byte(wholePlan))
	qt.Assert(t, qt.IsNil(err))
	for _, c := range []struct{ at, why, until string }{
		{"2026-11-23T12:59:59Z", "it is outside of the maintenance windows", "2026-11-23T13:00:00Z"}, // 21:59 in Tokyo
		{"2026-11-23T13:00:00Z", "", ""},
		{"2026-11-23T19:00:00Z", "it is outside of the maintenance windows", "2026-11-24T13:00:00Z"},
		{"2026-12-21T14:00:00Z", "changes are frozen: holidays", "2027-01-04T00:00:00Z"},
	} {
		at, err := time.Parse(time.RFC3339, c.at)
		qt.Assert(t, qt.IsNil(err))
		why, until := p.Closed(at)
		qt.Check(t, qt.Equals(why, c.why), qt.Commentf("%s", c.at))
		if c.until != "" {
			qt.Check(t, qt.Equals(until.UTC().Format(time.RFC3339), c.until), qt.Commentf("%s", c.at))
		}
	}
}
