// SPDX-License-Identifier: Apache-2.0

// Package bench holds benchmarks over real kernels that belong to no package
// alone. test/bench.sh (make bench) runs them with the rest of the figures.
package bench

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"
	"testing/fstest"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// BenchmarkDiffKVM reads and compares the two objects of arch/x86/kvm/x86.c,
// the largest that kernels have: what tsugictl diff does, its start left out.
func BenchmarkDiffKVM(b *testing.B) {
	k := testenv.Kernel(b, testenv.Demo)
	pair := compile(b, k, kbuild.Object{Path: "arch/x86/kvm/x86.o", Source: "arch/x86/kvm/x86.c", Module: "kvm"},
		"int kvm_emulate_rdpmc(struct kvm_vcpu *vcpu)\n{\n", "\tprintk_once(\"rdpmc\\n\");\n")
	orig, err := os.ReadFile(pair.Orig)
	qt.Assert(b, qt.IsNil(err))
	patched, err := os.ReadFile(pair.Patched)
	qt.Assert(b, qt.IsNil(err))
	var r *objdiff.Result
	for b.Loop() {
		o, err := elfobj.Read(orig)
		qt.Assert(b, qt.IsNil(err))
		p, err := elfobj.Read(patched)
		qt.Assert(b, qt.IsNil(err))
		r, err = objdiff.Diff(o, p, objdiff.Options{})
		qt.Assert(b, qt.IsNil(err))
	}
	qt.Assert(b, qt.Equals(len(r.Changed), 1))
	qt.Check(b, qt.Equals(r.Changed[0].Name, "kvm_emulate_rdpmc"))
	qt.Check(b, qt.HasLen(r.Refusals, 0))
}

// compile makes the pair of an object whose source gets text behind a place.
func compile(tb testing.TB, k *kernel.Target, o kbuild.Object, behind, text string) kbuild.Pair {
	tb.Helper()
	old, err := os.ReadFile(filepath.Join(k.Source, o.Source))
	qt.Assert(tb, qt.IsNil(err))
	edited := bytes.Replace(old, []byte(behind), []byte(behind+text), 1)
	qt.Assert(tb, qt.IsFalse(bytes.Equal(old, edited)), qt.Commentf("%s does not have %q", o.Source, behind))
	diff, err := fix.Derive(
		fstest.MapFS{o.Source: {Data: old}}, fstest.MapFS{o.Source: {Data: edited}}, nil)
	qt.Assert(tb, qt.IsNil(err))
	f, err := fix.Parse("bench.diff", diff)
	qt.Assert(tb, qt.IsNil(err))
	pairs, err := kbuild.Compile(tb.Context(), k, f, []kbuild.Object{o}, kbuild.Options{}, progress.Discard)
	qt.Assert(tb, qt.IsNil(err))
	return pairs[0]
}
