// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"context"
	"errors"
	"os"
	"path"
	"runtime"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// Remade is one of the target's own modules, linked twice by Kbuild from the
// same objects: as it was shipped, and with a fix.
type Remade struct {
	Name     string
	Original []byte   // from the pristine source: what must equal the shipped module
	Fixed    []byte   // from the fixed source
	Objects  []string // of all that it is linked from
	Changed  []string // those of them whose bytes differ
}

// Remake builds modules of the target as their makefiles do, without and with
// a fix. Objects that the fix does not reach are taken from the cache of plain
// ones, with the commands and dependencies that Kbuild recorded for them, so
// Kbuild itself decides what it compiles anew: what the second module is
// linked from differs from the first in Changed and nothing else. Symbol
// versions and dependencies are those of the target's Module.symvers, without
// what a module exports itself.
//
// Neither holds debug information, BTF or a signature. A symbol that the target
// does not export is an error (TS3112).
func Remake(ctx context.Context, t *kernel.Target, f *fix.Fix, modules []string, opt Options, rep progress.Reporter) (_ []Remade, err error) {
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.NumCPU()
	}
	if t.Source == t.Build {
		return nil, code.New("TS3112", t.Name, "it was built in its source directory")
	}
	relevant, _, err := Relevant(t, f)
	if err != nil {
		return nil, err
	}
	changes, err := relevant.Apply(readSource(t))
	if err != nil {
		return nil, err
	}
	c, err := newCompilation(t, changes, opt)
	if err != nil {
		return nil, err
	}
	tree, err := opt.Tree.of(ctx, t)
	if err != nil {
		return nil, err
	}
	m := tree.m
	parts, err := m.partsOf(ctx, modules, rep)
	if err != nil {
		return nil, err
	}
	var all []Object
	for _, p := range parts {
		all = append(all, p.objects...)
	}
	if err := c.plain(ctx, all, rep); err != nil {
		return nil, err
	}
	task := rep.Start("link modules", int64(2*len(parts)), progress.Steps)
	defer func() { task.Done(err) }()
	out := make([]Remade, len(parts))
	for i, p := range parts {
		out[i] = Remade{Name: p.name, Objects: p.names()}
	}
	err = c.remake(ctx, m, parts, nil, func(i int, ko []byte, _ []string) { out[i].Original = ko; task.Add(1) })
	if err != nil {
		return nil, err
	}
	w, err := lease(ctx, t)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, w.close()) }()
	if err := w.apply(c.changes); err != nil {
		return nil, err
	}
	err = c.remake(ctx, m, parts, w, func(i int, ko []byte, changed []string) {
		out[i].Fixed, out[i].Changed = ko, changed
		task.Add(1)
	})
	return out, err
}

// part is a module and what it is linked from.
type part struct {
	name    string
	linked  string // "fs/ext4/ext4.o", without .ko
	objects []Object
}

func (p *part) names() []string {
	var out []string
	for _, o := range p.objects {
		out = append(out, path.Clean(o.Path))
	}
	slices.Sort(out)
	return out
}

// partsOf finds the objects of modules.
func (m *makefiles) partsOf(ctx context.Context, modules []string, rep progress.Reporter) ([]part, error) {
	index, err := m.index(ctx, rep)
	if err != nil {
		return nil, err
	}
	out := make([]part, len(modules))
	for i, name := range modules {
		k := slices.IndexFunc(m.t.Modules(), func(x kernel.ModuleInfo) bool { return x.Name == name })
		if k < 0 {
			return nil, code.New("TS3112", name, "the target has no such module")
		}
		file := strings.TrimPrefix(m.t.Modules()[k].File, "kernel/")
		out[i] = part{name: name, linked: strings.TrimSuffix(file, ".ko") + ".o"}
	}
	for _, objs := range index {
		for _, o := range objs {
			if i := slices.Index(modules, o.Module); i >= 0 && !slices.Contains(out[i].objects, o) {
				out[i].objects = append(out[i].objects, o)
			}
		}
	}
	for _, p := range out {
		if len(p.objects) == 0 {
			return nil, code.New("TS3112", p.name, "no makefile tells what it is linked from")
		}
		slices.SortFunc(p.objects, func(a, b Object) int { return strings.Compare(a.Path, b.Path) })
	}
	return out, nil
}

// remake links modules in a build directory of their own, which has the
// prepared parts of the target's. w is the fixed source, nil the pristine one.
func (c *compilation) remake(ctx context.Context, m *makefiles, parts []part, w *workspace, done func(i int, ko []byte, changed []string)) (err error) {
	s, err := newShadow(c, m, parts, w)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(s.dir)) }()
	for i, p := range parts {
		ko, err := s.module(ctx, p)
		if err != nil {
			return err
		}
		changed, err := s.changed(p)
		if err != nil {
			return err
		}
		done(i, ko, changed)
	}
	return nil
}
