// SPDX-License-Identifier: Apache-2.0

// Package need skips tests for what the machine lacks, and says what. Where it
// can't be lacking a test fails instead, so that no test is lost unseen: of
// programs, where make test has installed them (it sets TSUGI_TEST_KERNELS); of
// what the system allows, where .ci/run runs as root (it sets CI).
package need

import (
	"os"
	"os/exec"
	"testing"
)

// Program returns the path of a program that test/deps.sh installs.
func Program(t testing.TB, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	switch {
	case err == nil:
		return path
	case os.Getenv("TSUGI_TEST_KERNELS") != "":
		t.Fatalf("%v (make deps installs it)", err)
	}
	t.Skipf("%v (make deps installs it)", err)
	return ""
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
