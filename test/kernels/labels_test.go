// SPDX-License-Identifier: Apache-2.0

package kernels

// syncSays is live only if the two tracepoints of the function stay what they
// are: jump labels on keys of the module that it belongs to. The tests of
// combined live patches carry it, on a kernel whose objects hold what unwinding
// needs and on one for which objtool makes it when the module is linked.
var syncSays = []edit{{
	"fs/ext4/fsync.c", "\nint ext4_sync_file(", "\ttrace_ext4_sync_file_enter(file, datasync);\n",
	"\tprintk_once(KERN_INFO \"tsugi e2e: sync\\n\");\n\ttrace_ext4_sync_file_enter(file, datasync);\n",
}}

// loopCounts puts a member into the middle of a struct whose padding is
// elsewhere: objects that exist stay as they are, and have room for it.
var loopCounts = []edit{
	{"drivers/block/loop.c", "struct loop_device {", "lo_sizelimit;\n", "lo_sizelimit;\n\tint\t\ttsugi_calls;\n"},
	{
		"drivers/block/loop.c", "\nstatic int lo_ioctl(", "\tswitch (cmd) {\n",
		"\tif (++lo->tsugi_calls == 2)\n\t\tpr_info(\"tsugi e2e: second call\\n\");\n\n\tswitch (cmd) {\n",
	},
}

// switched is a probe that turns the tracepoints on and off and counts what
// they say, in a file system on /mnt: just the same with the live patch and
// without. The proof's own tracer has the other buffer.
const switched = `
events=/sys/kernel/tracing/instances/probe
[ -e /sys/kernel/tracing/trace ] || mount -t tracefs none /sys/kernel/tracing || exit 2
mkdir -p $events
say() {
	echo >$events/trace
	dd if=/dev/zero of=/mnt/f bs=1k count=1 conv=fsync 2>/dev/null || exit 2
	is="$(grep -c ext4_sync_file_enter: $events/trace) $(grep -c ext4_sync_file_exit: $events/trace)"
	[ "$is" = "$1" ] || { echo "events: $is and not $1"; exit 1; }
}
say "0 0"
echo 1 >$events/events/ext4/ext4_sync_file_enter/enable; say "1 0"
echo 1 >$events/events/ext4/ext4_sync_file_exit/enable; say "1 1"
echo 0 >$events/events/ext4/ext4_sync_file_enter/enable; say "0 1"
echo 0 >$events/events/ext4/ext4_sync_file_exit/enable; say "0 0"
`
