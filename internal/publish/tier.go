// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// TiersCheck is asked in the transaction that makes or removes a tier, with the
// tiers before and after that, and can refuse it.
type TiersCheck func(ctx context.Context, tx *store.Tx, before, after []store.Tier) error

func (j *job) checkTiers(ctx context.Context, before []store.Tier, all []TiersCheck) error {
	after, err := j.tx.Tiers(ctx)
	for _, c := range all {
		if err == nil {
			err = c(ctx, j.tx, before, after)
		}
	}
	return err
}

// AddTier makes a tier at a rank (0: the last) with a key of its own.
func (s *Service) AddTier(ctx context.Context, name string, rank int, actor string, checks ...TiersCheck) error {
	if !trust.TierName(name) {
		return code.New("TS7715", name, "")
	}
	return s.change(ctx, func(j *job) error {
		before, err := j.tx.Tiers(ctx)
		if err != nil {
			return err
		}
		if err := j.tx.CreateTier(ctx, name, rank); errors.Is(err, store.ErrConflict) {
			return code.New("TS7716", name, "it is there already")
		} else if err != nil {
			return err
		}
		if err := j.checkTiers(ctx, before, checks); err != nil {
			return err
		}
		k, err := s.newTierKey(ctx, j.tx, name)
		if err != nil {
			return err
		}
		if err := j.repo.AddTier(repo.Tier{Name: name, Keys: []trust.PublicKey{k.Public()}}); err != nil {
			return err
		}
		if err := j.blocksIn(ctx, name); err != nil {
			return err
		}
		return j.audit(ctx, actor, "tier.add", name, k.ID())
	})
}

// blocksIn makes the first indexes of a new tier, for machines that come to it
// with what is blocked.
func (j *job) blocksIn(ctx context.Context, tier string) error {
	all, err := j.tx.Indexes(ctx)
	if err != nil {
		return err
	}
	policies, err := Policies(ctx, j.tx.Reader)
	if err != nil {
		return err
	}
	done := map[string]bool{}
	for _, x := range all {
		if done[x.BuildID] {
			continue
		}
		done[x.BuildID] = true
		for _, policy := range slices.Sorted(maps.Keys(policies)) {
			if err := j.index(ctx, tier, x.BuildID, policy, false); err != nil {
				return err
			}
		}
		if err := j.listed(ctx, tier, x.BuildID); err != nil {
			return err
		}
	}
	return nil
}

// DeleteTier removes a tier that nothing is in.
func (s *Service) DeleteTier(ctx context.Context, name, actor string, checks ...TiersCheck) error {
	return s.change(ctx, func(j *job) error {
		before, err := j.tx.Tiers(ctx)
		if err != nil {
			return err
		}
		if err := j.tx.DeleteTier(ctx, name); errors.Is(err, store.ErrConflict) {
			return code.New("TS7716", name, "").With(err)
		} else if errors.Is(err, store.ErrNotFound) {
			return code.New("TS7703", name, "")
		} else if err != nil {
			return err
		}
		if err := j.checkTiers(ctx, before, checks); err != nil {
			return err
		}
		j.repo.RemoveTier(name)
		if err := j.tx.DeleteTUFRole(ctx, trust.TierRole(name)); err != nil {
			return err
		}
		return j.audit(ctx, actor, "tier.delete", name, "")
	})
}

// RotateTierKey gives a tier a new key; what its old one signs counts no more.
// Everything of the tier is signed anew.
func (s *Service) RotateTierKey(ctx context.Context, name, actor string, checks ...Check) error {
	return s.change(ctx, func(j *job) error {
		old := j.repo.TierKeys(name)
		if len(old) == 0 {
			return code.New("TS7703", name, "")
		}
		if err := j.check(ctx, name, checks); err != nil {
			return err
		}
		k, err := s.newTierKey(ctx, j.tx, name)
		if err != nil {
			return err
		}
		if err := j.repo.RotateTier(name, []trust.PublicKey{k.Public()}); err != nil {
			return err
		}
		settings, err := j.tx.Settings(ctx)
		if err != nil {
			return err
		}
		for _, id := range old {
			if settings[keySetting+id] != "" {
				if err := j.tx.SetSetting(ctx, keySetting+id, ""); err != nil {
					return err
				}
			}
		}
		pubs, err := j.tx.Publications(ctx, "", name)
		if err != nil {
			return err
		}
		for _, pub := range pubs {
			p, err := j.tx.LivePatch(ctx, pub.LivePatch)
			if err != nil {
				return err
			}
			if err := j.attest(ctx, p, name); err != nil {
				return err
			}
		}
		return j.audit(ctx, actor, "tier.key", name, fmt.Sprintf("%v replaced by %s", old, k.ID()))
	})
}

// looked is a repository that was read to look at, and of which generation it is.
type looked struct {
	generation int64
	repo       *repo.Repo
}

// open is the newest repository, to look at: nobody changes it. It is read once for
// each generation, for reading it takes tens of milliseconds, and a change of a
// policy has every index looked up anew.
func (s *Service) open(ctx context.Context) (*repo.Repo, error) {
	generation, err := s.store.TUFGeneration(ctx)
	if err != nil {
		return nil, err
	}
	if had := s.looked.Load(); had != nil && had.generation == generation {
		return had.repo, nil
	}
	files, generation, err := s.store.TUFFiles(ctx)
	if err != nil {
		return nil, err
	}
	if generation == 0 {
		return nil, code.New("TS7709", "", "")
	}
	r, err := repo.Open(byRole(files), nil, s.life)
	if err == nil {
		s.looked.Store(&looked{generation, r})
	}
	return r, err
}
