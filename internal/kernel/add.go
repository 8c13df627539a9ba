// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
	"golang.org/x/sync/errgroup"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kimage"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// AddOptions says what a target's name leaves open.
type AddOptions struct {
	Version string // package version; "" for the newest that apt has
	Jobs    int    // of make; 0 for one per processor
}

// Add prepares a target and returns it. What earlier calls have finished, or
// an interrupted one had finished, is not done again. A second process that
// adds the same target waits for the first.
func (s *Store) Add(ctx context.Context, spec string, opt AddOptions, rep progress.Reporter) (*Target, error) {
	if opt.Jobs <= 0 {
		opt.Jobs = runtime.NumCPU()
	}
	kind, rest, _ := strings.Cut(spec, ":")
	switch {
	case kind == "debian" && releaseForm.MatchString(rest):
		return s.addDebian(ctx, spec, rest, opt, rep)
	case kind == "tree" && rest != "":
		return s.addTree(ctx, rest, rep)
	}
	return nil, code.New("TS2301", spec, "")
}

// A release becomes part of package names and paths: nothing else than what
// they may hold.
var releaseForm = regexp.MustCompile(`^[0-9][A-Za-z0-9.+~-]*$`)

// addDebian prepares the kernel of a release. A release that ends in
// "-unsigned" asks for the image package of that name; else the signed image
// is taken where there is one.
func (s *Store) addDebian(ctx context.Context, name, release string, opt AddOptions, rep progress.Reporter) (*Target, error) {
	images := []string{"linux-image-" + release, "linux-image-" + release + "-unsigned"}
	if r, ok := strings.CutSuffix(release, "-unsigned"); ok {
		release, images = r, images[:1]
	}
	unlock, err := s.lock(ctx, "target "+name, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if t, err := s.Get(name); err == nil && (opt.Version == "" || t.PackageVersion == opt.Version) {
		return t, nil
	}
	pk, err := findPackages(ctx, release, images, opt.Version)
	if err != nil {
		return nil, err
	}
	debs, err := Apt{}.Fetch(ctx, s.debs(), []Deb{pk.image, pk.headers, pk.source}, rep)
	if err != nil {
		return nil, err
	}
	t := &Target{
		Format: targetFormat, Name: name, Release: release,
		Package: pk.image.Name, PackageVersion: pk.image.Version, SourceVersion: pk.source.Version,
		Arch: "x86_64", Source: s.sourceDir(pk.source.Version),
	}
	for _, p := range []Deb{pk.headers, pk.image, pk.source} { // their names are in this order
		t.Packages = append(t.Packages, Input{p.File, p.SHA256})
	}
	dir := s.targetDir(name)
	if err := s.startTarget(dir, t); err != nil {
		return nil, err
	}
	t.Build = filepath.Join(dir, "build")
	image, headers := filepath.Join(dir, "image"), filepath.Join(dir, "headers")

	if err := unpackHeaders(ctx, debs[pk.headers.Name], headers, release, rep); err != nil {
		return nil, err
	}
	shipped, err := os.ReadFile(filepath.Join(headers, "config"))
	if err != nil {
		return nil, err
	}
	sum := sha256.Sum256(shipped)
	t.ConfigDigest = hex.EncodeToString(sum[:])
	if t.config, err = ParseConfig(shipped); err != nil {
		return nil, code.New("TS2307", filepath.Base(debs[pk.headers.Name]), "").With(err)
	}
	if !t.config.Has("CONFIG_LIVEPATCH") {
		return nil, code.New("TS2312", name, "CONFIG_LIVEPATCH is not set")
	}
	t.Compiler = t.config["CONFIG_CC_VERSION_TEXT"]
	if err := checkCompiler(ctx, t.Compiler); err != nil {
		return nil, err
	}

	// The two halves need nothing of each other: image and modules; source and build directory.
	g, gctx := errgroup.WithContext(ctx)
	g.Go(func() error { return unpackImage(gctx, debs[pk.image.Name], image, t, rep) })
	g.Go(func() error {
		if err := s.ensureSource(gctx, debs[pk.source.Name], t.Source, rep); err != nil {
			return err
		}
		return prepare(gctx, t, headers, opt.Jobs, rep)
	})
	if err := g.Wait(); err != nil {
		return nil, OrInterrupted(ctx, err)
	}
	if err := s.write(t); err != nil {
		return nil, err
	}
	return s.Get(name)
}

// startTarget makes the directory of a target. One left by another version of
// the same package is thrown away.
func (s *Store) startTarget(dir string, t *Target) error {
	id := fmt.Sprintf("%s %s %s\n", t.Package, t.PackageVersion, t.SourceVersion)
	mark := filepath.Join(dir, "package")
	if b, err := os.ReadFile(mark); err != nil || string(b) != id {
		if err := os.Remove(filepath.Join(dir, "target.json")); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return DiskError(dir, err)
	}
	if err := renameio.WriteFile(filepath.Join(dir, sourceRef), []byte(t.Source), 0o644); err != nil {
		return DiskError(dir, err)
	}
	return DiskError(dir, renameio.WriteFile(mark, []byte(id), 0o644))
}

type packages struct{ image, headers, source Deb }

var imageName = regexp.MustCompile(`^linux-image-([0-9][^ ]*?)(-unsigned)?$`)

// findPackages asks apt for the packages of a release: the first image that
// there is, the headers of the same version, and the source that the image
// was built from.
func findPackages(ctx context.Context, release string, images []string, version string) (pk packages, err error) {
	var all []Deb
	for _, name := range images {
		pkgs, err := Apt{}.Show(ctx, name)
		if err != nil {
			return pk, err
		}
		for _, p := range pkgs {
			if version == "" || p.Version == version {
				pk.image = p
				break
			}
		}
		all = append(all, pkgs...)
		if pk.image.Name != "" {
			break
		}
	}
	switch {
	case len(all) == 0:
		return pk, code.New("TS2303", images[0], releasesThere(ctx, release))
	case pk.image.Name == "":
		_, err := choose(all, all[0].Name, version)
		return pk, err
	case pk.image.Arch != "amd64":
		return pk, code.New("TS2311", pk.image.Name, pk.image.Arch)
	}
	if pk.headers, err = findPackage(ctx, "linux-headers-"+release, pk.image.SourceVersion); err != nil {
		return pk, err
	}
	pk.source, err = findSource(ctx, pk.image.SourceVersion)
	return pk, err
}

func findPackage(ctx context.Context, name, version string) (Deb, error) {
	pkgs, err := Apt{}.Show(ctx, name)
	if err != nil {
		return Deb{}, err
	}
	if len(pkgs) == 0 {
		return Deb{}, code.New("TS2303", name, "")
	}
	return choose(pkgs, name, version)
}

var upstreamVersion = regexp.MustCompile(`^(\d+:)?(\d+\.\d+)[.~-]`)

// findSource finds linux-source-X.Y of exactly one version of the source.
func findSource(ctx context.Context, version string) (Deb, error) {
	m := upstreamVersion.FindStringSubmatch(version)
	if m == nil {
		return Deb{}, code.New("TS2304", "linux-source = "+version, "not a version of a kernel package")
	}
	return findPackage(ctx, "linux-source-"+m[2], version)
}

// releasesThere names the releases that apt has instead of the wanted one.
func releasesThere(ctx context.Context, release string) string {
	names, err := aptNames(ctx, `^linux-image-[0-9]`)
	if err != nil || len(names) == 0 {
		return "apt knows no linux-image package at all"
	}
	_, flavour, _ := cutLast(release, "-")
	var have []string
	for _, n := range names {
		m := imageName.FindStringSubmatch(n)
		if m == nil || strings.HasSuffix(n, "-dbg") || strings.Contains(n, "-template") {
			continue
		}
		// Of the same flavour only, as far as that can be seen: "amd64" but not "cloud-amd64".
		base, fl, ok := cutLast(m[1], "-")
		if ok && fl == flavour && !strings.HasSuffix(base, "cloud") && !strings.HasSuffix(base, "rt") {
			have = append(have, m[1])
		}
	}
	slices.Sort(have)
	return "there is " + strings.Join(slices.Compact(have), ", ")
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// unpackHeaders takes .config and Module.symvers out of the headers package.
func unpackHeaders(ctx context.Context, deb, dir, release string, rep progress.Reporter) error {
	return Stage(ctx, dir, "unpack headers", rep, func(tmp string, task progress.Task) error {
		top := "usr/src/linux-headers-" + release + "/"
		err := UnpackDeb(ctx, deb, tmp, func(name string) string {
			switch name {
			case top + ".config":
				return "config"
			case top + "Module.symvers":
				return "Module.symvers"
			}
			return ""
		}, task)
		if err != nil {
			return err
		}
		return needFiles(deb, tmp, "config", "Module.symvers")
	})
}

// unpackImage unpacks the image package into dir: vmlinuz, vmlinux and
// modules/, all decompressed, and the configuration as config. It sets what is known from them in t.
func unpackImage(ctx context.Context, deb, dir string, t *Target, rep progress.Reporter) error {
	t.Vmlinuz, t.Vmlinux = filepath.Join(dir, "vmlinuz"), filepath.Join(dir, "vmlinux")
	t.ModuleRoot = filepath.Join(dir, "modules")
	err := Stage(ctx, dir, "unpack image", rep, func(tmp string, task progress.Task) error {
		boot, modules := "boot/vmlinuz-"+t.Release, "lib/modules/"+t.Release+"/"
		err := UnpackDeb(ctx, deb, tmp, func(name string) string {
			name = strings.TrimPrefix(name, "usr/")
			switch name {
			case boot:
				return "vmlinuz"
			case "boot/config-" + t.Release:
				return "config"
			}
			if file, ok := strings.CutPrefix(name, modules); ok {
				return "modules/" + file
			}
			return ""
		}, task)
		if err != nil {
			return err
		}
		if err := needFiles(deb, tmp, "vmlinuz", "modules/modules.builtin", "modules/kernel"); err != nil {
			return err
		}
		if err := unpackVmlinux(tmp); err != nil {
			return err
		}
		return decompressModules(ctx, filepath.Join(tmp, "modules"))
	})
	if err != nil {
		return err
	}
	return identify(t)
}

func unpackVmlinux(dir string) error {
	b, err := os.ReadFile(filepath.Join(dir, "vmlinuz"))
	if err != nil {
		return err
	}
	elf, _, err := kimage.Unpack(b)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, "vmlinux")
	return DiskError(path, os.WriteFile(path, elf, 0o644))
}

// identify reads the build-id from the image and checks that the image is of
// the release and the compiler that the headers speak of.
func identify(t *Target) error {
	img, err := t.Image()
	if err != nil {
		return err
	}
	t.BuildID = img.BuildID()
	banner := img.Banner()
	if !strings.HasPrefix(banner, "Linux version "+t.Release+" ") {
		return code.New("TS2307", t.Vmlinuz, fmt.Sprintf("the image says %.80q", banner))
	}
	if !strings.Contains(banner, t.Compiler) {
		return code.New("TS2308", t.Vmlinuz, fmt.Sprintf("headers say %q, the image says %.200q", t.Compiler, banner))
	}
	if t.BuildID == "" {
		return code.New("TS2307", t.Vmlinuz, "the image has no build-id")
	}
	return nil
}

func decompressModules(ctx context.Context, root string) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(runtime.NumCPU())
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		to := ""
		for _, ext := range moduleExtensions[1:] {
			if s, ok := strings.CutSuffix(path, ext); ok {
				to = s + ".ko"
			}
		}
		if to == "" || !d.Type().IsRegular() {
			return nil
		}
		g.Go(func() error {
			if err := Interrupted(ctx); err != nil {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			elf, err := kimage.UnpackModule(b)
			if err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			if err := os.WriteFile(to, elf, 0o644); err != nil {
				return DiskError(to, err)
			}
			return os.Remove(path)
		})
		return nil
	})
	return errors.Join(err, g.Wait())
}

// SourceTree unpacks the source of one version of the kernel package
// ("6.1.192-2") and returns its directory. What an x86_64 build cannot need
// is left out of it; see sourcePlace.
func (s *Store) SourceTree(ctx context.Context, version string, rep progress.Reporter) (string, error) {
	dir := s.sourceDir(version)
	if s.HasSource(version) {
		return dir, nil
	}
	p, err := findSource(ctx, version)
	if err != nil {
		return "", err
	}
	debs, err := Apt{}.Fetch(ctx, s.debs(), []Deb{p}, rep)
	if err != nil {
		return "", err
	}
	return dir, s.ensureSource(ctx, debs[p.Name], dir, rep)
}

// HasSource tells whether SourceTree has the version unpacked already.
func (s *Store) HasSource(version string) bool {
	_, err := os.Stat(s.sourceDir(version))
	return err == nil
}

func (s *Store) ensureSource(ctx context.Context, deb, dir string, rep progress.Reporter) error {
	unlock, err := s.lock(ctx, "source "+filepath.Base(dir), true)
	if err != nil {
		return err
	}
	defer unlock()
	return Stage(ctx, dir, "unpack source", rep, func(tmp string, task progress.Task) error {
		if err := unpackSource(ctx, deb, tmp, task); err != nil {
			return err
		}
		return needFiles(deb, tmp, "Makefile", "Kconfig", "arch/x86/Makefile", "scripts/Makefile.build")
	})
}

// Stage fills a directory and gives it its name only when it is whole. A
// directory of that name is taken as done. What an interrupted run left is
// filled up.
func Stage(ctx context.Context, dir, name string, rep progress.Reporter, fill func(tmp string, task progress.Task) error) (err error) {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	task := rep.Start(name, 0, progress.Files)
	defer func() { task.Done(err) }()
	tmp := dir + ".partial"
	if err := os.MkdirAll(tmp, 0o755); err != nil {
		return DiskError(tmp, err)
	}
	if err := fill(tmp, task); err != nil {
		return OrInterrupted(ctx, err)
	}
	if err := Interrupted(ctx); err != nil {
		return err
	}
	return os.Rename(tmp, dir)
}

func needFiles(deb, dir string, names ...string) error {
	for _, n := range names {
		if _, err := os.Stat(filepath.Join(dir, n)); err != nil {
			return code.New("TS2307", filepath.Base(deb), n+" is missing").With(err)
		}
	}
	return nil
}
