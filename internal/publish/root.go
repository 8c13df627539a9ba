// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"strconv"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// RootDigest is the SHA-256 of the first root, which machines pin.
func (s *Service) RootDigest(ctx context.Context) (string, error) {
	b, err := s.FirstRoot(ctx)
	return digest(b), err
}

// FirstRoot is the root that machines begin with.
func (s *Service) FirstRoot(ctx context.Context) ([]byte, error) {
	files, _, err := s.store.TUFFiles(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range files {
		if f.Role == repo.RoleRoot && f.Version == 1 {
			return f.Body, nil
		}
	}
	return nil, code.New("TS7709", "", "")
}

// RoleStatus is how a role of the repository stands.
type RoleStatus struct {
	Name      string
	Version   int64
	Expires   time.Time
	Life      time.Duration // of a signature that is new
	Threshold int
	Keys      []string
}

// Status tells how the repository stands, root first.
func (s *Service) Status(ctx context.Context) ([]RoleStatus, error) {
	files, _, err := s.store.TUFFiles(ctx)
	if err != nil {
		return nil, err
	}
	if len(files) == 0 {
		return nil, code.New("TS7709", "", "")
	}
	r, err := repo.Open(byRole(files), nil, s.life)
	if err != nil {
		return nil, err
	}
	root, err := repo.ReadRoot(r.Root())
	if err != nil {
		return nil, err
	}
	versions, ends := r.Versions(), r.Expiries()
	life := map[string]time.Duration{
		repo.RoleRoot: s.life.Root, repo.RoleTargets: s.life.Targets, repo.RoleSnapshot: s.life.Snapshot, repo.RoleTimestamp: s.life.Timestamp,
	}
	var out []RoleStatus
	for _, role := range []string{repo.RoleRoot, repo.RoleTargets, repo.RoleSnapshot, repo.RoleTimestamp} {
		st := RoleStatus{Name: role, Version: versions[role], Expires: ends[role], Life: life[role], Threshold: root.Roles[role].Threshold}
		for _, k := range root.Roles[role].Keys {
			st.Keys = append(st.Keys, k.ID())
		}
		out = append(out, st)
	}
	for _, tier := range r.Tiers() {
		role := trust.TierRole(tier)
		out = append(out, RoleStatus{Name: role, Version: versions[role], Expires: ends[role], Life: s.life.Tier, Threshold: 1, Keys: r.TierKeys(tier)})
	}
	return out, nil
}

// ImportRoot takes the next root, signed by people. Keys that it names for the
// online roles must be at hand.
func (s *Service) ImportRoot(ctx context.Context, root []byte, actor string, checks ...Check) error {
	return s.change(ctx, func(j *job) error {
		if string(j.repo.Root()) == string(root) {
			return nil
		}
		if err := j.check(ctx, "", checks); err != nil {
			return err
		}
		if err := j.repo.ImportRoot(root, s.now()); err != nil {
			return err
		}
		said, err := repo.ReadRoot(root)
		if err != nil {
			return err
		}
		return j.audit(ctx, actor, "trust.root", "version "+strconv.FormatInt(said.Version, 10), digest(root))
	})
}

// Advance lifts all version numbers above any that machines can have seen. A
// server that was restored from a backup calls it once.
func (s *Service) Advance(ctx context.Context, actor string) error {
	return s.change(ctx, func(j *job) error {
		j.repo.Advance(s.now())
		if err := j.tx.SetSetting(ctx, baseSetting, strconv.FormatInt(s.now().Unix(), 10)); err != nil {
			return err
		}
		indexes, err := j.tx.Indexes(ctx)
		if err != nil {
			return err
		}
		for _, x := range indexes {
			if err := j.index(ctx, x.Tier, x.BuildID, x.Policy, true); err != nil {
				return err
			}
		}
		for _, tier := range j.repo.Tiers() {
			x, err := j.s.signedPackages(ctx, j.repo, tier)
			if err != nil {
				return err
			}
			if x == nil {
				continue
			}
			if err := j.signPackages(ctx, x); err != nil {
				return err
			}
		}
		return j.audit(ctx, actor, "trust.advance", "", "")
	})
}
