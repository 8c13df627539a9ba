// SPDX-License-Identifier: Apache-2.0

// Package debtest gives tests the real Debian packages that they check Tsugi
// against. Packages are not in the repository: the environment variable
// TSUGI_TEST_DEBS names a directory of .deb files. A test whose package is not
// there is skipped and says so; with TSUGI_TEST_KERNELS=1, which make test sets,
// it fails: test/kernels.sh has fetched all of them.
package debtest

import (
	"archive/tar"
	"context"
	"errors"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"testing"

	"github.com/tsugi-project/tsugi/internal/pkgfile"
)

// Find returns the path of a .deb of the named package, the one of the highest
// version when there are several.
func Find(t testing.TB, name string) string {
	t.Helper()
	dir := os.Getenv("TSUGI_TEST_DEBS")
	if dir == "" {
		t.Skip("TSUGI_TEST_DEBS, a directory of Debian packages, is not set")
	}
	found, err := filepath.Glob(filepath.Join(dir, name+"_*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	best, bestVersion := "", ""
	for _, p := range found {
		c := Control(t, p)
		if c.Get("Package") != name {
			continue
		}
		v := c.Get("Version")
		if best != "" {
			order, err := pkgfile.CompareVersions(v, bestVersion)
			if err != nil {
				t.Fatal(err)
			}
			if order <= 0 {
				continue
			}
		}
		best, bestVersion = p, v
	}
	switch {
	case best != "":
		return best
	case os.Getenv("TSUGI_TEST_KERNELS") != "":
		t.Fatalf("TSUGI_TEST_DEBS (%s) has no package %s (test/kernels.sh fetches it)", dir, name)
	}
	t.Skipf("TSUGI_TEST_DEBS (%s) has no package %s", dir, name)
	return ""
}

// Open opens a package for as long as the test runs.
func Open(t testing.TB, deb string) *pkgfile.Deb {
	t.Helper()
	f, err := os.Open(deb)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	info, err := f.Stat()
	if err != nil {
		t.Fatal(err)
	}
	d, err := pkgfile.OpenDeb(f, info.Size())
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// Control returns a package's control fields.
func Control(t testing.TB, deb string) pkgfile.Paragraph {
	t.Helper()
	p, err := Open(t, deb).Control()
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// File returns one file of a package; name has no leading slash. dpkg unpacks
// it: package pkgfile has tests of its own, and is many times slower under the
// race detector.
func File(t testing.TB, deb, name string) []byte {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, "dpkg-deb", "--fsys-tarfile", deb)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel() // what comes behind the file is of no interest
		_ = cmd.Wait()
	}()
	for tr := tar.NewReader(out); ; {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			t.Fatalf("%s has no file %s", deb, name)
		}
		if err != nil {
			t.Fatal(err)
		}
		if path.Clean(h.Name) != name {
			continue
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
}
