// SPDX-License-Identifier: Apache-2.0
// A program under load: threads call the library and hold every answer against
// what it may be. It does what it is told on its standard input, one letter each.
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef DLOPEN
static int (*value)(int), (*twin)(int), (*rest)(int), (*deep)(int, int (*)(int));
#else
extern int value(int), twin(int), rest(int), deep(int, int (*)(int));
#endif

// own is a function of the program itself.
__attribute__((noinline)) int own(int x) { return x * x * x - x * 3 + 1; }

static volatile int stop;
static volatile long loops;

static int base(int r, int x) // the version of an answer, or death
{
	int v = r - x;
	if (v % 100 != 1 && v % 100 != 2) abort();
	return v / 100;
}

static void *load(void *unused)
{
	(void)unused;
	for (int x = 0; !stop; x = (x + 1) % 7) {
		base(value(x), x);
		base(twin(x), x);
		loops++;
	}
	return NULL;
}

static void *sleeper(void *unused)
{
	(void)unused;
	while (!stop) rest(2000), usleep(2000);
	return NULL;
}

static void *asleep(void *unused)
{
	(void)unused;
	while (!stop) usleep(1000000);
	return NULL;
}

#ifdef DLOPEN
static const char *path;
// reopen loads and unloads the library all the time; main's own handle is closed before.
static void *reopen(void *unused)
{
	(void)unused;
	for (int x = 0; !stop; x = (x + 1) % 7) {
		void *h = dlopen(path, RTLD_NOW);
		int (*f)(int) = dlsym(h, "value");
		for (int i = 0; i < 2000; i++) base(f(x), x);
		usleep(200);
		for (int i = 0; i < 2000; i++) base(f(x), x);
		dlclose(h);
		usleep(50);
		loops++;
	}
	return NULL;
}
#endif

static int inner(int n) { (void)n; return rest(300000000); }
static void *forever(void *unused) { (void)unused; deep(5, inner); return NULL; }

int main(int argc, char **argv)
{
	char c;
#ifdef DLOPEN
	void *h = argc > 2 ? dlmopen(LM_ID_NEWLM, argv[1], RTLD_LAZY) : dlopen(argv[1], RTLD_LAZY);
	if (!h) { fprintf(stderr, "%s\n", dlerror()); return 1; }
	value = dlsym(h, "value"), twin = dlsym(h, "twin"), rest = dlsym(h, "rest"), deep = dlsym(h, "deep");
#endif
	(void)argc, (void)argv;
	setvbuf(stdout, NULL, _IONBF, 0);
	puts("ready");
	while (read(0, &c, 1) == 1) {
		pthread_t t;
		switch (c) {
		case 'l': pthread_create(&t, NULL, load, NULL); puts("load"); break;
		case 's': pthread_create(&t, NULL, sleeper, NULL); puts("sleeper"); break;
		case 'a': for (int i = 0; i < 100; i++) pthread_create(&t, NULL, asleep, NULL); puts("asleep"); break;
		case 'f': pthread_create(&t, NULL, forever, NULL); usleep(20000); puts("forever"); break;
		case 'v': printf("%d %d\n", value(0), twin(0)); break;
		case 'w': printf("%d\n", own(0)); break;
		case 'd': printf("%d\n", deep(0, (int (*)(int))"four")); break;
		case 'n': printf("%ld\n", loops); break;
#ifdef DLOPEN
		case 'r': path = argv[1]; dlclose(h); pthread_create(&t, NULL, reopen, NULL); puts("reopen"); break;
		case 'o': h = dlopen(argv[1], RTLD_NOW); value = dlsym(h, "value"), twin = dlsym(h, "twin"); puts("open"); break;
		case 'x': dlclose(h); puts("closed"); break;
#endif
		case 'c':
			if (fork() == 0) { printf("%d\n", getpid()); pause(); _exit(0); }
			break;
		}
	}
	stop = 1;
	return 0;
}
