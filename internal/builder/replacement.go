// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/layout"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// ReplaceRequest says which modules of a target to build with which fixes.
type ReplaceRequest struct {
	Target *kernel.Target
	// Fixes are all that the modules shall have, in their order.
	Fixes []*fix.Fix
	// Modules are replaced together or not at all: what the fixes change lies
	// in them and nowhere else.
	Modules []string
	Jobs    int
	Shared  kbuild.Cache
	Kernel  *Kernel // nil: it is made
	// Sign, if not nil, gets each module and returns it signed.
	Sign func(ko []byte) ([]byte, error)
}

// Replaced is the fixed build of one module, with what was proven of it.
type Replaced struct {
	// Replacement has no payload yet: see livepatch.Patch.AddReplacement.
	livepatch.Replacement
	KO      []byte
	Objects []string // that the module is linked from
	Changed []string // those of them that the fixes change
	// Sections is how many sections of the module as Kbuild links it from the
	// unfixed objects were compared with the shipped one, and are the same.
	Sections int
}

// Replace builds the fixed modules that take the place of the target's own on
// the disks of machines that have not loaded them. A refusal (TS54xx) says why
// the fixes can't be had in this way.
//
// That a fixed module differs from the shipped one in its fix alone is proven
// in two steps. The module is linked from the unfixed objects first, and all
// of it that the kernel loads (code, data, relocations, symbol versions,
// module information, symbols) has to equal the shipped module, section by
// section; only the build-id and the type information are others. So source,
// configuration, compiler, linker and modpost are the distribution's. Then the
// same makefiles link it again, and what goes into that link is compared: the
// objects of Changed differ, all others are the same bytes.
func Replace(ctx context.Context, req ReplaceRequest, rep progress.Reporter) ([]Replaced, error) {
	if len(req.Fixes) == 0 {
		return nil, code.New("TS1107", "", "no fix was given")
	}
	modules := slices.Sorted(slices.Values(req.Modules))
	b := &build{
		req: Request{Target: req.Target, Fixes: req.Fixes, Jobs: req.Jobs, Shared: req.Shared, MaxObjects: 1 << 20, Kernel: req.Kernel},
		rep: rep, report: &Report{Schema: 1, Target: TargetRef(req.Target), Name: "replacement"},
	}
	if err := b.combine(); err != nil {
		return nil, err
	}
	objs, _, err := b.reach(ctx, scope{})
	if err != nil {
		return nil, err
	}
	pairs, err := b.compile(ctx, objs)
	if err != nil {
		return nil, err
	}
	if err := b.onlyIn(ctx, modules, pairs); err != nil {
		return nil, err
	}
	made, err := kbuild.Remake(ctx, req.Target, b.fix, modules, kbuild.Options{Jobs: req.Jobs, Shared: req.Shared, Tree: req.Kernel.Tree()}, rep)
	if err != nil {
		return nil, err
	}
	out := make([]Replaced, 0, len(made))
	for _, m := range made {
		r, err := req.replaced(m)
		if err != nil {
			return nil, err
		}
		out = append(out, *r)
	}
	return out, nil
}

// onlyIn refuses fixes that change code outside of the modules, or how a type
// lies that code outside of them may know.
func (b *build) onlyIn(ctx context.Context, modules []string, pairs []kbuild.Pair) error {
	changed := map[string]string{} // by type, an object
	idle := slices.Clone(modules)
	for _, p := range pairs {
		if p.Identical {
			continue
		}
		if !slices.Contains(modules, p.Module) {
			where := p.Module
			if where == "" {
				where = livepatch.Vmlinux
			}
			return code.New("TS5401", p.Path, "it is part of "+where)
		}
		idle = slices.DeleteFunc(idle, func(m string) bool { return m == p.Module })
		orig, err := readObject(p.Orig)
		if err != nil {
			return err
		}
		patched, err := readObject(p.Patched)
		if err != nil {
			return err
		}
		types, err := changedTypes(orig, patched)
		if err != nil {
			return fmt.Errorf("%s: %w", p.Path, err)
		}
		for _, t := range types {
			changed[t] = p.Path
		}
	}
	if len(idle) > 0 {
		return code.New("TS5406", idle[0], "all of its objects are the same with the fixes")
	}
	if len(changed) == 0 {
		return nil
	}
	k := b.req.Kernel
	if k == nil {
		var err error
		if k, err = NewKernel(ctx, b.req.Target); err != nil {
			return err
		}
	}
	for _, t := range slices.Sorted(maps.Keys(changed)) {
		_, name, _ := strings.Cut(t, " ")
		if _, known := k.types.size(name); known || k.types.kernel == nil {
			return code.New("TS5402", t, changed[t]+" lays it out anew, and the kernel proper knows it")
		}
		other, err := typeElsewhere(b.req.Target, name, modules)
		if err != nil {
			return err
		}
		if other != "" {
			return code.New("TS5402", t, changed[t]+" lays it out anew, and module "+other+" knows it")
		}
	}
	return nil
}

func changedTypes(orig, patched *elfobj.File) ([]string, error) {
	before, after := orig.Section(".BTF"), patched.Section(".BTF")
	if before == nil || after == nil {
		return nil, errors.New("it has no type information")
	}
	was, err := layout.Parse(before.Data)
	if err != nil {
		return nil, err
	}
	is, err := layout.Parse(after.Data)
	if err != nil {
		return nil, err
	}
	var out []string
	for _, ch := range layout.Compare(was, is) {
		out = append(out, ch.Type)
	}
	return out, nil
}

// typeElsewhere names a module, other than those given, that has a type of
// this name. The strings of BTF are enough to tell.
func typeElsewhere(t *kernel.Target, name string, but []string) (string, error) {
	word := "\x00" + name + "\x00"
	for _, m := range t.Modules() {
		if slices.Contains(but, m.Name) {
			continue
		}
		ko, err := os.ReadFile(m.Path)
		if err != nil {
			return "", err
		}
		f, err := elfobj.Read(ko)
		if err != nil {
			return "", fmt.Errorf("module %s: %w", m.Name, err)
		}
		if s := f.Section(".BTF"); s != nil && strings.Contains(string(s.Data), word) {
			return m.Name, nil
		}
	}
	return "", nil
}

// replaced judges one module and signs it.
func (req *ReplaceRequest) replaced(m kbuild.Remade) (*Replaced, error) {
	path, ok := req.Target.ModulePath(m.Name)
	if !ok {
		return nil, code.New("TS3112", m.Name, "the target has no such module")
	}
	shippedKO, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	shipped, err := readModule(m.Name, shippedKO)
	if err != nil {
		return nil, err
	}
	original, err := readModule(m.Name, m.Original)
	if err != nil {
		return nil, err
	}
	fixed, err := readModule(m.Name, m.Fixed)
	if err != nil {
		return nil, err
	}
	if s := shipped.Section(".BTF_ids"); s != nil {
		return nil, code.New("TS5405", m.Name, "")
	}
	sections, differs := sameModule(shipped, original)
	if differs != "" {
		return nil, code.New("TS5403", m.Name, differs)
	}
	if len(m.Changed) == 0 {
		return nil, code.New("TS5406", m.Name, "all of its objects are the same with the fixes")
	}
	if err := keepsPromises(m.Name, shipped, fixed); err != nil {
		return nil, err
	}
	ko := m.Fixed
	if req.Sign != nil {
		if ko, err = req.Sign(ko); err != nil {
			return nil, err
		}
	}
	id, err := req.Target.ModuleBuildID(m.Name)
	if err != nil {
		return nil, err
	}
	out := &Replaced{
		Replacement: livepatch.Replacement{Name: m.Name, Path: req.file(m.Name), BuildID: id},
		KO:          ko, Objects: m.Objects, Changed: m.Changed, Sections: sections,
	}
	for _, f := range req.Fixes {
		out.Fixes = append(out.Fixes, f.ID)
	}
	slices.Sort(out.Fixes)
	return out, nil
}

func readModule(name string, ko []byte) (*elfobj.File, error) {
	f, err := elfobj.Read(ko)
	if err != nil {
		return nil, fmt.Errorf("module %s: %w", name, err)
	}
	return f, nil
}

// file is where the module lies below /lib/modules/RELEASE, uncompressed.
func (req *ReplaceRequest) file(name string) string {
	mods := req.Target.Modules()
	i := slices.IndexFunc(mods, func(m kernel.ModuleInfo) bool { return m.Name == name })
	return mods[i].File
}
