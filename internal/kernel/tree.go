// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kimage"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// addTree takes a kernel that someone built, in its source directory or in an
// O= directory, as a target. Nothing in it is changed except what make
// changes when it builds single objects there.
func (s *Store) addTree(ctx context.Context, dir string, rep progress.Reporter) (_ *Target, err error) {
	build, err := filepath.Abs(dir)
	if err != nil {
		return nil, err
	}
	if build, err = filepath.EvalSymlinks(build); err != nil {
		return nil, code.New("TS2313", dir, "").With(err)
	}
	name := "tree:" + build
	unlock, err := s.lock(ctx, "target "+name, true)
	if err != nil {
		return nil, err
	}
	defer unlock()
	task := rep.Start("read tree", 0, progress.Steps)
	defer func() { task.Done(err) }()

	t := &Target{Format: targetFormat, Name: name, Arch: "x86_64", Build: build, Foreign: true, ModuleRoot: build}
	if t.Source, err = treeSource(build); err != nil {
		return nil, err
	}
	config, err := os.ReadFile(filepath.Join(build, ".config"))
	if err != nil {
		return nil, code.New("TS2313", build, ".config is missing").With(err)
	}
	if t.config, err = ParseConfig(config); err != nil {
		return nil, code.New("TS2313", filepath.Join(build, ".config"), "").With(err)
	}
	sum := sha256.Sum256(config)
	t.ConfigDigest = hex.EncodeToString(sum[:])
	switch {
	case !t.config.Has("CONFIG_X86_64"):
		return nil, code.New("TS2311", build, "CONFIG_X86_64 is not set")
	case !t.config.Has("CONFIG_LIVEPATCH"):
		return nil, code.New("TS2312", build, "CONFIG_LIVEPATCH is not set")
	}
	if _, err := os.Stat(filepath.Join(build, "Module.symvers")); err != nil {
		return nil, code.New("TS2313", build, "Module.symvers is missing").With(err)
	}
	t.Compiler = t.config["CONFIG_CC_VERSION_TEXT"]
	if err := checkCompiler(ctx, t.Compiler); err != nil {
		return nil, err
	}
	targetDir := s.targetDir(name)
	if err := os.MkdirAll(targetDir, 0o755); err != nil {
		return nil, DiskError(targetDir, err)
	}
	if err := treeImage(t, targetDir); err != nil {
		return nil, err
	}
	img, err := t.Image()
	if err != nil {
		return nil, err
	}
	t.BuildID, t.Release = img.BuildID(), img.Release()
	if t.BuildID == "" || t.Release == "" {
		return nil, code.New("TS2313", t.Vmlinux, "it has no build-id or no version text")
	}
	if err := checkPrepared(t); err != nil {
		return nil, code.New("TS2313", build, "the tree was configured or built again after its image").With(err)
	}
	if err := s.write(t); err != nil {
		return nil, err
	}
	return s.Get(name)
}

// treeSource finds the source of a build directory: the directory itself, or
// what its "source" link names (scripts/Makefile, outputmakefile).
func treeSource(build string) (string, error) {
	if _, err := os.Stat(filepath.Join(build, "Kbuild")); err == nil {
		return build, nil
	}
	source, err := filepath.EvalSymlinks(filepath.Join(build, "source"))
	if err != nil {
		return "", code.New("TS2313", build, "neither a kernel source nor a build directory with a source link").With(err)
	}
	return source, nil
}

// treeImage finds vmlinux, or unpacks the image that boots into the store.
func treeImage(t *Target, dir string) error {
	if p := filepath.Join(t.Build, "arch/x86/boot/bzImage"); fileExists(p) {
		t.Vmlinuz = p
	}
	if p := filepath.Join(t.Build, "vmlinux"); fileExists(p) {
		t.Vmlinux = p
		return nil
	}
	if t.Vmlinuz == "" {
		return code.New("TS2313", t.Build, "neither vmlinux nor arch/x86/boot/bzImage is there")
	}
	b, err := os.ReadFile(t.Vmlinuz)
	if err != nil {
		return err
	}
	elf, _, err := kimage.Unpack(b)
	if err != nil {
		return err
	}
	t.Vmlinux = filepath.Join(dir, "vmlinux")
	if err := os.WriteFile(t.Vmlinux, elf, 0o644); err != nil {
		return DiskError(t.Vmlinux, err)
	}
	return nil
}

func fileExists(path string) bool {
	st, err := os.Stat(path)
	return err == nil && st.Mode().IsRegular()
}

// Identity is one line that tells a target from every other.
func (t *Target) Identity() string {
	id := []string{t.Release, t.PackageVersion, t.Arch, "config " + t.ConfigDigest, "build-id " + t.BuildID}
	return fmt.Sprint(strings.Join(id, ", "))
}
