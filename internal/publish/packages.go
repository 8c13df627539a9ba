// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/trust/repo"
)

// listed makes what a tier says of a package in its list of packages anew. Of a
// kernel the list says nothing.
func (j *job) listed(ctx context.Context, tier, id string) error {
	first, err := j.tx.LivePatches(ctx, store.LivePatchFilter{BuildID: id, Limit: 1, Bare: true})
	if err != nil || len(first) == 0 || !ofPackage(first[0]) {
		return err
	}
	entry, err := j.entry(ctx, tier, id)
	if err != nil {
		return err
	}
	x, err := j.s.signedPackages(ctx, j.repo, tier)
	if err != nil {
		return err
	}
	if x == nil {
		if entry == nil {
			return nil
		}
		x = &trust.Packages{Format: trust.PackagesFormat, Tier: tier, Packages: []trust.Package{}}
	}
	old, err := x.Bytes()
	if err != nil {
		return err
	}
	x.Packages = slices.DeleteFunc(x.Packages, func(p trust.Package) bool { return p.ID == id })
	if entry != nil {
		x.Packages = append(x.Packages, *entry)
	}
	now, err := x.Bytes()
	if err != nil || x.Sequence > 0 && bytes.Equal(now, old) {
		return err
	}
	return j.signPackages(ctx, x)
}

// signPackages gives a list the next number of its tier. An empty one is not
// taken away: machines have to tell it from one that is kept from them.
func (j *job) signPackages(ctx context.Context, x *trust.Packages) error {
	name := packagesSetting + x.Tier
	last, err := numberSetting(ctx, j.tx.Reader, name)
	if err != nil {
		return err
	}
	if err := j.tx.SetSetting(ctx, name, strconv.FormatInt(last+1, 10)); err != nil {
		return err
	}
	base, err := numberSetting(ctx, j.tx.Reader, baseSetting)
	if err != nil {
		return err
	}
	x.Sequence = base + last + 1
	b, err := x.Bytes()
	if err != nil {
		return err
	}
	return j.target(ctx, x.Tier, trust.PackagesPath(x.Tier), b)
}

// entry is a package in the list of a tier, with the files of all its live
// patches there; nil when it has none. What is blocked is listed in every tier,
// as indexes name it there: a machine that has it, whatever tier it came from,
// has to find the index that tells it so.
func (j *job) entry(ctx context.Context, tier, id string) (*trust.Package, error) {
	var out *trust.Package
	seen := map[string]bool{}
	f := store.LivePatchFilter{BuildID: id}
	for {
		all, err := j.tx.LivePatches(ctx, f)
		if err != nil || len(all) == 0 {
			return out, err
		}
		f.Before = &all[len(all)-1]
		for _, p := range all {
			if p.Blocked == 0 && !slices.Contains(p.Tiers, tier) {
				continue
			}
			m, err := livepatch.ParseManifest(p.Manifest)
			if err != nil {
				return nil, fmt.Errorf("manifest of %s: %w", p.ID, err)
			}
			if out == nil {
				out = &trust.Package{Target: p.Target, Arch: p.Arch, ID: id}
			}
			for _, file := range m.Files {
				if !seen[file.BuildID] {
					out.Files = append(out.Files, trust.ELFFile{BuildID: file.BuildID, Name: file.Name})
				}
				seen[file.BuildID] = true
			}
		}
	}
}

// share gives a new policy the live patches of packages that were handed in for
// everybody, and hold nothing that it excludes: no choice is made of these, so
// that the machines which come to the policy would go without them.
func (j *job) share(ctx context.Context, p selection.Policy) error {
	f := store.LivePatchFilter{Bare: true}
	for {
		all, err := j.tx.LivePatches(ctx, f)
		if err != nil || len(all) == 0 {
			return err
		}
		f.Before = &all[len(all)-1]
		for _, row := range all {
			if !ofPackage(row) || row.Selection != "" || row.Blocked != 0 || !slices.Contains(row.Policies, trust.DefaultPolicy) {
				continue
			}
			if len(p.Exclusions) > 0 { // its manifest is needed
				if row, err = j.tx.LivePatch(ctx, row.ID); err != nil {
					return err
				}
			}
			if x, err := j.holds(ctx, row, p); err != nil {
				return err
			} else if x != "" {
				continue
			}
			added, err := j.tx.AddToLine(ctx, row.ID, p.Name)
			if err == nil && added {
				err = j.audit(ctx, "server", "policy.share", p.Name, row.ID)
			}
			if err != nil {
				return err
			}
		}
	}
}

// Packages is a tier's list of packages, as machines get it, and its SHA-256
// in hex; nil and "": there is none.
func (s *Service) Packages(ctx context.Context, tier string) (*trust.Packages, string, error) {
	r, err := s.open(ctx)
	if err != nil {
		return nil, "", err
	}
	x, err := s.signedPackages(ctx, r, tier)
	if err != nil || x == nil {
		return nil, "", err
	}
	t, _ := r.Target(tier, trust.PackagesPath(tier))
	return x, t.SHA256, nil
}

func (s *Service) signedPackages(ctx context.Context, r *repo.Repo, tier string) (*trust.Packages, error) {
	return signed(ctx, s, r, tier, trust.PackagesPath(tier), trust.ParsePackages)
}

// ofPackage reports whether a live patch is one of a package, not of a kernel.
func ofPackage(p store.LivePatch) bool { return p.Release == "" }

// checkSplices refuses a live patch of a package that no process would take.
func checkSplices(p *livepatch.Patch) error {
	for _, f := range p.Manifest.Files {
		b, ok := p.Splice(f)
		if !ok {
			return code.New("TS7002", f.Splice.Name, "")
		}
		s, err := splice.Decode(b)
		if err != nil {
			return err
		}
		if s.BuildID != f.BuildID || s.Name != f.Name {
			return code.New("TS7003", f.Name, "its splice is that of "+s.Name+" with build-id "+s.BuildID)
		}
	}
	return nil
}
