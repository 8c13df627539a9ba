// SPDX-License-Identifier: GPL-2.0
/*
 * A live patch written by hand, as Documentation/livepatch shows it: one
 * function of vmlinux, one of a module.
 */
#include <linux/fs.h>
#include <linux/livepatch.h>
#include <linux/module.h>
#include <linux/seq_file.h>

static int cmdline_proc_show(struct seq_file *m, void *v)
{
	seq_puts(m, "patched live\n");
	return 0;
}

static int ext4_rmdir(struct inode *dir, struct dentry *dentry)
{
	return -EPERM;
}

static struct klp_func vmlinux_funcs[] = {
	{ .old_name = "cmdline_proc_show", .new_func = cmdline_proc_show },
	{ }
};

static struct klp_func ext4_funcs[] = {
	{ .old_name = "ext4_rmdir", .new_func = ext4_rmdir },
	{ }
};

static struct klp_object objs[] = {
	{ .funcs = vmlinux_funcs },
	{ .name = "ext4", .funcs = ext4_funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objs, .replace = true };

static int __init sample_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit sample_exit(void)
{
}

module_init(sample_init);
module_exit(sample_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("live patch of the proof's tests");
