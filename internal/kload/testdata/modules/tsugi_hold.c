// SPDX-License-Identifier: GPL-2.0
/*
 * Tasks that stay in a function until they are let go: who reads
 * /proc/tsugi_hold sleeps so that a signal ends it, who reads
 * /proc/tsugi_hold_deep so that none does, and with kthread=1 a kernel thread
 * sleeps there from the start. Writing to either file lets all of them go.
 */
#include <linux/err.h>
#include <linux/kthread.h>
#include <linux/module.h>
#include <linux/proc_fs.h>
#include <linux/wait.h>

static DECLARE_WAIT_QUEUE_HEAD(queue);
static bool let_go;
static bool kthread;
module_param(kthread, bool, 0);

noinline int tsugi_wait(bool deep);

noinline int tsugi_wait(bool deep)
{
	if (!deep)
		return wait_event_interruptible(queue, let_go);
	wait_event(queue, let_go);
	return 0;
}

static ssize_t hold_read(struct file *f, char __user *to, size_t n, loff_t *pos)
{
	return tsugi_wait(false);
}

static ssize_t deep_read(struct file *f, char __user *to, size_t n, loff_t *pos)
{
	return tsugi_wait(true);
}

static ssize_t hold_write(struct file *f, const char __user *from, size_t n, loff_t *pos)
{
	let_go = true;
	wake_up_all(&queue);
	return n;
}

static const struct proc_ops hold_ops = { .proc_read = hold_read, .proc_write = hold_write };
static const struct proc_ops deep_ops = { .proc_read = deep_read, .proc_write = hold_write };

static int thread(void *unused)
{
	while (!let_go)
		tsugi_wait(false);
	return 0;
}

static int __init hold_init(void)
{
	struct task_struct *t;

	proc_create("tsugi_hold", 0600, NULL, &hold_ops);
	proc_create("tsugi_hold_deep", 0600, NULL, &deep_ops);
	if (!kthread)
		return 0;
	t = kthread_run(thread, NULL, "tsugi_holder");
	return PTR_ERR_OR_ZERO(t);
}

module_init(hold_init);
MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("tasks that hold a transition until they are let go");
