// SPDX-License-Identifier: Apache-2.0

package publish

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/store"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// policiesFor are the policies whose machines a new live patch is for, ordered.
// It may be none: those that chose its fixes may choose others by now, and it
// waits for one that does again.
func (j *job) policiesFor(ctx context.Context, p store.LivePatch, m *livepatch.Manifest, named []string) ([]string, error) {
	if p.Selection != "" {
		return j.choosers(ctx, p)
	}
	all, err := Policies(ctx, j.tx.Reader)
	if err != nil {
		return nil, err
	}
	if len(named) == 0 {
		var out []string
		var why string
		for _, name := range slices.Sorted(maps.Keys(all)) {
			x, err := j.excluded(ctx, p.Target, m.Fixes, all[name])
			if err != nil {
				return nil, err
			}
			if x == "" {
				out = append(out, name)
			} else if why == "" || name == trust.DefaultPolicy {
				why = fmt.Sprintf("policy %s excludes %s", name, x)
			}
		}
		if len(out) == 0 {
			return nil, code.New("TS7906", p.ID, why)
		}
		return out, nil
	}
	named = slices.Compact(slices.Sorted(slices.Values(named)))
	for _, name := range named {
		policy, ok := all[name]
		if !ok {
			return nil, code.New("TS7902", name, "")
		}
		if x, err := j.excluded(ctx, p.Target, m.Fixes, policy); err != nil {
			return nil, err
		} else if x != "" {
			return nil, code.New("TS7906", p.ID, fmt.Sprintf("policy %s excludes %s", name, x))
		}
	}
	return named, nil
}

// choosers are the policies that choose the selection of a live patch and have
// no live patch of it yet.
func (j *job) choosers(ctx context.Context, p store.LivePatch) ([]string, error) {
	choosing, err := j.tx.ChoosersOf(ctx, p.Target, p.Selection)
	if err != nil {
		return nil, err
	}
	all, err := Policies(ctx, j.tx.Reader)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, policy := range choosing {
		end, err := j.tx.EndOfLine(ctx, policy, p.Target)
		if err != nil && !errors.Is(err, store.ErrNotFound) {
			return nil, err
		}
		// A policy may exclude more by now than when it chose.
		x, err := j.holds(ctx, p, all[policy])
		if err != nil {
			return nil, err
		}
		if end.Selection != p.Selection && end.Version < p.Version && x == "" {
			out = append(out, policy)
		}
	}
	return out, nil
}

// Excluded is what of a live patch's fixes a policy excludes; "" is nothing.
func Excluded(fixes []livepatch.FixRef, p selection.Policy, now time.Time) string {
	for _, x := range p.Exclusions {
		if !x.Active(now) {
			continue
		}
		for _, f := range fixes {
			if f.ID == x.Fix || slices.Contains(f.CVEs, x.CVE) {
				return x.Name()
			}
		}
	}
	return ""
}

// attributed adds to a policy's exclusions what is pushed for a target today: a
// live patch that was built before an attribution was corrected says nothing of
// that, and holds the fix all the same.
func (j *job) attributed(ctx context.Context, target string, p selection.Policy) (selection.Policy, error) {
	if len(p.Exclusions) == 0 {
		return p, nil
	}
	updates, err := j.tx.Updates(ctx, target)
	if err != nil {
		return p, err
	}
	more, err := j.s.attributed(ctx, updates, p)
	p.Exclusions = slices.Concat(p.Exclusions, more)
	return p, err
}

// excluded is Excluded by what is pushed for the target today as well.
func (j *job) excluded(ctx context.Context, target string, fixes []livepatch.FixRef, p selection.Policy) (string, error) {
	p, err := j.attributed(ctx, target, p)
	if err != nil {
		return "", err
	}
	return Excluded(fixes, p, j.s.now()), nil
}

// holds is excluded of a live patch that is stored.
func (j *job) holds(ctx context.Context, row store.LivePatch, p selection.Policy) (string, error) {
	p, err := j.attributed(ctx, row.Target, p)
	if err != nil {
		return "", err
	}
	return holds(row, p, j.s.now())
}

// holds is Excluded of a live patch that is stored, whose manifest is not read
// where nothing is excluded.
func holds(row store.LivePatch, p selection.Policy, now time.Time) (string, error) {
	if len(p.Exclusions) == 0 {
		return "", nil
	}
	m, err := livepatch.ParseManifest(row.Manifest)
	if err != nil {
		return "", fmt.Errorf("manifest of %s: %w", row.ID, err)
	}
	return Excluded(m.Fixes, p, now), nil
}

// withoutExcluded takes out of a policy's live patches those that hold what it
// excludes. Machines that have one keep it until a newer one without that
// comes to their tier, for nobody is led away from what an index does not
// name; nobody else gets it any more.
func (j *job) withoutExcluded(ctx context.Context, patches []store.LivePatch, p selection.Policy) ([]store.LivePatch, error) {
	var out []store.LivePatch
	by := map[string]selection.Policy{} // by target: a kernel has one or two
	for _, row := range patches {
		full, known := by[row.Target]
		if !known {
			var err error
			if full, err = j.attributed(ctx, row.Target, p); err != nil {
				return nil, err
			}
			by[row.Target] = full
		}
		x, err := holds(row, full, j.s.now())
		if err != nil {
			return nil, err
		}
		if x == "" {
			out = append(out, row)
		}
	}
	return out, nil
}

// newest refuses a version that does not supersede what the machines of its
// policies were offered for the kernel or package: they only go up. Nor may one
// of a kernel have the name of an older one, a blocked one included: a kernel
// that has that one can't load it beside it.
func (j *job) newest(ctx context.Context, p store.LivePatch, policies []string) error {
	f := store.LivePatchFilter{BuildID: p.BuildID}
	for {
		all, err := j.tx.LivePatches(ctx, f)
		if err != nil {
			return err
		}
		for _, o := range all {
			shared := slices.ContainsFunc(o.Policies, func(name string) bool { return slices.Contains(policies, name) })
			if o.Version >= p.Version && o.ID != p.ID && shared {
				return code.New("TS7706", p.ID, fmt.Sprintf("%s has version %d", o.ID, o.Version)).
					WithFix(fmt.Sprintf("build it again as version %d or higher", o.Version+1))
			}
			if o.Name == p.Name && o.ID != p.ID && !ofPackage(p) {
				return code.New("TS7720", p.Name, "it is the name of "+o.ID).
					WithFix(fmt.Sprintf("build it again under another name: tsugictl build --name %.45s_v%d", p.Name, p.Version))
			}
		}
		if len(all) == 0 {
			return nil
		}
		f.Before = &all[len(all)-1]
	}
}

// published is what the audit log says of a publication.
func published(tier string, policies []string) string {
	if len(policies) == 1 && policies[0] == trust.DefaultPolicy {
		return tier
	}
	if len(policies) == 0 {
		return tier + ", for no policy"
	}
	return tier + ", for policy " + strings.Join(policies, ", ")
}
