// SPDX-License-Identifier: GPL-2.0
/*
 * A kprobe with a post handler at a function's entry: the kernel lets only one
 * user of such a hook change where the call goes on, and takes this for one.
 */
#include <linux/kprobes.h>
#include <linux/module.h>

static char *symbol = "cmdline_proc_show";
module_param(symbol, charp, 0);

static void post(struct kprobe *p, struct pt_regs *regs, unsigned long flags)
{
}

static struct kprobe probe = { .post_handler = post };

static int __init probe_init(void)
{
	probe.symbol_name = symbol;
	return register_kprobe(&probe);
}

static void __exit probe_exit(void)
{
	unregister_kprobe(&probe);
}

module_init(probe_init);
module_exit(probe_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("someone else who redirects a function");
