// SPDX-License-Identifier: Apache-2.0

package proof_test

import (
	"os"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/userland/local"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// sample builds a library and the live patch that changes what it answers.
func sample(t testing.TB, patched string) (*livepatch.Patch, map[string]string) {
	t.Helper()
	need.Program(t, "gcc")
	const original = "static int twice(int n) { return n * 2; }\nint sample_answer(int n) { return twice(n) + 1; }\n"
	lib, err := local.Build(t.Context(), local.Options{
		Dir: t.TempDir(), Name: "libsample.so.1", Kind: local.Shared, Strip: true,
		Sources: []local.Source{{Name: "sample.c", Original: original, Patched: patched}},
	})
	qt.Assert(t, qt.IsNil(err))
	const path = "/usr/lib/x86_64-linux-gnu/libsample.so.1"
	b, err := lib.Splice.Encode()
	qt.Assert(t, qt.IsNil(err))
	p, err := livepatch.NewUserland(livepatch.Manifest{
		Name: "sample", Version: 1, Target: livepatch.TargetRef{Name: "debian:libsample1=1.2-3", PackageVersion: "1.2-3", Arch: "x86_64"},
		Fixes:     []livepatch.FixRef{{ID: "fix"}},
		Functions: []livepatch.Function{{Object: "libsample.so.1", Name: "sample_answer", Change: "changed"}},
		Files:     []livepatch.FileRef{{BuildID: lib.BuildID, Name: "libsample.so.1", Path: path, Package: "libsample1"}},
	}, map[string][]byte{lib.BuildID: b}, map[string][]byte{"fix": []byte("a diff")})
	qt.Assert(t, qt.IsNil(err))
	return p, map[string]string{path: lib.ELF}
}

func TestALivePatchOfAPackageIsProved(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	bin, err := buildInit()
	qt.Assert(t, qt.IsNil(err))
	script, err := os.ReadFile("testdata/sample.sh")
	qt.Assert(t, qt.IsNil(err))
	p, files := sample(t, "static int twice(int n) { return n * 2; }\nint sample_answer(int n) { return twice(n) + 2; }\n")
	r, err := proof.FromFiles(p, files, k)
	qt.Assert(t, qt.IsNil(err))
	var n proof.Needs
	qt.Assert(t, qt.IsNil(n.Read("sample.sh", string(script))))
	n.Apply(&r)
	r.Reproducer, r.Probe, r.Cycles, r.Init, r.Accel = string(script), `test "$(ask alive)" = yes`, 1, bin, vm.TCG
	got := prove(t, r)
	qt.Assert(t, qt.Equals(codes(got), ""))
	qt.Check(t, qt.Equals(got.Verdict, proof.Proved))
	qt.Check(t, qt.Equals(got.Target.Name, "debian:libsample1=1.2-3"))
	qt.Check(t, qt.Equals(got.Package.Booted.BuildID, k.BuildID))
	for _, c := range got.Checks {
		qt.Check(t, qt.IsTrue(c.Status == proof.Pass || c.ID == proof.CheckReplaced), qt.Commentf("%s", c.ID))
	}
}
