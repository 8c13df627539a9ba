// SPDX-License-Identifier: Apache-2.0

// Package testenv gives tests what only some machines have: prepared kernel
// targets. A test that needs one runs wherever the target is in the store; it
// adds the target itself when TSUGI_TEST_KERNELS=1, and is skipped otherwise.
package testenv

import (
	"os"
	"testing"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// The targets that tests use.
const (
	Debian61Older = "debian:6.1.0-54-amd64"
	Debian61      = "debian:6.1.0-55-amd64"
	Debian612     = "debian:6.12.115+deb12-amd64"
)

// Store opens the store of the caches that everything on this machine shares.
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

// Target opens a prepared target, see the package comment for when it skips.
func Target(t testing.TB, name string) *kernel.Target {
	t.Helper()
	s := Store(t)
	target, err := s.Get(name)
	if err == nil {
		return target
	}
	if code.Of(err) != "TS2302" {
		t.Fatal(err)
	}
	if os.Getenv("TSUGI_TEST_KERNELS") != "1" {
		t.Skipf("%s is not in the store: set TSUGI_TEST_KERNELS=1 to download and prepare it", name)
	}
	if target, err = s.Add(t.Context(), name, kernel.AddOptions{}, progress.Discard); err != nil {
		t.Fatal(err)
	}
	return target
}

// SourceTree unpacks the source of one version of the kernel package, under
// the same conditions as [Target].
func SourceTree(t testing.TB, version string) string {
	t.Helper()
	s := Store(t)
	if os.Getenv("TSUGI_TEST_KERNELS") != "1" && !s.HasSource(version) {
		t.Skipf("source %s is not in the store: set TSUGI_TEST_KERNELS=1 to download and unpack it", version)
	}
	dir, err := s.SourceTree(t.Context(), version, progress.Discard)
	if err != nil {
		t.Fatal(err)
	}
	return dir
}
