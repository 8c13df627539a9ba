// SPDX-License-Identifier: Apache-2.0

#define _GNU_SOURCE
#include "control.h"
#include <pthread.h>
#include <stdatomic.h>
#include <time.h>
#include <unistd.h>

long value(long v);

static atomic_long gap;

static long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000L + t.tv_nsec;
}

// watch calls a function of the library all the time, and keeps how long it was
// between two looks at the clock when the answer became another. It may have
// been stopped before the call that gave the new answer, and after the one that
// gave the last old one: the longer of two times is it.
static void *watch(void *p)
{
	long last = value(1), before = now(), earlier = 0;
	(void)p;
	for (;;) {
		long v = value(1), t = now(), took = t - before;
		if (v != last)
			atomic_store(&gap, took > earlier ? took : earlier);
		last = v;
		before = t;
		earlier = took;
	}
	return NULL;
}

static long watching(long v)
{
	pthread_t t;
	return pthread_create(&t, NULL, watch, NULL) + v;
}

// stopped is that time in nanoseconds, once.
static long stopped(long v) { return atomic_exchange(&gap, 0) + v; }

static atomic_long waiting;

static void *idle(void *p)
{
	atomic_fetch_add(&waiting, 1);
	for (;;)
		pause();
	return p;
}

static long idles(long v) { return waiting + v; }

// threads starts threads that wait in the kernel.
static long threads(long n)
{
	long made = 0;
	pthread_attr_t a;
	pthread_t t;
	pthread_attr_init(&a);
	pthread_attr_setstacksize(&a, 64 << 10);
	while (made < n && pthread_create(&t, &a, idle, NULL) == 0)
		made++;
	return made;
}

// crowd makes children that wait until they are killed or their parent is gone.
static long crowd(long n)
{
	long made = 0;
	int end[2];
	char c;
	if (pipe(end))
		return -1;
	while (made < n) {
		int pid = fork();
		if (pid == 0) {
			close(end[1]);
			_exit(read(end[0], &c, 1) != 0);
		}
		if (pid < 0)
			break;
		made++;
	}
	return made;
}

static long ask(long v) { return value(v); }

const struct entry table[] = {
	{"ask", ask}, {"watching", watching}, {"stopped", stopped}, {"threads", threads}, {"crowd", crowd}, {"idles", idles}, {0},
};
