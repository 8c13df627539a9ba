// SPDX-License-Identifier: Apache-2.0

// A program with rings of io_uring: one that a thread of the kernel polls
// (iou-sqp), one of which requests wait in workers (iou-wrk), and one under load.
// Each result is held against what it must be. f is what is patched.
#define _GNU_SOURCE
#include "control.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/io_uring.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

struct ring {
	int fd;
	struct io_uring_params p;
	char *queues;
	struct io_uring_sqe *entries;
};

static atomic_long interruptions; // of the program's own waiting

#define AT(r, q, field) ((_Atomic unsigned *)((r)->queues + (r)->p.q##_off.field))

static long set_up(struct ring *r, unsigned entries, unsigned flags, unsigned idle)
{
	memset(r, 0, sizeof *r);
	r->p.flags = flags;
	r->p.sq_thread_idle = idle;
	r->fd = syscall(SYS_io_uring_setup, entries, &r->p);
	if (r->fd < 0)
		return -errno;
	size_t sq = r->p.sq_off.array + r->p.sq_entries * 4;
	size_t cq = r->p.cq_off.cqes + r->p.cq_entries * sizeof(struct io_uring_cqe);
	r->queues = mmap(NULL, sq > cq ? sq : cq, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQ_RING);
	r->entries = mmap(NULL, r->p.sq_entries * sizeof *r->entries, PROT_READ | PROT_WRITE, MAP_SHARED, r->fd, IORING_OFF_SQES);
	return r->queues == MAP_FAILED || r->entries == MAP_FAILED ? -ENOMEM : 0;
}

static void submit(struct ring *r, struct io_uring_sqe e)
{
	unsigned tail = *AT(r, sq, tail), at = tail & (r->p.sq_entries - 1);
	while (tail - atomic_load(AT(r, sq, head)) >= r->p.sq_entries)
		sched_yield();
	r->entries[at] = e;
	AT(r, sq, array)[at] = at;
	atomic_store(AT(r, sq, tail), tail + 1);
	if (!(r->p.flags & IORING_SETUP_SQPOLL))
		while (syscall(SYS_io_uring_enter, r->fd, 1, 0, 0, NULL, 0) < 0 && errno == EINTR)
			interruptions++;
	else if (atomic_load(AT(r, sq, flags)) & IORING_SQ_NEED_WAKEUP)
		syscall(SYS_io_uring_enter, r->fd, 0, 0, IORING_ENTER_SQ_WAKEUP, NULL, 0);
}

struct result {
	long number; // of the request
	long value;
};

// reap waits for a result.
static struct result reap(struct ring *r)
{
	unsigned head = *AT(r, cq, head);
	while (head == atomic_load(AT(r, cq, tail)))
		if (syscall(SYS_io_uring_enter, r->fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0) < 0)
			interruptions += errno == EINTR;
	struct io_uring_cqe *all = (void *)(r->queues + r->p.cq_off.cqes);
	struct io_uring_cqe *c = &all[head & (r->p.cq_entries - 1)];
	struct result got = {c->user_data, c->res};
	atomic_store(AT(r, cq, head), head + 1);
	return got;
}

static struct ring polled, waiting, busy;

// poll makes a ring that the kernel polls for v ms after the last request.
static long poll_ring(long v) { return set_up(&polled, 16, IORING_SETUP_SQPOLL, v); }

// nop has the polled ring do nothing v times: how often it went well.
static long nop(long v)
{
	long good = 0;
	for (long i = 0; i < v; i++) {
		submit(&polled, (struct io_uring_sqe){.opcode = IORING_OP_NOP, .user_data = i});
		struct result c = reap(&polled);
		good += c.value == 0 && c.number == i;
	}
	return good;
}

static char names[16][32];

// hold has v workers open pipes that nobody writes to: each waits in the kernel.
static long hold(long v)
{
	long err = waiting.queues ? 0 : set_up(&waiting, 16, 0, 0);
	for (long i = 0; err == 0 && i < v; i++) {
		snprintf(names[i], sizeof names[i], "/tmp/pipe-%d-%ld", getpid(), i);
		if (mkfifo(names[i], 0600) && errno != EEXIST)
			return -errno;
		submit(&waiting, (struct io_uring_sqe){
			.opcode = IORING_OP_OPENAT, .flags = IOSQE_ASYNC, .fd = AT_FDCWD, .addr = (uintptr_t)names[i], .open_flags = O_RDONLY, .user_data = i});
	}
	return err ? err : v;
}

// feed writes to the pipes: how many were opened well, or what one failed with.
static long feed(long v)
{
	long good = 0, bad = 0;
	for (long i = 0; i < v; i++) {
		int fd = -1;
		// Without a reader it fails at once: then a worker has given up.
		for (int tries = 0; fd < 0 && tries < 200; tries++, usleep(1000))
			fd = open(names[i], O_WRONLY | O_NONBLOCK);
		struct result c = reap(&waiting);
		if (c.value >= 0)
			good++, close(c.value);
		else
			bad = c.value;
		if (fd >= 0)
			close(fd);
	}
	return bad ? bad : good;
}

static atomic_long done, wrong;
static atomic_int loading;
static pthread_t loader;

// work keeps workers reading the program's own file.
static void *work(void *unused)
{
	static char buffers[8][64];
	int fd = open("/proc/self/exe", O_RDONLY);
	(void)unused;
	for (int i = 0; loading; i = (i + 1) % 8) {
		submit(&busy, (struct io_uring_sqe){
			.opcode = IORING_OP_READ, .flags = IOSQE_ASYNC, .fd = fd, .addr = (uintptr_t)buffers[i], .len = sizeof buffers[i], .user_data = i});
		if (i == 7)
			for (int k = 0; k < 8; k++) {
				struct result c = reap(&busy);
				wrong += c.value != (long)sizeof buffers[0] || memcmp(buffers[c.number], "\177ELF", 4) != 0;
				memset(buffers[c.number], 0, sizeof buffers[0]);
				done += f(0) > 0;
			}
	}
	return NULL;
}

static long load(long v)
{
	(void)v;
	long err = set_up(&busy, 16, 0, 0);
	loading = 1;
	return err ? err : -pthread_create(&loader, NULL, work, NULL);
}

static long count(long v) { return v == 0 ? done : v == 1 ? wrong : interruptions; }

const struct entry table[] = {
	{"f", f}, {"poll", poll_ring}, {"nop", nop}, {"hold", hold}, {"feed", feed}, {"load", load}, {"count", count}, {0},
};
