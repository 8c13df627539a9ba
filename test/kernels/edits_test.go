// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/kimage"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// The edits that are live and are proven together below.
var (
	tcpSays = []edit{{
		"net/ipv4/tcp_input.c", "\nint tcp_rcv_state_process(", "\tbool acceptable;\n\tSKB_DR(reason);\n",
		"\tbool acceptable;\n\tSKB_DR(reason);\n\n\tprintk_once(KERN_INFO \"tsugi e2e: tcp\\n\");\n",
	}}
	cloneCounts = []edit{
		{
			"kernel/fork.c", "\npid_t kernel_clone(", "\tpid_t nr;\n",
			"\tpid_t nr;\n\tstatic unsigned int clones;\n\n\tif (++clones % 16 == 1)\n\t\tpr_info(\"tsugi e2e: kernel_clone %u\\n\", clones);\n",
		},
	}
	modernSays = []edit{{
		"drivers/virtio/virtio_pci_modern.c", "\nstatic int vp_finalize_features(", "\tvring_transport_features(vdev);\n",
		"\tpr_info(\"tsugi e2e: modern\\n\");\n\tvring_transport_features(vdev);\n",
	}}
	legacySays = []edit{{
		"drivers/virtio/virtio_pci_legacy.c", "\nstatic int vp_finalize_features(", "\tvring_transport_features(vdev);\n",
		"\tpr_info(\"tsugi e2e: legacy\\n\");\n\tvring_transport_features(vdev);\n",
	}}
	// a static inline of a header that most objects of a module contain
	inlineOfF2FS = []edit{{
		"fs/f2fs/f2fs.h", "\nstatic inline void f2fs_put_page(", "if (!page)", "if (IS_ERR_OR_NULL(page))",
	}}
	callbacks = []edit{{"kernel/fork.c", "", "\nint sysctl_max_threads(", `
#include <tsugi/livepatch.h>

static int e2e_pre(struct klp_object *obj)
{
	int *shadow = klp_shadow_alloc(&init_task, 4711, sizeof(int), GFP_KERNEL, NULL, NULL);

	if (!shadow)
		return -ENOMEM;
	*shadow = 42;
	pr_warn("tsugi e2e: pre-patch\n");
	return 0;
}
TSUGI_PRE_PATCH(e2e_pre)

static void e2e_post(struct klp_object *obj)
{
	int *shadow = klp_shadow_get(&init_task, 4711);

	pr_warn("tsugi e2e: post-unpatch, shadow variable %d\n", shadow ? *shadow : -1);
	klp_shadow_free_all(4711, NULL);
}
TSUGI_POST_UNPATCH(e2e_post)

int sysctl_max_threads(`}}
)

// TestEditsHaveKnownAnswers makes changes whose verdict is known beforehand.
func TestEditsHaveKnownAnswers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		edits     []edit
		verdict   builder.Verdict
		functions []string // replaced, exactly
		refusals  []string // codes, exactly
		risks     []string // codes, among others
		check     func(t *testing.T, r *builder.Report)
	}{
		{
			name:    "three blank lines",
			edits:   []edit{{"net/ipv4/tcp_input.c", "", "", "\n\n\n"}},
			verdict: builder.NotAffected,
		},
		{
			name:    "an unused new static function",
			edits:   []edit{{"net/ipv4/tcp_input.c", "", "\nint tcp_rcv_state_process(", "\nstatic int __maybe_unused e2e_unused(int x)\n{\n\treturn x + 1;\n}\n\nint tcp_rcv_state_process("}},
			verdict: builder.NotAffected,
		},
		{
			name: "a new function of one object that another calls",
			edits: []edit{
				{"net/ipv4/tcp_cong.c", "", "\nu32 tcp_reno_ssthresh(", "\nint e2e_helper(int x);\nint e2e_helper(int x)\n{\n\tpr_info_once(\"tsugi e2e: helper\\n\");\n\treturn x + 1;\n}\n\nu32 tcp_reno_ssthresh("},
				{"net/ipv4/tcp_input.c", "", "\nint tcp_rcv_state_process(struct sock *sk, struct sk_buff *skb)\n{", "\nint e2e_helper(int x);\nint tcp_rcv_state_process(struct sock *sk, struct sk_buff *skb)\n{\n\tif (e2e_helper(skb->len) == -7)\n\t\treturn 0;\n"},
			},
			verdict: builder.Live, functions: []string{"vmlinux tcp_rcv_state_process"},
		},
		{
			name:    "a new global function that nobody calls",
			edits:   []edit{{"net/ipv4/tcp_cong.c", "", "\nu32 tcp_reno_ssthresh(", "\nint e2e_idle(int x);\nint e2e_idle(int x)\n{\n\treturn x + 1;\n}\n\nu32 tcp_reno_ssthresh("}},
			verdict: builder.NotAffected,
		},
		{
			name: "a message once", edits: tcpSays,
			verdict: builder.Live, functions: []string{"vmlinux tcp_rcv_state_process"},
			check: func(t *testing.T, r *builder.Report) {
				qt.Check(t, qt.IsTrue(r.Module.Size <= 100<<10), qt.Commentf("%d bytes", r.Module.Size))
			},
		},
		{
			name: "a new static local, in a function with a tracepoint", edits: cloneCounts,
			verdict: builder.Live, functions: []string{"vmlinux kernel_clone"},
			check: func(t *testing.T, r *builder.Report) {
				// a tracepoint is a jump label and a static call on keys of vmlinux
				qt.Check(t, qt.IsTrue(kept(r, "__jump_table", "kernel_clone") >= 1))
				qt.Check(t, qt.IsTrue(kept(r, ".static_call_sites", "kernel_clone") >= 1))
			},
		},
		{
			name:    "another initial value of a sysctl",
			edits:   []edit{{"fs/namei.c", "", "sysctl_protected_hardlinks __read_mostly = 1;", "sysctl_protected_hardlinks __read_mostly = 2;"}},
			verdict: builder.Live, risks: []string{"TS8012"},
		},
		{
			name:    "another number in a table that exists",
			edits:   []edit{{"net/ipv4/tcp_dctcp.c", "\nstatic struct tcp_congestion_ops dctcp_reno __read", ".owner", ".flags\t\t= TCP_CONG_NEEDS_ECN,\n\t.owner"}},
			verdict: builder.Reboot, refusals: []string{"TS4010"},
			check: func(t *testing.T, r *builder.Report) {
				qt.Check(t, qt.Equals(r.Refusals[0].Where, "dctcp_reno"))
				qt.Check(t, qt.StringContains(r.Refusals[0].Why, "dctcp_reno.flags: a number in a table may be read twice"))
				qt.Check(t, qt.Matches(r.Refusals[0].Source, `net/ipv4/tcp_dctcp\.c:\d+`))
			},
		},
		{
			name:    "an init function",
			edits:   []edit{{"kernel/fork.c", "void __init fork_init(void)", "\tscs_init();\n", "\tpr_info(\"tsugi e2e\\n\");\n\tscs_init();\n"}},
			verdict: builder.Reboot, refusals: []string{"TS4002"},
			check: func(t *testing.T, r *builder.Report) {
				qt.Check(t, qt.Equals(r.Refusals[0].Where, "fork_init"))
				qt.Check(t, qt.Matches(r.Refusals[0].Source, `kernel/fork\.c:\d+`))
			},
		},
		{
			name:    "the scheduler",
			edits:   []edit{{"kernel/sched/core.c", "void __sched schedule(void)", "\tsched_submit_work(tsk);\n", "\tif (unlikely(!tsk))\n\t\treturn;\n\tsched_submit_work(tsk);\n"}},
			verdict: builder.Live, functions: []string{"vmlinux schedule"}, risks: []string{"TS8001", "TS8002"},
		},
		{
			name: "a struct that grows",
			edits: []edit{
				{"net/sched/em_text.c", "struct text_match {", "*config;\n", "*config;\n\tunsigned long\t\tseen;\n"},
				{"net/sched/em_text.c", "", "\tm->datalen = sizeof(*tm);\n", "\ttm->seen = 1;\n\tm->datalen = sizeof(*tm);\n"},
			},
			verdict: builder.Reboot, refusals: []string{"TS4030"},
			check: func(t *testing.T, r *builder.Report) {
				qt.Check(t, qt.Equals(r.Refusals[0].Where, "struct text_match"))
				qt.Check(t, qt.StringContains(r.Refusals[0].Why, "from 16 to 24 bytes"))
				qt.Check(t, qt.StringContains(r.Refusals[0].Fix, "shadow"))
			},
		},
		{
			name: "a header that many objects inline", edits: inlineOfF2FS,
			verdict: builder.Live,
			check: func(t *testing.T, r *builder.Report) {
				qt.Check(t, qt.IsTrue(len(r.Objects) >= 5 && len(r.Objects) <= 30), qt.Commentf("%d objects", len(r.Objects)))
				carried := map[string]bool{}
				for _, f := range r.Functions {
					qt.Check(t, qt.Equals(f.Object, "f2fs"))
					carried[strings.TrimSuffix(f.Source, ".c")+".o"] = true
				}
				for _, o := range r.Objects {
					changed := o.Diff != nil && !o.Diff.Same()
					qt.Check(t, qt.Equals(carried[o.Path], changed), qt.Commentf("%s is carried", o.Path))
				}
				qt.Check(t, qt.IsTrue(len(carried) >= 5), qt.Commentf("%v", carried))
			},
		},
		{
			// the key is tested in lapic_in_kernel, which this function inlines
			name:    "a jump label on the module's own key",
			edits:   []edit{{"arch/x86/kvm/x86.c", "\nint kvm_emulate_halt(", "\tint ret = kvm_skip_emulated_instruction(vcpu);\n", "\tint ret = kvm_skip_emulated_instruction(vcpu);\n\n\tpr_info_once(\"tsugi e2e\\n\");\n"}},
			verdict: builder.Live, functions: []string{"kvm kvm_emulate_halt"}, risks: []string{"TS8020"},
		},
		{
			name:    "code that reads the module's own key by itself",
			edits:   []edit{{"arch/x86/kvm/x86.c", "\nbool kvm_vcpu_is_reset_bsp(", "{\n", "{\n\tif (static_key_enabled(&kvm_has_noapic_vcpu))\n\t\tpr_info_once(\"tsugi e2e\\n\");\n"}},
			verdict: builder.Live, functions: []string{"kvm kvm_arch_vcpu_create", "kvm kvm_vcpu_is_reset_bsp"}, // one inlines the other
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			k := testenv.Kernel(t, testenv.Demo)
			r := build(t, k, "", editOf(t, k, "edit", c.edits...))
			qt.Assert(t, qt.Equals(r.Verdict, c.verdict))
			qt.Assert(t, qt.DeepEquals(codes(r.Refusals), c.refusals))
			if c.functions != nil {
				qt.Check(t, qt.DeepEquals(replaced(r), c.functions))
			}
			for _, want := range c.risks {
				qt.Check(t, qt.SliceContains(codes(r.Risks), want))
			}
			qt.Check(t, qt.Equals(r.Artifact != nil, c.verdict == builder.Live))
			if c.check != nil {
				c.check(t, r)
			}
		})
	}
}

// TestPointersToSealedFunctions: a kernel with branch tracking overwrites the
// landing pad of functions that nothing calls by pointer. A fix that begins to
// is refused, and is live with a small function of its own in between.
func TestPointersToSealedFunctions(t *testing.T) {
	t.Parallel()
	const (
		file = "kernel/fork.c"
		args = "struct pid *pid, int trace, int node, struct kernel_clone_args *args"
	)
	k := testenv.Kernel(t, testenv.IBT)
	img, err := k.Image()
	qt.Assert(t, qt.IsNil(err))
	symbols, err := img.Kallsyms()
	qt.Assert(t, qt.IsNil(err))
	at := slices.IndexFunc(symbols, func(s kimage.Symbol) bool { return s.Name == "copy_process" })
	qt.Assert(t, qt.IsTrue(at >= 0))
	entry, err := img.At(symbols[at].Addr, 4)
	qt.Assert(t, qt.IsNil(err))
	t.Logf("copy_process begins with % x", entry)
	call := edit{
		file, "\npid_t kernel_clone(", "p = copy_process(",
		"struct task_struct *(*volatile copy)(" + args + ") = %s;\n\n\tp = copy(",
	}
	direct, wrapped := call, call
	direct.new = strings.Replace(call.new, "%s", "copy_process", 1)
	wrapped.new = strings.Replace(call.new, "%s", "e2e_copy", 1)
	wrapper := edit{
		file, "", "\npid_t kernel_clone(",
		"\nstatic noinline struct task_struct *e2e_copy(" + args + ")\n{\n\treturn copy_process(pid, trace, node, args);\n}\n\npid_t kernel_clone(",
	}
	r := build(t, k, "", editOf(t, k, "edit", direct))
	qt.Assert(t, qt.Equals(r.Verdict, builder.Reboot))
	qt.Check(t, qt.DeepEquals(codes(r.Refusals), []string{"TS5205"}))
	qt.Check(t, qt.StringContains(r.Refusals[0].Error(), "copy_process"))
	r = live(t, k, "", editOf(t, k, "edit", wrapped, wrapper))
	qt.Check(t, qt.DeepEquals(replaced(r), []string{"vmlinux kernel_clone"}))
}

// kept counts the entries of a special section that came with a function.
func kept(r *builder.Report, section, function string) int {
	n := 0
	for _, o := range r.Objects {
		if o.Diff == nil {
			continue
		}
		for _, s := range o.Diff.Special {
			if s.Section == section && s.Function == function {
				n += s.Entries
			}
		}
	}
	return n
}

// TestTheLiveEditsAreProven loads the edits above, with callbacks, as one live
// patch. Each says something when it runs. The tracepoint of the patched
// kernel_clone still works: its jump label and static call are vmlinux's.
func TestTheLiveEditsAreProven(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	r := live(
		t, k, "tsugi_e2e_edits",
		editOf(t, k, "tcp", tcpSays...), editOf(t, k, "clone", cloneCounts...), editOf(t, k, "modern", modernSays...),
		editOf(t, k, "f2fs", inlineOfF2FS...), editOf(t, k, "callbacks", callbacks...),
	)
	qt.Check(t, qt.DeepEquals(r.Artifact.Manifest.Callbacks, []string{"vmlinux"}))
	p := prove(t, k, r, func(q *proof.Request) {
		q.Target.Kernel = k.Vmlinuz // as it is shipped, and moved by KASLR
		q.Disks = []vm.Disk{{Name: "scratch", Size: 16 << 20}}
		q.Reproducer = `dmesg -c >/dev/null
t=/sys/kernel/tracing
[ -d $t/events ] || mount -t tracefs none $t
mkdir -p $t/instances/e2e
echo >$t/instances/e2e/trace
echo 1 >$t/instances/e2e/events/sched/sched_process_fork/enable
i=0; while [ $i -lt 20 ]; do /bin/busybox true; i=$((i + 1)); done
echo 0 >$t/instances/e2e/events/sched/sched_process_fork/enable
[ "$(grep -c 'sched_process_fork: comm=sh' $t/instances/e2e/trace)" -ge 20 ] || { echo "no forks traced"; exit 1; }
ip link set lo up
timeout 60 nc -l -p 7777 </dev/null >/dev/null &
i=0; until echo hello | timeout 10 nc 127.0.0.1 7777 2>/dev/null; do i=$((i + 1)); [ $i -lt 100 ] || break; sleep 0.2; done
cd /sys/bus/virtio/drivers/virtio_blk || exit 1
for d in virtio*; do echo $d >unbind && echo $d >bind || exit 1; done
status=0
for w in tcp kernel_clone modern; do
	if dmesg | grep -q "tsugi e2e: $w"; then echo "$w spoke"; else status=1; fi
done
dmesg | grep "tsugi e2e: legacy"
exit $status`
	})
	qt.Check(t, qt.Equals(p.Before.Reproducer.Output, ""), qt.Commentf("nothing speaks without the patch"))
	qt.Check(t, qt.Equals(p.After.Reproducer.Output, "tcp spoke\nkernel_clone spoke\nmodern spoke\n"))
	for _, f := range []string{"tcp_rcv_state_process", "kernel_clone", "vp_finalize_features"} {
		qt.Check(t, qt.IsTrue(ran(p, f)), qt.Commentf("%s of the patch ran: %v", f, p.Traced))
	}
	qt.Check(t, qt.DeepEquals(slices.DeleteFunc(slices.Clone(p.Log.Notes), func(l string) bool {
		return !strings.Contains(l, "tsugi e2e:")
	}), []string{"tsugi e2e: pre-patch", "tsugi e2e: post-unpatch, shadow variable 42"}))
}
