// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"maps"
	"slices"
	"time"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// ApplyBundle takes metadata, live patches and keys out of an offline bundle,
// verified as if they came from the server, and does what follows from them, for
// the kernel and for the packages that processes of this machine map. It returns
// the live patches of those that are applied then.
func (a *Agent) ApplyBundle(ctx context.Context, file []byte) ([]api.Patch, error) {
	var machine *Machine
	a.see(func(m *moment) { machine = m.machine })
	if machine == nil {
		return nil, code.New("TS9416", "", "a bundle is verified against the root that an enrolment pins")
	}
	secret, err := a.secret()
	if err != nil {
		return nil, err
	}
	recipient, err := a.opts.Crypt.Recipient(secret)
	if err != nil {
		return nil, err
	}
	source, info, err := a.opts.Link.Bundle(ctx, file, recipient)
	if err != nil {
		return nil, err
	}
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	if err := source.Refresh(ctx); err != nil {
		return nil, err
	}
	x, err := there(source.Index(ctx, info.Tier, host.Kernel.BuildID, info.Policy))
	if err != nil {
		return nil, err
	}
	packages, err := a.bundledPackages(ctx, source, info)
	if err != nil {
		return nil, err
	}
	if x == nil && len(packages) == 0 {
		return nil, code.New("TS9429", "", "it holds nothing for kernel "+host.Kernel.Release+", and for no package that processes here run, in tier "+info.Tier+ofPolicy(info.Policy))
	}
	if x != nil {
		if err := a.keepIndex(x); err != nil {
			return nil, err
		}
	}
	a.see(func(m *moment) {
		m.indexed = time.Now()
		if x != nil {
			m.index = x
		}
		for ref, x := range packages {
			m.about(ref, func(p *packageMoment) { p.index = x })
		}
		if m.handed == nil {
			m.handed = map[string]bool{}
		}
		for id := range info.Keys {
			m.handed[id] = true
		}
	})
	refs := slices.Collect(maps.Keys(packages))
	order.Sort(refs, func(a, b PackageRef) int { return cmp.Compare(a.Target, b.Target) })
	if err := a.applyFrom(ctx, source, info, x != nil, refs); err != nil {
		return nil, err
	}
	s, _ := a.journal.view()
	var out []api.Patch
	if x != nil && a.current(s, host) > 0 {
		out = append(out, s.Current.Patch)
	}
	for _, ref := range refs {
		if c := s.Packages[ref.ID].Current; c != nil {
			out = append(out, c.Patch)
		}
	}
	return out, nil
}

// there is what a bundle holds; nil: it was made for others.
func there[T any](v *T, err error) (*T, error) {
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return v, err
}

// bundledPackages are the indexes of a bundle that are those of packages which
// matter here.
func (a *Agent) bundledPackages(ctx context.Context, source Source, info *BundleInfo) (map[PackageRef]*trust.Index, error) {
	if !a.userland() {
		return nil, nil
	}
	list, err := there(source.Packages(ctx, info.Tier))
	if err != nil || list == nil {
		return nil, err
	}
	a.see(func(m *moment) { m.catalogue = list })
	if err := a.opts.Keeper.Seek(ctx, sought(list)); err != nil {
		return nil, err
	}
	a.counted(ctx)
	s, _ := a.journal.view()
	var refs []PackageRef
	a.see(func(m *moment) { refs = packageRefs(m, s) })
	out := map[PackageRef]*trust.Index{}
	for _, ref := range refs {
		x, err := there(source.Index(ctx, info.Tier, ref.ID, info.Policy))
		if err != nil {
			return nil, err
		}
		if x != nil {
			out[ref] = x
		}
	}
	return out, ctx.Err()
}

// counting is how long the agent waits for the keeper to count processes.
const counting = 15 * time.Second

// counted waits until the keeper has counted the processes that it was last asked
// about.
func (a *Agent) counted(ctx context.Context) {
	for end := time.Now().Add(counting); ctx.Err() == nil && time.Now().Before(end); pause(ctx, keeperPace) {
		if st := a.hear(ctx); st == nil || st.Counted || st.Problem != nil {
			return
		}
	}
}

func ofPolicy(policy string) string {
	if policy == "" {
		return ""
	}
	return " and policy " + policy
}

// applyFrom brings the live patches that policy chooses from the bundle into the
// cache, and acts.
func (a *Agent) applyFrom(ctx context.Context, source Source, info *BundleInfo, kernel bool, refs []PackageRef) error {
	turn, end, err := a.begin(ctx)
	if err != nil {
		return err
	}
	host, err := a.host(turn)
	if err == nil && kernel {
		err = a.bringFrom(turn, host, nil, source, info, a.decide(host, time.Now()))
	}
	for i := range refs {
		if err == nil {
			err = a.bringFrom(turn, host, &refs[i], source, info, a.decidePackage(host, refs[i]))
		}
	}
	end()
	if err != nil {
		return err
	}
	if err := a.act(ctx); err != nil {
		return err
	}
	var p *code.Problem
	a.see(func(m *moment) {
		if kernel {
			p = m.problem
		}
	})
	if p != nil {
		return p
	}
	return nil
}

// bringFrom brings what was decided for the kernel (nil) or a package from the
// bundle into the cache.
func (a *Agent) bringFrom(ctx context.Context, h *Host, about *PackageRef, source Source, info *BundleInfo, d policy.Decision) error {
	if d.Action != policy.Apply {
		return nil
	}
	c, err := a.bring(ctx, h, about, source, info.Tier, info.Keys[d.Offer.ID], *d.Offer)
	if err != nil {
		return err
	}
	return a.noteOf(h, about, c.ref(), api.Verified)
}
