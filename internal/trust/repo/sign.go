// SPDX-License-Identifier: Apache-2.0

package repo

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/theupdateframework/go-tuf/v2/metadata"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// Sign signs what has changed and what is due at this time, and returns the
// roles that have new metadata. Nothing to do is no error.
func (r *Repo) Sign(now time.Time) ([]string, error) {
	if now.After(r.root.Signed.Expires) {
		return nil, code.New("TS7113", "root.json", "on "+r.root.Signed.Expires.UTC().Format(time.DateOnly))
	}
	var done []string
	for _, role := range slices.Sorted(maps.Keys(r.tiers)) {
		m := r.tiers[role]
		if !r.dirty[role] && !due(now, m.Signed.Expires, r.life.Tier) {
			continue
		}
		keys, err := r.tierSigners(role)
		if err != nil {
			return nil, err
		}
		if err := r.signTargets(role, m, keys, now.Add(r.life.Tier)); err != nil {
			return nil, err
		}
		done = append(done, role)
	}
	if r.dirty[RoleTargets] || due(now, r.targets.Signed.Expires, r.life.Targets) {
		keys, err := r.topSigners(RoleTargets)
		if err != nil {
			return nil, err
		}
		if err := r.signTargets(RoleTargets, r.targets, keys, now.Add(r.life.Targets)); err != nil {
			return nil, err
		}
		done = append(done, RoleTargets)
	}
	if len(done) > 0 || r.dirty[RoleSnapshot] || due(now, r.snapshot.Signed.Expires, r.life.Snapshot) {
		if err := r.signSnapshot(now.Add(r.life.Snapshot)); err != nil {
			return nil, err
		}
		done = append(done, RoleSnapshot)
	}
	// The timestamp's life is counted from its own signing: a shorter rest
	// than life minus Resign means that it is older than Resign.
	if len(done) > 0 || r.dirty[RoleTimestamp] || r.timestamp.Signed.Expires.Sub(now) < r.life.Timestamp-r.life.Resign {
		if err := r.signTimestamp(now.Add(r.life.Timestamp)); err != nil {
			return nil, err
		}
		done = append(done, RoleTimestamp)
	}
	return done, nil
}

// due says whether a third or less of a life is left.
func due(now, expires time.Time, life time.Duration) bool { return expires.Sub(now) <= life/3 }

// Advance lifts all versions above any that this repository can have had
// before: to the seconds since 1970. A repository that comes from a backup
// starts with it, because machines may have seen newer versions than the
// backup holds, and refuse to go back.
func (r *Repo) Advance(now time.Time) {
	lift := func(role string, v *int64) {
		*v = max(*v, now.Unix())
		r.dirty[role] = true
	}
	lift(RoleTargets, &r.targets.Signed.Version)
	lift(RoleSnapshot, &r.snapshot.Signed.Version)
	lift(RoleTimestamp, &r.timestamp.Signed.Version)
	for role, m := range r.tiers {
		lift(role, &m.Signed.Version)
	}
}

// Bundle signs a snapshot and a timestamp that stay good for a long time, for
// machines without a network, and returns all metadata that such a machine
// needs beside the older roots. The next Sign makes newer ones, so a machine
// with a network is not held back by them.
func (r *Repo) Bundle(now time.Time, life time.Duration) (map[string][]byte, error) {
	if err := r.signSnapshot(now.Add(life)); err != nil {
		return nil, err
	}
	if err := r.signTimestamp(now.Add(life)); err != nil {
		return nil, err
	}
	out := r.Files()
	r.dirty[RoleSnapshot], r.dirty[RoleTimestamp] = true, true
	return out, nil
}

func (r *Repo) signTargets(role string, m *targetsMeta, keys []*trust.Key, expires time.Time) error {
	m.Signed.Version++
	m.Signed.Expires = seconds(expires)
	b, err := sign(m, keys)
	if err != nil {
		return err
	}
	r.files[role] = b
	r.snapshot.Signed.Meta[role+".json"] = metaFile(m.Signed.Version, b)
	delete(r.dirty, role)
	return nil
}

func (r *Repo) signSnapshot(expires time.Time) error {
	keys, err := r.topSigners(RoleSnapshot)
	if err != nil {
		return err
	}
	r.snapshot.Signed.Version++
	r.snapshot.Signed.Expires = seconds(expires)
	b, err := sign(r.snapshot, keys)
	if err != nil {
		return err
	}
	r.files[RoleSnapshot] = b
	r.timestamp.Signed.Meta = map[string]*metadata.MetaFiles{"snapshot.json": metaFile(r.snapshot.Signed.Version, b)}
	delete(r.dirty, RoleSnapshot)
	return nil
}

func (r *Repo) signTimestamp(expires time.Time) error {
	keys, err := r.topSigners(RoleTimestamp)
	if err != nil {
		return err
	}
	r.timestamp.Signed.Version++
	r.timestamp.Signed.Expires = seconds(expires)
	b, err := sign(r.timestamp, keys)
	if err != nil {
		return err
	}
	r.files[RoleTimestamp] = b
	delete(r.dirty, RoleTimestamp)
	return nil
}

func (r *Repo) topSigners(role string) ([]*trust.Key, error) {
	d := r.root.Signed.Roles[role]
	if d == nil {
		return nil, malformed(RoleRoot, fmt.Errorf("no role %s", role))
	}
	return r.keys.signers(role, d.KeyIDs, d.Threshold)
}

func (r *Repo) tierSigners(role string) ([]*trust.Key, error) {
	for _, d := range r.targets.Signed.Delegations.Roles {
		if d.Name == role {
			return r.keys.signers(role, d.KeyIDs, d.Threshold)
		}
	}
	return nil, fmt.Errorf("role %s: not delegated", role)
}

// sign puts the keys' signatures in the place of all others.
func sign[T metadata.Roles](m *metadata.Metadata[T], keys []*trust.Key) ([]byte, error) {
	body, err := canonical(m.Signed)
	if err != nil {
		return nil, err
	}
	m.Signatures = nil
	for _, k := range keys {
		m.Signatures = append(m.Signatures, metadata.Signature{KeyID: k.ID(), Signature: k.Sign(body)})
	}
	b, err := m.ToBytes(false)
	if err != nil {
		return nil, fmt.Errorf("metadata: %w", err)
	}
	return b, nil
}

func metaFile(version int64, b []byte) *metadata.MetaFiles {
	s := sha256.Sum256(b)
	return &metadata.MetaFiles{Version: version, Length: int64(len(b)), Hashes: metadata.Hashes{"sha256": s[:]}}
}

// seconds is the precision that TUF has.
func seconds(t time.Time) time.Time { return t.UTC().Truncate(time.Second) }
