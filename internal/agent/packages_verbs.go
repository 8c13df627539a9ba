// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"slices"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// startPackages makes sense of what the last run left, before the keeper begins
// after a boot: what may have taken the machine down is out then. What was
// confirmed lies on the disk, and comes back by itself.
func (a *Agent) startPackages(ctx context.Context, h *Host) error {
	s, bad := a.journal.view()
	if !a.userland() || h.Off || code.Of(bad) == "TS9403" {
		return nil
	}
	a.hear(ctx)
	a.cachedPackages()
	var all error
	for id, now := range s.Packages {
		if i := now.Intent; i != nil && i.Boot != h.BootID && !i.Stopped {
			all = errors.Join(all, a.crashedPackage(ctx, h, PackageRef{id, now.Target}, now))
		}
	}
	return all
}

// cachedPackages takes the indexes of packages that were verified last, for the
// time before the network is up.
func (a *Agent) cachedPackages() {
	s, _ := a.journal.view()
	if len(s.Packages) == 0 || !a.link() {
		return
	}
	var source Source
	var tier string
	a.see(func(m *moment) { source, tier = m.source, m.machine.Tier })
	for id, now := range s.Packages {
		line := ""
		if now.Current != nil {
			line = now.Current.Patch.Policy
		}
		x, _, err := source.Cached(tier, id, line)
		if err != nil {
			a.log.Warn("cached metadata", "package", now.Target, "err", err)
			continue
		}
		if x != nil {
			a.about(PackageRef{id, now.Target}, func(p *packageMoment) { p.index = x })
		}
	}
}

// decidedPackages shows the decisions that hold now.
func (a *Agent) decidedPackages(h *Host) {
	if !a.userland() {
		return
	}
	s, _ := a.journal.view()
	var refs []PackageRef
	a.see(func(m *moment) { refs = packageRefs(m, s) })
	for _, ref := range refs {
		d := a.decidePackage(h, ref)
		a.about(ref, func(p *packageMoment) { p.decision, p.problem = &d, nil })
	}
}

// RevertPackage takes what is applied of a package, or on its way, out of all
// processes, and keeps it out until a person asks or a newer version comes. The
// name is that of the package or of the live patch.
func (a *Agent) RevertPackage(ctx context.Context, name string) (*api.Patch, error) {
	s, _ := a.journal.view()
	if _, out := named(s, name); len(out) == 0 {
		return nil, code.New("TS9664", name, "")
	}
	a.interrupt()
	ctx, end, err := a.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	host, err := a.host(ctx)
	if err != nil {
		return nil, err
	}
	s, _ = a.journal.view()
	ref, out := named(s, name)
	if len(out) == 0 {
		return nil, code.New("TS9664", name, "")
	}
	return a.revertPackage(ctx, host, ref, out)
}

// named finds a package by its name or by that of a live patch of it, and what is
// on its way or applied of it.
func named(s *State, name string) (PackageRef, []api.Patch) {
	for id, now := range s.Packages {
		var out []api.Patch
		if now.Intent != nil {
			out = append(out, now.Intent.Patch)
		}
		if c := now.Current; c != nil && (len(out) == 0 || out[0].ID != c.Patch.ID) {
			out = append(out, c.Patch)
		}
		if now.Target == name && len(out) > 0 || slices.ContainsFunc(out, func(p api.Patch) bool { return p.ID == name }) {
			return PackageRef{id, now.Target}, out
		}
	}
	return PackageRef{}, nil
}

func (a *Agent) revertPackage(ctx context.Context, h *Host, ref PackageRef, out []api.Patch) (*api.Patch, error) {
	if a.opts.Keeper == nil {
		return nil, code.New("TS9440", ref.Target, "")
	}
	s, _ := a.journal.view()
	all := out
	if was, ok := s.Healthy[ref.ID]; ok && !slices.ContainsFunc(all, func(p api.Patch) bool { return p.ID == was.ID }) {
		all = append(slices.Clone(all), was)
	}
	yes := true
	for _, p := range all {
		if err := a.journal.add(&Record{ByHand: &yes, Patch: &p}); err != nil {
			a.log.Error("journal", "err", err) // the person still gets it out
		}
	}
	var err error
	for _, p := range out {
		err = errors.Join(err, a.takeOutPackage(ctx, h, ref, p, "by hand"))
	}
	a.decided(h)
	a.Kick()
	return &out[0], err
}

// applyPackageFile applies a file that the signed index of the package offers.
// What it does not offer is no business of the agent: tsugi apply --local gives
// that to the keeper.
func (a *Agent) applyPackageFile(ctx context.Context, h *Host, file []byte, p *livepatch.Patch) (*api.Patch, error) {
	m := &p.Manifest
	ref := PackageRef{m.Target.ID(), m.Target.Name}
	o := trust.Offer{
		ID: trust.PatchID(m.Target.Name, m.Version), Name: m.Name, Version: m.Version,
		Digest: digest(file), Size: int64(len(file)), CVEs: m.CVEs(),
	}
	if !a.userland() {
		return nil, code.New("TS9424", o.ID, "packages are left out on this machine")
	}
	s, _ := a.journal.view()
	var x *trust.Index
	a.see(func(m *moment) { x = m.packages[ref.ID].index })
	var applied *api.Patch
	if c := s.Packages[ref.ID].Current; c != nil {
		applied = &c.Patch
	}
	if err := mayApply(s, ref.ID, x, applied, o, false); err != nil {
		return nil, err
	}
	c, err := a.takeFile(s, o, p, file)
	if err != nil {
		return nil, err
	}
	err = a.givePackage(ctx, h, ref, o.ID)
	a.decided(h)
	a.Kick()
	patch := c.ref()
	s, _ = a.journal.view()
	if now := s.Packages[ref.ID].Current; now != nil && now.Patch.ID == patch.ID {
		patch = now.Patch
	}
	return &patch, err
}
