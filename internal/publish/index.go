// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// index makes the index of a tier for a kernel anew, from what is published
// there, with the next number.
func (j *job) index(ctx context.Context, tier, buildID string) error {
	patches, err := j.tx.PublishedFor(ctx, tier, buildID)
	if err != nil {
		return err
	}
	if len(patches) == 0 {
		return nil // nothing was ever published here
	}
	newest := patches[len(patches)-1]
	x := &trust.Index{
		Format: trust.IndexFormat, Tier: tier, Patches: []trust.Offer{},
		Target: trust.IndexRef{Name: newest.Target, Release: newest.Release, Arch: newest.Arch, BuildID: buildID},
	}
	for _, p := range patches {
		if p.Blocked != 0 {
			x.Blocked = append(x.Blocked, trust.BlockRef{ID: p.ID, Version: p.Version, Reason: p.Reason, Recall: p.Recall})
			continue
		}
		x.Patches = append(x.Patches, trust.Offer{ID: p.ID, Name: p.Name, Version: p.Version, Digest: p.Digest, Size: p.Size, CVEs: p.CVEs})
	}
	if x.Sequence, err = j.tx.NextSequence(ctx, tier, buildID); err != nil {
		return err
	}
	base, err := sequenceBase(ctx, j.tx.Reader)
	if err != nil {
		return err
	}
	x.Sequence += base
	book, err := j.tx.Index(ctx, tier, buildID)
	if err != nil {
		return err
	}
	if len(book.Revert) > 0 {
		if err := json.Unmarshal(book.Revert, &x.Revert); err != nil {
			return fmt.Errorf("revert of %s: %w", trust.IndexPath(tier, buildID, ""), err)
		}
	}
	b, err := x.Bytes()
	if err != nil {
		return err
	}
	return j.target(ctx, tier, trust.IndexPath(tier, buildID, ""), b)
}

// indexes makes the indexes of all tiers that a live patch is in.
func (j *job) indexes(ctx context.Context, p store.LivePatch) error {
	for _, tier := range p.Tiers {
		if err := j.index(ctx, tier, p.BuildID); err != nil {
			return err
		}
	}
	return nil
}

// changeOf is change for a live patch, as it is afterwards.
func (s *Service) changeOf(ctx context.Context, id string, f func(*job, store.LivePatch) error) (store.LivePatch, error) {
	err := s.change(ctx, func(j *job) error {
		p, err := j.livePatch(ctx, id)
		if err != nil {
			return err
		}
		return f(j, p)
	})
	if err != nil {
		return store.LivePatch{}, err
	}
	return s.store.LivePatch(ctx, id)
}

// Block stops the delivery of a live patch at once; with recall, machines that
// have it take it out.
func (s *Service) Block(ctx context.Context, id, reason string, recall bool, actor string) (store.LivePatch, error) {
	return s.changeOf(ctx, id, func(j *job, p store.LivePatch) error {
		if p.Blocked != 0 && p.Reason == reason && p.Recall == recall {
			return nil
		}
		if err := j.tx.BlockLivePatch(ctx, id, reason, recall); err != nil {
			return err
		}
		for _, tier := range p.Tiers {
			j.repo.RemoveTarget(tier, trust.PatchPath(tier, id))
		}
		if err := j.indexes(ctx, p); err != nil {
			return err
		}
		if recall {
			reason += " (recalled)"
		}
		return j.audit(ctx, actor, "livepatch.block", id, reason)
	})
}

// Unblock takes a block back.
func (s *Service) Unblock(ctx context.Context, id, actor string) (store.LivePatch, error) {
	return s.changeOf(ctx, id, func(j *job, p store.LivePatch) error {
		if p.Blocked == 0 {
			return nil
		}
		if err := j.tx.UnblockLivePatch(ctx, id); err != nil {
			return err
		}
		for _, tier := range p.Tiers {
			if err := j.offer(ctx, p, tier); err != nil {
				return err
			}
		}
		if err := j.indexes(ctx, p); err != nil {
			return err
		}
		return j.audit(ctx, actor, "livepatch.unblock", id, "")
	})
}

// AuthoriseRevert lets the machines of a tier go back to an older live patch
// of a target, or with 0 to none. It is the only thing that does.
func (s *Service) AuthoriseRevert(ctx context.Context, target, tier string, to int, reason, actor string) error {
	return s.change(ctx, func(j *job) error {
		if _, err := j.tier(ctx, tier, nil); err != nil || tier == "" {
			return code.New("TS7703", tier, "")
		}
		kernels, err := j.kernels(ctx, target, tier)
		if err != nil {
			return err
		}
		if len(kernels) == 0 {
			return code.New("TS7714", target, "nothing is published for it in tier "+tier)
		}
		for _, buildID := range kernels {
			if err := j.revert(ctx, tier, buildID, to, reason, actor); err != nil {
				return err
			}
		}
		return j.audit(ctx, actor, "livepatch.revert", target, fmt.Sprintf("tier %s to version %d: %s", tier, to, reason))
	})
}

// kernels are the build-ids that a target has in a tier. There is more than
// one when a distribution built the same release again.
func (j *job) kernels(ctx context.Context, target, tier string) ([]string, error) {
	var out []string
	seen := map[string]bool{}
	f := store.LivePatchFilter{Target: target, Tier: tier}
	for {
		all, err := j.tx.LivePatches(ctx, f)
		if err != nil || len(all) == 0 {
			return out, err
		}
		for _, p := range all {
			if !seen[p.BuildID] {
				out = append(out, p.BuildID)
			}
			seen[p.BuildID] = true
		}
		f.Before = &all[len(all)-1]
	}
}

func (j *job) revert(ctx context.Context, tier, buildID string, to int, reason, actor string) error {
	patches, err := j.tx.PublishedFor(ctx, tier, buildID)
	if err != nil {
		return err
	}
	below, there := 0, to == 0
	for _, p := range patches {
		below = max(below, p.Version)
		there = there || p.Version == to && p.Blocked == 0
	}
	if !there {
		return code.New("TS7714", fmt.Sprintf("version %d", to), "it is not in tier "+tier+", or blocked")
	}
	if below <= to {
		return code.New("TS7714", fmt.Sprintf("version %d", to), "it is the newest of tier "+tier)
	}
	b, err := json.Marshal(trust.Revert{To: to, Below: below, Reason: reason, By: actor})
	if err != nil {
		return err
	}
	if err := j.tx.SetRevert(ctx, tier, buildID, b); err != nil {
		return err
	}
	return j.index(ctx, tier, buildID)
}

// sequenceBase is what Advance has lifted all sequence numbers by.
func sequenceBase(ctx context.Context, r store.Reader) (int64, error) {
	value, err := r.Setting(ctx, baseSetting)
	if errors.Is(err, store.ErrNotFound) || err == nil && value == "" {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	base, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("setting %s: %w", baseSetting, err)
	}
	return base, nil
}

// Index is the newest index of a tier for a kernel, as machines get it; nil:
// there is none.
func (s *Service) Index(ctx context.Context, tier, buildID string) (*trust.Index, error) {
	r, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	path := trust.IndexPath(tier, buildID, "")
	t, ok := r.Target(tier, path)
	if !ok {
		return nil, nil
	}
	b, err := s.get(ctx, targetsDir+t.FilePath(path), t.Length)
	if err != nil {
		return nil, err
	}
	return trust.ParseIndex(b)
}

func encodeJSON(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
