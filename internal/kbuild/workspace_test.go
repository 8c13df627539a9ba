// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

func sameFile(t *testing.T, a, b string) bool {
	t.Helper()
	x, err := os.Stat(a)
	qt.Assert(t, qt.IsNil(err))
	y, err := os.Stat(b)
	qt.Assert(t, qt.IsNil(err))
	return os.SameFile(x, y)
}

func TestWorkspaceUndoesWhatItsLastHolderLeft(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	w, err := lease(t.Context(), target)
	qt.Assert(t, qt.IsNil(err))
	const path = "fs/ext4/mballoc.c"
	pristine, copied := filepath.Join(target.Source, path), filepath.Join(w.tree(), path)
	qt.Assert(t, qt.IsTrue(sameFile(t, pristine, copied)))
	want, err := os.ReadFile(pristine)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.apply([]fix.Change{
		{Path: path, Old: want, New: []byte("int x;\n")},
		{Path: "fs/tsugi/new.h", New: []byte("int y;\n"), Created: true},
		{Path: "fs/ext4/ialloc.c", Deleted: true},
	})))
	qt.Check(t, qt.IsFalse(sameFile(t, pristine, copied)))
	got, err := os.ReadFile(pristine)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(got), string(want)), qt.Commentf("the source behind the link was written to"))

	// Another one is taken while this one is held.
	other, err := lease(t.Context(), target)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(other.dir != w.dir))
	qt.Check(t, qt.IsNil(other.close()))

	w.release() // as when the process dies
	again, err := lease(t.Context(), target)
	qt.Assert(t, qt.IsNil(err))
	defer func() { qt.Check(t, qt.IsNil(again.close())) }()
	if again.dir != w.dir {
		t.Skip("another process took the workspace at this very moment")
	}
	qt.Check(t, qt.IsTrue(sameFile(t, pristine, copied)))
	qt.Check(t, qt.IsTrue(sameFile(t, filepath.Join(target.Source, "fs/ext4/ialloc.c"), filepath.Join(w.tree(), "fs/ext4/ialloc.c"))))
	_, err = os.Stat(filepath.Join(w.tree(), "fs/tsugi/new.h"))
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}
