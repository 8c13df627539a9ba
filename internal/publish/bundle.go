// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// BundleLife is how long the signatures in an offline bundle stay good. A
// machine without a network can't be told of anything newer meanwhile.
const BundleLife = 30 * 24 * time.Hour

// Recipient is a machine that a bundle is for.
type Recipient struct {
	Key    string // age recipient
	Policy string
	// May says whether it may have the key of a live patch; nil: of each.
	May func(patch string) (bool, error)
}

// Bundle makes a file that carries live patches to machines of a tier that
// have no network: the TUF metadata with long-lived snapshot and timestamp,
// the indexes, the encrypted files and, for each machine, the wrapped keys.
// With no ids it holds the newest live patch for each kernel and package, or only
// that all of them are blocked; with
// some, those for their kernels and packages alone, where an older one that is
// named comes beside the newest, because machines choose by the index.
func (s *Service) Bundle(ctx context.Context, ids []string, tier string, recipients []Recipient, actor string) ([]byte, error) {
	if len(recipients) == 0 {
		return nil, code.New("TS7718", "", "")
	}
	policies := map[string]bool{}
	for _, r := range recipients {
		policies[r.Policy] = true
	}
	var files map[string][]byte
	var patches []store.LivePatch
	var paths map[string]repo.Target
	err := s.change(ctx, func(j *job) error {
		if _, err := j.tier(ctx, tier, nil); err != nil || tier == "" {
			return code.New("TS7703", tier, "")
		}
		var err error
		if patches, paths, err = j.selection(ctx, ids, tier, slices.Sorted(maps.Keys(policies))); err != nil {
			return err
		}
		if _, err := j.repo.Sign(s.now()); err != nil {
			return err
		}
		if files, err = j.repo.Bundle(s.now(), BundleLife); err != nil {
			return err
		}
		return j.audit(ctx, actor, "bundle", tier, fmt.Sprintf("%d live patches for %d machines", len(patches), len(recipients)))
	})
	if err != nil {
		return nil, err
	}
	content := map[string][]byte{}
	for name, b := range files {
		content["metadata/"+name] = b
	}
	all, _, err := s.store.TUFFiles(ctx)
	if err != nil {
		return nil, err
	}
	for _, f := range all {
		if f.Role == repo.RoleRoot { // the whole chain: a machine may have an old one
			content["metadata/"+f.Name] = f.Body
		}
	}
	for path, t := range paths {
		name := t.FilePath(path)
		if content["targets/"+name], err = s.get(ctx, targetsDir+name, t.Length); err != nil {
			return nil, err
		}
	}
	info := trust.BundleInfo{Format: 1, Tier: tier, Made: s.now().UnixMilli(), Expires: s.now().Add(BundleLife).UnixMilli()}
	for _, r := range recipients {
		keys := map[string]string{}
		for _, p := range patches {
			if !slices.Contains(p.Policies, r.Policy) {
				continue
			}
			if r.May != nil {
				if may, err := r.May(p.ID); err != nil {
					return nil, err
				} else if !may {
					continue
				}
			}
			if keys[p.ID], err = s.wrap(p, r.Key); err != nil {
				return nil, err
			}
		}
		if content[trust.BundleKeys(r.Key)], err = json.Marshal(keys); err != nil {
			return nil, err
		}
		info.SetPolicy(r.Key, r.Policy)
	}
	about, err := json.Marshal(info)
	if err != nil {
		return nil, err
	}
	content[trust.BundleAbout] = about
	return archive(content)
}

// selection finds the live patches of a bundle for machines of these policies,
// and the targets that belong to them.
func (j *job) selection(ctx context.Context, ids []string, tier string, policies []string) ([]store.LivePatch, map[string]repo.Target, error) {
	wanted := map[string]store.LivePatch{}
	kernels := map[string]bool{}
	for _, id := range ids {
		p, err := j.livePatch(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		if !slices.Contains(p.Tiers, tier) {
			return nil, nil, code.New("TS7701", id, "it is not in tier "+tier)
		}
		if p.Blocked != 0 {
			return nil, nil, code.New("TS7705", id, p.Reason)
		}
		wanted[id], kernels[p.BuildID] = p, true
	}
	if len(ids) == 0 {
		all, err := j.tx.Indexes(ctx)
		if err != nil {
			return nil, nil, err
		}
		for _, x := range all {
			if x.Tier == tier {
				kernels[x.BuildID] = true
			}
		}
	}
	paths := map[string]repo.Target{}
	take := func(path string) {
		if t, ok := j.repo.Target(tier, path); ok {
			paths[path] = t
		}
	}
	take(trust.PackagesPath(tier)) // small, and a machine asks for it first
	told := false                  // that a live patch is blocked is news as well
	for buildID := range kernels {
		for _, name := range policies {
			path := trust.IndexPath(tier, buildID, name)
			x, err := j.s.signedIndex(ctx, j.repo, tier, path)
			if err != nil {
				return nil, nil, err
			}
			take(path)
			told = told || x != nil && len(x.Patches)+len(x.Blocked) > 0
			if id := newestOf(x); id != "" {
				if wanted[id], err = j.livePatch(ctx, id); err != nil {
					return nil, nil, err
				}
			}
		}
	}
	var patches []store.LivePatch
	for _, id := range slices.Sorted(maps.Keys(wanted)) {
		patches = append(patches, wanted[id])
		take(trust.PatchPath(tier, id))
		take(trust.ProvenancePath(tier, id))
	}
	if !told {
		return nil, nil, code.New("TS7718", tier, "nothing is published there")
	}
	return patches, paths, nil
}

// newestOf is the live patch that an index leads a machine to which has none of
// its own mind; "" is none.
func newestOf(x *trust.Index) string {
	if x == nil {
		return ""
	}
	for _, o := range slices.Backward(x.Patches) {
		if policy.Barred(x, o.Version, x.Policy) == "" {
			return o.ID
		}
	}
	return ""
}

// archive is a tar with nothing in it that varies.
func archive(content map[string][]byte) ([]byte, error) {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, name := range slices.Sorted(maps.Keys(content)) {
		h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o644, Size: int64(len(content[name])), ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
		if err := w.WriteHeader(h); err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
		if _, err := w.Write(content[name]); err != nil {
			return nil, fmt.Errorf("bundle: %w", err)
		}
	}
	if err := w.Close(); err != nil {
		return nil, fmt.Errorf("bundle: %w", err)
	}
	return b.Bytes(), nil
}
