// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Next says what to do now, in this order: take every step into the state, and
// ask again until nothing comes. The plan is the checked one that the rollout
// was made with: its waves do not change under way.
//
//   - Nothing is offered while what the machines did since is not yet in the
//     state, so never over budget either.
//   - A machine that has begun to load the live patch is never offered it again.
//   - Places are given in the order of the hash; of a wave that is not full,
//     also to machines that have come since.
func Next(p *Plan, s *State, f *Facts, now time.Time) []Step {
	if s.Phase == Pending {
		return begin(p, s, f, now)
	}
	if marks := look(p, s, f, now); len(marks) > 0 {
		return marks
	}
	switch s.Phase {
	case Running:
		return run(p, s, f, now)
	case Halted:
		if steps := withdraw(s, "the rollout is halted"); steps != nil {
			return steps
		}
		if p.Revert && s.By == "" && f.Blocked == "" && Assess(p, s, f, now).Over != "" {
			return []Step{{What: Revert, Wave: s.Wave, Why: "the plan takes it out when it is over budget: " + s.Reason}}
		}
	case Reverting:
		return revert(p, s, f, now)
	case Aborted:
		return withdraw(s, "the rollout is aborted")
	}
	return nil
}

func begin(p *Plan, s *State, f *Facts, now time.Time) []Step {
	if f.Superseded != "" {
		return []Step{{What: Close, Why: f.Superseded + " took its place before it began"}}
	}
	if len(s.Approvals) < s.Needed(p) || now.Before(p.Start) || f.Blocked != "" {
		return nil
	}
	why := "it is time"
	if names := approvers(s); names != "" {
		why = "approved by " + names
	}
	return []Step{{What: Begin, Why: why}}
}

func approvers(s *State) string {
	names := make([]string, len(s.Approvals))
	for i, a := range s.Approvals {
		names[i] = a.By
	}
	return strings.Join(names, " and ")
}

// look brings the records to what the facts say. The steps come in a fixed
// order, their machines in that of their ids.
func look(p *Plan, s *State, f *Facts, now time.Time) []Step {
	if len(s.Records) == 0 {
		return nil
	}
	type kind struct {
		What
		Failure
	}
	found := map[kind][]Mark{}
	judged := 0
	note := func(id string, m *Machine, r *Record) {
		if v := judge(p, s, f, m, r, now); v.What != "" {
			k := kind{v.What, v.Failure}
			found[k] = append(found[k], Mark{Machine: id, At: v.at, Boot: v.boot, Failed: v.failed})
		}
	}
	for i := range f.Machines {
		m := &f.Machines[i]
		if r := s.Records[m.ID]; r != nil {
			judged++
			note(m.ID, m, r)
		}
	}
	if judged < len(s.Records) {
		there := make(map[string]bool, len(f.Machines))
		for i := range f.Machines {
			there[f.Machines[i].ID] = true
		}
		for id, r := range s.Records {
			if !there[id] {
				note(id, nil, r)
			}
		}
	}
	steps := make([]Step, 0, len(found))
	for k, marks := range found {
		slices.SortFunc(marks, func(a, b Mark) int { return cmp.Compare(a.Machine, b.Machine) })
		steps = append(steps, Step{What: k.What, Failure: k.Failure, Machines: marks, Wave: s.Wave, Why: tell(k.What, k.Failure, len(marks), p)})
	}
	slices.SortFunc(steps, func(a, b Step) int {
		return cmp.Or(cmp.Compare(a.What, b.What), cmp.Compare(a.Failure, b.Failure))
	})
	return steps
}

func tell(w What, fail Failure, n int, p *Plan) string {
	switch w {
	case MarkFail:
		return machines(n) + " " + fail.words()
	case MarkOn:
		return machines(n) + " began to load it"
	case MarkBack:
		return machines(n) + " heard of again, in the same boot"
	case MarkWell:
		return fmt.Sprintf("%s well with it for %s", some(n, "have been"), p.Settle)
	case MarkLate:
		return fmt.Sprintf("%s did not begin within %s: they get it after the rollout", machines(n), p.Patience)
	}
	return machines(n) + " went to another tier, kernel or live patch, or left"
}

// withdraw takes back what was offered and not begun.
func withdraw(s *State, why string) []Step {
	var back, late []Mark
	for id, r := range s.Records {
		switch {
		case r.Status != Offered:
		case r.Offers >= maxOffers:
			late = append(late, Mark{Machine: id})
		default:
			back = append(back, Mark{Machine: id})
		}
	}
	var steps []Step
	for what, marks := range map[What][]Mark{Withdraw: back, MarkLate: late} {
		if len(marks) > 0 {
			slices.SortFunc(marks, func(a, b Mark) int { return cmp.Compare(a.Machine, b.Machine) })
			steps = append(steps, Step{What: what, Machines: marks, Wave: s.Wave, Why: why + ": they have not begun"})
		}
	}
	slices.SortFunc(steps, func(a, b Step) int { return cmp.Compare(a.What, b.What) })
	return steps
}

// maxOffers is how often a machine is offered it in vain.
const maxOffers = 5

// run is a step of a rollout that runs and whose state is up to date.
func run(p *Plan, s *State, f *Facts, now time.Time) []Step {
	h := Assess(p, s, f, now)
	halt := func(format string, args ...any) []Step {
		return []Step{{What: Halt, Wave: s.Wave, Why: fmt.Sprintf(format, args...)}}
	}
	switch {
	case f.Blocked != "":
		return halt("the live patch is blocked: %s", f.Blocked)
	case f.Superseded != "":
		return []Step{{What: Close, Wave: s.Wave, Why: f.Superseded + " took its place"}}
	case h.Over != "":
		return halt("%s", h.Over)
	}
	urgent := s.urgent(p)
	why, _ := p.Closed(now)
	if why != "" && !urgent {
		if steps := withdraw(s, why); steps != nil {
			return steps
		}
	}
	if urgent {
		return rush(p, s, f, h, now)
	}
	return advance(p, s, f, h, why != "", now)
}

// rush offers it to all at once.
func rush(p *Plan, s *State, f *Facts, h Health, now time.Time) []Step {
	last := len(p.Waves) - 1
	marks := pick(s, f, now, len(f.Machines))
	if s.Wave != last || !s.Soaking.IsZero() && len(marks) > 0 {
		return []Step{{What: Open, Wave: last, Why: "emergency, approved by " + approvers(s) + ": all machines at once"}}
	}
	if len(marks) > 0 {
		return []Step{{What: Offer, Machines: marks, Wave: last, Why: machines(len(marks)) + ": emergency, all at once"}}
	}
	return end(p, s, h, now)
}

// advance goes on with the wave, or to the next.
func advance(p *Plan, s *State, f *Facts, h Health, closed bool, now time.Time) []Step {
	room := places(p, s.Wave, h.Machines) - h.WaveUsed
	if s.Skip || !s.Soaking.IsZero() || room <= 0 {
		return end(p, s, h, now)
	}
	free := Flight(p, h) - h.Offered - h.Begun
	if closed {
		free = 0
	}
	marks := pick(s, f, now, max(min(room, free), 1))
	switch {
	case len(marks) == 0:
		return end(p, s, h, now)
	case free <= 0:
		return nil // somebody waits, and no place is free before another settles
	}
	why := fmt.Sprintf("%s of wave %d; %s well so far", machines(len(marks)), s.Wave+1, number(h.Well))
	return []Step{{What: Offer, Machines: marks, Wave: s.Wave, Why: why}}
}

// end ends a wave to which nobody is to be added.
func end(p *Plan, s *State, h Health, now time.Time) []Step {
	wave, room := p.Waves[s.Wave], places(p, s.Wave, h.Machines)
	if !s.Skip {
		used := h.WaveSize > 0
		switch {
		case h.Offered+h.Begun > 0 && s.Soaking.IsZero():
			return nil
		case s.Soaking.IsZero() && 2*h.WaveUsed < room:
			// Else a fleet that sleeps over the weekend would be at the last
			// wave when it wakes.
			if now.Sub(s.Opened) < time.Duration(p.Patience) || now.Sub(h.last) < time.Duration(p.Patience) {
				return nil
			}
			return []Step{{What: Halt, Wave: s.Wave, Why: fmt.Sprintf("only %s of %s up to wave %d could be given it, and none could for %s: resume when more can be reached, or skip the wave", number(h.WaveUsed), machines(room), s.Wave+1, p.Patience)}}
		case s.Soaking.IsZero() && used && h.WaveWell == 0:
			return []Step{{What: Halt, Wave: s.Wave, Why: fmt.Sprintf("no machine of wave %d is well with it, so nothing is proven: resume to try others, or skip the wave", s.Wave+1)}}
		case s.Soaking.IsZero() && used && wave.Soak > 0:
			return []Step{{What: Soak, Wave: s.Wave, Why: fmt.Sprintf("wave %d soaks for %s: %s well with it", s.Wave+1, wave.Soak, some(h.WaveWell, "are"))}}
		case !s.Soaking.IsZero() && now.Sub(s.Soaking) < time.Duration(wave.Soak):
			return nil
		}
	}
	if next := s.Wave + 1; next < len(p.Waves) {
		return []Step{{What: Open, Wave: next, Why: fmt.Sprintf("wave %d, up to %s (%s): %s well, within budget", next+1, p.Waves[next].Upto, machines(places(p, next, h.Machines)), number(h.Well))}}
	}
	if h.Machines > 0 && !s.Skip && 2*h.Well < h.Machines {
		return []Step{{What: Halt, Wave: s.Wave, Why: fmt.Sprintf("only %s of %s have it and are well: resume when more can be reached, or skip to let all others have it when they come", number(h.Well), machines(h.Machines))}}
	}
	return []Step{{What: Finish, Wave: s.Wave, Why: fmt.Sprintf("%s of %s well; the others may have it when they come", number(h.Well), machines(h.Machines))}}
}

// revert waits until the live patch is out of all machines that are heard of.
func revert(p *Plan, s *State, f *Facts, now time.Time) []Step {
	if steps := withdraw(s, "it is being taken out"); steps != nil {
		return steps
	}
	var left []Mark
	for i := range f.Machines {
		m := &f.Machines[i]
		if r := s.Records[m.ID]; r != nil && !m.Gone && has(m.State) && !f.silent(m, now) {
			left = append(left, Mark{Machine: m.ID})
		}
	}
	slices.SortFunc(left, func(a, b Mark) int { return cmp.Compare(a.Machine, b.Machine) })
	switch {
	case !f.Recalled && now.Sub(s.Told) >= time.Minute:
		return []Step{{What: Recall, Machines: left, Wave: s.Wave, Why: s.Reason}}
	case !f.Recalled:
	case len(left) == 0:
		return []Step{{What: Close, Wave: s.Wave, Why: "it is out of all machines that are heard of; " + s.Reason}}
	case now.Sub(s.Since) >= time.Duration(p.Patience):
		return []Step{{What: Close, Wave: s.Wave, Why: fmt.Sprintf("%s not taken it out after %s, though told to; %s", some(len(left), "have"), p.Patience, s.Reason)}}
	}
	return nil
}
