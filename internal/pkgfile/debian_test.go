// SPDX-License-Identifier: Apache-2.0

package pkgfile_test

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/google/go-cmp/cmp"
	"github.com/tsugi-project/tsugi/internal/pkgfile"
	"github.com/tsugi-project/tsugi/internal/pkgfile/debtest"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// The reference is dpkg-deb: the same names, contents, modes and times.
func TestDebianPackageUnpacksAsDpkgDebUnpacksIt(t *testing.T) {
	need.Program(t, "dpkg-deb")
	for _, name := range []string{"linux-headers-6.1.0-55-amd64", "linux-kbuild-6.1"} {
		t.Run(name, func(t *testing.T) {
			deb := debtest.Find(t, name)
			want, got := t.TempDir(), t.TempDir()
			out, err := exec.CommandContext(t.Context(), "dpkg-deb", "-x", deb, want).CombinedOutput()
			qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
			root, err := os.OpenRoot(got)
			qt.Assert(t, qt.IsNil(err))
			defer root.Close()
			tr, err := debtest.Open(t, deb).Data(nil)
			qt.Assert(t, qt.IsNil(err))
			defer tr.Close()
			_, err = pkgfile.Extract(t.Context(), tr, root, pkgfile.ExtractOptions{})
			qt.Assert(t, qt.IsNil(err))
			if diff := cmp.Diff(listing(t, want), listing(t, got)); diff != "" {
				t.Fatal(diff)
			}
		})
	}
}

type file struct {
	Mode    fs.FileMode
	Time    int64
	Content string // of a file; of a link its target, from the root when absolute
}

func listing(t *testing.T, dir string) map[string]file {
	t.Helper()
	out := map[string]file{}
	err := filepath.WalkDir(dir, func(p string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(dir, p)
		if d.Type()&fs.ModeSymlink != 0 {
			target, err := os.Readlink(p)
			if !strings.HasPrefix(target, "/") {
				target = strings.TrimPrefix(filepath.Join(filepath.Dir(p), target), dir)
			}
			out[name] = file{Mode: fs.ModeSymlink, Content: filepath.Clean(target)}
			return err
		}
		b, err := os.ReadFile(p)
		out[name] = file{info.Mode(), info.ModTime().Unix(), string(b)}
		return err
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(len(out) > 10))
	return out
}

func TestControlOfDebianPackagesNamesThem(t *testing.T) {
	for _, name := range []string{"linux-image-6.1.0-55-amd64", "linux-image-6.12.115+deb12-amd64", "linux-headers-6.1.0-55-amd64"} {
		t.Run(name, func(t *testing.T) {
			deb := debtest.Find(t, name)
			c := debtest.Control(t, deb)
			version := strings.Split(filepath.Base(deb), "_")[1]
			qt.Assert(t, qt.Equals(c.Get("Version"), version))
			qt.Assert(t, qt.StringContains(c.Get("Description"), "\n"))
		})
	}
}
