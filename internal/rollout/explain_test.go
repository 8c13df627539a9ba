// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
)

// TestWhyIsThisMachineNotPatchedYet follows a rollout, and asks about a machine
// of the first wave (0), of the second one (1) and a late one (8).
func TestWhyIsThisMachineNotPatchedYet(t *testing.T) {
	t.Parallel()
	st := newStage(t, 9, func(p *Plan) {
		p.Waves = []Wave{{Upto: Amount{Count: 1}, Soak: Duration(time.Hour)}, {Upto: Amount{Count: 4}}, {Upto: Amount{Percent: 100}}}
		p.Flight, p.Approvals = Amount{Count: 2}, 1
		p.Freezes = []Freeze{{From: monday.Add(3 * time.Hour), To: monday.Add(4 * time.Hour), Reason: "quarter"}}
	})
	ask := func(i int, word Word, why string) {
		t.Helper()
		x := Explain(&st.plan, st.state, &st.facts, st.at(i).ID, st.now)
		qt.Check(t, qt.Equals(x.Word, word), qt.Commentf("%d", i))
		qt.Check(t, qt.Equals(x.Why, why), qt.Commentf("%d", i))
	}
	ask(8, WaitsApproval, "the rollout waits for the approval of 1 more")
	st.act(Approve)
	ask(8, WaitsStart, "the rollout is about to begin")
	st.steps("begin", "offer 1 0")
	ask(0, Word(Offered), "it may have it since 2026-11-23 00:00 UTC, and has not begun")
	ask(1, WaitsWave, "it is of wave 2 of 3, and wave 1 is under way")
	ask(8, WaitsWave, "it is of wave 3 of 3, and wave 1 is under way")
	st.at(0).Held = true
	ask(0, Word(Offered), "it may have it since 2026-11-23 00:00 UTC, and has not begun; it is held")
	st.at(0).Held = false
	st.runs(0)
	st.steps("on 0")
	ask(0, Word(Begun), "it began to load it at 2026-11-23 00:00 UTC, and is watched for 15m")
	st.wait(15*time.Minute).steps("well 0", "soak")
	ask(0, Word(Well), "it has it since 2026-11-23 00:00 UTC, and is well")
	ask(1, WaitsSoak, "it is of wave 2 of 3; wave 1 soaks until 2026-11-23 01:15 UTC")
	st.wait(time.Hour).steps("open 2", "offer 2 1 2")
	ask(3, WaitsPlace, "its wave 2 is under way, 0 machines before it; 2 are on their way, and at most 2 may be")
	ask(8, WaitsWave, "it is of wave 3 of 3, and wave 2 is under way")
	st.runs(1, 2)
	st.wait(15*time.Minute).steps("well 1 2", "offer 2 3")
	st.wait(90 * time.Minute).steps("withdraw 3")
	ask(3, WaitsTimes, "changes are frozen: quarter")
	st.wait(time.Hour)
	ask(3, WaitsTurn, "its wave 2 is under way, 0 machines before it")

	// What keeps one machine from it.
	for _, c := range []struct {
		change func(m *Machine)
		word   Word
		why    string
	}{
		{func(m *Machine) { m.Held = true }, Word(BarHeld), "it is held"},
		{func(m *Machine) { m.Unable = "it has no livepatch support" }, Word(BarUnable), "it has no livepatch support"},
		{func(m *Machine) { m.Out = "it is in tier beta now" }, Word(BarOut), "it is in tier beta now"},
		{func(m *Machine) { m.Gone = true }, Word(BarOut), "it is decommissioned"},
		{func(m *Machine) { m.Other = "r7" }, Word(BarOther), "it is on its way in rollout r7"},
		{func(m *Machine) { m.Seen = monday }, Word(BarSilent), "it was last heard of at 2026-11-23 00:00 UTC"},
		{func(m *Machine) { m.State = api.Quarantined }, Word(BarBefore), "it had this live patch before the rollout, and it is quarantined there"},
		{func(m *Machine) { m.Has = true }, Word(BarNeeds), "it has it, or a newer one, by other means"},
	} {
		was := *st.at(8)
		c.change(st.at(8))
		ask(8, c.word, c.why)
		*st.at(8) = was
	}
	x := Explain(&st.plan, st.state, &st.facts, "nobody", st.now)
	qt.Check(t, qt.Equals(x.Word, Unknown))

	st.steps("offer 2 3")
	st.runs(3)
	st.at(3).Events = []Event{{st.now, Warned}}
	st.steps("fail 3 warned", "halt")
	ask(3, Word(Failed), "it had a kernel warning at 2026-11-23 04:00 UTC")
	ask(8, WaitsHalt, "the rollout is halted since 2026-11-23 04:00 UTC: of 4 machines that had it 1 had a kernel warning; this counts as 1, and the budget is 0")
	st.act(Abort)
	ask(8, RolledBack, "the rollout is aborted: because")

	st.state.Phase = Done
	ask(8, WaitsSelf, "the rollout is done, and it may have it: it will when it checks in, in a window of its own")
	st.state.Records[st.at(8).ID] = &Record{Status: Late, Offers: 2, Offered: monday}
	ask(8, Word(Late), "it was offered it 2 times, last at 2026-11-23 00:00 UTC, and did not begin: it gets it when the rollout is done")
}
