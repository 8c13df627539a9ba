// SPDX-License-Identifier: Apache-2.0

// A program that takes rights from itself. f is what is patched.
#define _GNU_SOURCE
#include "control.h"
#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stddef.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

NOINLINE long f(long v)
{
#if LEVEL == 0
	return v + 1;
#else
	return v * 10 + LEVEL;
#endif
}

static long dumpable(long v) { return prctl(PR_SET_DUMPABLE, v) ? -errno : 0; }
static long become(long v) { return setresuid(v, v, v) ? -errno : 0; }
static long user(long v)
{
	(void)v;
	return geteuid();
}

// forbid answers the system call nr with an action, and lets all others pass.
static long forbid(unsigned nr, unsigned action)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, action),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog p = {.len = sizeof code / sizeof *code, .filter = code};
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		return -errno;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &p) ? -errno : 0;
}

static long kill_on(long v) { return forbid(v, SECCOMP_RET_KILL_PROCESS); }
static long fail_on(long v) { return forbid(v, SECCOMP_RET_ERRNO | EPERM); }
static long strict(long v)
{
	(void)v;
	return prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) ? -errno : 0;
}

// executable maps memory that can be executed, as new code is.
static long executable(long v)
{
	(void)v;
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return p == MAP_FAILED ? -errno : munmap(p, 4096);
}

// enclose makes the group that it is in the topmost that it sees.
static long enclose(long v)
{
	(void)v;
	return unshare(CLONE_NEWCGROUP) ? -errno : 0;
}

// crowd maps many pages that can't be one mapping.
static long crowd(long v)
{
	for (long i = 0; i < v; i++)
		if (mmap(NULL, 4096, i % 2 ? PROT_READ : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED)
			return -errno;
	return v;
}

const struct entry table[] = {
	{"f", f}, {"dumpable", dumpable}, {"become", become}, {"user", user}, {"kill_on", kill_on},
	{"fail_on", fail_on}, {"strict", strict}, {"executable", executable},
	{"enclose", enclose}, {"crowd", crowd}, {0},
};
