// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/klp"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// name is the live patch's: what the caller said, or one of the fixes.
func (b *build) name() string {
	diffs := make([][]byte, len(b.req.Fixes))
	for i, f := range b.req.Fixes {
		diffs[i] = f.Raw
	}
	return cmp.Or(b.req.Name, livepatch.NameOf(b.req.Fixes[0].ID, b.req.Target.BuildID, b.req.Version, diffs...))
}

func clip(s string, n int) string { return strings.TrimRight(s[:min(len(s), n)], "_") }

func (b *build) link(ctx context.Context) (err error) {
	task := b.rep.Start("link module", 0, progress.Steps)
	defer func() { task.Done(err) }()
	m, err := klp.Build(ctx, b.target, klp.Options{
		Name: b.report.Name, Sign: b.req.Sign, Description: b.description(),
	}, b.inputs)
	if err != nil {
		return err
	}
	sum := sha256.Sum256(m.KO)
	b.report.Module = &ModuleInfo{Name: m.Name, Size: len(m.KO), Digest: hex.EncodeToString(sum[:]), Symbols: m.Symbols}
	b.report.Notes = append(b.report.Notes, m.Warnings...)
	b.tell(m)
	return b.pack(ctx, m)
}

// placeOnly finds out what link would refuse, without making the module.
func (b *build) placeOnly() error {
	m, err := klp.Place(b.target, klp.Options{Name: b.report.Name}, b.inputs)
	if err != nil {
		return err
	}
	b.tell(m)
	return nil
}

// tell puts what is replaced, and what was proven of it, into the report.
func (b *build) tell(m *klp.Module) {
	b.report.Proven = m.Proof
	if n := len(m.Stays); n > 0 {
		b.report.Notes = append(b.report.Notes, fmt.Sprintf("the module stays in memory until the next boot, since others may keep addresses of it (%d, first %s)", n, m.Stays[0]))
	}
	for _, f := range m.Functions {
		b.report.Functions = append(b.report.Functions, livepatch.Function{
			Object: f.Object, Name: f.Name, SymPos: f.SymPos, Change: f.Change, Source: strings.TrimSuffix(f.File, ".o") + ".c",
		})
	}
	livepatch.SortFunctions(b.report.Functions)
}

func (b *build) description() string {
	ids := make([]string, 0, len(b.req.Fixes))
	for _, f := range b.req.Fixes {
		ids = append(ids, f.ID)
	}
	return clip("live patch for "+b.req.Target.Release+": "+strings.Join(ids, ", "), 200)
}

// pack makes the artifact.
func (b *build) pack(ctx context.Context, m *klp.Module) error {
	inputs, err := b.req.Target.Inputs(ctx)
	if err != nil {
		return err
	}
	man := livepatch.Manifest{
		Name: b.report.Name, Version: max(b.req.Version, 1), Target: b.report.Target,
		Functions: b.report.Functions, Callbacks: b.callbacks(),
		Compiler: b.req.Target.Compiler, Builder: b.req.Builder,
	}
	diffs := map[string][]byte{}
	for _, f := range b.req.Fixes {
		man.Fixes = append(man.Fixes, livepatch.FixRef{ID: f.ID, Title: f.Title, Origin: f.Origin, CVEs: f.CVEs})
		diffs[f.ID] = f.Raw
	}
	for _, in := range inputs {
		man.Inputs = append(man.Inputs, livepatch.Input(in))
	}
	for _, st := range m.States {
		man.States = append(man.States, livepatch.State{ID: st.ID, Version: st.Version})
	}
	man.Members = livepatch.Remember(b.report.Members, b.req.Members)
	for _, r := range b.report.Risks {
		man.Risks = append(man.Risks, livepatch.Risk{Code: r.Code, What: r.What, Where: r.Where, Why: r.Why})
	}
	if man.Modules, err = b.modules(man.Objects()); err != nil {
		return err
	}
	b.report.Artifact, err = livepatch.New(man, m.Name+".ko", m.KO, diffs)
	return err
}

// modules names the exact builds of the modules among the objects.
func (b *build) modules(objects []string) ([]livepatch.ModuleRef, error) {
	var out []livepatch.ModuleRef
	for _, o := range objects {
		if o == livepatch.Vmlinux {
			continue
		}
		id, err := b.req.Target.ModuleBuildID(o)
		if err != nil {
			return nil, err
		}
		if id != "" {
			out = append(out, livepatch.ModuleRef{Name: o, BuildID: id})
		}
	}
	return out, nil
}

// callbacks lists the objects for which the fixes bring patch callbacks, or
// edits of data, which are made in callbacks.
func (b *build) callbacks() []string {
	var out []string
	for _, in := range b.inputs {
		if in.Extract.Edits != nil || slices.ContainsFunc(in.Extract.Hooks, func(h objdiff.Hook) bool { return h.Kind != objdiff.HookState }) {
			out = append(out, cmp.Or(in.Module, livepatch.Vmlinux))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// TargetRef names a target as manifests do.
func TargetRef(t *kernel.Target) livepatch.TargetRef {
	return livepatch.TargetRef{
		Name: t.Name, Release: t.Release, PackageVersion: t.PackageVersion,
		Arch: t.Arch, BuildID: t.BuildID, ConfigDigest: t.ConfigDigest,
	}
}
