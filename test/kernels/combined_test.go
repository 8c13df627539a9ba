// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestOneLivePatchHoldsFixesOfVmlinuxAndFourModules loads five fixes of one
// update as one live patch. Two of the modules come after it and have to be
// patched on arrival.
func TestOneLivePatchHoldsFixesOfVmlinuxAndFourModules(t *testing.T) {
	k := target(t, testenv.Old)
	r := live(t, k, "tsugi_e2e_combined", derive(t, testenv.Old, oldFixes)...)
	qt.Check(t, qt.DeepEquals(r.Artifact.Manifest.Objects(), []string{"em_text", "f2fs", "gtp", "vmlinux", "zram"}))
	qt.Check(t, qt.HasLen(r.Artifact.Manifest.CVEs(), len(oldFixes)))
	for _, c := range oldFixes {
		for _, want := range c.functions {
			qt.Check(t, qt.SliceContains(replaced(r), want))
		}
	}
	p := prove(t, k, r, func(q *proof.Request) {
		q.LateModules = []string{"em_text", "gtp"}
		q.Probe = `dir=/sys/kernel/debug
[ -d $dir/zram ] || mount -t debugfs none $dir
[ "$(cat /sys/block/zram0/initstate)" = 1 ] || echo 16M >/sys/block/zram0/disksize
dd if=/dev/urandom of=/dev/zram0 bs=4k count=4 2>/dev/null
[ "$(wc -l <$dir/zram/zram0/block_state)" = 4 ]`
		q.Cycles = 1
	})
	late, _ := p.Check(proof.CheckLate)
	qt.Check(t, qt.Equals(late.Status, proof.Pass), qt.Commentf("%s", late.Detail))
	qt.Check(t, qt.HasLen(p.Objects, 5))
	for _, o := range p.Objects {
		qt.Check(t, qt.Equals(o.Patched, "1"), qt.Commentf("%s is patched in the end", o.Name))
	}
	qt.Check(t, qt.IsTrue(ran(p, "read_block_state")), qt.Commentf("%v", p.Traced))
}
