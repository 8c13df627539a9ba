// SPDX-License-Identifier: Apache-2.0

package kernels

import (
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

// TestDataIsEditedAndComesBack: one live patch edits tables in read-only memory,
// an initial value and a module's exit function; the next takes over all but
// one; when it is reverted, all is as the kernel was built. A module that comes
// later is edited as it comes.
func TestDataIsEditedAndComesBack(t *testing.T) {
	k := target(t, testenv.Demo)
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
		q.Reproducer = `echo "hardlinks $(cat /proc/sys/fs/protected_hardlinks)"
echo "consoles $(grep -c 'tsugi e2e' /proc/consoles)"
fdisk -l /dev/tsugi/scratch | grep -o '[0-9]* heads'
dmesg -c >/dev/null
rmmod em_text && modprobe em_text && rmmod em_text && modprobe em_text
dmesg | grep -o 'tsugi e2e: em_text leaves.*'
[ "$(cat /proc/sys/fs/protected_hardlinks)" = 3 ]`
	})
	qt.Check(t, qt.Equals(p.Before.Reproducer.Output, "hardlinks 1\nconsoles 0\n16 heads\n"))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, "hardlinks 3\nconsoles 0\n99 heads\ntsugi e2e: em_text leaves 99\ntsugi e2e: em_text leaves 99\n"))
	back, _ := p.Check(proof.CheckRevertShown)
	qt.Check(t, qt.Equals(back.Status, proof.Pass), qt.Commentf("%s", back.Detail))
	notes := slices.DeleteFunc(slices.Clone(p.Log.Notes), func(l string) bool { return !strings.Contains(l, "tsugi e2e:") })
	qt.Check(t, qt.DeepEquals(notes, []string{"tsugi e2e: show is new"}))
}
