// SPDX-License-Identifier: Apache-2.0

package fleetfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/rollout"
)

// Rollouts are how live patches come to tiers, and climb from one to the next:
// docs/rollouts.md.
type Rollouts struct {
	Tiers  map[string]RolloutTier `yaml:"tiers,omitempty"`
	Ladder *rollout.Ladder        `yaml:"ladder,omitempty"` // nil: the server keeps its own
}

// RolloutTier is how live patches come to the machines of a tier.
type RolloutTier struct {
	Only bool          `yaml:"only,omitempty"` // by rollouts, and in no other way
	Plan *rollout.Plan `yaml:"plan,omitempty"` // of the tier's rollouts; nil: that of docs/rollouts.md
}

// restate says a value of package rollout in the words of package api, or back:
// they have the same, and neither knows the other.
func restate(from, to any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(to)
}

func (t RolloutTier) wire() (out api.RolloutTier, err error) {
	out.Only = t.Only
	if t.Plan != nil {
		out.Plan = &api.RolloutPlan{}
		err = restate(t.Plan, out.Plan)
	}
	return out, err
}

func unwireRolloutTier(t api.RolloutTier) (out RolloutTier, err error) {
	out.Only = t.Only
	if t.Plan != nil {
		out.Plan = &rollout.Plan{}
		err = restate(t.Plan, out.Plan)
	}
	return out, err
}

// unwireRollouts is nil for a server where nothing is set.
func unwireRollouts(have api.RolloutSettings) (*Rollouts, error) {
	if len(have.Tiers) == 0 && len(have.Ladder.Rungs) == 0 {
		return nil, nil
	}
	out := &Rollouts{Tiers: map[string]RolloutTier{}, Ladder: &rollout.Ladder{}}
	for name, t := range have.Tiers {
		u, err := unwireRolloutTier(t)
		if err != nil {
			return nil, err
		}
		out.Tiers[name] = u
	}
	return out, restate(have.Ladder, out.Ladder)
}

func (c *checker) rollouts(r *Rollouts) {
	if r == nil {
		return
	}
	c.count("rollouts.tiers", len(r.Tiers), maxTiers)
	said := func(where string, err error) {
		if p, ok := errors.AsType[*code.Problem](err); ok {
			c.bad(where, "%s", p.Why)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Tiers)) {
		if p := r.Tiers[name].Plan; p != nil {
			filled := p.Filled()
			where := "rollouts.tiers." + name + ".plan"
			said(where, filled.Check(where))
		}
	}
	if r.Ladder != nil {
		said("rollouts.ladder", r.Ladder.Check("rollouts.ladder"))
	}
}

// rollouts plans how live patches come to tiers: one step for all of it.
func (p *planner) rollouts() {
	r := p.file.Rollouts
	if r == nil {
		return
	}
	at := "rollouts"
	want := api.RolloutSettings{Tiers: map[string]api.RolloutTier{}, Ladder: p.have.Rollouts.Ladder}
	s := Step{Do: Change, Kind: KindRollouts, Name: "settings"}
	for _, name := range slices.Sorted(maps.Keys(p.have.Rollouts.Tiers)) {
		if _, ok := r.Tiers[name]; ok {
			continue
		}
		have := p.have.Rollouts.Tiers[name]
		if r.Tiers != nil && p.prune {
			s.Changes = append(s.Changes, Difference{What: "tier " + name, From: canonical(have)})
			continue
		}
		if r.Tiers != nil {
			p.note("how rollouts go in tier " + name + " is not in the file and stays")
		}
		want.Tiers[name] = have
	}
	for _, name := range slices.Sorted(maps.Keys(r.Tiers)) {
		if !slices.Contains(p.order, name) {
			p.unknown(at+".tiers", "there is no tier "+name)
			continue
		}
		t, err := r.Tiers[name].wire()
		if err != nil {
			p.impossible(at+".tiers."+name, err.Error())
			continue
		}
		want.Tiers[name] = t
		old, there := p.have.Rollouts.Tiers[name]
		from, to := "", canonical(t)
		if there {
			from = canonical(old)
		}
		if from != to && (there || t.Only || t.Plan != nil) {
			s.Changes = append(s.Changes, Difference{What: "tier " + name, From: from, To: to})
		}
	}
	if r.Ladder != nil {
		for i, rung := range r.Ladder.Rungs {
			for _, name := range []string{rung.From, rung.To} {
				if !slices.Contains(p.order, name) {
					p.unknown(fmt.Sprintf("%s.ladder.rungs[%d]", at, i), "there is no tier "+name)
				}
			}
		}
		want.Ladder = api.RolloutLadder{}
		if err := restate(r.Ladder, &want.Ladder); err != nil {
			p.impossible(at+".ladder", err.Error())
			return
		}
		if from, to := canonicalLadder(p.have.Rollouts.Ladder), canonicalLadder(want.Ladder); from != to {
			s.Changes = append(s.Changes, Difference{What: "ladder", From: from, To: to})
		}
	}
	if want.Ladder.Rungs == nil {
		want.Ladder.Rungs = []api.RolloutRung{}
	}
	if len(s.Changes) > 0 {
		s.rollouts = want
		p.step(s)
	}
}

// canonical is a tier's settings in one way of writing them: 60m is 1h.
func canonical(t api.RolloutTier) string {
	u, err := unwireRolloutTier(t)
	if err == nil {
		t, err = u.wire()
	}
	return inJSON(struct {
		Only bool             `json:"only"`
		Plan *api.RolloutPlan `json:"plan,omitempty"`
	}{t.Only, t.Plan}, err)
}

func canonicalLadder(l api.RolloutLadder) string {
	var r rollout.Ladder
	err := restate(l, &r)
	if err == nil && len(r.Rungs) == 0 && len(r.Windows) == 0 && len(r.Freezes) == 0 && r.Zone == "" {
		return ""
	}
	return inJSON(r, err)
}

// inJSON is a value, or why it is none: that differs from what is wanted too.
func inJSON(v any, err error) string {
	b, merr := json.Marshal(v)
	if err := errors.Join(err, merr); err != nil {
		return "unreadable: " + err.Error()
	}
	return string(b)
}
