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

// TestKernelAgreesWithObjdump compares the whole text of a kernel and of the
// modules whose code is the most unusual with objdump. All modules of Debian's
// 6.1 and 6.12 were compared in this way as well: 16 million instructions.
func TestKernelAgreesWithObjdump(t *testing.T) {
	if testing.Short() {
		t.Skip("a minute of work")
	}
	for _, pin := range []string{testenv.Demo, testenv.IBT} {
		t.Run(pin, func(t *testing.T) {
			k := testenv.Kernel(t, pin)
			files := []string{k.Vmlinux}
			for _, m := range k.Modules() {
				for _, dir := range []string{"kernel/arch/", "kernel/crypto/", "kernel/lib/", "kernel/fs/ext4", "kernel/net/ipv4", "kernel/drivers/video"} {
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
