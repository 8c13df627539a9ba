// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"context"
	"debug/elf"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/google/renameio/v2"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// AddOptions says what a target's name leaves open.
type AddOptions struct {
	Jobs int // of make; 0 for one per processor
}

// Add prepares a target and returns it: "debian:PACKAGE=VERSION". What earlier
// calls have finished is not done again, and what one of them was interrupted
// in goes on. A second process that adds the same target waits for the first.
func (s *Store) Add(ctx context.Context, name string, opt AddOptions, rep progress.Reporter) (*Target, error) {
	n, ok := parseName(name)
	if !ok {
		return nil, code.New("TS3530", name, "")
	}
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.NumCPU()
	}
	unlock, err := s.lock(ctx, "target "+name, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t, err := s.Get(name); err == nil {
		return t, nil
	}
	a, err := s.archive(ctx, rep)
	if err != nil {
		return nil, err
	}
	pkg, err := a.find(ctx, n.Package, n.Version)
	if err != nil {
		return nil, err
	}
	r := recipeOf(pkg.SourceName)
	t := &Target{
		Format: targetFormat, Name: name, Package: n.Package, Version: n.Version,
		Source: pkg.SourceName, SourceVersion: pkg.SourceVersion, Arch: pkg.Arch, home: s.home,
	}
	debs, err := s.unpackPackages(ctx, a, t, pkg, r, rep)
	if err != nil {
		return nil, err
	}
	dsc, err := s.fetchSource(ctx, a, t.Source, t.SourceVersion, rep)
	if err != nil {
		return nil, err
	}
	if t.Packages, err = inputs(debs, filepath.Dir(dsc)); err != nil {
		return nil, err
	}
	if err := s.buildAndCompare(ctx, a, t, dsc, r, opt, rep); err != nil {
		return nil, err
	}
	if err := s.write(t); err != nil {
		return nil, err
	}
	return s.Get(name)
}

// unpackPackages unpacks what the distribution ships: the package itself,
// those that belong to it, and its debug files.
func (s *Store) unpackPackages(ctx context.Context, a archive, t *Target, pkg kernel.Deb, r recipe, rep progress.Reporter) ([]kernel.Deb, error) {
	debs := []kernel.Deb{pkg}
	more := r.with[t.Package]
	if r.debug != "" {
		more = append(slices.Clone(more), r.debug)
	}
	for _, name := range more {
		d, err := a.find(ctx, name, t.Version)
		if err != nil {
			return nil, err
		}
		debs = append(debs, d)
	}
	files, err := a.Fetch(ctx, s.at("debs"), debs, rep)
	if err != nil {
		return nil, err
	}
	dir := s.targetDir(t.Name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, kernel.DiskError(dir, err)
	}
	for _, d := range debs {
		to := filepath.Join(dir, "files")
		if d.Name == r.debug {
			to = filepath.Join(dir, "debug")
		}
		err := kernel.Stage(ctx, to+"-"+d.Name, "unpack "+d.Name, rep, func(tmp string, task progress.Task) error {
			return kernel.UnpackDeb(ctx, files[d.Name], tmp, func(name string) string { return name }, task)
		})
		if err != nil {
			return nil, err
		}
	}
	return debs, nil
}

// inputs tells by digest what a target is made of.
func inputs(debs []kernel.Deb, sources string) ([]kernel.Input, error) {
	var out []kernel.Input
	for _, d := range debs {
		out = append(out, kernel.Input{Name: d.File, Digest: d.SHA256})
	}
	entries, err := os.ReadDir(sources)
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if !e.Type().IsRegular() {
			continue
		}
		_, sum, err := digest(filepath.Join(sources, e.Name()))
		if err != nil {
			return nil, err
		}
		out = append(out, kernel.Input{Name: e.Name(), Digest: sum})
	}
	slices.SortFunc(out, func(x, y kernel.Input) int { return strings.Compare(x.Name, y.Name) })
	return out, nil
}

// buildAndCompare builds the source again and holds the result against the
// shipped files.
func (s *Store) buildAndCompare(ctx context.Context, a archive, t *Target, dsc string, r recipe, opt AddOptions, rep progress.Reporter) error {
	dir := s.targetDir(t.Name)
	var err error
	shipped, err := filepath.Glob(filepath.Join(dir, "files-*"))
	if err != nil {
		return err
	}
	for _, d := range shipped {
		more, err := findShipped(d)
		if err != nil {
			return err
		}
		t.Files = append(t.Files, more...)
	}
	if len(t.Files) == 0 {
		return code.New("TS3539", t.Package+" "+t.Version, "")
	}
	slices.SortFunc(t.Files, func(x, y Shipped) int { return strings.Compare(x.Path, y.Path) })
	debs, err := a.rootPackages(ctx, t.Source, t.SourceVersion, r)
	if err != nil {
		return err
	}
	ref := "builds/" + buildName(t.Source, t.SourceVersion) + "\nroots/" + rootName(debs) + "\n"
	if err := renameio.WriteFile(filepath.Join(dir, buildRef), []byte(ref), 0o644); err != nil {
		return kernel.DiskError(dir, err)
	}
	if t.Root, err = s.makeRoot(ctx, a, debs, rep); err != nil {
		return err
	}
	b, err := s.build(ctx, room{root: t.Root}, dsc, t.Source, t.SourceVersion, r, opt.Jobs, rep)
	if err != nil {
		return err
	}
	t.Build, t.BuildPath, t.Env, t.Compiler = b.tree(), b.inside, b.env, b.compiler
	c, err := readCommands(filepath.Join(b.dir, commandsFile))
	if err != nil {
		return err
	}
	task := rep.Start("compare", int64(len(t.Files)), progress.Files)
	err = matchRebuilt(ctx, t.Files, b, c)
	task.Done(err)
	if err != nil {
		return kernel.OrInterrupted(ctx, err)
	}
	return chooseSymbols(dir, t.Files, r)
}

// chooseSymbols decides for each file where its symbols are read from.
func chooseSymbols(dir string, files []Shipped, r recipe) error {
	for i := range files {
		f := &files[i]
		f.SymbolsFrom, f.SymbolFile = SymbolsDynamic, f.File
		debug := filepath.Join(dir, "debug-"+r.debug, "usr/lib/debug/.build-id", f.BuildID[:2], f.BuildID[2:]+".debug")
		hasDebug, err := fileExists(debug)
		if err != nil {
			return err
		}
		lists, err := filepath.Glob(filepath.Join(dir, "files-*", r.lists[f.Path]))
		if err != nil {
			return err
		}
		switch {
		case f.Identical:
			f.SymbolsFrom, f.SymbolFile = SymbolsRebuilt, f.Rebuilt
		case hasDebug:
			f.SymbolsFrom, f.SymbolFile = SymbolsDebug, debug
		case r.lists[f.Path] != "" && len(lists) == 1:
			f.SymbolsFrom, f.SymbolFile = SymbolsList, lists[0]
		default:
			own, err := hasSymtab(f.File)
			if err != nil {
				return err
			}
			if own {
				f.SymbolsFrom = SymbolsDebug
			}
		}
	}
	return nil
}

// hasSymtab tells whether a file was shipped with its symbols.
func hasSymtab(path string) (bool, error) {
	f, err := elf.Open(path)
	if err != nil {
		return false, err
	}
	defer f.Close()
	return f.SectionByType(elf.SHT_SYMTAB) != nil, nil
}
