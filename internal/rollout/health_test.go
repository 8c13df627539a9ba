// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"
)

// TestChances holds the Poisson tail against values that R's ppois gives.
func TestChances(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		k    int
		mean float64
		want float64
	}{
		{0, 3, 1},
		{1, 0, 0},
		{1, 0.001, 0.0009995001666},
		{2, 0.04, 0.0007789886},
		{3, 0.1, 0.00015465307},
		{10, 2, 0.00004649808},
		{130, 100, 0.00228280},
	} {
		got := atLeast(c.k, c.mean)
		qt.Check(t, qt.IsTrue(math.Abs(got-c.want) <= c.want*1e-3), qt.Commentf("%d at %v: %v, want %v", c.k, c.mean, got, c.want))
	}
	// It falls with k, rises with the mean, and is a chance.
	rapid.Check(t, func(r *rapid.T) {
		k, mean := rapid.IntRange(0, 5000).Draw(r, "k"), rapid.Float64Range(0, 4000).Draw(r, "mean")
		a, b, c := atLeast(k, mean), atLeast(k+1, mean), atLeast(k, mean*1.1)
		if !(a >= 0 && a <= 1) || b > a || c < a*(1-1e-9) {
			r.Fatalf("%v, %v, %v", a, b, c)
		}
	})
}

// fleetWith is a rollout in which n of 1,000 machines have it for some time,
// of which some booted some time after the load.
func fleetWith(n, booted int, had, after time.Duration, usual float64) (*Plan, *State, *Facts, time.Time) {
	p := Plan{}.Filled()
	s := New("r", &p, monday)
	f := &Facts{Silence: time.Hour, Listening: monday.Add(-time.Hour)}
	now := monday.Add(had)
	s.Phase, s.First = Running, monday
	for i := range 1000 {
		m := Machine{ID: fmt.Sprintf("m%04d", i), Boot: "1", Seen: now, Usual: usual}
		if i < n {
			r := &Record{Status: Well, Offered: monday, Begun: monday, Boot: "1"}
			if i < booted {
				m.Boot, m.Booted = "2", monday.Add(after)
				r.Status, r.Break, r.BreakAt = Failed, Rebooted, m.Booted
			}
			s.Records[m.ID] = r
		}
		f.Machines = append(f.Machines, m)
	}
	return &p, s, f, now
}

func TestBootsAreHeldAgainstWhatIsUsual(t *testing.T) {
	t.Parallel()
	const yearly = 1.0 / 365
	for _, c := range []struct {
		name       string
		n, booted  int
		had, after time.Duration
		usual      float64
		over       bool
	}{
		{"one of 100 in a day, where each does once a year", 100, 1, 24 * time.Hour, 20 * time.Hour, yearly, false},
		{"five of them", 100, 5, 24 * time.Hour, 20 * time.Hour, yearly, true},
		{"five of them, where each does once a month", 100, 5, 24 * time.Hour, 20 * time.Hour, 1.0 / 30, false},
		{"two of them in a day", 100, 2, 24 * time.Hour, 20 * time.Hour, yearly, false},
		{"two of them within ten minutes", 100, 2, 24 * time.Hour, 10 * time.Minute, yearly, true},
		{"95 of 100, where each does once a day", 100, 95, 24 * time.Hour, 20 * time.Hour, 1, true},
		{"65 of 100, where each does once a day", 100, 65, 24 * time.Hour, 20 * time.Hour, 1, false},
		{"none", 500, 0, 24 * time.Hour, 0, yearly, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, s, f, now := fleetWith(c.n, c.booted, c.had, c.after, c.usual)
			h := Assess(p, s, f, now)
			qt.Check(t, qt.Equals(h.Over != "", c.over), qt.Commentf("%+v", h))
			qt.Check(t, qt.Equals(h.Machines, 1000))
			qt.Check(t, qt.Equals(h.Control, 1000-c.n))
		})
	}
}

// TestWhatBefallsAllIsNotTheLivePatchsDoing: a site that loses its power takes
// machines with it that never had the live patch.
func TestWhatBefallsAllIsNotTheLivePatchsDoing(t *testing.T) {
	t.Parallel()
	p, s, f, now := fleetWith(100, 40, 2*time.Hour, 100*time.Minute, 1.0/365)
	qt.Check(t, qt.Not(qt.Equals(Assess(p, s, f, now).Over, "")))
	for i := 100; i < 460; i++ {
		f.Machines[i].Boot, f.Machines[i].Booted = "2", monday.Add(100*time.Minute)
	}
	h := Assess(p, s, f, now)
	qt.Check(t, qt.Equals(h.Over, ""))
	// Too few to compare with say nothing.
	f.Machines = append(f.Machines[:100:100], f.Machines[450:469]...)
	h = Assess(p, s, f, now)
	qt.Check(t, qt.Equals(h.Control, 0))
	qt.Check(t, qt.Not(qt.Equals(h.Over, "")))
}

func TestTheBudgetSaysWhatItCounted(t *testing.T) {
	t.Parallel()
	p, s, f, now := fleetWith(1000, 30, 24*time.Hour, 10*time.Minute, 1.0/365)
	s.Records["m0500"].Failure, s.Records["m0501"].Failure = Crashed, Stalled
	h := Assess(p, s, f, now)
	qt.Check(t, qt.Equals(h.Over, "of 1,000 machines that had it 1 crashed, 30 fell silent or came back with a new boot within 15m, where 0.029 would be usual; this counts as 30.97, and the budget is 0"))
	// A machine that crashed and booted is counted once.
	for i := range 30 {
		s.Records[fmt.Sprintf("m%04d", i)].Failure = Crashed
	}
	h = Assess(p, s, f, now)
	qt.Check(t, qt.Equals(h.Crashes, 31.0))
	qt.Check(t, qt.Equals(h.Failures, 32.0))
	// What a person forgave counts no more.
	s.Phase = Halted
	qt.Assert(t, qt.IsNil(s.Act(p, Action{Verb: Resume, By: "ann"}, now)))
	h = Assess(p, s, f, now)
	qt.Check(t, qt.Equals(h.Over, ""))
	qt.Check(t, qt.Equals(h.Forgiven, 32))
	qt.Check(t, qt.Equals(h.Had, 1000))
}

func TestUsual(t *testing.T) {
	t.Parallel()
	qt.Check(t, qt.Equals(Usual(0, 0), 0.5/30))
	qt.Check(t, qt.Equals(Usual(2, 70), 0.025))
	qt.Check(t, qt.Equals(Usual(-1, -1), 0.5/30))
}
