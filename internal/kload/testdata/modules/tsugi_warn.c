// SPDX-License-Identifier: GPL-2.0
/* A warning that has nothing to do with any live patch. */
#include <linux/module.h>

static int __init warn_init(void)
{
	WARN(1, "tsugi: a warning of someone else\n");
	return 0;
}

static void __exit warn_exit(void)
{
}

module_init(warn_init);
module_exit(warn_exit);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("a foreign warning");
