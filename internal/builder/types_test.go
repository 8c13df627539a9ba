// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/layout"
)

// withTypes compiles C and reads the object.
func withTypes(t *testing.T, text string) *elfobj.File {
	t.Helper()
	out := filepath.Join(t.TempDir(), "x.o")
	cmd := exec.Command("gcc", "-c", "-gbtf", "-x", "c", "-o", out, "-")
	cmd.Stdin = strings.NewReader(text)
	if b, err := cmd.CombinedOutput(); err != nil {
		t.Skipf("gcc: %v: %s", err, b)
	}
	f, err := readObject(out)
	qt.Assert(t, qt.IsNil(err))
	return f
}

// TestTypesOfAPairAreComparedOnce for all builds that share a kernel; another
// pair is another question.
func TestTypesOfAPairAreComparedOnce(t *testing.T) {
	was := withTypes(t, "struct s { int a; } x;")
	is := withTypes(t, "struct s { int a; int b; } x;")
	k := &kernelTypes{modules: map[string]*layout.Types{}, changes: map[pairKey][]layout.Change{}, matches: map[pairKey]bool{}}
	p := kbuild.Pair{Object: kbuild.Object{Path: "x.o"}, Orig: "orig.o", Patched: "patched-1.o"}
	first, err := k.between(p, was, is, false)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(first, 1))
	qt.Check(t, qt.Equals(first[0].Type, "struct s"))
	again, err := k.between(p, was, was, false) // not even looked at
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again, first))
	p.Patched = "patched-2.o"
	other, err := k.between(p, was, was, true)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(other, 0))
}
