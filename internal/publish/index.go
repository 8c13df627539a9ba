// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// index makes the index of a tier for a kernel and a policy anew, from what is
// published there for its machines. It gets the next number if it says anything
// new, or if anew is set.
func (j *job) index(ctx context.Context, tier, buildID, policy string, anew bool) error {
	path := trust.IndexPath(tier, buildID, policy)
	policies, err := Policies(ctx, j.tx.Reader)
	if err != nil {
		return err
	}
	p, ok := policies[policy]
	if !ok {
		j.repo.RemoveTarget(tier, path)
		return nil
	}
	x, err := j.makeIndex(ctx, tier, buildID, p)
	if err != nil {
		return err
	}
	if x == nil { // it may have been there for blocks that were taken back
		j.repo.RemoveTarget(tier, path)
		return nil
	}
	if old, err := j.s.signedIndex(ctx, j.repo, tier, path); err != nil {
		return err
	} else if old != nil && !anew {
		x.Sequence = old.Sequence
		if same, err := sameIndex(x, old); err != nil || same {
			return err
		}
	}
	if x.Sequence, err = j.tx.NextSequence(ctx, tier, buildID, policy); err != nil {
		return err
	}
	base, err := numberSetting(ctx, j.tx.Reader, baseSetting)
	if err != nil {
		return err
	}
	x.Sequence += base
	b, err := x.Bytes()
	if err != nil {
		return err
	}
	return j.target(ctx, tier, path, b)
}

// makeIndex is the index without its number; nil when nothing was ever
// published there for the policy's machines, and nothing is blocked that one
// of them may have from another tier or policy.
func (j *job) makeIndex(ctx context.Context, tier, buildID string, p selection.Policy) (*trust.Index, error) {
	patches, err := j.tx.PublishedFor(ctx, tier, buildID, p.Name)
	if err != nil {
		return nil, err
	}
	blocked, err := j.blocked(ctx, buildID)
	known := slices.Concat(blocked, patches)
	if err != nil || len(known) == 0 {
		return nil, err
	}
	newest := known[len(known)-1]
	x := &trust.Index{
		Format: trust.IndexFormat, Tier: tier, Policy: trust.PolicyWord(p.Name), SwapUnused: p.SwapUnused, Patches: []trust.Offer{},
		Target: trust.IndexRef{Name: newest.Target, Release: newest.Release, Arch: newest.Arch, BuildID: buildID},
	}
	if patches, err = j.withoutExcluded(ctx, patches, p); err != nil {
		return nil, err
	}
	for _, p := range patches {
		if p.Blocked == 0 {
			x.Patches = append(x.Patches, trust.Offer{ID: p.ID, Name: p.Name, Version: p.Version, Digest: p.Digest, Size: p.Size, CVEs: p.CVEs})
		}
	}
	// What is blocked is blocked for everybody: a machine may have come from
	// another tier or policy with it.
	for _, p := range blocked {
		x.Blocked = append(x.Blocked, trust.BlockRef{ID: p.ID, Version: p.Version, Reason: p.Reason, Recall: p.Recall})
	}
	book, err := j.tx.Index(ctx, tier, buildID, p.Name)
	if errors.Is(err, store.ErrNotFound) {
		return x, nil
	}
	if err == nil && len(book.Revert) > 0 {
		err = json.Unmarshal(book.Revert, &x.Revert)
	}
	if err != nil {
		return nil, fmt.Errorf("revert of %s: %w", trust.IndexPath(tier, buildID, p.Name), err)
	}
	return x, nil
}

// blocked are the live patches of a kernel that are blocked, by version.
func (j *job) blocked(ctx context.Context, buildID string) ([]store.LivePatch, error) {
	if got, ok := j.blocks[buildID]; ok {
		return got, nil
	}
	var out []store.LivePatch
	f := store.LivePatchFilter{BuildID: buildID}
	for {
		all, err := j.tx.LivePatches(ctx, f)
		if err != nil {
			return nil, err
		}
		if len(all) == 0 {
			break
		}
		for _, p := range all {
			if p.Blocked != 0 {
				p.Manifest = nil // large
				out = append(out, p)
			}
		}
		f.Before = &all[len(all)-1]
	}
	slices.SortFunc(out, func(a, b store.LivePatch) int { return cmp.Compare(a.Version, b.Version) })
	if j.blocks == nil {
		j.blocks = map[string][]store.LivePatch{}
	}
	j.blocks[buildID] = out
	return out, nil
}

// sameIndex says whether two indexes are the same text.
func sameIndex(a, b *trust.Index) (bool, error) {
	x, err := a.Bytes()
	if err != nil {
		return false, err
	}
	y, err := b.Bytes()
	return bytes.Equal(x, y), err
}

// indexes makes the indexes of all tiers that a live patch is in.
func (j *job) indexes(ctx context.Context, p store.LivePatch) error {
	for _, tier := range p.Tiers {
		if err := j.indexesIn(ctx, tier, p.BuildID); err != nil {
			return err
		}
	}
	return nil
}

// indexesIn makes the indexes of all policies of a tier for a kernel.
func (j *job) indexesIn(ctx context.Context, tier, buildID string) error {
	policies, err := j.tx.PoliciesIn(ctx, tier, buildID)
	if err != nil {
		return err
	}
	for _, policy := range policies {
		if err := j.index(ctx, tier, buildID, policy, false); err != nil {
			return err
		}
	}
	return j.listed(ctx, tier, buildID)
}

// indexesEverywhere makes the indexes of all tiers and policies for a kernel,
// after another live patch is blocked or none any more.
func (j *job) indexesEverywhere(ctx context.Context, buildID string) error {
	delete(j.blocks, buildID)
	tiers, err := j.tx.Tiers(ctx)
	if err != nil {
		return err
	}
	policies, err := Policies(ctx, j.tx.Reader)
	if err != nil {
		return err
	}
	for _, t := range tiers {
		for _, policy := range slices.Sorted(maps.Keys(policies)) {
			if err := j.index(ctx, t.Name, buildID, policy, false); err != nil {
				return err
			}
		}
		if err := j.listed(ctx, t.Name, buildID); err != nil {
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
		if err := j.indexesEverywhere(ctx, p.BuildID); err != nil {
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
		if err := j.indexesEverywhere(ctx, p.BuildID); err != nil {
			return err
		}
		return j.audit(ctx, actor, "livepatch.unblock", id, "")
	})
}

// AuthoriseRevert lets the machines of a tier go back to an older live patch
// of a target, or with 0 to none. It is the only thing that does. "" is for
// the machines of every policy that has the older one and a newer one.
func (s *Service) AuthoriseRevert(ctx context.Context, target, tier, policy string, to int, reason, actor string) error {
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
			if err := j.revertAll(ctx, tier, buildID, policy, to, reason, actor); err != nil {
				return err
			}
		}
		detail := fmt.Sprintf("tier %s to version %d: %s", tier, to, reason)
		if policy != "" {
			detail = "policy " + policy + ", " + detail
		}
		return j.audit(ctx, actor, "livepatch.revert", target, detail)
	})
}

// revertAll reverts for one policy or, where it can be done, for all. When it
// can be done for none, the reason is the default policy's, or the first's.
func (j *job) revertAll(ctx context.Context, tier, buildID, policy string, to int, reason, actor string) error {
	if policy != "" {
		return j.revert(ctx, tier, buildID, policy, to, reason, actor)
	}
	policies, err := j.tx.PoliciesIn(ctx, tier, buildID)
	if err != nil {
		return err
	}
	done := false
	var why error
	for _, p := range policies {
		err := j.revert(ctx, tier, buildID, p, to, reason, actor)
		switch {
		case err == nil:
			done = true
		case code.Of(err) != "TS7714":
			return err
		case why == nil || p == trust.DefaultPolicy:
			why = err
		}
	}
	if done {
		return nil
	}
	return why
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

func (j *job) revert(ctx context.Context, tier, buildID, policy string, to int, reason, actor string) error {
	patches, err := j.tx.PublishedFor(ctx, tier, buildID, policy)
	if err != nil {
		return err
	}
	policies, err := Policies(ctx, j.tx.Reader)
	if err != nil {
		return err
	}
	below, there := 0, to == 0
	for _, p := range patches {
		below = max(below, p.Version)
		if p.Version != to || p.Blocked != 0 {
			continue
		}
		there = true
		if x, err := j.holds(ctx, p, policies[policy]); err != nil {
			return err
		} else if x != "" { // it is not offered, and machines would go to none
			return code.New("TS7714", fmt.Sprintf("version %d", to), fmt.Sprintf("policy %s excludes %s, which it holds", policy, x))
		}
	}
	if !there {
		return code.New("TS7714", fmt.Sprintf("version %d", to), "it is not in tier "+tier+" for policy "+policy+", or blocked")
	}
	if below <= to {
		return code.New("TS7714", fmt.Sprintf("version %d", to), "it is the newest of tier "+tier)
	}
	b, err := json.Marshal(trust.Revert{To: to, Below: below, Reason: reason, By: actor})
	if err != nil {
		return err
	}
	if err := j.tx.SetRevert(ctx, tier, buildID, policy, b); err != nil {
		return err
	}
	return j.index(ctx, tier, buildID, policy, false)
}

// numberSetting is a setting that holds a number: 0 until it is set.
func numberSetting(ctx context.Context, r store.Reader, name string) (int64, error) {
	value, err := r.Setting(ctx, name)
	if errors.Is(err, store.ErrNotFound) || err == nil && value == "" {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(value, 10, 64)
	if err != nil {
		return 0, fmt.Errorf("setting %s: %w", name, err)
	}
	return n, nil
}

// Index is the newest index of a tier for a kernel and a policy, as machines
// get it; nil: there is none.
func (s *Service) Index(ctx context.Context, tier, buildID, policy string) (*trust.Index, error) {
	r, err := s.open(ctx)
	if err != nil {
		return nil, err
	}
	return s.signedIndex(ctx, r, tier, trust.IndexPath(tier, buildID, policy))
}

func (s *Service) signedIndex(ctx context.Context, r *repo.Repo, tier, path string) (*trust.Index, error) {
	return signed(ctx, s, r, tier, path, trust.ParseIndex)
}

// signed reads a file that a tier has signed; nil: there is none.
func signed[T any](ctx context.Context, s *Service, r *repo.Repo, tier, path string, parse func([]byte) (*T, error)) (*T, error) {
	t, ok := r.Target(tier, path)
	if !ok {
		return nil, nil
	}
	b, err := s.get(ctx, targetsDir+t.FilePath(path), t.Length)
	if err != nil {
		return nil, err
	}
	return parse(b)
}

func encodeJSON(b *bytes.Buffer, v any) error {
	e := json.NewEncoder(b)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}
