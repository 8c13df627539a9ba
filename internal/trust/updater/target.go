// SPDX-License-Identifier: Apache-2.0

package updater

import (
	"context"
	"crypto/ed25519"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"
	"github.com/theupdateframework/go-tuf/v2/metadata/trustedmetadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// Index returns what the tier holds for a kernel, or a package by its id, and a
// policy, "" for the default one, as of the last Refresh, and keeps it on the
// disk. It is nil, with no error, when the tier has nothing.
func (u *Updater) Index(ctx context.Context, tier, buildID, policy string) (_ *trust.Index, err error) {
	defer survive(&err)
	u.mu.Lock()
	defer u.mu.Unlock()
	at := place{tier, buildID, trust.PolicyWord(policy)}
	body, role, err := u.current(ctx, at)
	if err != nil || role == nil {
		return nil, err
	}
	if body == nil {
		return nil, u.keep(at, role, nil, 0)
	}
	x, err := parseIndex(body, at)
	if err != nil {
		return nil, err
	}
	if floor := u.floor(at, role); x.Sequence < floor {
		return nil, code.New("TS7118", at.path(), fmt.Sprintf("it has number %d, and this machine has seen %d", x.Sequence, floor))
	}
	return x, u.keep(at, role, body, x.Sequence)
}

// floor is the number below which nothing is taken at a place; 0 when none was
// seen there, or by a key of the tier that it has no more.
func (u *Updater) floor(at place, r *role) int64 {
	f, ok := u.kept.Floors[at.path()]
	if !ok || !sameKeys(f.Keys, r.keys) {
		return 0
	}
	return f.Sequence
}

// Packages returns the tier's list of packages as of the last Refresh, and keeps
// it on the disk. It is nil, with no error, when the tier has none.
func (u *Updater) Packages(ctx context.Context, tier string) (_ *trust.Packages, err error) {
	defer survive(&err)
	u.mu.Lock()
	defer u.mu.Unlock()
	at := place{Tier: tier}
	body, role, err := u.current(ctx, at)
	if err != nil || role == nil {
		return nil, err
	}
	floor := u.floor(at, role)
	if body == nil {
		// A tier that has no package any more says so in a list.
		if floor > 0 {
			return nil, code.New("TS7118", at.path(), fmt.Sprintf("it is not there any more, and this machine has seen number %d", floor))
		}
		return nil, u.keep(at, role, nil, 0)
	}
	p, err := parsePackages(body, tier)
	if err != nil {
		return nil, err
	}
	if p.Sequence < floor {
		return nil, code.New("TS7118", at.path(), fmt.Sprintf("it has number %d, and this machine has seen %d", p.Sequence, floor))
	}
	return p, u.keep(at, role, body, p.Sequence)
}

// Cached returns the index that was verified last, without a network and
// whatever the time is: it is verified again, except that it may have expired.
// The time is that of the refresh it comes from. It is nil when there is none.
// A root that came since and replaced keys ends it: what they signed counts no
// more.
func (u *Updater) Cached(tier, buildID, policy string) (_ *trust.Index, _ time.Time, err error) {
	defer survive(&err)
	u.mu.Lock()
	defer u.mu.Unlock()
	at := place{tier, buildID, trust.PolicyWord(policy)}
	body, when, err := u.cached(at)
	if err != nil || body == nil {
		return nil, when, err
	}
	x, err := parseIndex(body, at)
	return x, when, err
}

// CachedPackages is Cached for the tier's list of packages.
func (u *Updater) CachedPackages(tier string) (_ *trust.Packages, _ time.Time, err error) {
	defer survive(&err)
	u.mu.Lock()
	defer u.mu.Unlock()
	body, when, err := u.cached(place{Tier: tier})
	if err != nil || body == nil {
		return nil, when, err
	}
	p, err := parsePackages(body, tier)
	return p, when, err
}

// current is what a tier has at a place now, verified: the file that is kept,
// if it is still the one, or else fetched. It is nil when the tier has nothing
// there, and so is the role when there is no such tier.
func (u *Updater) current(ctx context.Context, at place) ([]byte, *role, error) {
	if u.trusted == nil {
		if err := u.refresh(ctx); err != nil {
			return nil, nil, err
		}
	}
	role, err := u.tier(ctx, at.Tier)
	if err != nil || role == nil {
		return nil, nil, err
	}
	target, ok := role.meta.Signed.Targets[at.path()]
	if !ok {
		return nil, role, nil
	}
	have, _ := u.kept.find(at)
	if have.index != nil && target.VerifyLengthHashes(have.index) == nil {
		return have.index, role, nil
	}
	body, err := u.fetch(ctx, at.path(), target)
	return body, role, err
}

// cached is what is kept at a place, verified as Cached has it.
func (u *Updater) cached(at place) ([]byte, time.Time, error) {
	root, err := u.loadRoot()
	if err != nil {
		return nil, time.Time{}, err
	}
	k, err := u.load()
	if err != nil {
		return nil, time.Time{}, err
	}
	c, ok := k.find(at)
	if !ok {
		return nil, k.Refreshed, nil
	}
	t, err := trustedmetadata.New(root)
	if err != nil {
		return nil, time.Time{}, code.New("TS7122", u.path(rootFile), "").With(err)
	}
	t.RefTime = time.Time{} // before everything: nothing has expired
	if _, err := t.UpdateTimestamp(c.timestamp); err != nil {
		return nil, c.Refreshed, u.problem("timestamp.json", t, err)
	}
	if _, err := t.UpdateSnapshot(c.snapshot, true); err != nil {
		return nil, c.Refreshed, u.problem("snapshot.json", t, err)
	}
	if _, err := t.UpdateTargets(c.targets); err != nil {
		return nil, c.Refreshed, u.problem("targets.json", t, err)
	}
	role := trust.TierRole(at.Tier)
	m, err := t.UpdateDelegatedTargets(c.role, role, metadata.TARGETS)
	if err != nil {
		return nil, c.Refreshed, u.problem(role+".json", t, err)
	}
	target := m.Signed.Targets[at.path()]
	if c.index == nil || target == nil {
		return nil, c.Refreshed, nil
	}
	if err := target.VerifyLengthHashes(c.index); err != nil {
		return nil, c.Refreshed, u.problem(at.path(), t, err)
	}
	return c.index, c.Refreshed, nil
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
	if m := u.trusted.Targets[name]; m != nil && u.roles[name] != nil {
		r.meta, r.bytes = m, u.roles[name]
		return r, nil
	}
	if r.bytes, err = u.fetchTargets(ctx, u.trusted, name, metadata.TARGETS, u.kept.role(tier)); err != nil {
		return nil, err
	}
	r.meta = u.trusted.Targets[name]
	u.roles[name] = r.bytes
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

// keep writes down what the tier holds now. None with a number below its own is
// taken there any more; 0: it has none.
func (u *Updater) keep(at place, r *role, body []byte, sequence int64) error {
	c := cachedState{topLevel: u.kept.newest, role: r.bytes, index: body, place: at, Refreshed: u.kept.Refreshed}
	next := u.kept.with(c).carry(c, r.meta.Signed.Targets)
	if sequence > 0 {
		next.Floors = maps.Clone(u.kept.Floors)
		next.Floors[at.path()] = floor{Sequence: sequence, Keys: r.keys}
	}
	have, _ := u.load()
	if err := u.save(have, next); err != nil {
		return err
	}
	u.kept = next
	return nil
}

func parseIndex(b []byte, at place) (*trust.Index, error) {
	x, err := trust.ParseIndex(b)
	if err != nil {
		return nil, err
	}
	if is := (place{x.Tier, x.Target.BuildID, x.Policy}); is != at {
		return nil, code.New("TS7115", at.path(), "it is the index of "+is.path())
	}
	return x, nil
}

func parsePackages(b []byte, tier string) (*trust.Packages, error) {
	p, err := trust.ParsePackages(b)
	if err != nil {
		return nil, err
	}
	if p.Tier != tier {
		return nil, code.New("TS7115", trust.PackagesPath(tier), "it is that of tier "+p.Tier)
	}
	return p, nil
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
