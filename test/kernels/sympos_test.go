// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"os"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestOfTwoFunctionsOfOneNameTheRightOneIsPatched: virtio_pci has a static
// vp_finalize_features in two of its files, and one of them has a cold part.
// That the modern one speaks and the legacy one does not once the patch is
// loaded is part of TestTheLiveEditsAreProven.
func TestOfTwoFunctionsOfOneNameTheRightOneIsPatched(t *testing.T) {
	t.Parallel()
	const name = "vp_finalize_features"
	k := testenv.Kernel(t, testenv.Demo)
	all := symbols(t, k, "virtio_pci", name)
	qt.Assert(t, qt.HasLen(all, 2), qt.Commentf("choose another function"))
	qt.Assert(t, qt.HasLen(symbols(t, k, "virtio_pci", name+".cold"), 1), qt.Commentf("choose another function"))
	for callee, edits := range map[string][]edit{"vp_modern_set_features": modernSays, "vp_legacy_set_features": legacySays} {
		// which of the two calls it tells them apart
		want := 1 + slices.IndexFunc(all, func(s *elfobj.Symbol) bool { return refersTo(s, callee) })
		qt.Assert(t, qt.IsTrue(want > 0))
		r := live(t, k, "", editOf(t, k, "edit", edits...))
		qt.Assert(t, qt.DeepEquals(replaced(r), []string{"virtio_pci " + name}))
		qt.Check(t, qt.Equals(r.Functions[0].SymPos, want), qt.Commentf("the one that calls %s", callee))
	}
}

// symbols lists the symbols of one name in a module's own symbol table, in its
// order, which is the kernel's.
func symbols(t testing.TB, k *kernel.Target, module, name string) []*elfobj.Symbol {
	t.Helper()
	path, ok := k.ModulePath(module)
	qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%s has no module %s", k.Name, module))
	b, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	f, err := elfobj.Read(b)
	qt.Assert(t, qt.IsNil(err))
	return slices.DeleteFunc(slices.Clone(f.Symbols), func(s *elfobj.Symbol) bool { return s.Name != name || s.Section == nil })
}

// refersTo tells whether the code of a function names a symbol.
func refersTo(f *elfobj.Symbol, name string) bool {
	return slices.ContainsFunc(f.Section.Relocs, func(r elfobj.Reloc) bool {
		return r.Off >= f.Value && r.Off < f.Value+f.Size && r.Sym != nil && r.Sym.Name == name
	})
}
