// SPDX-License-Identifier: Apache-2.0

package server

import (
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// adopt begins rollouts of what came to tiers that get live patches by rollouts
// alone: of the newest that a policy's machines could have.
func (s *Server) adopt(ctx context.Context) error {
	set := s.rolling.settings.Load()
	if set == nil {
		return nil
	}
	var failed error
	for _, tier := range slices.Sorted(maps.Keys(set.Tiers)) {
		if !set.Tiers[tier].Only {
			continue
		}
		pubs, err := s.store.Publications(ctx, "", tier)
		if err != nil {
			return err
		}
		kernels := map[string]bool{}
		for _, p := range pubs {
			if !set.only(tier, p.LivePatch) || s.rollouts.of(p.LivePatch, tier) != nil {
				continue
			}
			lp, err := s.store.LivePatch(ctx, p.LivePatch)
			if err != nil {
				return err
			}
			kernels[lp.BuildID] = true
		}
		for buildID := range kernels {
			failed = errors.Join(failed, s.adoptNewest(ctx, tier, buildID, set.Tiers[tier].Plan))
		}
	}
	return failed
}

func (s *Server) adoptNewest(ctx context.Context, tier, buildID string, plan *api.RolloutPlan) error {
	words, err := s.policyWords(ctx, tier, buildID)
	if err != nil {
		return err
	}
	for _, word := range words {
		shelf, err := s.shelves.get(ctx, tier, buildID, word)
		if err != nil {
			return err
		}
		if len(shelf.ids) == 0 {
			continue
		}
		last := len(shelf.ids) - 1
		if shelf.gates == nil || shelf.gates[last] == nil || shelf.gates[last].rollout != nil || s.rollouts.of(shelf.ids[last], tier) != nil {
			continue
		}
		if _, err := s.newRollout(ctx, rolloutActor, shelf.ids[last], tier, plan); err != nil {
			return err
		}
	}
	return nil
}

// policyWords are the policies, by word, that have anything in a tier for a
// kernel.
func (s *Server) policyWords(ctx context.Context, tier, buildID string) ([]string, error) {
	names, err := s.store.PoliciesIn(ctx, tier, buildID)
	for i, name := range names {
		names[i] = trust.PolicyWord(name)
	}
	return names, err
}
