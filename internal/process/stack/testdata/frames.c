// SPDX-License-Identifier: Apache-2.0
// Threads that are in all sorts of frames: deep recursion, callbacks from the
// C library, signal handlers on stacks of their own and on the usual one,
// system calls, large frames, variable frames, aligned frames, coroutines.
#define _GNU_SOURCE
#include <alloca.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>

#define KEEP __attribute__((noinline, noclone, used))

static volatile unsigned long sink;

KEEP static unsigned long leaf(unsigned long n)
{
	for (int i = 0; i < 50; i++)
		n = n * 6364136223846793005ul + 1442695040888963407ul;
	sink += n;
	return n;
}

KEEP static unsigned long deep(unsigned long n)
{
	unsigned long v = n ? deep(n - 1) : leaf(n);
	sink += v;
	return v + n;
}

KEEP static unsigned long large(unsigned long n)
{
	volatile char room[40000];
	memset((void *)room, (int)n, sizeof room);
	return leaf(n) + room[n % sizeof room] + (n ? large(n - 1) : 0);
}

KEEP static unsigned long variable(unsigned long n)
{
	volatile char room[n * 16 + 1];
	room[n] = 1;
	return leaf(n) + room[n] + (n ? variable(n - 1) : 0);
}

KEEP static unsigned long aligned(unsigned long n)
{
	volatile double room[8] __attribute__((aligned(64)));
	for (int i = 0; i < 8; i++)
		room[i] = sin(n + i);
	return leaf((unsigned long)room[3]) + (n ? aligned(n - 1) : 0);
}

KEEP static int by_value(const void *a, const void *b)
{
	leaf(3);
	return *(const int *)a - *(const int *)b;
}

KEEP static void sort(void)
{
	int v[300];
	for (int i = 0; i < 300; i++)
		v[i] = (i * 7919) % 300;
	qsort(v, 300, sizeof v[0], by_value);
}

KEEP static void on_signal(int sig)
{
	deep(sig == SIGUSR1 ? 20 : 5);
}

KEEP static void sleep_some(long ns)
{
	struct timespec t = {.tv_nsec = ns};
	nanosleep(&t, 0);
}

static jmp_buf back;

KEEP static void jump(int n)
{
	if (n)
		jump(n - 1);
	else
		longjmp(back, 1);
	sink++;
}

KEEP static void strings(void)
{
	static __thread char a[9000], b[9000];
	for (int i = 0; i < 20; i++) {
		memmove(a, b, sizeof a);
		sink += strlen(a) + (unsigned long)memchr(b, 1, sizeof b);
		snprintf(a, sizeof a, "%d %f %s", i, i * 1.5, "text");
		struct timespec t;
		clock_gettime(CLOCK_MONOTONIC, &t);
	}
	free(malloc(100000));
	sleep_some(1);
}

KEEP static void *work(void *arg)
{
	long kind = (long)arg;
	// A handler's stack may lie in the thread's own, above what it interrupts.
	stack_t alt = {.ss_sp = kind % 4 == 1 ? alloca(1 << 16) : malloc(1 << 16), .ss_size = 1 << 16};
	if (kind % 2)
		sigaltstack(&alt, 0);
	for (;;) {
		switch (kind % 8) {
		case 0: deep(500); break;
		case 1: pthread_kill(pthread_self(), SIGUSR1); break;
		case 2: sort(); break;
		case 3: pthread_kill(pthread_self(), SIGUSR2); large(8); break;
		case 4: variable(30); break;
		case 5: aligned(10); break;
		case 6: strings(); break;
		case 7: sleep_some(200000); break;
		}
	}
	return 0;
}

static ucontext_t contexts[2];

KEEP static void in_coroutine(void)
{
	for (;;) {
		deep(30);
		swapcontext(&contexts[1], &contexts[0]);
	}
}

int main(int argc, char **argv)
{
	long threads = argc > 1 ? atol(argv[1]) : 8;
	struct sigaction sa = {.sa_handler = on_signal, .sa_flags = SA_ONSTACK | SA_RESTART};
	sigaction(SIGUSR1, &sa, 0);
	sigaction(SIGALRM, &sa, 0);
	sa.sa_flags = SA_RESTART;
	sigaction(SIGUSR2, &sa, 0);
	for (long i = 0; i < threads; i++) {
		pthread_t t;
		if (pthread_create(&t, 0, work, (void *)(argc > 2 ? atol(argv[2]) : i)))
			return 1;
	}
	getcontext(&contexts[1]);
	contexts[1].uc_stack.ss_sp = malloc(1 << 16);
	contexts[1].uc_stack.ss_size = 1 << 16;
	makecontext(&contexts[1], in_coroutine, 0);
	puts("ready");
	fflush(stdout);
	for (;;) {
		swapcontext(&contexts[0], &contexts[1]);
		if (!setjmp(back))
			jump(20);
		strings();
		ualarm(500, 0);
		deep(100);
	}
}
