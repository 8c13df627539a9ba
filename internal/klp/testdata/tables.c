// SPDX-License-Identifier: GPL-2.0
/* Written by Tsugi. */
#include <linux/kernel.h>
#include <linux/module.h>
#include <linux/livepatch.h>

extern char tsugi_new_0[]; /* patched_core, core.o */

static struct klp_func tsugi_funcs_vmlinux[] = {
	{ .old_name = "patched_core", .new_func = tsugi_new_0, .old_sympos = 1 },
	{ }
};

extern char tsugi_new_1[]; /* patched_fs, fs.o */

static struct klp_func tsugi_funcs_fs[] = {
	{ .old_name = "patched_fs", .new_func = tsugi_new_1, .old_sympos = 1 },
	{ }
};

extern int tsugi_hook_0(struct klp_object *obj); /* prepare_core, core.o */

extern void tsugi_hook_1(struct klp_object *obj); /* undo_core, core.o */

static int tsugi_pre_patch_vmlinux(struct klp_object *obj)
{
	int ret;

	ret = tsugi_hook_0(obj);
	if (ret) {
		return ret;
	}
	return 0;
}

static void tsugi_post_unpatch_vmlinux(struct klp_object *obj)
{
	tsugi_hook_1(obj);
}

static struct klp_object tsugi_objects[] = {
	{
		.funcs = tsugi_funcs_vmlinux,
		.callbacks.pre_patch = tsugi_pre_patch_vmlinux,
		.callbacks.post_unpatch = tsugi_post_unpatch_vmlinux,
	},
	{
		.name = "fs",
		.funcs = tsugi_funcs_fs,
	},
	{ }
};

static struct klp_state tsugi_states[] = {
	{ .id = 0x7UL, .version = 3 },
	{ }
};

static struct klp_patch tsugi_patch = {
	.mod = THIS_MODULE,
	.objs = tsugi_objects,
	.states = tsugi_states,
	.replace = true,
};

static int __init tsugi_init(void)
{
	return klp_enable_patch(&tsugi_patch);
}

/* Needed for the module to be removable; livepatch allows that only when disabled. */
static void __exit tsugi_exit(void)
{
}

module_init(tsugi_init);
module_exit(tsugi_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("a \"fix\" for \303\274\012");
MODULE_INFO(tsugi_version, "2");
MODULE_INFO(import_ns, "SPACE");
