// SPDX-License-Identifier: GPL-2.0
/* A live patch of the function that tsugi_sleeper stays in. */
#include <linux/livepatch.h>
#include <linux/module.h>

static int tsugi_sleep(void *unused)
{
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "tsugi_sleep", .new_func = tsugi_sleep },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "tsugi_sleeper", .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objs, .replace = true };

static int __init stall_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit stall_exit(void)
{
}

module_init(stall_init);
module_exit(stall_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("live patch whose transition does not end");
