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

// TestKernelAgreesWithObjdump compares the text of a kernel with branch
// tracking, and of the modules whose code is the most unusual, with objdump.
// All of Debian's 6.1, vmlinux and 4,023 modules, was compared in this way
// once: 22.9 million instructions.
func TestKernelAgreesWithObjdump(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of work")
	}
	for _, c := range []struct {
		pin   string
		image bool
		dirs  []string
	}{
		{testenv.Demo, false, []string{"kernel/arch/", "kernel/crypto/", "kernel/fs/ext4", "kernel/net/ipv4"}},
		{testenv.IBT, true, []string{"kernel/arch/", "kernel/crypto/"}},
	} {
		t.Run(c.pin, func(t *testing.T) {
			t.Parallel()
			k := testenv.Kernel(t, c.pin)
			var files []string
			if c.image {
				files = append(files, k.Vmlinux)
			}
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
