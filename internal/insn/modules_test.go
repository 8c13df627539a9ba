// SPDX-License-Identifier: Apache-2.0

package insn_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/insn"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestKernelAgreesWithObjdump compares the text of modules whose code is the
// most unusual, and of a kernel with branch tracking, with objdump. All of
// Debian's 6.1, vmlinux and 4,023 modules, was compared in this way once: 22.9
// million instructions; of the one with branch tracking its vmlinux too.
func TestKernelAgreesWithObjdump(t *testing.T) {
	for _, c := range []struct {
		pin  string
		dirs []string
	}{
		{testenv.Demo, []string{"kernel/arch/", "kernel/crypto/"}},
		{testenv.IBT, []string{"kernel/arch/", "kernel/fs/ext4", "kernel/net/ipv4"}},
	} {
		t.Run(c.pin, func(t *testing.T) {
			t.Parallel()
			k := testenv.Kernel(t, c.pin)
			var files []string
			for _, m := range k.Modules() {
				for _, dir := range c.dirs {
					if strings.HasPrefix(filepath.ToSlash(m.File), dir) {
						files = append(files, m.Path)
					}
				}
			}
			qt.Assert(t, qt.IsTrue(len(files) > 50))
			insn.CompareFiles(t, files)
		})
	}
}
