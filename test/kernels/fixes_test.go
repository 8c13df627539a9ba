// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"os"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// cve is a fix of a distribution's update and what it must replace.
type cve struct {
	id        string
	path      string
	functions []string // as "object name", among others
}

// oldFixes are fixes of 6.1.192-1 that 6.1.190-1 lacks: vmlinux and modules.
var oldFixes = []cve{
	// a macro of a header: three objects of vmlinux
	{"CVE-2026-89761", "security/apparmor/include/label.h", []string{"vmlinux aa_change_profile", "vmlinux aa_label_strn_parse", "vmlinux aa_pivotroot"}},
	{"CVE-2026-80851", "drivers/net/gtp.c", []string{"gtp gtp_dellink"}},
	{"CVE-2026-89719", "drivers/block/zram/zram_drv.c", []string{"zram read_block_state", "zram writeback_store"}},
	{"CVE-2026-89838", "fs/f2fs/recovery.c", []string{"f2fs f2fs_recover_fsync_data"}},
	{"CVE-2026-98969", "net/sched/em_text.c", []string{"em_text em_text_change"}},
}

// shownFixes are fixes of that update, too, that testdata/reproduce61 tells from
// their absence, by name of the CVE.
var shownFixes = []cve{
	{"CVE-2025-38709", "drivers/block/loop.c", []string{"loop lo_ioctl"}},
	{"CVE-2026-72379", "fs/namei.c", []string{"vmlinux vfs_tmpfile"}},
	{"CVE-2026-97597", "net/ipv6/ip6_flowlabel.c", []string{"vmlinux ipv6_flowlabel_opt"}},
	{"CVE-2026-98992", "fs/namespace.c", []string{"vmlinux __do_loopback"}},
	{"CVE-2026-99063", "drivers/md/dm-ioctl.c", []string{"dm_mod list_devices"}},
}

// structFixes are fixes of that update that change structs, and do so without
// moving what objects hold.
var structFixes = []cve{
	// a pointer goes into netlink_callback.ctx, behind the rest
	{"CVE-2026-97901", "net/netlink/genetlink.c", []string{"vmlinux ctrl_dumppolicy_done", "vmlinux ctrl_dumppolicy_start"}},
	// a mutex goes, and is kept
	{"CVE-2026-99038", "drivers/memstick/host/rtsx_usb_ms.c", []string{"rtsx_usb_ms rtsx_usb_ms_drv_remove"}},
	// a spinlock comes, into padding
	{"CVE-2026-97599", "drivers/net/ieee802154/mac802154_hwsim.c", []string{"mac802154_hwsim hwsim_hw_channel"}},
}

// ibtFixes are fixes of 6.12.117 that 6.12.115 lacks.
var ibtFixes = []cve{
	{"CVE-2026-92499", "fs/ext4/dir.c", []string{"ext4 ext4_readdir"}},
	{"CVE-2026-98996", "fs/namespace.c", []string{"vmlinux __x64_sys_listmount", "vmlinux mark_mounts_for_expiry", "vmlinux path_umount"}},
	{"CVE-2026-99122", "net/vmw_vsock/vmci_transport.c", []string{"vmw_vsock_vmci_transport vmci_transport_recv_stream_cb"}},
	// a spinlock_t becomes a raw_spinlock_t, which lies the same
	{"CVE-2026-99282", "net/sched/sch_teql.c", []string{"sch_teql teql_master_xmit"}},
	{"CVE-2026-99281", "drivers/net/tun.c", []string{"tun __tun_chr_ioctl"}},
}

func derive(t testing.TB, pin string, cs []cve) []*fix.Fix {
	t.Helper()
	var fs []*fix.Fix
	for _, c := range cs {
		fs = append(fs, fixOf(t, pin, c.id, c.path))
	}
	return fs
}

// TestEachFixIsLive builds every fix by itself.
func TestEachFixIsLive(t *testing.T) {
	t.Parallel()
	for pin, cs := range map[string][]cve{testenv.Old: oldFixes, testenv.IBT: ibtFixes} {
		for _, c := range cs {
			t.Run(pin+" "+c.id, func(t *testing.T) {
				t.Parallel()
				k := testenv.Kernel(t, pin)
				r := live(t, k, "", fixOf(t, pin, c.id, c.path))
				qt.Check(t, qt.DeepEquals(r.Fixes[0].CVEs, []string{c.id}))
				for _, want := range c.functions {
					qt.Check(t, qt.SliceContains(replaced(r), want))
				}
				qt.Check(t, qt.IsTrue(r.Module.Size <= 100_000), qt.Commentf("%d bytes", r.Module.Size))
			})
		}
	}
}

// TestTheFixesOfAKernelWithIBTAreProven loads five fixes as one live patch into
// a kernel with branch tracking, call padding and prefix symbols. Two of them
// show: without the patch the reproducer finds both bugs, with it neither.
func TestTheFixesOfAKernelWithIBTAreProven(t *testing.T) {
	k := testenv.Kernel(t, testenv.IBT)
	qt.Assert(t, qt.IsTrue(k.HasConfig("CONFIG_X86_KERNEL_IBT") && k.HasConfig("CONFIG_CALL_PADDING")))
	r := live(t, k, "tsugi_e2e_ibt", append(derive(t, testenv.IBT, ibtFixes), editOf(t, k, "sync", syncSays...))...)
	qt.Check(t, qt.SliceContains(codes(r.Risks), "TS8020"))
	qt.Check(t, qt.DeepEquals(r.Artifact.Manifest.Objects(), []string{"ext4", "sch_teql", "tun", "vmlinux", "vmw_vsock_vmci_transport"}))
	program, err := buildReproducer()
	qt.Assert(t, qt.IsNil(err))
	p := prove(t, k, r, func(q *proof.Request) {
		q.Target.Kernel = k.Vmlinuz // as it is shipped, and moved by KASLR
		q.Reproducer, q.Programs = "reproduce", []string{program}
		q.Disks = []vm.Disk{{Name: "scratch", Size: 64 << 20, FS: "ext4"}}
		q.Probe = `mkdir -p /mnt && mount -t ext4 /dev/tsugi/scratch /mnt && mkdir -p /mnt/a /mnt/b && touch /mnt/a/x &&
ls -R /mnt | grep -q x && mount --rbind /mnt/a /mnt/b && ls /mnt/b | grep -q x && umount /mnt/b || exit 2` + switched + `umount /mnt`
		q.Cycles = 1
	})
	for _, run := range []*proof.Run{p.Before, p.After} {
		qt.Assert(t, qt.IsNotNil(run.Reproducer))
	}
	qt.Check(t, qt.Equals(p.Before.Reproducer.Output, "listmount: the bug shows\ntun: the bug shows\n"))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, "listmount: fixed\ntun: fixed\n"))
	for _, f := range []string{"__tun_chr_ioctl", "__x64_sys_listmount", "ext4_readdir", "ext4_sync_file", "path_mount", "path_umount"} {
		qt.Check(t, qt.IsTrue(ran(p, f)), qt.Commentf("%s of the patch ran: %v", f, p.Traced))
	}
}

// TestTheFixOfTheDemoIsProven: without the live patch the reproducer crashes
// the kernel, with it it passes.
func TestTheFixOfTheDemoIsProven(t *testing.T) {
	testenv.Long(t, "make demo shows it")
	k := testenv.Kernel(t, testenv.Demo)
	r := live(t, k, "tsugi_e2e_ext4", fixOf(t, testenv.Demo, "ext4-mballoc", "fs/ext4"))
	script, err := os.ReadFile("../../demo/ext4-mballoc.sh")
	qt.Assert(t, qt.IsNil(err))
	p := prove(t, k, r, func(q *proof.Request) {
		q.Reproducer, q.Cycles = string(script), 2
		q.Disks = []vm.Disk{{Name: "scratch", Size: 2 << 30, FS: "ext4"}}
	})
	qt.Check(t, qt.Equals(p.Before.Reproducer.Kind, proof.EndOops))
	qt.Check(t, qt.Equals(p.Before.Crash.Function, "ext4_mb_load_buddy_gfp"))
	qt.Check(t, qt.IsTrue(ran(p, "ext4_mb_load_buddy_gfp")), qt.Commentf("%v", p.Traced))
}
