// SPDX-License-Identifier: Apache-2.0

package insn

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestModuleTreeAgreesWithObjdump compares a whole tree of kernel modules
// with objdump: minutes of work, so only where TSUGI_TEST_MODULES names one
// (any directory with .ko or .o files; an unpacked linux-image package).
func TestModuleTreeAgreesWithObjdump(t *testing.T) {
	root := os.Getenv("TSUGI_TEST_MODULES")
	if root == "" {
		t.Skip("TSUGI_TEST_MODULES names no directory of modules")
	}
	var c tally
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() && (strings.HasSuffix(path, ".ko") || strings.HasSuffix(path, ".o") || d.Name() == "vmlinux") {
			objdump(t, func(l listed) { c.check(d.Name(), l) }, "-d", path)
		}
		return err
	})
	qt.Assert(t, qt.IsNil(err))
	c.report(t)
}
