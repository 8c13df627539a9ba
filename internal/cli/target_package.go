// SPDX-License-Identifier: Apache-2.0

package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/tsugi-project/tsugi/internal/ui"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// packageResult is a target that is a package, in JSON.
type packageResult struct {
	Name          string              `json:"name"`
	Package       string              `json:"package"`
	Version       string              `json:"package_version"`
	Source        string              `json:"source_package"`
	SourceVersion string              `json:"source_version"`
	Arch          string              `json:"arch"`
	Compiler      string              `json:"compiler"`
	Root          string              `json:"root"`
	Build         string              `json:"build"`
	BuildPath     string              `json:"build_path"`
	Compiles      int                 `json:"compiles"`
	Files         []packageFileResult `json:"files"`
}

type packageFileResult struct {
	Path      string `json:"path"`
	Name      string `json:"name"`
	BuildID   string `json:"build_id"`
	SHA256    string `json:"sha256"`
	Rebuilt   string `json:"rebuilt,omitempty"`
	Identical bool   `json:"identical"`
	Differs   string `json:"differs,omitempty"`
	Symbols   string `json:"symbols"`
}

func resultOfPackage(t *userland.Target) packageResult {
	r := packageResult{
		Name: t.Name, Package: t.Package, Version: t.Version, Source: t.Source, SourceVersion: t.SourceVersion, Arch: t.Arch,
		Compiler: t.Compiler, Root: t.Root, Build: t.Build, BuildPath: t.BuildPath, Compiles: len(t.Commands().Compiles),
		Files: make([]packageFileResult, len(t.Files)),
	}
	for i, f := range t.Files {
		r.Files[i] = packageFileResult{
			Path: f.Path, Name: f.Name, BuildID: f.BuildID, SHA256: f.SHA256,
			Rebuilt: f.Rebuilt, Identical: f.Identical, Differs: f.Differs, Symbols: string(f.SymbolsFrom),
		}
	}
	return r
}

// proven counts the files that were built again with the same bytes.
func (r packageResult) proven() int {
	n := 0
	for _, f := range r.Files {
		if f.Identical {
			n++
		}
	}
	return n
}

func (a *app) packageAdd(ctx context.Context, name string, opt userland.AddOptions) error {
	start := time.Now()
	store, err := a.packages()
	if err != nil {
		return err
	}
	t, err := store.Add(ctx, name, opt, a.Progress())
	if err != nil {
		return err
	}
	r := resultOfPackage(t)
	return a.Show("package_target", r, func() string {
		s := ui.Good("✓") + " " + ui.Bold(t.Name) + " is ready" + ui.Dim("  "+ui.Span(time.Since(start))) + "\n"
		return s + ui.Indent(fmt.Sprintf("%d of %s built again with the same bytes", r.proven(), ui.Count(len(r.Files), "file")), 2)
	})
}

func (a *app) packageShow(name string) error {
	store, err := a.packages()
	if err != nil {
		return err
	}
	t, err := store.Get(name)
	if err != nil {
		return err
	}
	r := resultOfPackage(t)
	return a.Show("package_target", r, func() string { return packageText(r) })
}

func packageText(r packageResult) string {
	rows := make([][]string, len(r.Files))
	for i, f := range r.Files {
		proof := ui.Good("identical")
		switch {
		case !f.Identical:
			proof = f.Differs
		case f.Differs != "":
			proof += " but its build-id"
		}
		rows[i] = []string{f.Path, short(f.BuildID), f.Symbols, proof}
	}
	return ui.Bold(r.Name) + "\n" + ui.Indent(ui.Pairs(
		[2]string{"package", r.Package + " " + r.Version},
		[2]string{"source", r.Source + " " + r.SourceVersion},
		[2]string{"architecture", r.Arch},
		[2]string{"compiler", r.Compiler},
		[2]string{"commands", fmt.Sprint(r.Compiles)},
		[2]string{"root", r.Root},
		[2]string{"build", r.Build + ui.Dim("  "+r.BuildPath)},
	), 2) + "\n" + ui.Table([]string{"file", "build-id", "symbols", "built again"}, rows)
}

func packageTable(targets []*userland.Target) string {
	rows := make([][]string, len(targets))
	for i, t := range targets {
		r := resultOfPackage(t)
		rows[i] = []string{t.Name, strings.TrimSpace(t.Source + " " + t.SourceVersion), fmt.Sprint(len(r.Files)), fmt.Sprint(r.proven())}
	}
	return ui.Table([]string{"package target", "source", "files", "identical"}, rows, 2, 3)
}
