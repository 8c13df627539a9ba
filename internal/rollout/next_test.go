// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/api"
)

// stage is a rollout over machines a, b, c … that a test moves by hand.
type stage struct {
	t     *testing.T
	plan  Plan
	state *State
	facts Facts
	now   time.Time
}

func newStage(t *testing.T, n int, change func(*Plan)) *stage {
	p := Plan{
		Waves:  []Wave{{Upto: Amount{Count: 1}, Soak: Duration(time.Hour)}, {Upto: Amount{Percent: 100}}},
		Flight: Amount{Percent: 100}, Budget: &Budget{}, Watch: Duration(4 * time.Hour),
	}
	if change != nil {
		change(&p)
	}
	st := &stage{t: t, plan: p.Filled(), now: monday, facts: Facts{Silence: 30 * time.Minute, Listening: monday.Add(-24 * time.Hour)}}
	qt.Assert(t, qt.IsNil(st.plan.Check("test")))
	for i := range n {
		st.facts.Machines = append(st.facts.Machines, Machine{
			ID: string(rune('a' + i)), Boot: "1", Booted: monday.Add(-1000 * time.Hour), Seen: monday, Usual: 0.001,
		})
	}
	slices.SortFunc(st.facts.Machines, func(a, b Machine) int { return place{Position("r", a.ID), &a}.compare(place{Position("r", b.ID), &b}) })
	st.state = New("r", &st.plan, monday)
	return st
}

// at is the machine of a place in the order.
func (st *stage) at(i int) *Machine { return &st.facts.Machines[i] }

// wait lets time pass, in which all machines are heard of but those named.
func (st *stage) wait(d time.Duration, but ...*Machine) *stage {
	st.now = st.now.Add(d)
	for i := range st.facts.Machines {
		if m := st.at(i); !slices.Contains(but, m) {
			m.Seen = st.now
		}
	}
	return st
}

// runs lets machines have it.
func (st *stage) runs(i ...int) {
	for _, i := range i {
		m := st.at(i)
		m.State, m.Has, m.Begun, m.BegunBoot = api.Healthy, true, st.now, m.Boot
	}
}

// steps takes steps until none comes, and writes them down.
func (st *stage) steps(want ...string) {
	st.t.Helper()
	var got []string
	for {
		steps := Next(&st.plan, st.state, &st.facts, st.now)
		if len(steps) == 0 {
			break
		}
		for _, s := range steps {
			st.state.Take(s, st.now)
			line := string(s.What)
			if s.What == Open || s.What == Offer {
				line += fmt.Sprint(" ", s.Wave+1)
			}
			var places []int
			for _, m := range s.Machines {
				places = append(places, slices.IndexFunc(st.facts.Machines, func(o Machine) bool { return o.ID == m.Machine }))
			}
			slices.Sort(places)
			for _, n := range places {
				line += fmt.Sprint(" ", n)
			}
			if s.Failure != "" {
				line += " " + string(s.Failure)
			}
			got = append(got, line)
			qt.Check(st.t, qt.IsFalse(s.Why == "" || strings.Contains(s.Why, "%!")), qt.Commentf("%+v", s))
		}
	}
	qt.Check(st.t, qt.DeepEquals(got, want))
}

func (st *stage) act(v Verb) {
	st.t.Helper()
	qt.Assert(st.t, qt.IsNil(st.state.Act(&st.plan, Action{Verb: v, By: "ann", Reason: "because"}, st.now)))
}

func TestARolloutWithoutTrouble(t *testing.T) {
	t.Parallel()
	st := newStage(t, 3, nil)
	st.steps("begin", "offer 1 0")
	qt.Check(t, qt.IsTrue(st.state.Admits(st.at(0).ID)))
	qt.Check(t, qt.IsFalse(st.state.Admits(st.at(1).ID)))
	st.runs(0)
	st.steps("on 0")
	st.wait(15 * time.Minute)
	st.steps("well 0", "soak")
	st.wait(59 * time.Minute).steps()
	st.wait(time.Minute).steps("open 2", "offer 2 1 2")
	st.runs(1, 2)
	st.wait(20*time.Minute).steps("well 1 2", "finish")
	qt.Check(t, qt.Equals(st.state.Phase, Done))
	qt.Check(t, qt.IsTrue(st.state.Admits("a machine of tomorrow")))
	st.wait(time.Hour).steps()
}

func TestWhatHaltsARollout(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name string
		harm func(st *stage, m *Machine)
		want []string
	}{
		{"the agent tells of a crash", func(st *stage, m *Machine) {
			m.State, m.Boot, m.Booted = api.Quarantined, "2", st.now
			m.Events = []Event{{st.now, Crashed}}
		}, []string{"fail 0 crashed", "fail 0 rebooted", "halt"}},
		{"a kernel warning", func(st *stage, m *Machine) { m.Events = []Event{{st.now, Warned}} }, []string{"fail 0 warned", "halt"}},
		{"quarantine", func(_ *stage, m *Machine) { m.State = api.Quarantined }, []string{"fail 0 quarantined", "halt"}},
		{"a new boot id", func(st *stage, m *Machine) { m.Boot, m.Booted = "2", st.now }, []string{"fail 0 rebooted", "halt"}},
		{"a stall", func(st *stage, m *Machine) {
			m.State, m.Events = api.Waiting, []Event{{st.now, Stalled}}
		}, []string{"fail 0 stalled", "halt"}},
		{"taken out by hand", func(_ *stage, m *Machine) { m.State = api.Reverted }, []string{"fail 0 taken-out", "halt"}},
		{"a new boot id, in good order", func(st *stage, m *Machine) {
			m.Boot, m.Booted, m.Orderly = "2", st.now, true
		}, []string{"well 0", "soak"}},
		{"an old story", func(st *stage, m *Machine) {
			m.Events = []Event{{monday.Add(-time.Hour), Crashed}}
		}, []string{"well 0", "soak"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			st := newStage(t, 3, nil)
			st.steps("begin", "offer 1 0")
			st.runs(0)
			st.steps("on 0")
			st.wait(20 * time.Minute)
			c.harm(st, st.at(0))
			st.steps(c.want...)
			st.wait(10 * time.Hour)
			for _, s := range Next(&st.plan, st.state, &st.facts, st.now) {
				qt.Check(t, qt.IsTrue(s.What != Offer || st.state.Phase == Running))
			}
		})
	}
}

func TestASilentMachineHaltsAndComesBack(t *testing.T) {
	t.Parallel()
	st := newStage(t, 3, nil)
	st.steps("begin", "offer 1 0")
	st.runs(0)
	st.steps("on 0")
	st.wait(31*time.Minute, st.at(0)).steps("fail 0 silent", "halt")
	// It was the network: the failure is gone, and a person lets it go on.
	st.wait(time.Minute).steps("back 0", "well 0")
	st.act(Resume)
	st.steps("soak")
	// It was not: it has booted.
	st.wait(31*time.Minute, st.at(0)).steps("fail 0 silent", "halt")
	st.at(0).Boot, st.at(0).Booted = "2", st.now
	st.wait(time.Minute).steps("fail 0 rebooted")
	// A server that was away for an hour has not heard anybody, which says nothing.
	st = newStage(t, 3, nil)
	st.steps("begin", "offer 1 0")
	st.runs(0)
	st.steps("on 0")
	st.now = st.now.Add(time.Hour)
	st.facts.Listening = st.now
	st.steps()
	st.now = st.now.Add(31 * time.Minute)
	st.steps("fail 0 silent", "halt")
}

func TestWhatComesAfterTheWatch(t *testing.T) {
	t.Parallel()
	st := newStage(t, 3, func(p *Plan) { p.Waves[0].Soak = Duration(24 * time.Hour) })
	st.steps("begin", "offer 1 0")
	st.runs(0)
	st.wait(20*time.Minute).steps("well 0", "soak")
	st.wait(4 * time.Hour)
	st.at(0).Boot, st.at(0).Booted = "2", st.now
	st.steps()
}

func TestAnOfferThatIsNotTaken(t *testing.T) {
	t.Parallel()
	st := newStage(t, 3, func(p *Plan) { p.Patience = Duration(2 * time.Hour) })
	st.steps("begin", "offer 1 0")
	st.wait(2*time.Hour).steps("late 0", "offer 1 1") // another has its place
	qt.Check(t, qt.IsFalse(st.state.Admits(st.at(0).ID)))
	st.runs(1)
	st.wait(20*time.Minute).steps("well 1", "soak")
	st.wait(time.Hour).steps("open 2", "offer 2 2")
	// It had the key already, and wakes up.
	st.runs(0, 2)
	st.steps("on 0 2")
	st.wait(20*time.Minute).steps("well 0 2", "finish")
}

func TestAMachineThatLeaves(t *testing.T) {
	t.Parallel()
	st := newStage(t, 4, func(p *Plan) { p.Waves[0].Upto.Count = 3 })
	st.steps("begin", "offer 1 0 1 2")
	st.at(0).Out = "it is in tier beta now"
	st.steps("left 0", "offer 1 3")
	st.runs(1, 2)
	st.at(2).Out = "it is in tier beta now" // with the live patch: it is watched all the same
	st.steps("on 1 2")
	st.at(2).Events = []Event{{st.now, Warned}}
	st.steps("fail 2 warned", "halt", "withdraw 3")
	gone := st.at(1).ID
	st.facts.Machines = slices.DeleteFunc(st.facts.Machines, func(m Machine) bool { return m.ID == gone })
	st.steps("left -1")
	qt.Check(t, qt.Equals(st.state.Records[gone].Status, Left))
}

func TestAMachineThatComesBackToTheTier(t *testing.T) {
	t.Parallel()
	st := newStage(t, 2, nil)
	st.steps("begin", "offer 1 0")
	st.at(0).Out = "it is in tier beta now"
	st.steps("left 0", "offer 1 1")
	st.at(0).Out = ""
	st.steps()
	st.runs(1)
	st.wait(20*time.Minute).steps("well 1", "soak")
	st.wait(time.Hour).steps("open 2", "offer 2 0")
}

func TestOutsideOfWindowsNothingIsOffered(t *testing.T) {
	t.Parallel()
	st := newStage(t, 3, func(p *Plan) {
		p.Times = Times{Freezes: []Freeze{{From: monday.Add(time.Hour), To: monday.Add(2 * time.Hour), Reason: "quarter"}}}
	})
	st.steps("begin", "offer 1 0")
	st.wait(time.Hour).steps("withdraw 0")
	st.wait(59 * time.Minute).steps()
	st.wait(time.Minute).steps("offer 1 0")
}

func TestRevertAfterAHalt(t *testing.T) {
	t.Parallel()
	st := newStage(t, 4, func(p *Plan) { p.Revert, p.Waves[0].Upto.Count = true, 3 })
	st.steps("begin", "offer 1 0 1 2")
	st.runs(0, 1)
	st.steps("on 0 1")
	st.at(0).Events = []Event{{st.now, Warned}}
	st.steps("fail 0 warned", "halt", "withdraw 2", "revert", "recall 0 1")
	st.steps() // asked for once a minute
	st.wait(time.Minute).steps("recall 0 1")
	st.facts.Recalled = true
	st.wait(time.Minute).steps()
	st.at(0).State, st.at(1).State, st.at(0).Has, st.at(1).Has = api.Reverted, api.Reverted, false, false // no failures
	st.steps("left 1", "close")
	qt.Check(t, qt.Equals(st.state.Phase, Aborted))
	qt.Check(t, qt.IsFalse(st.state.Admits(st.at(3).ID)))
}

func TestARevertDoesNotWaitForEver(t *testing.T) {
	t.Parallel()
	st := newStage(t, 2, nil)
	st.steps("begin", "offer 1 0")
	st.runs(0)
	st.steps("on 0")
	st.act(Undo)
	st.facts.Recalled = true
	st.steps()
	st.wait(24*time.Hour).steps("well 0", "close")
	qt.Check(t, qt.StringContains(st.state.Reason, "1 machine has not taken it out"))
}

func TestABlockedOrSupersededLivePatch(t *testing.T) {
	t.Parallel()
	st := newStage(t, 2, nil)
	st.facts.Blocked = "oopses"
	st.steps()
	st.facts.Blocked = ""
	st.steps("begin", "offer 1 0")
	st.facts.Blocked = "oopses"
	st.steps("halt", "withdraw 0")
	st.act(Resume)
	st.steps("halt")
	st.facts.Blocked, st.facts.Superseded = "", "v4"
	st.act(Resume)
	st.steps("close")
	st = newStage(t, 2, nil)
	st.facts.Superseded = "v4"
	st.steps("close")
}

func TestEmergency(t *testing.T) {
	t.Parallel()
	st := newStage(t, 5, func(p *Plan) {
		p.Emergency = true
		p.Times = Times{Freezes: []Freeze{{From: monday, To: monday.Add(time.Hour), Reason: "quarter"}}}
	})
	st.steps()
	approve := func(who string) error { return st.state.Act(&st.plan, Action{Verb: Approve, By: who}, st.now) }
	qt.Assert(t, qt.IsNil(approve("ann")))
	st.steps()
	qt.Check(t, qt.ErrorMatches(approve("ann"), "TS8103: .*"))
	qt.Assert(t, qt.IsNil(approve("bob")))
	st.at(3).Held = true
	st.steps("begin", "open 2", "offer 2 0 1 2 4")
	qt.Check(t, qt.ErrorMatches(approve("eve"), "TS8103: .*"))
	// The budget holds in an emergency too.
	st.runs(0)
	st.at(0).Events = []Event{{st.now, Warned}}
	st.steps("fail 0 warned", "halt", "withdraw 1 2 4")
}

func TestHurryNeedsNewApprovals(t *testing.T) {
	t.Parallel()
	st := newStage(t, 4, func(p *Plan) { p.Approvals = 1 })
	approve := func(who string) {
		qt.Assert(t, qt.IsNil(st.state.Act(&st.plan, Action{Verb: Approve, By: who}, st.now)))
	}
	approve("ann")
	st.steps("begin", "offer 1 0")
	st.act(Hurry)
	st.steps() // goes on as before
	approve("ann")
	st.steps()
	approve("bob")
	st.steps("open 2", "offer 2 1 2 3")
}

func TestHurryInTheLastSoak(t *testing.T) {
	t.Parallel()
	st := newStage(t, 3, func(p *Plan) { p.Waves = []Wave{{Upto: Amount{Percent: 100}, Soak: Duration(time.Hour)}} })
	st.at(2).Held = true
	st.steps("begin", "offer 1 0 1")
	st.runs(0, 1)
	st.wait(20*time.Minute).steps("well 0 1", "soak")
	st.at(2).Held = false
	st.act(Hurry)
	for _, who := range []string{"ann", "bob"} {
		qt.Assert(t, qt.IsNil(st.state.Act(&st.plan, Action{Verb: Approve, By: who}, st.now)))
	}
	st.wait(2*time.Hour).steps("open 1", "offer 1 2")
	st.runs(2)
	st.wait(20*time.Minute).steps("well 2", "soak")
	st.wait(time.Hour).steps("finish")
}

func TestNothingProvenIsNoReasonToGoOn(t *testing.T) {
	t.Parallel()
	st := newStage(t, 3, func(p *Plan) { p.Budget.Failures.Count = 1 })
	st.steps("begin", "offer 1 0")
	st.at(0).Events = []Event{{st.now, Refused}}
	st.at(0).State = api.Blocked
	st.steps("fail 0 refused", "halt")
	qt.Check(t, qt.StringContains(st.state.Reason, "nothing is proven"))
	st.act(Skip)
	st.steps("open 2", "offer 2 1 2")
}

func TestASleepingFleetIsWaitedFor(t *testing.T) {
	t.Parallel()
	st := newStage(t, 9, func(p *Plan) {
		p.Waves = []Wave{{Upto: Amount{Count: 1}}, {Upto: Amount{Count: 6}}, {Upto: Amount{Percent: 100}}}
	})
	var asleep []*Machine
	for i := 1; i < 9; i++ {
		st.at(i).Seen = monday.Add(-time.Hour)
		asleep = append(asleep, st.at(i))
	}
	st.steps("begin", "offer 1 0")
	st.runs(0)
	st.wait(20*time.Minute, asleep...).steps("well 0", "open 2")
	st.wait(23*time.Hour, asleep...).steps()
	st.wait(time.Hour, asleep...).steps("halt")
	st.act(Resume)
	st.wait(time.Hour, asleep[5:]...).steps("offer 2 1 2 3 4 5")
	st.runs(1, 2, 3, 4, 5)
	st.wait(20*time.Minute, asleep[5:]...).steps("well 1 2 3 4 5", "open 3", "finish")
}

func TestMachinesThatAreNotOffered(t *testing.T) {
	t.Parallel()
	st := newStage(t, 9, func(p *Plan) { p.Waves = p.Waves[1:] })
	st.at(0).Held = true
	st.at(1).Unable = "no livepatch in this kernel"
	st.at(2).Out = "tier"
	st.at(3).Other = "r7"
	st.at(4).Has = true
	st.at(5).Seen = monday.Add(-31 * time.Minute)
	st.at(6).State = api.Quarantined
	st.at(7).Gone = true
	st.steps("begin", "offer 1 8")
	st.at(3).Other, st.at(1).Unable = "", ""
	st.steps("offer 1 1 3")
}

// TestNextIsAFunctionAndComesToRest: with the same facts a state comes to rest, Next
// changes nothing itself, and says the same each time that it is asked.
func TestNextIsAFunctionAndComesToRest(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		seed := rapid.Uint64Range(0, 1<<40).Draw(r, "seed")
		w, _ := anyFleetFor(t, seed, rapid.IntRange(0, 60).Draw(r, "ticks"))
		again := func() string { return fmt.Sprintf("%+v", Next(&w.plan, w.state, &w.facts, w.now)) }
		before := stateText(w.state)
		if a, b := again(), again(); a != b {
			r.Fatalf("%s\n%s", a, b)
		}
		// The order of the facts is nobody's business.
		slices.Reverse(w.facts.Machines)
		c := again()
		slices.Reverse(w.facts.Machines)
		if c != again() {
			r.Fatalf("the order of machines matters: %s", c)
		}
		if before != stateText(w.state) {
			r.Fatal("Next changed the state")
		}
		for round := 0; ; round++ {
			steps := Next(&w.plan, w.state, &w.facts, w.now)
			if len(steps) == 0 {
				break
			}
			if round > 40 {
				r.Fatalf("no rest: %+v", steps)
			}
			for _, st := range steps {
				w.state.Take(st, w.now)
			}
		}
		for i := range w.facts.Machines {
			if x := Explain(&w.plan, w.state, &w.facts, w.facts.Machines[i].ID, w.now); x.Why == "" || x.Word == "" || strings.Contains(x.Why, "%!") {
				r.Fatalf("%+v", x)
			}
		}
	})
}

func TestWhatWasBeforeTheOfferDoesNotCount(t *testing.T) {
	t.Parallel()
	st := newStage(t, 2, nil)
	st.at(0).Begun, st.at(0).BegunBoot = monday.Add(-time.Hour), "0" // under an earlier rollout, and taken out since
	st.steps("begin", "offer 1 0")
	st.wait(time.Minute).steps()
	qt.Check(t, qt.IsTrue(st.state.Records[st.at(0).ID].Begun.IsZero()))
}

// TestALateCrashOfAMachineThatHasNotSettled: the watch is over, and the machine
// is still not confirmed.
func TestALateCrashOfAMachineThatHasNotSettled(t *testing.T) {
	t.Parallel()
	st := newStage(t, 2, nil)
	st.steps("begin", "offer 1 0")
	st.runs(0)
	st.at(0).State = api.Transitioning
	st.wait(5 * time.Hour).steps("on 0")
	st.at(0).Events = []Event{{st.now, Warned}}
	st.steps("fail 0 warned", "halt")
	// One that never comes to an end is a failure too.
	st = newStage(t, 2, nil)
	st.steps("begin", "offer 1 0")
	st.runs(0)
	st.at(0).State = api.Transitioning
	st.wait(23 * time.Hour).steps("on 0")
	st.wait(time.Hour).steps("fail 0 stalled", "halt")
}

func TestOffersInVainComeToAnEnd(t *testing.T) {
	t.Parallel()
	st := newStage(t, 1, func(p *Plan) {
		for day := range time.Duration(10) {
			from := monday.Add(24*time.Hour*day + time.Hour)
			p.Freezes = append(p.Freezes, Freeze{From: from, To: from.Add(time.Hour), Reason: "backup"})
		}
	})
	st.steps("begin", "offer 1 0")
	for range maxOffers - 1 {
		st.wait(time.Hour).steps("withdraw 0")
		st.wait(time.Hour).steps("offer 1 0")
		st.wait(22 * time.Hour).steps()
	}
	st.wait(time.Hour).steps("late 0")
	st.wait(20 * time.Hour).steps("halt")
	st.act(Skip)
	st.steps("open 2")
	st.wait(24 * time.Hour).steps("halt")
	st.act(Skip)
	st.steps("finish")
}

func TestAMachineThatComesBackWithoutIt(t *testing.T) {
	t.Parallel()
	st := newStage(t, 2, nil)
	st.steps("begin", "offer 1 0")
	st.runs(0)
	st.steps("on 0")
	st.at(0).Out, st.at(0).State, st.at(0).Has = "it is in tier beta now", "", false
	st.steps("left 0", "halt")
	st.at(0).Out = ""
	st.act(Resume)
	st.steps("on 0") // it may still have it, and is not offered it again
	qt.Check(t, qt.IsTrue(st.state.Admits(st.at(0).ID)))
	qt.Check(t, qt.Equals(st.state.Records[st.at(0).ID].Offers, 1))
}
