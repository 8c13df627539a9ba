// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// syncSays is live only if the two tracepoints of the function stay what they
// are: jump labels on keys of the module that it belongs to.
var syncSays = []edit{{
	"fs/ext4/fsync.c", "\nint ext4_sync_file(", "\ttrace_ext4_sync_file_enter(file, datasync);\n",
	"\tprintk_once(KERN_INFO \"tsugi e2e: sync\\n\");\n\ttrace_ext4_sync_file_enter(file, datasync);\n",
}}

// switched turns the tracepoints on and off while the live patch is there, and
// counts what they say.
const switched = `
dir=/sys/kernel/tracing
[ -e $dir/trace ] || mount -t tracefs none $dir || exit 2
mkdir -p /mnt; mount -t ext4 /dev/tsugi/scratch /mnt || exit 2
say() {
	echo 0 >$dir/tracing_on; echo >$dir/trace; echo 1 >$dir/tracing_on
	dd if=/dev/zero of=/mnt/f bs=1k count=1 conv=fsync 2>/dev/null || exit 2
	echo "$1: $(grep -c ext4_sync_file_enter: $dir/trace) $(grep -c ext4_sync_file_exit: $dir/trace)"
}
say off
echo 1 >$dir/events/ext4/ext4_sync_file_enter/enable; say enter
echo 1 >$dir/events/ext4/ext4_sync_file_exit/enable; say both
echo 0 >$dir/events/ext4/ext4_sync_file_enter/enable; say exit
echo 0 >$dir/events/ext4/ext4_sync_file_exit/enable; say off
umount /mnt
dmesg | grep -q 'tsugi e2e: sync'
`

// TestLabelsOfAModuleWork switches keys of a module while a patched function
// tests them: on a kernel whose objects hold what unwinding needs, and on one
// for which objtool makes it when the module is linked.
func TestLabelsOfAModuleWork(t *testing.T) {
	for _, pin := range []string{testenv.Old, testenv.IBT} {
		t.Run(pin, func(t *testing.T) {
			k := target(t, pin)
			r := live(t, k, "tsugi_e2e_labels", editOf(t, k, "sync", syncSays...))
			qt.Check(t, qt.DeepEquals(replaced(r), []string{"ext4 ext4_sync_file"}))
			qt.Check(t, qt.SliceContains(codes(r.Risks), "TS8020"))
			p := prove(t, k, r, func(q *proof.Request) {
				q.Reproducer, q.SkipRevertShown = switched, true
				q.Disks = []vm.Disk{{Name: "scratch", Size: 64 << 20, FS: "ext4"}}
			})
			for _, run := range []*proof.Run{p.Before, p.After} {
				qt.Assert(t, qt.IsNotNil(run.Reproducer))
				qt.Check(t, qt.Equals(run.Reproducer.Output, "off: 0 0\nenter: 1 0\nboth: 1 1\nexit: 0 1\noff: 0 0\n"))
			}
			qt.Check(t, qt.IsTrue(ran(p, "ext4_sync_file")), qt.Commentf("%v", p.Traced))
		})
	}
}
