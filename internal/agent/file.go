// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/policy"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// ApplyFile applies a live patch file that root gives. If the signed index
// offers this very file, it is as good as fetched; otherwise local must say
// that root vouches for it.
func (a *Agent) ApplyFile(ctx context.Context, file []byte, local bool) (*api.Patch, error) {
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	if host.Off {
		return nil, code.New("TS9420", "", "")
	}
	if err := a.recover(ctx, host); err != nil {
		return nil, err
	}
	p, err := livepatch.Read(file)
	if err != nil {
		return nil, err
	}
	if p.Manifest.Userland() {
		return a.applyPackageFile(ctx, host, file, p)
	}
	if err := fits(p, host.Kernel); err != nil {
		return nil, err
	}
	m := &p.Manifest
	o := trust.Offer{
		ID: trust.PatchID(m.Target.Name, m.Version), Name: m.Name, Version: m.Version,
		Digest: digest(file), Size: int64(len(file)), CVEs: m.CVEs(),
	}
	s, _ := a.journal.view()
	var x *trust.Index
	var applied *api.Patch
	a.see(func(m *moment) { x = m.index })
	if a.current(s, host) > 0 {
		applied = &s.Current.Patch
	}
	if err := mayApply(s, host.Kernel.BuildID, x, applied, o, local); err != nil {
		return nil, err
	}
	c, err := a.takeFile(s, o, p, file)
	if err != nil {
		return nil, err
	}
	ref := c.ref()
	err = a.load(ctx, host, o.ID, false)
	if err != nil {
		if _, ok := errors.AsType[settled](err); !ok && ctx.Err() == nil {
			err = errors.Join(err, a.noteOnce(host, ref, api.Blocked, problemOf("TS9400", o.ID, err)))
		}
	}
	a.decided(host)
	if err != nil {
		a.localFailed(ref, err)
	}
	a.Kick()
	if s, _ = a.journal.view(); s.Current != nil && s.Current.Patch.ID == ref.ID {
		ref = s.Current.Patch
	}
	return &ref, err
}

// mayApply holds for a file what policy holds for an offer of index x, for the
// kernel or package id.
func mayApply(s *State, id string, x *trust.Index, applied *api.Patch, o trust.Offer, local bool) error {
	if applied != nil && applied.ID == o.ID {
		return code.New("TS9421", o.ID, "")
	}
	if q, ok := s.Quarantined[o.ID]; ok {
		why := ""
		if q.Problem != nil {
			why = q.Problem.What
		}
		return code.New("TS9422", o.ID, why)
	}
	offered := false
	floor := s.Floors[floorKey(id, "")]
	if x != nil {
		floor = s.Floors[floorKey(id, x.Policy)]
		line := x.Policy
		if was, ok := s.Healthy[id]; ok && was.ID == o.ID {
			line = was.Policy // it was here before, of that one
		}
		if why := policy.Barred(x, o.Version, line); why != "" {
			return code.New("TS9415", o.ID, why)
		}
		offered = slices.ContainsFunc(x.Patches, func(p trust.Offer) bool { return p.Digest == o.Digest })
		floor = policy.Bar(x, floor)
	}
	if o.Version < floor {
		return code.New("TS9423", o.ID, fmt.Sprintf("it is version %d, this machine had version %d", o.Version, floor))
	}
	if !offered && !local {
		return code.New("TS9424", o.ID, "")
	}
	return nil
}

// takeFile takes a file of root into the cache. That it was taken out by hand
// before does not count any more.
func (a *Agent) takeFile(s *State, o trust.Offer, p *livepatch.Patch, file []byte) (*Card, error) {
	no := false
	if by, ok := s.ByHand[o.ID]; ok {
		if err := a.journal.add(&Record{ByHand: &no, Patch: &by}); err != nil {
			return nil, err
		}
	}
	c, err := newCard(o, "", p, file, "")
	if err != nil {
		return nil, err
	}
	return c, a.keep(c, file)
}
