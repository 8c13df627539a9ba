// SPDX-License-Identifier: Apache-2.0

package cumulative

import (
	"cmp"
	"context"
	"errors"
	"maps"
	"slices"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/selection"
	"github.com/tsugi-project/tsugi/internal/series"
)

// group is fixes that can only be had together, because they change the same
// modules.
type group struct {
	fixes   []*series.Fix // in the order of the series
	modules []string      // ordered
}

// replace builds the fixed modules for fixes that can't be live and change
// modules alone. A module is patched live or replaced, never both: positions
// and functions of the live patch are those of the shipped build. What can't
// be had in this way either stays open, as it was.
func (c *construction) replace(ctx context.Context) error {
	groups, err := c.groups(ctx)
	if err != nil {
		return err
	}
	for _, g := range groups {
		made, err := builder.Replace(ctx, builder.ReplaceRequest{
			Target: c.req.Target, Fixes: diffs(g.fixes), Modules: g.modules,
			Jobs: c.req.Jobs, Shared: c.req.Shared, Kernel: c.kernel, Sign: c.req.Sign,
		}, c.rep)
		if p, ok := errors.AsType[*code.Problem](err); ok {
			for _, f := range g.fixes {
				c.result.Unreplaced = append(c.result.Unreplaced, Unreplaced{ID: f.ID, Modules: g.modules, Problem: p})
			}
			continue
		}
		if err != nil {
			return err
		}
		if err := c.add(g, made); err != nil {
			return err
		}
	}
	return nil
}

// groups finds out which fixes may be served by which modules.
func (c *construction) groups(ctx context.Context) ([]group, error) {
	live := map[string]bool{}
	for _, o := range c.result.Report.Artifact.Manifest.Objects() {
		live[o] = true
	}
	var out []group
	for _, fixes := range candidates(c.result.Selection.Left) {
		modules, err := c.modulesOf(ctx, fixes)
		if err != nil {
			return nil, err
		}
		if len(modules) == 0 {
			continue
		}
		g := group{fixes, modules}
		out = slices.DeleteFunc(out, func(o group) bool {
			if !slices.ContainsFunc(o.modules, func(m string) bool { return slices.Contains(g.modules, m) }) {
				return false
			}
			g.modules = append(g.modules, o.modules...)
			for _, f := range o.fixes {
				if !slices.Contains(g.fixes, f) {
					g.fixes = append(g.fixes, f)
				}
			}
			return true
		})
		slices.Sort(g.modules)
		g.modules = slices.Compact(g.modules)
		out = append(out, g)
	}
	out = slices.DeleteFunc(out, func(g group) bool {
		return slices.ContainsFunc(g.modules, func(m string) bool { return live[m] })
	})
	at := map[string]int{}
	for i, f := range c.req.Series.Fixes {
		at[f.ID] = i
	}
	for _, g := range out {
		slices.SortFunc(g.fixes, func(a, b *series.Fix) int { return cmp.Compare(at[a.ID], at[b.ID]) })
	}
	slices.SortFunc(out, func(a, b group) int { return cmp.Compare(a.modules[0], b.modules[0]) })
	return out, nil
}

// candidates are the fixes of vulnerabilities that can't be live, each with what
// it requires: fixed modules serve them together or not at all. What requires a
// fix that is live, or that the policy leaves out, is none of them: the live
// one is not in the module, the other one must not be.
func candidates(left []selection.Left) [][]*series.Fix {
	by := make(map[string]selection.Left, len(left))
	for _, l := range left {
		by[l.ID] = l
	}
	var out [][]*series.Fix
	for _, l := range left {
		if len(l.Fix.CVEs) == 0 && len(l.Fix.Advisories) == 0 {
			continue
		}
		seen := map[string]bool{}
		var all []*series.Fix
		var take func(id string) bool
		take = func(id string) bool {
			if seen[id] {
				return true
			}
			seen[id] = true
			n, ok := by[id]
			if !ok || n.Root(by).Kind != selection.Reboot {
				return false
			}
			all = append(all, n.Fix)
			return !slices.ContainsFunc(n.Fix.Requires, func(id string) bool { return !take(id) })
		}
		if take(l.ID) {
			out = append(out, all)
		}
	}
	return out
}

// modulesOf are the modules that some fixes change, ordered; none when they
// change anything else too, or when that can't be found out.
func (c *construction) modulesOf(ctx context.Context, fixes []*series.Fix) ([]string, error) {
	modules := map[string]bool{}
	for _, f := range fixes {
		r, err := kbuild.Reach(ctx, c.req.Target, f.Diff, kbuild.ReachOptions{MaxObjects: maxObjects, Tree: c.kernel.Tree(), SourcesOnly: true}, c.rep)
		if err != nil {
			if code.Of(err) == "" {
				return nil, err
			}
			return nil, nil
		}
		for _, o := range r.Objects {
			modules[o.Module] = true
		}
	}
	if modules[""] {
		return nil, nil
	}
	return slices.Sorted(maps.Keys(modules)), nil
}

// add puts fixed modules and the fixes that they serve into the artifact.
func (c *construction) add(g group, made []builder.Replaced) error {
	old := c.result.Report.Artifact
	m, texts := old.Manifest, map[string][]byte{}
	for _, f := range m.Fixes {
		texts[f.ID], _ = old.Payload(f.Diff)
	}
	before := m.Replacements
	m.Replacements = nil
	served := map[string][]string{} // by fix, the modules that it needs
	m.Fixes = slices.Clone(m.Fixes)
	for i := range m.Fixes {
		served[m.Fixes[i].ID], m.Fixes[i].Modules = m.Fixes[i].Modules, nil
	}
	for _, f := range g.fixes {
		m.Fixes = append(m.Fixes, livepatch.FixRef{ID: f.ID, Title: cmp.Or(f.Title, f.Diff.Title), Origin: cmp.Or(f.Origin, f.Diff.Origin), CVEs: f.CVEs})
		texts[f.ID] = f.Diff.Raw
		served[f.ID] = g.modules
	}
	p, err := livepatch.New(m, old.Manifest.Module.Name, old.Module(), texts)
	if err != nil {
		return err
	}
	for _, r := range before {
		ko, _ := old.Payload(r.Module)
		if err := p.AddReplacement(r, ko); err != nil {
			return err
		}
	}
	for _, r := range made {
		if err := p.AddReplacement(r.Replacement, r.KO); err != nil {
			return err
		}
	}
	for i := range p.Manifest.Fixes {
		p.Manifest.Fixes[i].Modules = served[p.Manifest.Fixes[i].ID]
	}
	sel := c.result.Selection
	sel.Left = slices.DeleteFunc(sel.Left, func(l selection.Left) bool { return slices.Contains(g.fixes, l.Fix) })
	sel.Replaced = append(sel.Replaced, g.fixes...)
	c.result.Report.Artifact = p
	return p.Manifest.Check()
}

func diffs(fs []*series.Fix) []*fix.Fix {
	out := make([]*fix.Fix, 0, len(fs))
	for _, f := range fs {
		d := *f.Diff
		d.ID = f.ID
		out = append(out, &d)
	}
	return out
}
