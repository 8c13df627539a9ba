// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// TestOneLivePatchHoldsFixesOfVmlinuxAndModules loads ten fixes of one update
// as one live patch, one more that keeps labels on keys of ext4, and one that
// adds to a struct. Two of the modules come after it and have to be patched on
// arrival. Five of the CVEs show: without the patch the reproducer finds them
// all, with it none.
func TestOneLivePatchHoldsFixesOfVmlinuxAndModules(t *testing.T) {
	testenv.Long(t, "TestTheLiveEditsAreProven has edits of vmlinux and modules in one live patch, too")
	k := testenv.Kernel(t, testenv.Old)
	fixes := slices.Concat(oldFixes, shownFixes, structFixes)
	r := live(t, k, "tsugi_e2e_combined", append(derive(t, testenv.Old, fixes),
		editOf(t, k, "sync", syncSays...), editOf(t, k, "count", loopCounts...))...)
	qt.Check(t, qt.DeepEquals(r.Artifact.Manifest.Objects(), []string{"dm_mod", "em_text", "ext4", "f2fs", "gtp", "loop", "mac802154_hwsim", "rtsx_usb_ms", "vmlinux", "zram"}))
	qt.Check(t, qt.HasLen(r.Artifact.Manifest.CVEs(), len(fixes)))
	for _, risk := range []string{"TS8020", "TS8021", "TS8008", "TS8030", "TS8032", "TS8033"} {
		qt.Check(t, qt.SliceContains(codes(r.Risks), risk))
	}
	for _, c := range fixes {
		for _, want := range c.functions {
			qt.Check(t, qt.SliceContains(replaced(r), want))
		}
	}
	program, err := buildReproducer61()
	qt.Assert(t, qt.IsNil(err))
	p := prove(t, k, r, func(q *proof.Request) {
		q.LateModules = []string{"em_text", "gtp"}
		q.Reproducer, q.Programs = "reproduce61 && dmesg | grep -q 'tsugi e2e: second call'", []string{program}
		q.Disks = []vm.Disk{{Name: "scratch", Size: 64 << 20, FS: "ext4"}}
		q.Probe = `mkdir -p /mnt && mount -t ext4 /dev/tsugi/scratch /mnt || exit 2` + switched + `umount /mnt
dir=/sys/kernel/debug
[ -d $dir/zram ] || mount -t debugfs none $dir
[ "$(cat /sys/block/zram0/initstate)" = 1 ] || echo 16M >/sys/block/zram0/disksize
dd if=/dev/urandom of=/dev/zram0 bs=4k count=4 2>/dev/null
[ "$(wc -l <$dir/zram/zram0/block_state)" = 4 ]`
		q.Cycles = 1
	})
	late, _ := p.Check(proof.CheckLate)
	qt.Check(t, qt.Equals(late.Status, proof.Pass), qt.Commentf("%s", late.Detail))
	qt.Check(t, qt.HasLen(p.Objects, 10))
	for _, o := range p.Objects {
		qt.Check(t, qt.Equals(o.Patched, "1"), qt.Commentf("%s is patched in the end", o.Name))
	}
	for _, f := range []string{"read_block_state", "ext4_sync_file"} {
		qt.Check(t, qt.IsTrue(ran(p, f)), qt.Commentf("%s of the patch ran: %v", f, p.Traced))
	}
	var bugs, fixed strings.Builder
	for _, c := range shownFixes {
		fmt.Fprintf(&bugs, "%s: the bug shows\n", c.id)
		fmt.Fprintf(&fixed, "%s: fixed\n", c.id)
	}
	for _, run := range []*proof.Run{p.Before, p.After} {
		qt.Assert(t, qt.IsNotNil(run.Reproducer))
	}
	qt.Check(t, qt.Equals(p.Before.Reproducer.Output, bugs.String()))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, fixed.String()))
}
