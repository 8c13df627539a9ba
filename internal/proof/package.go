// SPDX-License-Identifier: Apache-2.0

package proof

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/pkgfile"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/trust"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// Package is what a request says of the live patch of a package.
type Package struct {
	livepatch.TargetRef
	Artifact []byte        // the .tsugi file
	Known    string        // its id on machines
	Files    []PackageFile // that it changes

	// Previous is the live patch that it takes the place of, nil for none.
	Previous      []byte
	PreviousFiles []PackageFile

	// Target is the prepared package, whose files are put into the machine with
	// the libraries that they need. Without one, Shipped are the files, by their
	// paths in the machine, and Root is the directory of the system that has the
	// rest.
	Target  *userland.Target
	Shipped map[string]string
	Root    string

	// Programs that run while the live patch comes and goes: see Needs.
	Serve []string
	Talk  string
	Ready []string
	C     []CProgram
}

// PackageFile is an ELF file that a live patch changes.
type PackageFile struct {
	Path      string `json:"path"`
	Name      string `json:"name"`
	BuildID   string `json:"build_id"`
	Splice    string `json:"splice_sha256"`
	Functions int    `json:"functions"`
}

// FromPackage starts a request for the live patch of a package. The machines run
// kernel k: see Bootable.
func FromPackage(p *livepatch.Patch, t *userland.Target, k *kernel.Target) (Request, error) {
	if p.Manifest.Target.Name != t.Name {
		return Request{}, code.New("TS6122", t.Name, "the live patch is for "+p.Manifest.Target.Name)
	}
	for _, f := range p.Manifest.Files {
		if _, ok := t.ByBuildID(f.BuildID); !ok {
			return Request{}, code.New("TS6122", t.Name, fmt.Sprintf("the live patch is for a %s with build-id %s, which it has not", f.Name, f.BuildID))
		}
	}
	r, err := fromArtifact(p, k)
	if err == nil {
		r.Package.Target, r.Package.Root = t, t.Root
	}
	return r, err
}

// FromFiles is FromPackage for files that no package ships: shipped are their
// places on this machine by those in the virtual one.
func FromFiles(p *livepatch.Patch, shipped map[string]string, k *kernel.Target) (Request, error) {
	r, err := fromArtifact(p, k)
	if err == nil {
		r.Package.Shipped, r.Package.Root = shipped, "/"
	}
	return r, err
}

func fromArtifact(p *livepatch.Patch, k *kernel.Target) (Request, error) {
	m := p.Manifest
	b, err := p.Bytes()
	if err != nil {
		return Request{}, err
	}
	d, err := p.Digest()
	if err != nil {
		return Request{}, err
	}
	files, err := packageFiles(p)
	if err != nil {
		return Request{}, err
	}
	return Request{
		Target: ForKernel(k), Functions: m.Functions,
		Patch:   PatchRef{Name: m.Name, Version: m.Version, Digest: d},
		Package: &Package{TargetRef: m.Target, Artifact: b, Known: trust.PatchID(m.Target.Name, m.Version), Files: files},
	}, nil
}

// packageFiles reads what a live patch changes.
func packageFiles(p *livepatch.Patch) ([]PackageFile, error) {
	var out []PackageFile
	for _, f := range p.Manifest.Files {
		b, ok := p.Splice(f)
		if !ok {
			return nil, code.New("TS7002", f.Name, "")
		}
		s, err := splice.Decode(b)
		if err != nil {
			return nil, err
		}
		digest, err := s.Digest()
		if err != nil {
			return nil, err
		}
		out = append(out, PackageFile{Path: f.Path, Name: f.Name, BuildID: f.BuildID, Splice: digest, Functions: len(s.Functions)})
	}
	return out, nil
}

// supersedesPackage is Supersedes for a package.
func (r *Request) supersedesPackage(old *livepatch.Patch) error {
	m := old.Manifest
	switch {
	case m.Target.ID() != r.Package.ID():
		return code.New("TS6118", m.Name, "it is for "+m.Target.Name)
	case m.Version >= r.Patch.Version:
		return code.New("TS6118", m.Name, fmt.Sprintf("it is version %d, and this one is version %d", m.Version, r.Patch.Version))
	}
	b, err := old.Bytes()
	if err != nil {
		return err
	}
	d, err := old.Digest()
	if err != nil {
		return err
	}
	if r.Package.PreviousFiles, err = packageFiles(old); err != nil {
		return err
	}
	r.Previous, r.Package.Previous = PatchRef{Name: m.Name, Version: m.Version, Digest: d}, b
	return nil
}

// Bootable is the kernel that the machines of a package's proof run: that of a
// name, or the newest of a distribution that is prepared. Where none is, the
// distribution's newest is fetched, by the apt of packages.
func Bootable(ctx context.Context, kernels *kernel.Store, packages *userland.Store, name string, rep progress.Reporter) (*kernel.Target, error) {
	if name != "" {
		return kernels.Get(name)
	}
	all, err := kernels.List()
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(t *kernel.Target) bool {
		return t.Foreign || t.Vmlinuz == "" || strings.Contains(t.Release, "-rt-")
	})
	if len(all) > 0 {
		return slices.MaxFunc(all, newer), nil
	}
	k, err := kernels.Boot(ctx, func(ctx context.Context) (kernel.Apt, error) { return packages.Apt(ctx, rep) }, rep)
	if err != nil && code.Of(err) != "TS9102" { // interrupted
		return nil, code.New("TS6123", kernels.Home(), err.Error())
	}
	return k, err
}

func newer(a, b *kernel.Target) int {
	c, err := pkgfile.CompareVersions(a.PackageVersion, b.PackageVersion)
	if err != nil {
		return strings.Compare(a.PackageVersion, b.PackageVersion)
	}
	return c
}
