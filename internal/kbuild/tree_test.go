// SPDX-License-Identifier: Apache-2.0

package kbuild_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestAKernelBuiltInItsSourceDirectory takes the other way that people build
// kernels: no O= directory, so commands name sources relative to where they
// run. The image is the package's; building it takes hours here.
func TestAKernelBuiltInItsSourceDirectory(t *testing.T) {
	testenv.Long(t, "it prepares a source tree, and make's way with O= is tested")
	base := testenv.Kernel(t, testenv.Demo)
	scratch, err := os.MkdirTemp(base.Home(), ".test-*") // links need its file system
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { os.RemoveAll(scratch) })
	tree := filepath.Join(scratch, "linux")
	qt.Assert(t, qt.IsNil(exec.Command("cp", "-al", base.Source, tree).Run()))
	for from, to := range map[string]string{
		base.Vmlinux: "vmlinux", filepath.Join(base.Build, ".config"): ".config", filepath.Join(base.Build, "Module.symvers"): "Module.symvers",
	} {
		qt.Assert(t, qt.IsNil(exec.Command("cp", from, filepath.Join(tree, to)).Run()))
	}
	_, err = kernel.Command{
		Name: "make", Args: []string{"-C", tree, "-j2", "CC=" + base.CC(), "HOSTCC=" + base.CC(), "KERNELRELEASE=" + base.Release, "modules_prepare"},
	}.Run(t.Context())
	qt.Assert(t, qt.IsNil(err))

	s, err := kernel.OpenStore(filepath.Join(scratch, "store"))
	qt.Assert(t, qt.IsNil(err))
	target, err := s.Add(t.Context(), "tree:"+tree, kernel.AddOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(target.Source, target.Build))
	const path = "fs/nls/nls_utf8.c"
	before := readFile(t, target, path)
	f := edit(t, target, map[string]func(string) string{path: replace("return -ENAMETOOLONG", "return -E2BIG")})
	pairs := build(t, target, f)
	qt.Assert(t, qt.HasLen(pairs, 1))
	qt.Check(t, qt.Equals(pairs[0].Object, kbuild.Object{Path: "fs/nls/nls_utf8.o", Source: path, Module: "nls_utf8"}))
	qt.Check(t, qt.IsFalse(pairs[0].Identical))
	qt.Check(t, qt.Equals(readFile(t, target, path), before))

	// What comes out is what the O= build of the same source gives.
	same := build(t, base, edit(t, base, map[string]func(string) string{path: replace("return -ENAMETOOLONG", "return -E2BIG")}))
	inTree, inBuild := sections(t, pairs[0].Patched), sections(t, same[0].Patched)
	delete(inTree, ".BTF") // it names the source by its whole path
	delete(inBuild, ".BTF")
	qt.Check(t, qt.DeepEquals(inTree, inBuild))
}
