// SPDX-License-Identifier: GPL-2.0
/* A kernel thread that never leaves the function that it sleeps in. */
#include <linux/completion.h>
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>

static DECLARE_COMPLETION(never);

noinline int tsugi_sleep(void *unused);

noinline int tsugi_sleep(void *unused)
{
	wait_for_completion(&never);
	return 0;
}

static int __init sleeper_init(void)
{
	return PTR_ERR_OR_ZERO(kthread_run(tsugi_sleep, NULL, "tsugi_sleeper"));
}

module_init(sleeper_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("a task that holds a transition");
