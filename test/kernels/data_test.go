// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/klp"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// dataEdits give a constant table of a module a new function, and a sysctl
// another initial value.
func dataEdits(hardlinks, heads string) []edit {
	return []edit{
		{"fs/namei.c", "", "sysctl_protected_hardlinks __read_mostly = 1;", "sysctl_protected_hardlinks __read_mostly = " + hardlinks + ";"},
		{
			"drivers/block/virtio_blk.c", "", "\nstatic const struct block_device_operations virtblk_fops = {",
			"\nstatic int e2e_getgeo(struct block_device *bd, struct hd_geometry *geo)\n{\n\tint ret = virtblk_getgeo(bd, geo);\n\n\tgeo->heads = " + heads + ";\n\treturn ret;\n}\n" +
				"\nstatic const struct block_device_operations virtblk_fops = {",
		},
		{"drivers/block/virtio_blk.c", "", ".getgeo\t\t= virtblk_getgeo,", ".getgeo\t\t= e2e_getgeo,"},
		{"net/sched/em_text.c", "static void __exit exit_em_text(void)", "{\n", "{\n\tpr_info(\"tsugi e2e: em_text leaves " + heads + "\\n\");\n"},
	}
}

// consoleEdits give a constant table of the kernel proper a new function, and
// a callback that says what is in the table then.
var consoleEdits = []edit{
	{"fs/proc/consoles.c", "", "\nstatic void *c_start(", `
#include <tsugi/livepatch.h>

static const struct seq_operations consoles_op;

static int e2e_show(struct seq_file *m, void *v)
{
	seq_puts(m, "tsugi e2e\n");
	return show_console_dev(m, v);
}

static void e2e_says(struct klp_object *obj)
{
	pr_warn("tsugi e2e: show is %s\n",
		READ_ONCE(*(void **)&consoles_op.show) == (void *)e2e_show ? "new" : "old");
}
TSUGI_POST_PATCH(e2e_says)

static void *c_start(`},
	{"fs/proc/consoles.c", "", ".show\t= show_console_dev", ".show\t= e2e_show"},
}

// opensPipe keeps a task that opens a pipe which nobody writes to in the old code.
var opensPipe = edit{"fs/pipe.c", "static int fifo_open(struct inode *inode, struct file *filp)", "spin_lock(&inode->i_lock);", "pr_info_once(\"tsugi e2e: pipe\\n\");\n\tspin_lock(&inode->i_lock);"}

// givenUp loads a live patch whose transition that task holds up, turns it
// round, and tells what is in the table meanwhile and then.
const givenUp = `
heads() { fdisk -l /dev/tsugi/scratch | grep -o '[0-9]* heads'; }
p=/sys/kernel/livepatch/tsugi_e2e_data_3
if [ ! -e /sys/module/tsugi_e2e_data_3 ]; then
	mkfifo /tmp/held && { cat /tmp/held >/dev/null & } || exit 3
	n=0; until grep -q fifo_open /proc/$!/stack; do n=$((n + 1)); [ $n -lt 300 ] || exit 4; sleep 0.1; done
	insmod /tsugi/third.ko || exit 5
	echo "held $(cat $p/transition): $(heads)"
	echo 0 >$p/enabled || exit 6
	n=0; while [ -e $p ]; do n=$((n + 1)); [ $n -lt 1200 ] || exit 7; sleep 0.1; done
	echo >/tmp/held
	echo "given up: $(heads)"
fi
`

// TestDataIsEditedAndComesBack: one live patch edits tables in read-only memory,
// an initial value and a module's exit function; the next takes over all but
// one; when it is reverted, all is as the kernel was built. A module that comes
// later is edited as it comes. The transition of a third one is turned round,
// with and without another there: it has edited nothing. Since tables lead into
// them, their modules stay in memory.
func TestDataIsEditedAndComesBack(t *testing.T) {
	for _, pin := range []string{testenv.Demo, testenv.IBT} {
		t.Run(pin, func(t *testing.T) {
			if pin != testenv.Demo && os.Getenv("TSUGI_TEST_DATA") == "" {
				t.Skip("the same code on another kernel: set TSUGI_TEST_DATA=1")
			}
			dataIsEdited(t, pin)
		})
	}
}

func dataIsEdited(t *testing.T, pin string) {
	k := testenv.Kernel(t, pin)
	third := live(t, k, "tsugi_e2e_data_3", editOf(t, k, "data", append(dataEdits("4", "55")[1:3:3], opensPipe)...))
	first := live(t, k, "tsugi_e2e_data_1", editOf(t, k, "data", append(dataEdits("2", "77"), consoleEdits...)...))
	second := live(t, k, "tsugi_e2e_data_2", editOf(t, k, "data", dataEdits("3", "99")...))
	for _, code := range []string{"TS8004", "TS8011", "TS8012", "TS8015"} {
		qt.Check(t, qt.SliceContains(codes(first.Risks), code))
	}
	qt.Check(t, qt.DeepEquals(second.Artifact.Manifest.States, []livepatch.State{{ID: klp.EditsState, Version: klp.EditsVersion}}))
	p := prove(t, k, second, func(q *proof.Request) {
		q.Previous = proof.PatchRef{Name: "tsugi_e2e_data_1"}
		q.PreviousModule = first.Artifact.Module()
		q.Disks = []vm.Disk{{Name: "scratch", Size: 16 << 20}}
		q.Files = []vm.File{{Path: "/tsugi/third.ko", Data: third.Artifact.Module()}}
		q.Reproducer = givenUp + `echo "hardlinks $(cat /proc/sys/fs/protected_hardlinks)"
echo "consoles $(grep -c 'tsugi e2e' /proc/consoles)"
fdisk -l /dev/tsugi/scratch | grep -o '[0-9]* heads'
dmesg -c >/dev/null
rmmod em_text && modprobe em_text && rmmod em_text && modprobe em_text
dmesg | grep -o 'tsugi e2e: em_text leaves.*'
[ "$(cat /proc/sys/fs/protected_hardlinks)" = 3 ]`
	})
	qt.Check(t, qt.Equals(p.Before.Reproducer.Output, "held 1: 16 heads\ngiven up: 16 heads\nhardlinks 1\nconsoles 0\n16 heads\n"))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, "held 1: 99 heads\ngiven up: 99 heads\nhardlinks 3\nconsoles 0\n99 heads\ntsugi e2e: em_text leaves 99\ntsugi e2e: em_text leaves 99\n"))
	revert, _ := p.Check(proof.CheckRevert)
	qt.Check(t, qt.StringContains(revert.Detail, "stays in memory"))
	back, _ := p.Check(proof.CheckRevertShown)
	qt.Check(t, qt.Equals(back.Status, proof.Pass), qt.Commentf("%s", back.Detail))
	notes := slices.DeleteFunc(slices.Clone(p.Log.Notes), func(l string) bool { return !strings.Contains(l, "tsugi e2e:") })
	qt.Check(t, qt.DeepEquals(notes, []string{"tsugi e2e: show is new"}))
}
