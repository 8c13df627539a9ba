// SPDX-License-Identifier: Apache-2.0

package server

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestACrashingLivePatchIsHaltedByTheServer: the server's loop, store, gates and
// judging of check-ins and reports, with 100,000 machines of which 2 % go down by
// the live patch. It is halted before 0.5 % of them have had it.
// Package rollout tries the same with many plans and faults (TestFleets); that
// machines get keys as the gates say is TestARolloutGoesInWaves.
func TestACrashingLivePatchIsHaltedByTheServer(t *testing.T) {
	testenv.Long(t, "100,000 machines")
	t.Parallel()
	for _, c := range []struct {
		name string
		told bool // the agent finds after the boot what it was about to do
	}{
		{"the agent reports it", true},
		{"only the boot is seen", false},
	} {
		t.Run(c.name, func(t *testing.T) { crashes(t, c.told) })
	}
}

// crashing is a machine on its way down.
type crashing struct {
	m    *member
	load api.Patch
	at   time.Time
}

func crashes(t *testing.T, told bool) {
	s := newRolloutBench(t, fmt.Sprint("enrolled = enrolled - ", 90*24*time.Hour.Milliseconds())) // known for three months
	p, r := s.begin(nil)                                                                          // the plan that tiers have unless somebody makes another
	moving := s.rollouts.byID(r.ID)
	rng := rand.New(rand.NewPCG(5, 22))
	boots, reports := 0, 0
	says := func(m *member, patch api.Patch, reboots bool) {
		in := api.CheckIn{Agent: "1.0.0", Able: true, Kernel: testKernel, Uptime: 100_000, Patch: patch, BootID: m.boot}
		if reboots {
			boots++
			in.BootID, in.Uptime = fmt.Sprint("boot-", boots), 60
		}
		f := factsOf(in)
		qt.Assert(t, qt.IsNil(s.saveFacts(t.Context(), m, &in, f, f.digest(), false, s.now())))
	}
	reported := func(m *member, kind api.ReportKind, patch api.Patch) {
		reports++
		body, err := json.Marshal(api.Report{ID: fmt.Sprint(reports), Kind: kind, BootID: m.boot, Kernel: testKernel, Patch: patch})
		qt.Assert(t, qt.IsNil(err))
		_, err = s.db.AddReports(t.Context(), m.id, []store.Report{{
			ID: fmt.Sprint(reports), Time: 1, Kind: string(kind), Patch: patch.ID, State: string(patch.State), Body: body,
		}})
		qt.Assert(t, qt.IsNil(err))
	}
	var all []*member
	s.fleet.each(func(m *member) { all = append(all, m) })
	qt.Assert(t, qt.HasLen(all, benchMachines))
	had := map[*member]bool{}
	var doomed []crashing
	const tick = 5 * time.Minute
	begun := s.now()
	pass := func() {
		s.listens(tick)
		now := s.now()
		for _, m := range all {
			m.mu.Lock()
			m.seen = now.UnixMilli()
			m.mu.Unlock()
			if had[m] || rng.IntN(4) > 0 || !moving.admits(m.id) {
				continue // a machine that may have it comes for it within 20 minutes
			}
			had[m] = true
			patch := api.Patch{ID: p.ID, Version: 1, State: api.Loading}
			reported(m, api.ReportState, patch)
			patch.State = api.Healthy
			says(m, patch, false)
			if rng.Float64() < 0.02 {
				doomed = append(doomed, crashing{m, patch, now.Add(time.Duration(2+rng.IntN(8)) * time.Minute)})
			}
		}
		for range len(all) / (180 * int(24*time.Hour/tick)) { // each machine boots once in half a year anyway
			m := all[rng.IntN(len(all))]
			if !had[m] {
				says(m, api.Patch{}, true)
			}
		}
		var later []crashing
		for _, d := range doomed {
			if d.at.After(now) {
				later = append(later, d)
				continue
			}
			if told {
				d.load.State = api.Quarantined
			}
			says(d.m, d.load, true)
			if told {
				reported(d.m, api.ReportCrash, d.load)
			}
		}
		doomed = later
		s.look()
	}
	for s.stands(r.ID).Phase != api.RolloutHalted {
		pass()
		qt.Assert(t, qt.IsTrue(s.now().Sub(begun) < 14*24*time.Hour && len(had) < benchMachines/10), qt.Commentf("%d had it", len(had)))
	}
	t.Logf("halted after %s, %d had it: %s", s.now().Sub(begun).Round(time.Minute), len(had), s.stands(r.ID).Reason)
	for range 24 { // those to whom it was offered before may still come; nobody else does
		pass()
	}
	qt.Check(t, qt.IsTrue(len(had) < benchMachines/200), qt.Commentf("%d had it", len(had)))
	qt.Check(t, qt.Equals(s.stands(r.ID).Phase, api.RolloutHalted))
}

// listens lets time pass in which the server has the lease of rollouts, as its
// loop would.
func (s *site) listens(d time.Duration) {
	s.t.Helper()
	for ; d > 0; d -= leaseTime {
		s.shift.Add(int64(min(d, leaseTime)))
		_, err := s.store.TakeLease(s.t.Context(), leaseRollouts, s.rolling.owner, s.now().Add(leaseTime).UnixMilli(), s.now().Add(-leaseBroken).UnixMilli())
		qt.Assert(s.t, qt.IsNil(err))
	}
}
