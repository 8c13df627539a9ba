// SPDX-License-Identifier: Apache-2.0

// Package need skips tests for what the machine lacks, and says what. Where it
// can't be lacking a test fails instead, so that no test is lost unseen: of
// packages, where make test has installed them (it sets TSUGI_TEST_KERNELS); of
// what the system allows, where .ci/run runs as root (it sets CI).
package need

import (
	"fmt"
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of a program that test/deps.sh installs.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	installed(t, err)
	return path
}

// File looks for a file of a package that test/deps.sh installs.
func File(t testing.TB, path string) {
	t.Helper()
	_, err := os.Stat(path)
	installed(t, err)
}

// installed ends a test for what is missing.
func installed(t testing.TB, missing error) {
	t.Helper()
	if err := Missing(missing); err != nil {
		t.Fatal(err)
	}
	if missing != nil {
		t.Skipf("%v (make deps installs it)", missing)
	}
}

// Missing makes an error of what was not found where make test has installed it,
// for scripts, which skip by themselves.
func Missing(err error) error {
	if err != nil && os.Getenv("TSUGI_TEST_KERNELS") != "" {
		return fmt.Errorf("%w (make deps installs it)", err)
	}
	return nil
}

// Allowed ends a test that the system does not allow or whose source the kernel
// does not offer.
func Allowed(t testing.TB, why ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" && os.Getuid() == 0 {
		t.Fatal(append([]any{"root may do it on a machine of CI:"}, why...)...)
	}
	t.Skip(why...)
}
