// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Verb is something that a person does to a rollout.
type Verb string

// The verbs.
const (
	Approve Verb = "approve" // once for each person
	Stop    Verb = "halt"    // offer nothing more; Reason is needed
	Resume  Verb = "resume"  // go on after a halt: what failed so far is forgiven
	Skip    Verb = "skip"    // the rest of this wave, and its soak
	Abort   Verb = "abort"   // for good; machines keep what they have. Reason is needed
	Undo    Verb = "revert"  // for good, and take it out of machines. Reason is needed
	Hurry   Verb = "hurry"   // ask for all machines at once, which two people have to approve
)

// Action is a verb, by whom, and why.
type Action struct {
	Verb   Verb   `json:"verb"`
	By     string `json:"by"`
	Reason string `json:"reason,omitempty"`
}

// Act does what a person asks for, or says why it can't be done now (TS8102,
// TS8103, TS8104). Whether this person may is not asked here. The budget holds
// for people too: a wave that is skipped does not let the next one begin over
// budget, and only Resume forgives.
func (s *State) Act(p *Plan, a Action, now time.Time) error {
	if err := s.fits(a); err != nil {
		return err
	}
	turn := func(to Phase, why string) { s.Phase, s.Reason, s.Since, s.By = to, why, now, a.By }
	switch a.Verb {
	case Approve:
		return s.approve(p, a.By, now)
	case Stop:
		turn(Halted, a.Reason)
	case Resume:
		s.forgive()
		why := "resumed by " + a.By
		if a.Reason != "" {
			why += ": " + a.Reason
		}
		turn(Running, why)
		s.Opened, s.Soaking, s.Skip = now, time.Time{}, false
	case Skip:
		if s.Phase == Halted {
			turn(Running, "wave "+fmt.Sprint(s.Wave+1)+" skipped by "+a.By)
		}
		s.Skip = true
	case Abort:
		turn(Aborted, a.Reason)
	case Undo:
		turn(Reverting, a.Reason)
		s.Told = time.Time{}
	case Hurry:
		s.Emergency, s.Approvals, s.Asked = true, nil, a.By
	}
	return nil
}

// fits says whether the verb fits the phase.
func (s *State) fits(a Action) error {
	phases := map[Verb][]Phase{
		Approve: {Pending, Running, Halted},
		Stop:    {Running},
		Resume:  {Halted},
		Skip:    {Running, Halted},
		Abort:   {Pending, Running, Halted},
		Undo:    {Running, Halted, Done, Aborted},
		Hurry:   {Pending, Running, Halted},
	}
	on, ok := phases[a.Verb]
	switch {
	case !ok:
		return code.New("TS8102", s.Rollout, fmt.Sprintf("there is no %q", a.Verb))
	case !slices.Contains(on, s.Phase):
		return code.New("TS8102", s.Rollout, fmt.Sprintf("it is %s, and can't be told to %s", s.Phase, a.Verb))
	case a.By == "" || a.Reason == "" && slices.Contains([]Verb{Stop, Abort, Undo}, a.Verb):
		return code.New("TS8104", s.Rollout, fmt.Sprintf("who tells it to %s, and why?", a.Verb))
	}
	return nil
}

func (s *State) approve(p *Plan, by string, now time.Time) error {
	switch {
	case slices.ContainsFunc(s.Approvals, func(a Approval) bool { return a.By == by }):
		return code.New("TS8103", s.Rollout, by+" has approved it: somebody else has to")
	case len(s.Approvals) >= s.Needed(p):
		return code.New("TS8103", s.Rollout, "nothing waits for an approval")
	}
	s.Approvals = append(s.Approvals, Approval{By: by, At: now})
	return nil
}

// forgive takes what failed so far out of the count.
func (s *State) forgive() {
	for _, r := range s.Records {
		r.Forgiven, r.Excused = r.Failure != "", r.Break != ""
	}
}
