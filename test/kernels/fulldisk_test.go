// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestAFullDisk fills the disk that the store is on before each stage that
// writes. The error says so, nothing half-written is left, and with space again
// the same build gives the same bytes as on a disk that never was full.
func TestAFullDisk(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounting a small disk needs root")
	}
	real := testenv.Kernel(t, testenv.Old)
	f := editOf(t, real, "full", smallEdit("full"))
	req := builder.Request{Target: real, Fixes: []*fix.Fix{f}, Name: "tsugi_e2e_full"}
	want, err := builder.Build(t.Context(), req, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(want.Verdict, builder.Live))

	tsugictl(t) // needs space to be linked
	home, tmp := tmpfs(t, "48m"), tmpfs(t, "8m")
	t.Setenv("TMPDIR", tmp)
	k := copyTarget(t, real, home)
	req.Target = k

	full := func(disk, stage string, room int64) {
		t.Helper()
		ballast := fill(t, disk)
		st, err := os.Stat(ballast)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.Truncate(ballast, st.Size()-room)))
		before := tree(t, home, tmp)
		_, err = builder.Build(t.Context(), req, progress.Discard)
		t.Logf("%s: %v", stage, err)
		qt.Check(t, qt.Equals(code.Of(err), "TS9103"), qt.Commentf("%s: %v", stage, err))
		qt.Check(t, qt.DeepEquals(tree(t, home, tmp), before), qt.Commentf("%s: something was left or taken", stage))
		qt.Assert(t, qt.IsNil(os.Remove(ballast)))
	}
	// A first build, given a copy of the source that is there, makes locks and
	// other small files that stay.
	work := filepath.Join(home, "work")
	qt.Assert(t, qt.IsNil(os.Symlink(filepath.Join(real.Home(), "work"), work)))
	got, err := builder.Build(t.Context(), req, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Module.Digest, want.Module.Digest))

	patched, err := filepath.Glob(objectDir(k) + "/patched-*")
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(patched, 1))
	qt.Assert(t, qt.IsNil(os.Remove(patched[0])))
	full(home, "find objects", 0)
	full(home, "compile", 16<<10)

	_, err = builder.Build(t.Context(), req, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	full(tmp, "link", 0)

	// The copy of the source is far too large for this disk.
	qt.Assert(t, qt.IsNil(os.Remove(patched[0])))
	qt.Assert(t, qt.IsNil(os.Remove(work)))
	_, err = builder.Build(t.Context(), req, progress.Discard)
	t.Logf("copy of the source: %v", err)
	qt.Check(t, qt.Equals(code.Of(err), "TS9103"))
	var left unix.Statfs_t
	qt.Assert(t, qt.IsNil(unix.Statfs(home, &left)))
	qt.Check(t, qt.IsTrue(left.Bavail*uint64(left.Bsize) > 32<<20), qt.Commentf("the half-made copy is gone: %d blocks are free", left.Bavail))

	qt.Assert(t, qt.IsNil(os.RemoveAll(work)))
	qt.Assert(t, qt.IsNil(os.Symlink(filepath.Join(real.Home(), "work"), work)))
	got, err = builder.Build(t.Context(), req, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got.Module.Digest, want.Module.Digest), qt.Commentf("the same bytes as ever"))

	// The artifact itself, where the user wants it.
	diff := filepath.Join(t.TempDir(), "full.diff")
	qt.Assert(t, qt.IsNil(os.WriteFile(diff, f.Raw, 0o644)))
	small := tmpfs(t, "64k")
	ballast := fill(t, small)
	_, stderr, exit := run(t, "--home", home, "build", diff, "--target", k.Name, "-o", filepath.Join(small, "full.tsugi"))
	qt.Check(t, qt.Equals(exit, 1))
	qt.Check(t, qt.StringContains(stderr, "no space left on device"))
	files, err := os.ReadDir(small)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(files, 1), qt.Commentf("only %s", ballast))
}

func tmpfs(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	qt.Assert(t, qt.IsNil(unix.Mount("tsugi", dir, "tmpfs", 0, "size="+size)))
	t.Cleanup(func() { qt.Check(t, qt.IsNil(unix.Unmount(dir, unix.MNT_DETACH))) })
	return dir
}

// fill writes until the disk has no block left.
func fill(t *testing.T, dir string) (ballast string) {
	t.Helper()
	ballast = filepath.Join(dir, "ballast")
	f, err := os.Create(ballast)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	for block := make([]byte, 4096); ; {
		if _, err := f.Write(block); err != nil {
			qt.Assert(t, qt.ErrorIs(err, syscall.ENOSPC))
			return ballast
		}
	}
}

// copyTarget makes a store with one target, whose directories are another
// store's, and the original objects of the small file.
func copyTarget(t *testing.T, of *kernel.Target, home string) *kernel.Target {
	t.Helper()
	s, err := kernel.OpenStore(home)
	qt.Assert(t, qt.IsNil(err))
	write := func(from, to string) {
		t.Helper()
		b, err := os.ReadFile(from)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(to), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(to, b, 0o644)))
	}
	from := filepath.Dir(of.Build)
	write(filepath.Join(from, "target.json"), filepath.Join(home, "targets", filepath.Base(from), "target.json"))
	for _, name := range []string{"plain.o", "orig.o", "cmd"} {
		files, err := filepath.Glob(filepath.Join(objectDir(of), name))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(len(files) > 0))
		for _, file := range files {
			rel, err := filepath.Rel(of.Home(), file)
			qt.Assert(t, qt.IsNil(err))
			write(file, filepath.Join(home, rel))
		}
	}
	k, err := s.Get(of.Name)
	qt.Assert(t, qt.IsNil(err))
	return k
}

// tree lists all files below directories.
func tree(t *testing.T, dirs ...string) []string {
	t.Helper()
	var files []string
	for _, dir := range dirs {
		err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			files = append(files, path)
			return errors.Join(err)
		})
		qt.Assert(t, qt.IsNil(err))
	}
	return files
}
