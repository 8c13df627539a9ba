// SPDX-License-Identifier: Apache-2.0

// Package testenv gives tests the real kernels that they run against: the
// targets of the store on this machine, as test/kernels.sh (make test) adds
// them. Which kernels those are stands in demo/versions.env alone.
//
// A test whose kernel is not there is skipped and says so. With
// TSUGI_TEST_KERNELS=1, which make test sets, it fails instead.
package testenv

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tsugi-project/tsugi/internal/kernel"
)

// Pin is a kernel of demo/versions.env.
type Pin struct {
	Target  string // "debian:6.1.0-55-amd64"
	Release string // "6.1.0-55-amd64"
	Version string // of its package, "6.1.192-1"
	Fixed   string // source version with the fixes that it lacks, "6.1.192-2"
}

// The kernels, by the names that demo/versions.env gives them.
const (
	Demo = "DEMO" // the kernel of make demo
	Old  = "OLD"  // the one before it
	IBT  = "IBT"  // a kernel with branch tracking, call padding and prefix symbols
)

// Pinned reads a kernel of demo/versions.env.
func Pinned(t testing.TB, name string) Pin {
	t.Helper()
	file := filepath.Join(root(t), "demo/versions.env")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	values := map[string]string{}
	for line := range strings.Lines(string(text)) {
		if k, v, ok := strings.Cut(strings.TrimSpace(line), "="); ok && !strings.HasPrefix(k, "#") {
			values[k] = v
		}
	}
	p := Pin{Release: values[name+"_RELEASE"], Version: values[name+"_VERSION"], Fixed: values[name+"_FIXED"]}
	if p.Release == "" || p.Version == "" {
		t.Fatalf("%s has no %s_RELEASE and %s_VERSION", file, name, name)
	}
	p.Target = "debian:" + p.Release
	return p
}

// root finds the module that the test is in: go test runs it where its package
// is.
func root(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir
		}
		if dir == "/" {
			t.Fatal("the test runs outside of its module")
		}
	}
}

// IsLong tells whether there is time for everything: make long.
func IsLong() bool { return os.Getenv("TSUGI_TEST_LONG") != "" }

// Long skips what takes too long to be run for each change, and says why that
// may be; make long runs it.
func Long(t testing.TB, why string) {
	t.Helper()
	if !IsLong() {
		t.Skipf("%s: make long runs it", why)
	}
}

// Store opens the store that the kernels are in.
func Store(t testing.TB) *kernel.Store {
	t.Helper()
	home, err := kernel.Home()
	if err != nil {
		t.Fatal(err)
	}
	s, err := kernel.OpenStore(home)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// Kernel opens the target of a pin.
func Kernel(t testing.TB, name string) *kernel.Target {
	t.Helper()
	if testing.Short() {
		t.Skip("reads a kernel: not with -short")
	}
	p := Pinned(t, name)
	k, err := Store(t).Get(p.Target)
	switch {
	case err == nil:
		return k
	case os.Getenv("TSUGI_TEST_KERNELS") != "":
		t.Fatalf("%v (make test prepares it)", err)
	}
	t.Skipf("no %s in the store: tsugictl target add %s --version %s", p.Target, p.Target, p.Version)
	return nil
}
