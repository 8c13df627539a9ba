// SPDX-License-Identifier: Apache-2.0

package kernel_test

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

func TestPreparedTargetsAreWhatTheDistributionBuilt(t *testing.T) {
	for _, c := range []struct {
		kernel string
		ibt    bool
	}{
		{testenv.Demo, false},
		{testenv.IBT, true},
	} {
		t.Run(c.kernel, func(t *testing.T) {
			target, pin := testenv.Kernel(t, c.kernel), testenv.Pinned(t, c.kernel)
			qt.Check(t, qt.Equals(target.Release, pin.Release))
			qt.Check(t, qt.Equals(target.PackageVersion, pin.Version))
			qt.Check(t, qt.Equals(target.HasConfig("CONFIG_X86_KERNEL_IBT"), c.ibt))

			img, err := target.Image()
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(img.BuildID(), target.BuildID))
			qt.Check(t, qt.StringContains(img.Banner(), target.Compiler))

			// The configuration is the package's own but for the signing key.
			shipped, err := os.ReadFile(filepath.Join(target.Build, "..", "headers", "config"))
			qt.Assert(t, qt.IsNil(err))
			want, err := kernel.ParseConfig(shipped)
			qt.Assert(t, qt.IsNil(err))
			var options []string
			for _, d := range want.Compare(target.Config()) {
				options = append(options, d.Option)
			}
			qt.Check(t, qt.IsTrue(len(options) <= 1 && (len(options) == 0 || options[0] == "CONFIG_MODULE_SIG_KEY")), qt.Commentf("%v", options))

			// Every module that Module.symvers names as an exporter is there, as ELF.
			symvers, err := target.Symvers()
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(symvers["_printk"].Module, "vmlinux"))
			for sym, e := range symvers {
				if e.Module == "vmlinux" {
					continue
				}
				_, ok := target.ModulePath(e.Module)
				qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%s of %s", sym, e.Module))
			}
			path, ok := target.ModulePath("nf_tables")
			qt.Assert(t, qt.IsTrue(ok))
			f, err := elf.Open(path)
			qt.Assert(t, qt.IsNil(err))
			defer f.Close()
			info, err := f.Section(".modinfo").Data()
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(bytes.Contains(info, []byte("vermagic="+target.Release+" "))))
			qt.Check(t, qt.IsFalse(slices.ContainsFunc(target.Modules(), func(m kernel.ModuleInfo) bool { return strings.Contains(m.Name, "-") })))
		})
	}
}

func TestAddOfAPreparedTargetDoesNothing(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	got, err := testenv.Store(t).Add(t.Context(), target.Name, kernel.AddOptions{}, stages{t})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.BuildID, target.BuildID))
}

// stages fails the test when work is started.
type stages struct{ t *testing.T }

func (s stages) Start(stage string, _ int64, _ progress.Unit) progress.Task {
	s.t.Errorf("%s was started", stage)
	return progress.Discard.Start(stage, 0, progress.Steps)
}

func TestMissingPackagesAreNamedWithWhatThereIs(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo) // so apt has kernels here
	s, err := kernel.OpenStore(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	_, err = s.Add(t.Context(), "debian:6.1.0-9999-amd64", kernel.AddOptions{}, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS2303"))
	qt.Check(t, qt.ErrorMatches(err, ".*linux-image-6.1.0-9999-amd64.*there is.*-amd64.*"))
	_, err = s.Add(t.Context(), target.Name, kernel.AddOptions{Version: "6.1.1-1"}, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS2304"))
	_, err = s.SourceTree(t.Context(), "6.1.1-1", progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS2304"))
}

func TestATreeOfABuiltKernelIsATarget(t *testing.T) {
	base := testenv.Kernel(t, testenv.Demo)
	// A tree as "make O=" leaves it, less the objects: what the target's build
	// directory is, with the image that was built from it.
	dir := t.TempDir()
	for _, link := range []string{"include", "arch", "scripts", "tools"} {
		qt.Assert(t, qt.IsNil(os.Symlink(filepath.Join(base.Build, link), filepath.Join(dir, link))))
	}
	for from, to := range map[string]string{
		base.Source: "source", base.Vmlinux: "vmlinux",
		filepath.Join(base.Build, ".config"): ".config", filepath.Join(base.Build, "Module.symvers"): "Module.symvers",
	} {
		qt.Assert(t, qt.IsNil(os.Symlink(from, filepath.Join(dir, to))))
	}
	s, err := kernel.OpenStore(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	tree, err := s.Add(t.Context(), "tree:"+dir, kernel.AddOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(tree.Release, base.Release))
	qt.Check(t, qt.Equals(tree.BuildID, base.BuildID))
	qt.Check(t, qt.IsTrue(tree.Foreign))
	qt.Check(t, qt.Equals(tree.Source, base.Source))

	qt.Assert(t, qt.IsNil(os.Remove(filepath.Join(dir, "Module.symvers"))))
	_, err = s.Add(t.Context(), "tree:"+dir, kernel.AddOptions{}, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS2313"))
	_, err = s.Add(t.Context(), "tree:"+t.TempDir(), kernel.AddOptions{}, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS2313"))
}
