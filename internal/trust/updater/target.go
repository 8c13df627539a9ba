// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// Index returns what the tier holds for a kernel, as of the last Refresh, and
// keeps it on the disk. It is nil, with no error, when the tier has nothing.
func (u *Updater) Index(ctx context.Context, tier, buildID string) (_ *trust.Index, err error) {
	defer survive(&err)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.trusted == nil {
		if err := u.refresh(ctx); err != nil {
			return nil, err
		}
	}
	role, err := u.tier(ctx, tier)
	if err != nil || role == nil {
		return nil, err
	}
	path := trust.IndexPath(tier, buildID)
	target, ok := role.meta.Signed.Targets[path]
	if !ok {
		return nil, u.keepTier(tier, role, buildID, nil, nil)
	}
	have := u.kept.Tiers[tier].indexes[buildID]
	body := have
	if have == nil || target.VerifyLengthHashes(have) != nil {
		if body, err = u.fetch(ctx, path, target); err != nil {
			return nil, err
		}
	}
	x, err := parseIndex(body, tier, buildID)
	if err != nil {
		return nil, err
	}
	floor, ok := u.kept.Floors[path]
	if ok && x.Sequence < floor.Sequence && sameKeys(floor.Keys, role.keys) {
		return nil, code.New("TS7118", path, fmt.Sprintf("it has number %d, and this machine has seen %d", x.Sequence, floor.Sequence))
	}
	return x, u.keepTier(tier, role, buildID, body, x)
}

// Cached returns the index that was verified last, without a network and
// whatever the time is: it is verified again, except that it may have expired.
// The time is that of the refresh it comes from. It is nil when there is none.
func (u *Updater) Cached(tier, buildID string) (_ *trust.Index, _ time.Time, err error) {
	defer survive(&err)
	u.mu.Lock()
	defer u.mu.Unlock()
	t, k, err := u.offline()
	if err != nil || t == nil {
		return nil, time.Time{}, err
	}
	files, ok := k.Tiers[tier]
	if !ok {
		return nil, k.Refreshed, nil
	}
	role := trust.TierRole(tier)
	m, err := t.UpdateDelegatedTargets(files.meta, role, metadata.TARGETS)
	if err != nil {
		return nil, k.Refreshed, u.problem(role+".json", t, err)
	}
	body := files.indexes[buildID]
	target := m.Signed.Targets[trust.IndexPath(tier, buildID)]
	if body == nil || target == nil {
		return nil, k.Refreshed, nil
	}
	if err := target.VerifyLengthHashes(body); err != nil {
		return nil, k.Refreshed, u.problem(trust.IndexPath(tier, buildID), t, err)
	}
	x, err := parseIndex(body, tier, buildID)
	return x, k.Refreshed, err
}

// offline is the state of the disk, verified without regard to time; nil when
// nothing was refreshed yet.
func (u *Updater) offline() (*trustedmetadata.TrustedMetadata, *kept, error) {
	root, err := u.loadRoot()
	if err != nil {
		return nil, nil, err
	}
	k, err := u.load()
	if err != nil || k.timestamp == nil {
		return nil, k, err
	}
	t, err := trustedmetadata.New(root)
	if err != nil {
		return nil, nil, code.New("TS7122", u.path(rootFile), "").With(err)
	}
	t.RefTime = time.Time{} // before everything: nothing has expired
	if _, err := t.UpdateTimestamp(k.timestamp); err != nil {
		return nil, nil, u.problem("timestamp.json", t, err)
	}
	if _, err := t.UpdateSnapshot(k.snapshot, false); err != nil {
		return nil, nil, u.problem("snapshot.json", t, err)
	}
	if _, err := t.UpdateTargets(k.targets); err != nil {
		return nil, nil, u.problem("targets.json", t, err)
	}
	return t, k, nil
}

// Patch fetches an encrypted live patch of a tier.
func (u *Updater) Patch(ctx context.Context, tier string, o trust.Offer) (cipher []byte, err error) {
	return u.File(ctx, tier, trust.PatchPath(tier, o.ID))
}

// Provenance fetches and verifies where a live patch of a tier comes from.
func (u *Updater) Provenance(ctx context.Context, tier string, o trust.Offer) (*trust.Provenance, error) {
	b, err := u.File(ctx, tier, trust.ProvenancePath(tier, o.ID))
	if err != nil {
		return nil, err
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	keys, err := tierKeys(u.trusted, trust.TierRole(tier))
	if err != nil {
		return nil, err
	}
	return trust.VerifyProvenance(b, keys, o.Digest)
}

// File fetches a file of a tier, verified.
func (u *Updater) File(ctx context.Context, tier, path string) (_ []byte, err error) {
	defer survive(&err)
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.trusted == nil {
		if err := u.refresh(ctx); err != nil {
			return nil, err
		}
	}
	role, err := u.tier(ctx, tier)
	if err != nil {
		return nil, err
	}
	if role == nil {
		return nil, code.New("TS7117", path, "there is no such tier")
	}
	target, ok := role.meta.Signed.Targets[path]
	if !ok {
		return nil, code.New("TS7117", path, "")
	}
	return u.fetch(ctx, path, target)
}

// role is a tier's role, verified.
type role struct {
	meta  *metadata.Metadata[metadata.TargetsType]
	bytes []byte
	keys  []string // ids of its keys
}

// tier loads the role that the tier's paths are delegated to. Nobody else's
// word counts for them: the first delegation that matches is terminating. It
// is nil when there is no such tier.
func (u *Updater) tier(ctx context.Context, tier string) (*role, error) {
	if !trust.TierName(tier) {
		return nil, code.New("TS7117", tier, "not the name of a tier")
	}
	name := trust.TierRole(tier)
	top := u.trusted.Targets[metadata.TARGETS]
	if top.Signed.Delegations == nil {
		return nil, nil
	}
	found := top.Signed.Delegations.GetRolesForTarget(tier + "/x")
	if len(found) == 0 {
		return nil, nil
	}
	if found[0].Name != name {
		return nil, code.New("TS7117", tier+"/", "its paths belong to "+found[0].Name)
	}
	keys, err := tierKeys(u.trusted, name)
	if err != nil {
		return nil, err
	}
	r := &role{}
	for _, k := range keys {
		r.keys = append(r.keys, k.ID())
	}
	slices.Sort(r.keys)
	if m := u.trusted.Targets[name]; m != nil {
		r.meta, r.bytes = m, u.kept.Tiers[tier].meta
		return r, nil
	}
	if r.bytes, err = u.fetchTargets(ctx, u.trusted, name, metadata.TARGETS, u.kept.Tiers[tier].meta); err != nil {
		return nil, err
	}
	r.meta = u.trusted.Targets[name]
	files := u.kept.Tiers[tier]
	files.meta = r.bytes
	u.kept = u.kept.withTier(tier, files)
	return r, nil
}

// fetch gets a target's file, which must be what its role says.
func (u *Updater) fetch(ctx context.Context, path string, target *metadata.TargetFiles) ([]byte, error) {
	sum, ok := target.Hashes["sha256"]
	if target.Length < 0 || target.Length > maxTarget || !ok {
		return nil, malformed(path, fmt.Sprintf("a length of %d, or no SHA-256", target.Length))
	}
	name := "targets/" + repo.Target{SHA256: hex.EncodeToString(sum)}.FilePath(path)
	b, err := u.source.Fetch(ctx, name, target.Length)
	if err != nil {
		return nil, u.fetchProblem(path, err)
	}
	if err := target.VerifyLengthHashes(b); err != nil {
		return nil, u.problem(path, u.trusted, err)
	}
	return b, nil
}

// keepTier writes down what the tier holds now.
func (u *Updater) keepTier(tier string, r *role, buildID string, body []byte, x *trust.Index) error {
	files := tierFiles{meta: r.bytes, indexes: map[string][]byte{}}
	floors := map[string]floor{}
	for p, f := range u.kept.Floors {
		floors[p] = f
	}
	if x != nil {
		// One kernel runs: the indexes of those before are not needed.
		files.indexes[buildID] = body
		floors[trust.IndexPath(tier, buildID)] = floor{Sequence: x.Sequence, Keys: r.keys}
	}
	next := u.kept.withTier(tier, files)
	next.Floors = floors
	have, _ := u.load()
	if err := u.save(have, next); err != nil {
		return err
	}
	u.kept = next
	return nil
}

func parseIndex(b []byte, tier, buildID string) (*trust.Index, error) {
	x, err := trust.ParseIndex(b)
	if err != nil {
		return nil, err
	}
	if x.Tier != tier || x.Target.BuildID != buildID {
		return nil, code.New("TS7115", trust.IndexPath(tier, buildID), "it is the index of "+trust.IndexPath(x.Tier, x.Target.BuildID))
	}
	return x, nil
}

// sameKeys says whether a tier is still signed by a key that it was signed by
// when the floor was set. When all were replaced, one of them was stolen and
// may have run ahead: the number starts anew.
func sameKeys(then, now []string) bool {
	return slices.ContainsFunc(then, func(id string) bool { return slices.Contains(now, id) })
}

func publicKey(k any) (trust.PublicKey, bool) {
	e, ok := k.(ed25519.PublicKey)
	if !ok {
		return trust.PublicKey{}, false
	}
	p, err := trust.NewPublicKey(e)
	return p, err == nil
}
