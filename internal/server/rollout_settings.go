// SPDX-License-Identifier: Apache-2.0

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

// settingRollouts is the name of the setting with what follows.
const settingRollouts = "rollouts"

// rolloutSettings are how tiers get their live patches, as they are stored.
type rolloutSettings struct {
	api.RolloutSettings
	// Exempt are, of tiers that get live patches by rollouts only, those that
	// were in the tier when that was set: all machines may have them.
	Exempt map[string][]string `json:"exempt,omitempty"`
}

// only reports whether a live patch comes to a tier's machines by a rollout and
// in no other way.
func (r *rolloutSettings) only(tier, patch string) bool {
	return r.Tiers[tier].Only && !slices.Contains(r.Exempt[tier], patch)
}

func readRolloutSettings(ctx context.Context, r store.Reader) (*rolloutSettings, error) {
	set := &rolloutSettings{}
	text, err := r.Setting(ctx, settingRollouts)
	if err != nil && !errors.Is(err, store.ErrNotFound) {
		return nil, err
	}
	if text != "" {
		if err := json.Unmarshal([]byte(text), set); err != nil {
			return nil, fmt.Errorf("setting %s: %w", settingRollouts, err)
		}
	}
	if set.Tiers == nil {
		set.Tiers = map[string]api.RolloutTier{}
	}
	if set.Ladder.Rungs == nil {
		set.Ladder.Rungs = []api.RolloutRung{}
	}
	return set, nil
}

// setRolloutSettings checks and stores settings. Nothing is published
// meanwhile, so that each live patch of a tier is either exempt or not.
func (s *Server) setRolloutSettings(ctx context.Context, who operator, in api.RolloutSettings) (api.RolloutSettings, error) {
	if _, err := ladderOf(in.Ladder); err != nil {
		return in, err
	}
	for name, t := range in.Tiers {
		if t.Plan == nil {
			continue
		}
		if _, err := planOf("tiers."+name+".plan", t.Plan); err != nil {
			return in, err
		}
	}
	now := s.now().UnixMilli()
	set := &rolloutSettings{}
	err := s.store.Update(ctx, func(tx *store.Tx) error {
		if err := tx.LockTUF(ctx); err != nil {
			return err
		}
		before, err := readRolloutSettings(ctx, tx.Reader)
		if err != nil {
			return err
		}
		tiers, err := tx.Tiers(ctx)
		if err != nil {
			return err
		}
		is := func(name string) bool {
			return slices.ContainsFunc(tiers, func(t store.Tier) bool { return t.Name == name })
		}
		for _, r := range in.Ladder.Rungs {
			for _, name := range []string{r.From, r.To} {
				if !is(name) {
					return code.New("TS7703", name, "")
				}
			}
		}
		*set = rolloutSettings{RolloutSettings: api.RolloutSettings{Tiers: map[string]api.RolloutTier{}, Ladder: in.Ladder}, Exempt: map[string][]string{}}
		for name, t := range in.Tiers {
			if !is(name) {
				return code.New("TS7703", name, "")
			}
			t.Since = 0
			switch {
			case t.Only && before.Tiers[name].Only:
				t.Since, set.Exempt[name] = before.Tiers[name].Since, before.Exempt[name]
			case t.Only:
				t.Since = now
				pubs, err := tx.Publications(ctx, "", name)
				if err != nil {
					return err
				}
				for _, p := range pubs {
					set.Exempt[name] = append(set.Exempt[name], p.LivePatch)
				}
			}
			set.Tiers[name] = t
		}
		b, err := json.Marshal(set)
		if err != nil {
			return err
		}
		if err := tx.SetSetting(ctx, settingRollouts, string(b)); err != nil {
			return err
		}
		said, err := json.Marshal(set.RolloutSettings)
		if err != nil {
			return err
		}
		return tx.Audit(ctx, store.AuditEntry{Actor: who.name, Action: "rollout.settings", Object: "server", Detail: string(said)})
	})
	if err != nil {
		return in, err
	}
	s.shelves.clear()
	s.rollSoon()
	return s.rolloutSettingsOut(ctx)
}

func (s *Server) rolloutSettingsOut(ctx context.Context) (api.RolloutSettings, error) {
	set, err := readRolloutSettings(ctx, s.store.Reader)
	if err != nil {
		return api.RolloutSettings{}, err
	}
	return set.RolloutSettings, nil
}

// planOf is a plan of the API, filled and checked.
func planOf(name string, in *api.RolloutPlan) (rollout.Plan, error) {
	var p rollout.Plan
	if in != nil {
		if err := convert(in, &p); err != nil {
			return p, code.New("TS8101", name, err.Error())
		}
	}
	p = p.Filled()
	return p, p.Check(name)
}

// planOut is a plan in the API's words.
func planOut(p *rollout.Plan) api.RolloutPlan {
	var out api.RolloutPlan
	if err := convert(p, &out); err != nil {
		panic(err) // the two are written by each other: TestPlansAreTheSame
	}
	return out
}

// ladderOf is a ladder of the API, checked.
func ladderOf(in api.RolloutLadder) (*rollout.Ladder, error) {
	var l rollout.Ladder
	if err := convert(in, &l); err != nil {
		return nil, code.New("TS8105", "ladder", err.Error())
	}
	return &l, l.Check("ladder")
}

// convert takes what package api says to package rollout and back: they have
// the same words, and neither knows the other.
func convert(from, to any) error {
	b, err := json.Marshal(from)
	if err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	return d.Decode(to)
}
