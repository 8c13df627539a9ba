// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
)

func TestPromotion(t *testing.T) {
	t.Parallel()
	day := 24 * time.Hour
	l := Ladder{
		Rungs: []Rung{
			{From: "edge", To: "beta", Auto: true, Soak: Duration(day), Well: 10},
			{From: "beta", To: "candidate"},
			{From: "candidate", To: "stable", Auto: true, Approvals: 2},
		},
		Times: Times{Freezes: []Freeze{{From: monday.Add(10 * day), To: monday.Add(12 * day), Reason: "quarter"}}},
	}
	qt.Assert(t, qt.IsNil(l.Check("test")))
	edge := Stage{Tier: "edge", Since: monday.Add(-3 * day), Phase: Done, Done: monday, Well: 12}
	with := func(change func(c *Climb)) Climb {
		c := Climb{Stage: edge}
		change(&c)
		return c
	}
	same := func(*Climb) {}
	for _, c := range []struct {
		name  string
		climb Climb
		after time.Duration
		want  Move
	}{
		{"ripe", with(same), day, Move{Promote: true, Ready: true, To: "beta", Why: "12 machines are well with it in tier edge, where it soaked for 24h"}},
		{"a second too early", with(same), day - time.Second, Move{To: "beta", Why: "it soaks in tier edge until 2026-11-24 00:00 UTC", Until: monday.Add(day)}},
		{"no rollout, so all had it at once", with(func(c *Climb) { c.Stage.Phase, c.Stage.Done = "", time.Time{} }), 0, Move{
			Promote: true, Ready: true, To: "beta", Why: "12 machines are well with it in tier edge, where it soaked for 24h",
		}},
		{"too few machines", with(func(c *Climb) { c.Stage.Well = 9 }), 9 * day, Move{To: "beta", Why: "9 machines are well with it in tier edge, and it takes 10"}},
		{"running", with(func(c *Climb) { c.Stage.Phase = Running }), 9 * day, Move{To: "beta", Why: "its rollout in tier edge is running"}},
		{"halted", with(func(c *Climb) { c.Stage.Phase, c.Stage.Reason = Halted, "it crashes" }), 9 * day, Move{To: "beta", Why: "its rollout in tier edge is halted: it crashes"}},
		{"sick after all", with(func(c *Climb) { c.Stage.Over = "3 crashed" }), 9 * day, Move{To: "beta", Why: "in tier edge it is over its budget: 3 crashed"}},
		{"blocked", with(func(c *Climb) { c.Blocked = "oopses" }), 9 * day, Move{To: "beta", Why: "it is blocked: oopses"}},
		{"superseded", with(func(c *Climb) { c.Superseded = "v4" }), 9 * day, Move{To: "beta", Why: "v4 goes in its place"}},
		{"there already", with(func(c *Climb) { c.Above = true }), 9 * day, Move{To: "beta", Why: "tier beta has it"}},
		{"frozen", with(same), 11 * day, Move{Ready: true, To: "beta", Why: "it is ready; changes are frozen: quarter", Until: monday.Add(12 * day)}},
		{"by hand", with(func(c *Climb) { c.Stage.Tier = "beta" }), day, Move{Ready: true, To: "candidate", Why: "it is ready, and waits for a person to promote it"}},
		{"one of two approvals", with(func(c *Climb) {
			c.Stage.Tier, c.Approvals = "candidate", []Approval{{By: "ann"}, {By: "ann"}}
		}), day, Move{Ready: true, To: "stable", Missing: 1, Why: "it waits for the approval of 1 more"}},
		{"both", with(func(c *Climb) {
			c.Stage.Tier, c.Approvals = "candidate", []Approval{{By: "ann"}, {By: "bob"}}
		}), day, Move{Promote: true, Ready: true, To: "stable", Why: "12 machines are well with it in tier candidate, where it soaked for 0s"}},
		{"the last tier", with(func(c *Climb) { c.Stage.Tier = "stable" }), day, Move{Why: "no way leads on from tier stable"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			qt.Check(t, qt.DeepEquals(l.Promote(c.climb, monday.Add(c.after)), c.want))
		})
	}
}

func TestBadLaddersAreRefused(t *testing.T) {
	t.Parallel()
	for _, l := range []Ladder{
		{Rungs: []Rung{{From: "a"}}},
		{Rungs: []Rung{{From: "a", To: "a"}}},
		{Rungs: []Rung{{From: "a", To: "b"}, {From: "a", To: "c"}}},
		{Rungs: []Rung{{From: "a", To: "b"}, {From: "b", To: "c"}, {From: "c", To: "a"}}},
		{Rungs: []Rung{{From: "a", To: "b", Soak: -1}}},
		{Rungs: []Rung{{From: "a", To: "b", Well: -1}}},
		{Rungs: []Rung{{From: "a", To: "b", Approvals: 11}}},
		{Times: Times{Zone: "Mars"}},
	} {
		qt.Check(t, qt.Equals(code.Of(l.Check("test")), "TS8105"), qt.Commentf("%+v", l))
	}
}
