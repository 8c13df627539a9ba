// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestEditsInAnyOrder runs the C code that edits data, as three live patches
// have it, under a livepatch that loads, replaces, cancels, reverses and
// disables them while a module comes and goes (testdata/edits). Whatever
// happens, nothing may lead into a live patch that is not there for good, and
// all is as it was when all have gone.
func TestEditsInAnyOrder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	qt.Assert(t, qt.IsNil(os.CopyFS(dir, os.DirFS("testdata/edits"))))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "edits.h"), []byte(editsTypes), 0o644)))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "edits.c"), []byte(editsSource), 0o644)))
	run := func(name string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), name, args...)
		cmd.Dir = dir
		out, err := cmd.CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%v: %s", args, out))
	}
	for n := range 3 {
		run("gcc", "-std=gnu11", "-Wall", "-Werror", "-Wno-unused-function", "-O1", "-g", fmt.Sprintf("-DN=%d", n), "-c", "-o", fmt.Sprintf("patch%d.o", n), "patch.c")
	}
	run("gcc", "-std=gnu11", "-Wall", "-Werror", "-O1", "-g", "-o", "model", "main.c", "patch0.o", "patch1.o", "patch2.o")
	for seed := range 100 {
		run("./model", fmt.Sprint(seed))
		run("./model", fmt.Sprint(seed), "scarce")
	}
}
