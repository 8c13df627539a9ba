// SPDX-License-Identifier: GPL-2.0
/* A live patch of the function that tsugi_hold's tasks stay in. */
#include <linux/livepatch.h>
#include <linux/module.h>

static int tsugi_wait(bool deep)
{
	return 0;
}

static struct klp_func funcs[] = {
	{ .old_name = "tsugi_wait", .new_func = tsugi_wait },
	{ }
};

static struct klp_object objs[] = {
	{ .name = "tsugi_hold", .funcs = funcs },
	{ }
};

static struct klp_patch patch = { .mod = THIS_MODULE, .objs = objs, .replace = true };

static int __init unhold_init(void)
{
	return klp_enable_patch(&patch);
}

static void __exit unhold_exit(void)
{
}

module_init(unhold_init);
module_exit(unhold_exit);
MODULE_LICENSE("GPL");
MODULE_INFO(livepatch, "Y");
MODULE_DESCRIPTION("live patch whose transition tasks hold");
