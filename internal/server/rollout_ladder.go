// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/people"
	"github.com/tsugi-project/tsugi/internal/rollout"
	"github.com/tsugi-project/tsugi/internal/store"
)

// climbing is how many live patches of a tier, the newest of them, are looked at
// on the ladder. What is older has had its time.
const climbing = 20

// ladderActor is the name of the ladder in logs.
const ladderActor = "ladder"

// climb promotes what the ladder lets go to the next tier by itself.
func (s *Server) climb(ctx context.Context) error {
	set := s.rolling.settings.Load()
	if set == nil || !slices.ContainsFunc(set.Ladder.Rungs, func(r api.RolloutRung) bool { return r.Auto }) {
		return nil
	}
	moves, err := s.promotions(ctx)
	if err != nil {
		return err
	}
	var failed error
	for _, m := range moves {
		if !m.move.Promote {
			continue
		}
		alone := func(ctx context.Context, tx *store.Tx, tier string) error { return people.Alone(ctx, tx.Reader, tier) }
		if _, err := s.publish.Promote(ctx, m.LivePatch, m.move.To, ladderActor, alone); err != nil {
			failed = errors.Join(failed, fmt.Errorf("%s to tier %s: %w", m.LivePatch, m.move.To, err))
			continue
		}
		s.log.Info("live patch promoted by the ladder", "patch", m.LivePatch, "tier", m.move.To, "why", m.move.Why)
	}
	return failed
}

// promotion is how a live patch stands on the ladder.
type promotion struct {
	api.Promotion
	move rollout.Move
}

// promotions looks at the newest live patches of each tier that a way leads on
// from.
func (s *Server) promotions(ctx context.Context) ([]promotion, error) {
	set, err := readRolloutSettings(ctx, s.store.Reader)
	if err != nil {
		return nil, err
	}
	ladder, err := ladderOf(set.Ladder)
	if err != nil {
		return nil, err
	}
	tiers, err := s.store.Tiers(ctx)
	if err != nil {
		return nil, err
	}
	two, err := s.people.NeedsApproval(ctx, people.ApprovePromote)
	if err != nil {
		return nil, err
	}
	var out []promotion
	well := s.wellByTier()
	for _, rung := range ladder.Rungs {
		found, err := s.store.LivePatches(ctx, store.LivePatchFilter{Tier: rung.From, Bare: true, Limit: climbing})
		if err != nil {
			return nil, err
		}
		for _, p := range found {
			if p.Tiers[len(p.Tiers)-1] != rung.From {
				continue // it is higher already
			}
			c, err := s.climbOf(ctx, p, rung, found, set)
			if err != nil {
				return nil, err
			}
			c.Stage.Well = well[[2]string{rung.From, p.ID}]
			m := ladder.Promote(c, s.now())
			if m.Promote && people.Guarded(tiers, rung.To) && two {
				m.Promote, m.Missing, m.Why = false, max(m.Missing, 1), "it is ready, and waits for two people to promote it: that is asked for in the last tier"
			}
			out = append(out, promotion{api.Promotion{
				LivePatch: p.ID, Tier: rung.From, To: m.To, Ready: m.Ready, Why: m.Why, Until: millis(m.Until), Missing: m.Missing,
			}, m})
		}
	}
	return out, nil
}

// wellByTier counts the machines that are well, by tier and live patch, all at
// once: a fleet may be large, and the ladder long.
func (s *Server) wellByTier() map[[2]string]int {
	well := map[[2]string]int{}
	s.fleet.each(func(m *member) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.gone {
			return
		}
		m.patches(func(id string, state api.State) {
			if state == api.Healthy {
				well[[2]string{m.tier, id}]++
			}
		})
	})
	return well
}

// climbOf is what the ladder has to know of a live patch, but for how many
// machines are well with it. found are those of its tier.
func (s *Server) climbOf(ctx context.Context, p store.LivePatch, rung rollout.Rung, found []store.LivePatch, set *rolloutSettings) (rollout.Climb, error) {
	c := rollout.Climb{Stage: rollout.Stage{Tier: rung.From}, Above: slices.Contains(p.Tiers, rung.To)}
	if p.Blocked != 0 {
		c.Blocked = either(p.Reason, "by a person")
	}
	for _, o := range found {
		if o.ID != p.ID && o.BuildID == p.BuildID && o.Version > p.Version && o.Blocked == 0 && covers(o.Policies, p.Policies) {
			c.Superseded = o.ID
		}
	}
	pubs, err := s.store.Publications(ctx, p.ID, rung.From)
	if err != nil {
		return c, err
	}
	for _, pub := range pubs {
		c.Stage.Since = time.UnixMilli(pub.Published)
	}
	switch r := s.rollouts.of(p.ID, rung.From); {
	case r != nil:
		head, _ := r.head()
		c.Stage.Phase, c.Stage.Reason, c.Stage.Done = head.Phase, head.Reason, head.Since
		if st, err := s.rolloutStanding(ctx, r); err != nil {
			return c, err
		} else if !r.rests() {
			c.Stage.Over = st.Health.Over
		}
	case set.only(rung.From, p.ID):
		c.Stage.Phase, c.Stage.Reason = rollout.Pending, "its rollout has not begun"
	}
	return c, nil
}
