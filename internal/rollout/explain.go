// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"
)

// Word says in one word how a machine stands in a rollout.
type Word string

// The words: the statuses of records, the bars, and these.
const (
	WaitsApproval Word = "waits-for-approval"
	WaitsStart    Word = "waits-for-start"
	WaitsHalt     Word = "rollout-halted"
	WaitsTimes    Word = "outside-of-windows"
	WaitsWave     Word = "later-wave"
	WaitsSoak     Word = "soak"
	WaitsPlace    Word = "in-flight-limit"
	WaitsTurn     Word = "next"
	WaitsSelf     Word = "up-to-the-machine" // the rollout is done
	RolledBack    Word = "rollout-over"      // aborted, reverting or reverted
	Unknown       Word = "unknown"           // the facts do not name it
)

// Explanation is why a machine has the live patch or not.
type Explanation struct {
	Machine string    `json:"machine"`
	Word    Word      `json:"word"`
	Why     string    `json:"why"`            // one sentence
	Until   time.Time `json:"until,omitzero"` // when this may change, if it is known
	Wave    int       `json:"wave,omitempty"` // 1 is the first: its own, or the one that is about to come to it
}

// Explain says why a machine is not patched yet, or what became of it.
func Explain(p *Plan, s *State, f *Facts, machine string, now time.Time) Explanation {
	x := Explanation{Machine: machine}
	say := func(w Word, until time.Time, format string, args ...any) Explanation {
		x.Word, x.Until, x.Why = w, until, fmt.Sprintf(format, args...)
		return x
	}
	var m *Machine
	for i := range f.Machines {
		if f.Machines[i].ID == machine {
			m = &f.Machines[i]
		}
	}
	r := s.Records[machine]
	if r != nil && (!r.Begun.IsZero() || r.Status == Offered || r.Status == Late || r.Status == Failed) {
		x.Wave = r.Wave + 1
		return recorded(p, s, f, m, r, now, say)
	}
	if m == nil {
		return say(Unknown, time.Time{}, "it is not of the machines that this rollout is for")
	}
	if why := barred(bar(s, f, m, now), m); why != "" {
		return say(Word(bar(s, f, m, now)), time.Time{}, "%s", why)
	}
	if stands, ok := overall(p, s, f, now, say); ok {
		return stands
	}
	return turn(p, s, f, m, now, &x, say)
}

type sayer func(w Word, until time.Time, format string, args ...any) Explanation

func clock(t time.Time) string { return t.UTC().Format("2006-01-02 15:04 UTC") }

// recorded is about a machine that was offered it.
func recorded(p *Plan, s *State, f *Facts, m *Machine, r *Record, now time.Time, say sayer) Explanation {
	switch r.Status {
	case Offered:
		if s.Phase == Halted || s.Phase.Over() && s.Phase != Done {
			return say(WaitsHalt, time.Time{}, "the rollout is %s: %s", s.Phase, s.Reason)
		}
		heard := ""
		if m != nil && f.silent(m, now) {
			heard = "; it was last heard of at " + clock(m.Seen)
		} else if m != nil && m.Held {
			heard = "; it is held"
		}
		return say(Word(Offered), r.Offered.Add(time.Duration(p.Patience)), "it may have it since %s, and has not begun%s", clock(r.Offered), heard)
	case Begun:
		return say(Word(Begun), r.Begun.Add(time.Duration(p.Settle)), "it began to load it at %s, and is watched for %s", clock(r.Begun), p.Settle)
	case Well:
		return say(Word(Well), time.Time{}, "it has it since %s, and is well", clock(r.Begun))
	case Late:
		return say(Word(Late), time.Time{}, "it was offered it %s, last at %s, and did not begin: it gets it when the rollout is done", times(r.Offers), clock(r.Offered))
	case Failed:
		fail, at := r.Failure, r.FailedAt
		if fail == "" || r.broken() && r.Break.rank() > fail.rank() {
			fail, at = r.Break, r.BreakAt
		}
		return say(Word(Failed), time.Time{}, "it %s at %s", fail.words(), clock(at))
	}
	return say(Word(r.Status), time.Time{}, "it had it at %s, and went to another tier, kernel or live patch since", clock(r.Begun))
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return fmt.Sprintf("%d times", n)
}

// barred is about a machine that can't be offered it now.
func barred(b Bar, m *Machine) string {
	switch b {
	case BarOut:
		if m.Gone {
			return "it is decommissioned"
		}
		return m.Out
	case BarNeeds:
		return "it has it, or a newer one, by other means"
	case BarBefore:
		return "it had this live patch before the rollout, and it is " + string(m.State) + " there"
	case BarOther:
		return "it is on its way in rollout " + m.Other
	case BarHeld:
		return "it is held"
	case BarUnable:
		return m.Unable
	case BarSilent:
		return "it was last heard of at " + clock(m.Seen)
	}
	return ""
}

// overall is what holds for all machines that wait.
func overall(p *Plan, s *State, f *Facts, now time.Time, say sayer) (Explanation, bool) {
	switch s.Phase {
	case Pending:
		if n := s.Needed(p) - len(s.Approvals); n > 0 {
			return say(WaitsApproval, time.Time{}, "the rollout waits for the approval of %d more", n), true
		}
		if f.Blocked != "" {
			return say(WaitsHalt, time.Time{}, "the live patch is blocked: %s", f.Blocked), true
		}
		return say(WaitsStart, p.Start, "the rollout is about to begin"), true
	case Halted:
		return say(WaitsHalt, time.Time{}, "the rollout is halted since %s: %s", clock(s.Since), s.Reason), true
	case Reverting, Aborted:
		return say(RolledBack, time.Time{}, "the rollout is %s: %s", s.Phase, s.Reason), true
	case Done:
		return say(WaitsSelf, time.Time{}, "the rollout is done, and it may have it: it will when it checks in, in a window of its own"), true
	}
	if why, until := p.Closed(now); why != "" && !s.urgent(p) {
		return say(WaitsTimes, until, "%s", why), true
	}
	return Explanation{}, false
}

// turn is about a machine that nothing but its turn keeps from it.
func turn(p *Plan, s *State, f *Facts, m *Machine, now time.Time, x *Explanation, say sayer) Explanation {
	h := Assess(p, s, f, now)
	mine := place{Position(s.Rollout, m.ID), m}
	ahead := 0
	for i := range f.Machines {
		o := &f.Machines[i]
		if bar(s, f, o, now) == BarNone && (place{Position(s.Rollout, o.ID), o}).compare(mine) < 0 {
			ahead++
		}
	}
	wave := s.Wave
	for wave < len(p.Waves)-1 && places(p, wave, h.Machines) <= h.WaveUsed+ahead {
		wave++
	}
	if wave == s.Wave && (s.Skip || !s.Soaking.IsZero()) {
		wave = min(wave+1, len(p.Waves)-1) // it came since the wave was full
	}
	x.Wave = wave + 1
	soak := time.Duration(p.Waves[s.Wave].Soak)
	switch {
	case h.Over != "":
		return say(WaitsHalt, time.Time{}, "the rollout is over its budget: %s", h.Over)
	case wave > s.Wave && !s.Soaking.IsZero():
		return say(WaitsSoak, s.Soaking.Add(soak), "it is of wave %d of %d; wave %d soaks until %s", wave+1, len(p.Waves), s.Wave+1, clock(s.Soaking.Add(soak)))
	case wave > s.Wave:
		return say(WaitsWave, time.Time{}, "it is of wave %d of %d, and wave %d is under way", wave+1, len(p.Waves), s.Wave+1)
	case Flight(p, h) <= h.Offered+h.Begun:
		return say(WaitsPlace, time.Time{}, "its wave %d is under way, %s before it; %d are on their way, and at most %d may be", wave+1, machines(ahead), h.Offered+h.Begun, Flight(p, h))
	}
	return say(WaitsTurn, time.Time{}, "its wave %d is under way, %s before it", wave+1, machines(ahead))
}
