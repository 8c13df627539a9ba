// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
)

const rolloutsFile = `version: 1
rollouts:
  tiers:
    beta: {only: true}
    stable:
      only: true
      plan:
        waves: [{upto: 5, soak: 60m}, {upto: 0.5%, soak: 1d}, {upto: 100%}]
        max_in_flight: 2%
        windows: [Mon-Fri 22:00-04:00]
        freezes: [{from: 2026-12-20T00:00:00Z, to: 2027-01-05T00:00:00Z, reason: end of year}]
        timezone: Asia/Tokyo
        start: 2026-12-01T00:00:00Z
        budget: {crashes: {count: 1, percent: 0.5}, failures: {count: 3}}
        revert: true
        approvals: 2
  ladder:
    rungs:
      - {from: edge, to: beta, auto: true, soak: 1d, well: 10}
      - {from: beta, to: stable, approvals: 2}
    windows: [Mon-Fri 09:00-17:00]
    timezone: Asia/Tokyo
`

func TestRolloutsOfTiers(t *testing.T) {
	t.Parallel()
	s := fresh()
	plan := func(text string, prune bool) *Plan {
		t.Helper()
		f, err := Parse("fleet.yaml", []byte(text))
		qt.Assert(t, qt.IsNil(err))
		p, err := f.Plan(s.have, now, Options{Prune: prune})
		qt.Assert(t, qt.IsNil(err))
		return p
	}
	run := func(text string, prune bool) (what []string) {
		t.Helper()
		p := plan(text, prune)
		for _, step := range p.Steps {
			for _, d := range step.Changes {
				what = append(what, d.What)
			}
		}
		s.run(t, p, len(p.Steps))
		qt.Check(t, qt.HasLen(plan(text, prune).Steps, 0)) // the second run finds nothing to do
		return what
	}
	qt.Check(t, qt.DeepEquals(run(rolloutsFile, false), []string{"tier beta", "tier stable", "ladder"}))
	qt.Check(t, qt.Equals(s.have.Rollouts.Tiers["stable"].Plan.Waves[1].Upto, "0.5%"))
	qt.Check(t, qt.Equals(s.have.Rollouts.Tiers["stable"].Plan.Budget.Crashes.Percent, 0.5))
	qt.Check(t, qt.Equals(s.have.Rollouts.Ladder.Rungs[0].Well, 10))

	// What somebody wrote in other words is the same; a file of it has no plan.
	s.have.Rollouts.Tiers["stable"].Plan.Waves[0].Soak = "3600s"
	qt.Check(t, qt.HasLen(plan(rolloutsFile, true).Steps, 0))
	f, notes := Export(s.have, now)
	qt.Check(t, qt.HasLen(notes, 0))
	text, err := f.Encode()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(plan(string(text), true).Steps, 0), qt.Commentf("%s", text))

	// Of what has no section, the server keeps what it has.
	qt.Check(t, qt.HasLen(plan("version: 1\n", true).Steps, 0))
	qt.Check(t, qt.HasLen(plan("version: 1\nrollouts: {ladder: {rungs: [{from: edge, to: beta, auto: true, soak: 24h, well: 10}, {from: beta, to: stable, approvals: 2}], windows: [Mon-Fri 09:00-17:00], timezone: Asia/Tokyo}}\n", true).Steps, 0))
	one := "version: 1\nrollouts: {tiers: {beta: {only: true}}}\n"
	p := plan(one, false)
	qt.Check(t, qt.HasLen(p.Steps, 0))
	qt.Check(t, qt.DeepEquals(p.Notes, []string{"how rollouts go in tier stable is not in the file and stays"}))
	qt.Check(t, qt.DeepEquals(run(one, true), []string{"tier stable"}))
	qt.Check(t, qt.HasLen(s.have.Rollouts.Tiers, 1))
	qt.Check(t, qt.HasLen(s.have.Rollouts.Ladder.Rungs, 2))
	qt.Check(t, qt.DeepEquals(run("version: 1\nrollouts: {tiers: {}, ladder: {rungs: []}}\n", true), []string{"tier beta", "ladder"}))
	qt.Check(t, qt.DeepEquals(s.have.Rollouts, api.RolloutSettings{Tiers: map[string]api.RolloutTier{}, Ladder: api.RolloutLadder{Rungs: []api.RolloutRung{}}}))

	// A tier that the same file makes.
	qt.Check(t, qt.HasLen(run("version: 1\ntiers: [edge, early, beta, candidate, stable]\nrollouts: {tiers: {early: {only: true}}}\n", false), 2))
}

func TestRolloutsThatCantBe(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"no last wave": "{tiers: {beta: {plan: {waves: [{upto: 50%}]}}}}",
		"a circle":     "{ladder: {rungs: [{from: edge, to: beta}, {from: beta, to: edge}]}}",
	} {
		_, err := Parse("f", []byte("version: 1\nrollouts: "+text+"\n"))
		qt.Check(t, qt.ErrorMatches(err, "(?s)TS8302.*rollouts.*"), qt.Commentf("%s", name))
	}
	for name, text := range map[string]string{
		"a duration": "{tiers: {beta: {plan: {settle: soon}}}}",
		"a key":      "{tiers: {beta: {plan: {wave: []}}}}",
	} {
		_, err := Parse("f", []byte("version: 1\nrollouts: "+text+"\n"))
		qt.Check(t, qt.ErrorMatches(err, "(?s)TS8301.*"), qt.Commentf("%s", name))
	}
	for name, text := range map[string]string{
		"a tier": "{tiers: {none: {only: true}}}",
		"a rung": "{ladder: {rungs: [{from: edge, to: none}]}}",
	} {
		f, err := Parse("f", []byte("version: 1\nrollouts: "+text+"\n"))
		qt.Assert(t, qt.IsNil(err))
		_, err = f.Plan(fresh().have, now, Options{})
		qt.Check(t, qt.ErrorMatches(err, "(?s)TS8303.*none.*"), qt.Commentf("%s", name))
	}
}
