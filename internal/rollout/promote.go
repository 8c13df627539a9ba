// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Ladder says how live patches go from tier to tier.
type Ladder struct {
	Rungs []Rung           `yaml:"rungs" json:"rungs"`
	Times `yaml:",inline"` // when promotions are made by themselves
}

// Rung is how a live patch gets from one tier to the next.
type Rung struct {
	From string `yaml:"from" json:"from"`
	To   string `yaml:"to" json:"to"`
	// Auto promotes it without a person, as soon as all of the rest holds.
	Auto bool `yaml:"auto,omitempty" json:"auto,omitempty"`
	// Soak is how long it has to be in From after its rollout there was done.
	Soak Duration `yaml:"soak,omitempty" json:"soak,omitempty"`
	// Well is how many machines of From have to be well with it.
	Well int `yaml:"well,omitempty" json:"well,omitempty"`
	// Approvals is how many people have to approve, for a person's promotion too.
	Approvals int `yaml:"approvals,omitempty" json:"approvals,omitempty"`
}

// Check holds for every ladder that is used (TS8105).
func (l *Ladder) Check(name string) error {
	bad := func(format string, args ...any) error { return code.New("TS8105", name, fmt.Sprintf(format, args...)) }
	to := map[string]string{}
	for i, r := range l.Rungs {
		switch {
		case r.From == "" || r.To == "" || r.From == r.To:
			return bad("rungs[%d]: from one tier to another", i)
		case to[r.From] != "":
			return bad("rungs[%d]: two ways lead from %s", i, r.From)
		case r.Soak < 0 || time.Duration(r.Soak) > maxTime:
			return bad("rungs[%d].soak: %s is not between 0 and %s", i, r.Soak, Duration(maxTime))
		case r.Well < 0 || r.Well > maxCount:
			return bad("rungs[%d].well: %d is no number of machines", i, r.Well)
		case r.Approvals < 0 || r.Approvals > 10:
			return bad("rungs[%d].approvals: %d is not 0 to 10", i, r.Approvals)
		}
		to[r.From] = r.To
		for at, n := r.To, 0; at != ""; at, n = to[at], n+1 {
			if at == r.From || n > len(l.Rungs) {
				return bad("rungs[%d]: the way leads in a circle", i)
			}
		}
	}
	return l.check(bad)
}

// Stage is a live patch in a tier.
type Stage struct {
	Tier  string
	Since time.Time // it is there
	// Phase is that of its rollout there; "" if there was none: all machines
	// could have it at once. Done is when that was over, or Since.
	Phase  Phase
	Reason string // of the phase
	Done   time.Time
	Well   int    // machines that are well with it now
	Over   string // why it is over the budget of its rollout by now: Health.Over
}

// Climb is what is known of a live patch on its way.
type Climb struct {
	Stage      Stage      // in the highest tier that has it
	Blocked    string     // why nobody may load it; ""
	Superseded string     // a newer live patch that is in the same tier or above; ""
	Above      bool       // the next tier has it already
	Approvals  []Approval // of this promotion
}

// Move is what is to be done with a live patch, and why.
type Move struct {
	Promote bool      `json:"promote"`      // now, to To
	Ready   bool      `json:"ready"`        // a person may: nothing speaks against it but that
	To      string    `json:"to,omitempty"` // "": there is nowhere to go
	Why     string    `json:"why"`
	Until   time.Time `json:"until,omitzero"`    // when this may change, if it is known
	Missing int       `json:"missing,omitempty"` // approvals
}

// Promote says whether a live patch goes to the next tier now. A person may
// promote it at any time, as far as its approvals are there: then this says
// what speaks against it.
func (l *Ladder) Promote(c Climb, now time.Time) Move {
	var rung *Rung
	for i := range l.Rungs {
		if l.Rungs[i].From == c.Stage.Tier {
			rung = &l.Rungs[i]
		}
	}
	if rung == nil {
		return Move{Why: "no way leads on from tier " + c.Stage.Tier}
	}
	v := Move{To: rung.To, Missing: max(0, rung.Approvals-approved(c.Approvals))}
	st, at := c.Stage, c.Stage.Done
	if st.Phase == "" {
		at = st.Since
	}
	ripe := at.Add(time.Duration(rung.Soak))
	why, until := l.Closed(now)
	say := func(format string, args ...any) Move {
		v.Why = fmt.Sprintf(format, args...)
		return v
	}
	switch {
	case c.Above:
		return say("tier %s has it", rung.To)
	case c.Blocked != "":
		return say("it is blocked: %s", c.Blocked)
	case c.Superseded != "":
		return say("%s goes in its place", c.Superseded)
	case st.Phase == Aborted || st.Phase == Halted || st.Phase == Reverting:
		return say("its rollout in tier %s is %s: %s", st.Tier, st.Phase, st.Reason)
	case st.Phase != "" && st.Phase != Done:
		return say("its rollout in tier %s is %s", st.Tier, st.Phase)
	case st.Over != "":
		return say("in tier %s it is over its budget: %s", st.Tier, st.Over)
	case st.Well < rung.Well:
		return say("%s well with it in tier %s, and it takes %s", some(st.Well, "are"), st.Tier, number(rung.Well))
	case now.Before(ripe):
		v.Until = ripe
		return say("it soaks in tier %s until %s", st.Tier, clock(ripe))
	}
	v.Ready = true
	switch {
	case v.Missing > 0:
		return say("it waits for the approval of %d more", v.Missing)
	case !rung.Auto:
		return say("it is ready, and waits for a person to promote it")
	case why != "":
		v.Until = until
		return say("it is ready; %s", why)
	}
	v.Promote = true
	return say("%s well with it in tier %s, where it soaked for %s", some(st.Well, "are"), st.Tier, rung.Soak)
}

// approved counts people.
func approved(all []Approval) int {
	people := map[string]bool{}
	for _, a := range all {
		people[a.By] = true
	}
	return len(people)
}
