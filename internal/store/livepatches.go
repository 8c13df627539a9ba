// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/store/query"
)

// AddLivePatch stores a live patch, in no tier yet. ErrConflict if its id, or
// its target with its version, is taken. Created is set here.
func (tx *Tx) AddLivePatch(ctx context.Context, p LivePatch) error {
	cves, err := json.Marshal(p.CVEs)
	if err != nil {
		return fmt.Errorf("cves: %w", err)
	}
	fixes, err := json.Marshal(p.Fixes)
	if err != nil {
		return fmt.Errorf("fixes: %w", err)
	}
	tx.changed(KindLivePatch, p.ID)
	return named(tx.s.translate(tx.q.InsertLivePatch(ctx, query.InsertLivePatchParams{
		ID: p.ID, Name: text(p.Name), Version: int64(p.Version), Target: text(p.Target), Kernel: text(p.Release), BuildID: text(p.BuildID),
		Arch: text(p.Arch), Digest: p.Digest, Size: p.Size, CipherDigest: p.CipherDigest, CipherSize: p.CipherSize,
		SealedKey: filled(p.SealedKey), Manifest: text(string(p.Manifest)), Cves: text(string(cves)), Fixes: text(string(fixes)),
		ProofDigest: p.ProofDigest, ProvenanceDigest: p.ProvenanceDigest, Proven: p.Proven, Signed: p.Signed,
		Created: tx.now, CreatedBy: text(p.CreatedBy), Selection: p.Selection,
	})), "live patch %s", p.ID)
}

// filled makes nil, which would be NULL, an empty value.
func filled(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// AddLivePatch stores a live patch: see Tx.
func (s *Store) AddLivePatch(ctx context.Context, p LivePatch) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.AddLivePatch(ctx, p) })
}

// LivePatch returns a live patch.
func (r Reader) LivePatch(ctx context.Context, id string) (LivePatch, error) {
	row, err := r.q.LivePatch(ctx, id)
	if err != nil {
		return LivePatch{}, named(r.s.translate(err), "live patch %s", id)
	}
	return r.livePatch(ctx, row)
}

// LivePatches lists live patches, the newest first.
func (r Reader) LivePatches(ctx context.Context, f LivePatchFilter) ([]LivePatch, error) {
	p := query.LivePatchesParams{
		Newest: f.Before == nil, AnyTarget: f.Target == "", Target: f.Target, AnyBuildID: f.BuildID == "", BuildID: f.BuildID,
		AnyTier: f.Tier == "", Tier: f.Tier, RowLimit: rows(f.Limit),
		AnyCve: f.CVE == "", Cve: `%"` + like(f.CVE) + `"%`,
	}
	if f.Before != nil {
		p.Before, p.BeforeID = f.Before.Created, f.Before.ID
	}
	if f.Bare {
		heads, err := r.q.LivePatchHeads(ctx, query.LivePatchHeadsParams(p))
		found := make([]query.Livepatch, len(heads))
		for i, h := range heads {
			found[i] = query.Livepatch{
				ID: h.ID, Name: h.Name, Version: h.Version, Target: h.Target, Kernel: h.Kernel, BuildID: h.BuildID, Arch: h.Arch,
				Digest: h.Digest, Size: h.Size, CipherDigest: h.CipherDigest, CipherSize: h.CipherSize, Cves: h.Cves, Fixes: h.Fixes,
				ProofDigest: h.ProofDigest, ProvenanceDigest: h.ProvenanceDigest, Proven: h.Proven, Signed: h.Signed, Created: h.Created,
				CreatedBy: h.CreatedBy, Blocked: h.Blocked, Reason: h.Reason, Recall: h.Recall, Selection: h.Selection,
			}
		}
		return r.livePatches(ctx, found, err)
	}
	found, err := r.q.LivePatches(ctx, p)
	return r.livePatches(ctx, found, err)
}

// PublishedFor lists what is published in a tier for a kernel, by version;
// blocked ones too. policy chooses those of a policy's line, "" all.
func (r Reader) PublishedFor(ctx context.Context, tier, buildID, policy string) ([]LivePatch, error) {
	found, err := r.q.PublishedFor(ctx, query.PublishedForParams{Tier: tier, BuildID: buildID, AnyPolicy: policy == "", Policy: policy})
	return r.livePatches(ctx, found, err)
}

func (r Reader) livePatches(ctx context.Context, found []query.Livepatch, err error) ([]LivePatch, error) {
	if err != nil {
		return nil, r.s.translate(err)
	}
	all := make([]LivePatch, len(found))
	for i, row := range found {
		if all[i], err = r.livePatch(ctx, row); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (r Reader) livePatch(ctx context.Context, row query.Livepatch) (LivePatch, error) {
	p := LivePatch{
		ID: row.ID, Name: row.Name, Version: int(row.Version), Target: row.Target, Release: row.Kernel, BuildID: row.BuildID,
		Arch: row.Arch, Digest: row.Digest, Size: row.Size, CipherDigest: row.CipherDigest, CipherSize: row.CipherSize,
		SealedKey: bytesOrNil(row.SealedKey), Manifest: bytesOrNil([]byte(row.Manifest)), ProofDigest: row.ProofDigest,
		ProvenanceDigest: row.ProvenanceDigest, Proven: row.Proven, Signed: row.Signed, Created: row.Created,
		CreatedBy: row.CreatedBy, Blocked: row.Blocked, Reason: row.Reason, Recall: row.Recall, Selection: row.Selection,
	}
	if err := json.Unmarshal([]byte(row.Cves), &p.CVEs); err != nil {
		return p, fmt.Errorf("live patch %s: cves: %w", p.ID, err)
	}
	if err := json.Unmarshal([]byte(row.Fixes), &p.Fixes); err != nil {
		return p, fmt.Errorf("live patch %s: fixes: %w", p.ID, err)
	}
	tiers, err := r.q.TiersOf(ctx, p.ID)
	if p.Tiers = tiers; err == nil {
		p.Policies, err = r.q.PoliciesOf(ctx, p.ID)
	}
	return p, named(r.s.translate(err), "live patch %s", p.ID)
}

// NextVersion is one more than the highest version of a target. Another may
// take it meanwhile: AddLivePatch says so.
func (r Reader) NextVersion(ctx context.Context, target string) (int, error) {
	n, err := r.q.LatestVersion(ctx, target)
	return int(n) + 1, r.s.translate(err)
}

// AddPublication puts a live patch into a tier, and says whether it was not
// there before. ErrNotFound if either is unknown.
func (tx *Tx) AddPublication(ctx context.Context, livePatch, tier string) (added bool, err error) {
	n, err := tx.q.InsertPublication(ctx, query.InsertPublicationParams{Livepatch: livePatch, Tier: tier, Published: tx.now})
	if n > 0 {
		tx.changed(KindLivePatch, livePatch)
	}
	return n > 0, named(tx.s.translate(err), "live patch %s in tier %s", livePatch, tier)
}

// AddPublication puts a live patch into a tier: see Tx.
func (s *Store) AddPublication(ctx context.Context, livePatch, tier string) (added bool, err error) {
	err = s.Update(ctx, func(tx *Tx) error {
		added, err = tx.AddPublication(ctx, livePatch, tier)
		return err
	})
	return added, err
}

// Publications lists publications in the order of their making; "" is any.
func (r Reader) Publications(ctx context.Context, livePatch, tier string) ([]Publication, error) {
	found, err := r.q.Publications(ctx, query.PublicationsParams{
		AnyLivepatch: livePatch == "", Livepatch: livePatch, AnyTier: tier == "", Tier: tier,
	})
	all := make([]Publication, len(found))
	for i, row := range found {
		all[i] = Publication{LivePatch: row.Livepatch, Tier: row.Tier, Published: row.Published}
	}
	return all, r.s.translate(err)
}

// BlockLivePatch stops the delivery of a live patch; recall asks machines
// that have it to take it out. Blocking again changes reason and recall.
func (tx *Tx) BlockLivePatch(ctx context.Context, id, reason string, recall bool) error {
	return tx.block(ctx, query.BlockLivePatchParams{ID: id, Blocked: tx.now, Reason: text(reason), Recall: recall})
}

// UnblockLivePatch takes a block back.
func (tx *Tx) UnblockLivePatch(ctx context.Context, id string) error {
	return tx.block(ctx, query.BlockLivePatchParams{ID: id})
}

func (tx *Tx) block(ctx context.Context, p query.BlockLivePatchParams) error {
	tx.changed(KindLivePatch, p.ID)
	return named(changedOne(tx.q.BlockLivePatch(ctx, p)), "live patch %s", p.ID)
}

// BlockLivePatch stops the delivery of a live patch: see Tx.
func (s *Store) BlockLivePatch(ctx context.Context, id, reason string, recall bool) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.BlockLivePatch(ctx, id, reason, recall) })
}

// UnblockLivePatch takes a block back.
func (s *Store) UnblockLivePatch(ctx context.Context, id string) error {
	return s.Update(ctx, func(tx *Tx) error { return tx.UnblockLivePatch(ctx, id) })
}

// PatchedTarget counts the live patches of a target.
type PatchedTarget struct {
	Target, Release string
	Patches         int
	Newest          int // version of the newest that is not blocked; 0: all are
}

// PatchedTargets lists the targets that live patches are there for.
func (r Reader) PatchedTargets(ctx context.Context) ([]PatchedTarget, error) {
	found, err := r.q.PatchedTargets(ctx)
	all := make([]PatchedTarget, len(found))
	for i, row := range found {
		all[i] = PatchedTarget{Target: row.Target, Release: row.Kernel, Patches: int(row.Patches), Newest: int(row.Newest)}
	}
	return all, r.s.translate(err)
}
