// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/kimage"
)

// targetFormat is the version of target.json.
const targetFormat = 1

// Target is one exact kernel, prepared for making live patches. It is
// identified by release, package version, architecture, configuration digest
// and build-id. Its directories are only read by other packages, Build
// excepted: kbuild runs make there.
type Target struct {
	Format         int
	Name           string // "debian:6.1.0-55-amd64"
	Release        string // uname -r
	Package        string `json:",omitempty"` // "linux-image-6.1.0-55-amd64"
	PackageVersion string `json:",omitempty"` // "6.1.192-1"
	SourceVersion  string `json:",omitempty"` // of linux-source, "6.1.192-1"
	Arch           string // "x86_64"
	ConfigDigest   string // SHA-256 of the configuration that the package ships, hex
	BuildID        string // GNU build-id of vmlinux, hex
	Compiler       string // "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"
	Source         string // pristine source; never written to
	Build          string // O= directory, prepared
	Vmlinuz        string // compressed image as it boots; "" when a tree has only vmlinux
	Vmlinux        string // unpacked ELF image
	ModuleRoot     string // directory below which the modules are
	Foreign        bool   // a tree:DIR target: Source and Build are someone else's

	// Packages are the files that it was made of, ordered by name.
	Packages []Input `json:",omitempty"`

	home    string
	config  Config
	modules []ModuleInfo
	byName  map[string]int
}

// ModuleInfo is a module file of a target, decompressed.
type ModuleInfo struct {
	Name string // as the kernel knows it, "nf_tables"
	File string // below ModuleRoot, "kernel/net/netfilter/nf_tables.ko"
	Path string // absolute
}

// load reads what most users of a target ask for.
func (t *Target) load() error {
	b, err := os.ReadFile(filepath.Join(t.Build, ".config"))
	if err != nil {
		return err
	}
	if t.config, err = ParseConfig(b); err != nil {
		return err
	}
	return t.loadModules()
}

func (t *Target) loadModules() error {
	var err error
	if t.modules, err = findModules(t.ModuleRoot); err != nil {
		return err
	}
	t.byName = make(map[string]int, len(t.modules))
	for i, m := range t.modules {
		t.byName[m.Name] = i
	}
	return nil
}

// Home is the directory of the store that the target was opened from: where
// caches of what is made for it belong.
func (t *Target) Home() string { return t.home }

// Image opens the kernel image.
func (t *Target) Image() (*kimage.Image, error) {
	b, err := os.ReadFile(t.Vmlinux)
	if err != nil {
		return nil, err
	}
	img, err := kimage.Open(b)
	if err != nil {
		return nil, fmt.Errorf("target %s: %w", t.Name, err)
	}
	return img, nil
}

// Symbols returns the kernel's own symbol table in its own order.
func (t *Target) Symbols() ([]kimage.Symbol, error) {
	img, err := t.Image()
	if err != nil {
		return nil, err
	}
	return img.Kallsyms()
}

// Modules lists the modules by name.
func (t *Target) Modules() []ModuleInfo { return slices.Clone(t.modules) }

// ModulePath finds the ELF file of a module by the kernel's name for it.
func (t *Target) ModulePath(name string) (string, bool) {
	i, ok := t.byName[name]
	if !ok {
		return "", false
	}
	return t.modules[i].Path, true
}

// Symvers returns what the kernel and its modules export.
func (t *Target) Symvers() (map[string]Export, error) {
	b, err := os.ReadFile(filepath.Join(t.Build, "Module.symvers"))
	if err != nil {
		return nil, err
	}
	return ParseSymvers(b)
}

// Config returns the configuration that objects are built with here: the
// package's own except for the names of signing keys.
func (t *Target) Config() Config { return maps.Clone(t.config) }

// HasConfig tells whether an option ("CONFIG_X86_KERNEL_IBT") is y or m.
func (t *Target) HasConfig(option string) bool { return t.config.Has(option) }

// CC is the name that the compiler is called by, "gcc-12".
func (t *Target) CC() string {
	cc, _, _ := strings.Cut(t.Compiler, " ")
	return cc
}

// MakeArgs are the arguments of every make of this target: where source and
// build directory are, and the variables that keep the release and the
// compiler what they were when the distribution built the kernel. Debian sets
// KERNELRELEASE in the same way (.kernelvariables of linux-headers).
func (t *Target) MakeArgs() []string {
	args := []string{
		"-C", t.Source, "O=" + t.Build, "ARCH=x86", "KERNELRELEASE=" + t.Release,
		"KBUILD_BUILD_TIMESTAMP=@0", "KBUILD_BUILD_USER=tsugi", "KBUILD_BUILD_HOST=tsugi",
	}
	if t.Foreign {
		args = args[:5] // the builder's own choices stay as they are
	}
	if t.Source == t.Build {
		args = slices.Delete(args, 2, 3)
	}
	return append(args, toolArgs(t.Compiler, t.config)...)
}

// toolArgs choose the compiler by its own name, and LLVM's tools for a kernel
// linked by them.
func toolArgs(compiler string, c Config) []string {
	cc, _, _ := strings.Cut(compiler, " ")
	var args []string
	if c.Has("CONFIG_LD_IS_LLD") {
		args = append(args, "LLVM=1")
	}
	if !c.Has("CONFIG_CC_IS_CLANG") {
		args = append(args, "HOSTCC="+cc)
	}
	// Tools that the distribution built without must not be found here either:
	// kconfig records their versions.
	if v, ok := c["CONFIG_RUSTC_VERSION"]; ok && v == "0" {
		args = append(args, "RUSTC=false", "BINDGEN=false")
	}
	if c["CONFIG_PAHOLE_VERSION"] == "0" {
		args = append(args, "PAHOLE=false")
	}
	return append(args, "CC="+cc)
}

func findModules(root string) ([]ModuleInfo, error) {
	if root == "" {
		return nil, nil
	}
	var ms []ModuleInfo
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if !d.Type().IsRegular() || filepath.Ext(path) != ".ko" {
			return nil
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		ms = append(ms, ModuleInfo{Name: ModuleName(rel), File: rel, Path: path})
		return nil
	})
	slices.SortFunc(ms, func(a, b ModuleInfo) int { return strings.Compare(a.Name, b.Name) })
	return ms, err
}
