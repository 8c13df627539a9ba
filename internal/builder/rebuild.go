// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/modsig"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// RebuildOptions of Rebuild.
type RebuildOptions struct {
	Jobs   int
	Shared kbuild.Cache
}

// Rebuilt is what came of building a live patch again.
type Rebuilt struct {
	Same bool `json:"same"` // the file is the same, byte for byte
	// Differences say what is not the same: "module tsugi_x.ko: 41234 bytes
	// instead of 41200".
	Differences []string `json:"differences,omitempty"`
	// Inputs are what the live patch was built from and is otherwise here.
	Inputs []InputChange `json:"inputs,omitempty"`
	// Signed tells that the module's signature was taken over: it is of who
	// signed, and made of the same content it is the same.
	Signed bool `json:"signed,omitempty"`

	Patch *livepatch.Patch `json:"-"`
}

// InputChange is an input that is not what it was.
type InputChange struct {
	Name string `json:"name"`
	Was  string `json:"was,omitempty"` // SHA-256; "" when there was none
	Is   string `json:"is,omitempty"`  // "" when there is none
}

func (c InputChange) String() string {
	switch {
	case c.Is == "":
		return c.Name + " is not here"
	case c.Was == "":
		return c.Name + " was not among the inputs"
	}
	return fmt.Sprintf("%s has SHA-256 %.12s…, it was %.12s…", c.Name, c.Is, c.Was)
}

// Rebuild builds a live patch again from its manifest and the diffs that it
// holds, and compares. What the manifest only states (titles, the fixes that
// stay open) is taken over; what follows from the sources is made anew. t is
// the target that the manifest names.
func Rebuild(ctx context.Context, t *kernel.Target, old *livepatch.Patch, opt RebuildOptions, rep progress.Reporter) (*Rebuilt, error) {
	m := &old.Manifest
	if t.BuildID != m.Target.BuildID || t.ConfigDigest != m.Target.ConfigDigest {
		return nil, code.New("TS2316", t.Name, fmt.Sprintf("the live patch is for build-id %s, the target has %s", m.Target.BuildID, t.BuildID))
	}
	r := &Rebuilt{}
	var err error
	if r.Inputs, err = inputChanges(ctx, t, m.Inputs); err != nil {
		return nil, err
	}
	live, all, err := heldFixes(old)
	if err != nil {
		return nil, err
	}
	k, err := NewKernel(ctx, t)
	if err != nil {
		return nil, err
	}
	report, err := Build(ctx, Request{
		Target: t, Kernel: k, Fixes: live, Name: m.Name, Version: m.Version, Builder: m.Builder, MaxObjects: anyNumber, Members: m.Members,
		Accept: accepted(m.Risks), Jobs: opt.Jobs, Shared: opt.Shared,
	}, rep)
	if err != nil {
		return nil, err
	}
	if report.Artifact == nil {
		why := "its verdict is " + string(report.Verdict)
		if len(report.Refusals) > 0 {
			why += ": " + report.Refusals[0].Error()
		}
		r.Differences = append(r.Differences, why)
		return r, nil
	}
	made := &report.Artifact.Manifest
	ko := r.compareModule("module "+m.Module.Name, old.Module(), report.Artifact.Module())
	next := *m
	next.Functions, next.Callbacks, next.Modules, next.States = made.Functions, made.Callbacks, made.Modules, made.States
	next.Members = made.Members
	next.Compiler, next.Target = made.Compiler, made.Target
	r.compareManifest(m, &next)
	again := fixedModules{old: old, all: all, made: map[string]Replaced{}, build: func(fixes []*fix.Fix, modules []string) ([]Replaced, error) {
		return Replace(ctx, ReplaceRequest{Target: t, Fixes: fixes, Modules: modules, Jobs: opt.Jobs, Shared: opt.Shared, Kernel: k}, rep)
	}}
	if r.Patch, err = remade(old, next, ko, func(repl livepatch.Replacement) ([]byte, error) {
		made, err := again.of(repl)
		if err != nil {
			return nil, err
		}
		was, _ := old.Payload(repl.Module)
		return r.compareModule("module "+repl.Module.Name, was, made), nil
	}); err != nil {
		return nil, err
	}
	was, err := old.Bytes()
	if err != nil {
		return nil, err
	}
	is, err := r.Patch.Bytes()
	if err != nil {
		return nil, err
	}
	r.Same = bytes.Equal(was, is)
	return r, nil
}

// remade packs a live patch with what was built again.
func remade(old *livepatch.Patch, m livepatch.Manifest, ko []byte, build func(livepatch.Replacement) ([]byte, error)) (*livepatch.Patch, error) {
	texts := map[string][]byte{}
	served := make([][]string, len(m.Fixes))
	fixes, replacements, format := slices.Clone(m.Fixes), m.Replacements, m.Format
	for i := range fixes {
		texts[fixes[i].ID], _ = old.Payload(fixes[i].Diff)
		served[i], fixes[i].Modules = fixes[i].Modules, nil
	}
	m.Fixes, m.Replacements = fixes, nil
	p, err := livepatch.New(m, m.Module.Name, ko, texts)
	if err != nil {
		return nil, err
	}
	for _, r := range replacements {
		ko, err := build(r)
		if err != nil {
			return nil, err
		}
		if err := p.AddReplacement(r, ko); err != nil {
			return nil, err
		}
	}
	for i := range p.Manifest.Fixes {
		p.Manifest.Fixes[i].Modules = served[i]
	}
	p.Manifest.Format = format
	return p, p.Manifest.Check()
}

// anyNumber of objects may be compiled: there is no one to ask.
const anyNumber = 1 << 20

// accepted lists the refusals that whoever built a live patch lived with: they
// are among its risks. No others: a struct that could be fitted into its
// padding was refused at first.
func accepted(risks []livepatch.Risk) []string {
	var out []string
	for _, r := range risks {
		if e, ok := code.Lookup(r.Code); ok && e.Kind == code.KindRefusal {
			out = append(out, string(r.Code)+":"+r.Where)
		}
	}
	return out
}

// heldFixes reads the fixes of a live patch: those of the module, and all by
// id, in their order.
func heldFixes(p *livepatch.Patch) (live, all []*fix.Fix, err error) {
	for _, ref := range p.Manifest.Fixes {
		text, ok := p.Payload(ref.Diff)
		if !ok {
			return nil, nil, fmt.Errorf("fix %s: its diff is not in the file", ref.ID)
		}
		f, err := fix.Parse(ref.ID, text)
		if err != nil {
			return nil, nil, err
		}
		f.ID, f.Title, f.Origin, f.CVEs = ref.ID, ref.Title, ref.Origin, ref.CVEs
		all = append(all, f)
		if len(ref.Modules) == 0 {
			live = append(live, f)
		}
	}
	return live, all, nil
}

// inputChanges compares what a live patch was built from with what is here.
func inputChanges(ctx context.Context, t *kernel.Target, was []livepatch.Input) ([]InputChange, error) {
	if len(was) == 0 {
		return nil, nil // of an older Tsugi, which wrote none down
	}
	is, err := t.Inputs(ctx)
	if err != nil {
		return nil, err
	}
	var out []InputChange
	for _, w := range was {
		i := slices.IndexFunc(is, func(x kernel.Input) bool { return x.Name == w.Name })
		switch {
		case i < 0:
			out = append(out, InputChange{Name: w.Name, Was: w.Digest})
		case is[i].Digest != w.Digest:
			out = append(out, InputChange{w.Name, w.Digest, is[i].Digest})
		}
	}
	for _, x := range is {
		if !slices.ContainsFunc(was, func(w livepatch.Input) bool { return w.Name == x.Name }) {
			out = append(out, InputChange{Name: x.Name, Is: x.Digest})
		}
	}
	return out, nil
}

// compareModule compares a module with the one that was built before, which
// may be signed, and returns it with that signature.
func (r *Rebuilt) compareModule(what string, was, is []byte) []byte {
	content, sig, err := modsig.Split(was)
	if err == nil && len(sig) > 0 {
		r.Signed = true
		is = modsig.Append(is, sig)
	} else {
		content = was
	}
	switch n := len(content); {
	case bytes.Equal(was, is):
	case len(was) != len(is):
		r.differ("%s: %d bytes instead of %d", what, len(is), len(was))
	default:
		at := 0
		for at < n && was[at] == is[at] {
			at++
		}
		r.differ("%s: byte %#x is another", what, at)
	}
	return is
}

func (r *Rebuilt) differ(format string, args ...any) {
	r.Differences = append(r.Differences, fmt.Sprintf(format, args...))
}

// compareManifest names what follows otherwise from the sources.
func (r *Rebuilt) compareManifest(was, is *livepatch.Manifest) {
	for _, c := range []struct {
		what string
		same bool
	}{
		{"replaced functions", slices.Equal(was.Functions, is.Functions)},
		{"callbacks", slices.Equal(was.Callbacks, is.Callbacks)},
		{"modules", slices.Equal(was.Modules, is.Modules)},
		{"states", slices.Equal(was.States, is.States)},
		{"members of structs", slices.Equal(was.Members, is.Members)},
		{"compiler", was.Compiler == is.Compiler},
		{"target", was.Target == is.Target},
	} {
		if !c.same {
			r.differ("manifest: %s are others", c.what)
		}
	}
}

// fixedModules builds the fixed modules of a live patch again: those that the
// same fixes serve at once, as they were made.
type fixedModules struct {
	old   *livepatch.Patch
	all   []*fix.Fix // of the manifest's fixes
	build func(fixes []*fix.Fix, modules []string) ([]Replaced, error)
	made  map[string]Replaced // by module
}

// of returns one of them.
func (f *fixedModules) of(repl livepatch.Replacement) ([]byte, error) {
	if m, ok := f.made[repl.Name]; ok {
		return m.KO, nil
	}
	fixes, modules := f.group(repl.Name)
	made, err := f.build(fixes, modules)
	if err != nil {
		return nil, err
	}
	for _, m := range made {
		f.made[m.Name] = m
	}
	m, ok := f.made[repl.Name]
	if !ok {
		return nil, fmt.Errorf("module %s was not built again with %s", repl.Name, strings.Join(modules, ", "))
	}
	return m.KO, nil
}

// group is all that is served together with one module: modules, and fixes in
// their order.
func (f *fixedModules) group(module string) (fixes []*fix.Fix, modules []string) {
	modules = []string{module}
	for again := true; again; {
		again, fixes = false, nil
		for i, ref := range f.old.Manifest.Fixes {
			if !slices.ContainsFunc(ref.Modules, func(m string) bool { return slices.Contains(modules, m) }) {
				continue
			}
			fixes = append(fixes, f.all[i])
			for _, m := range ref.Modules {
				if !slices.Contains(modules, m) {
					modules = append(modules, m)
					again = true
				}
			}
		}
	}
	return fixes, modules
}
