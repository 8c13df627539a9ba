// SPDX-License-Identifier: Apache-2.0

// The main program of every scenario: it does what lines on its standard input
// say, and answers each with a line that begins with "= ", or "! " for what went
// wrong.
//
//   call NAME VALUE    calls a function of the table in this thread
//   start NAME VALUE   calls it in a thread of its own; the answer is at once
//   join               waits for the thread that was started last: its value
//   gated              how many threads wait in gate()
//   release            lets them go on, and later ones pass
//   close              gate() holds threads again
//   fork               makes a child, which "child LINE" speaks to
//   vfork              a thread makes a child that shares the memory until "release"
//   storm N NAME       N threads that start threads that call NAME without end
//   calm               ends the storm: the number of calls
//   tick NAME          a signal a thousand times a second, whose handler calls NAME
//   handler NAME VALUE a thread in NAME gets a signal whose handler, on a stack of
//                      its own, waits in gate()
//   exec               begins anew
//   load PATH          dlopen: its late_table is searched too
//   quit
#define _GNU_SOURCE
#include "control.h"
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

volatile int opened;
static atomic_int gated;
static const struct entry *late;

long gate(long v)
{
	atomic_fetch_add(&gated, 1);
	while (!opened)
		poll(NULL, 0, 2);
	atomic_fetch_sub(&gated, 1);
	return v;
}

static long (*find(const char *name))(long)
{
	for (const struct entry *e = table; e->name; e++)
		if (strcmp(e->name, name) == 0)
			return e->call;
	for (const struct entry *e = late; e && e->name; e++)
		if (strcmp(e->name, name) == 0)
			return e->call;
	return NULL;
}

static FILE *out;

static void answer(const char *format, ...)
{
	va_list ap;
	va_start(ap, format);
	vfprintf(out, format, ap);
	va_end(ap);
	fputc('\n', out);
	fflush(out);
}

struct work {
	long (*call)(long);
	long value;
};

static pthread_t last;

static void *worker(void *p)
{
	struct work w = *(struct work *)p;
	free(p);
	return (void *)w.call(w.value);
}

static int start(void *(*run)(void *), long (*call)(long), long value)
{
	struct work *w = malloc(sizeof *w);
	w->call = call;
	w->value = value;
	return pthread_create(&last, NULL, run, w);
}

// The storm.
static atomic_int storming;
static atomic_long calls;
static pthread_t storm[64];
static int storms;

static void *gust(void *p)
{
	((long (*)(long))p)(1);
	atomic_fetch_add(&calls, 1);
	return NULL;
}

static void *squall(void *p)
{
	while (atomic_load(&storming)) {
		pthread_t t;
		if (pthread_create(&t, NULL, gust, p) == 0)
			pthread_join(t, NULL);
	}
	return NULL;
}

// Signals.
static long (*ticked)(long);
static atomic_long ticks;

static void tick(int s)
{
	int e = errno;
	(void)s;
	ticked(1);
	atomic_fetch_add(&ticks, 1);
	errno = e;
}

static void wait_in_handler(int s)
{
	(void)s;
	gate(0);
}

static void *interrupted(void *p)
{
	stack_t s = {.ss_sp = malloc(1 << 16), .ss_size = 1 << 16};
	sigaltstack(&s, NULL);
	return worker(p);
}

static void *vforking(void *p)
{
	free(p);
	pid_t pid = vfork();
	if (pid == 0) {
		while (!opened)
			poll(NULL, 0, 2);
		_exit(7);
	}
	int status = 0;
	waitpid(pid, &status, 0);
	return (void *)(long)WEXITSTATUS(status);
}

static FILE *to_child, *from_child;
static char **arguments;

static int child(void)
{
	int s[2];
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, s))
		return -1;
	pid_t pid = fork();
	if (pid == 0) {
		dup2(s[1], 0);
		dup2(s[1], 1);
		close(s[0]);
		close(s[1]);
		to_child = from_child = NULL;
		return 0;
	}
	close(s[1]);
	to_child = fdopen(s[0], "w");
	from_child = fdopen(dup(s[0]), "r");
	char ready[64];
	return fgets(ready, sizeof ready, from_child) ? pid : -1;
}

static void on(int signal, void (*handler)(int), int flags)
{
	struct sigaction a = {.sa_handler = handler, .sa_flags = flags};
	sigaction(signal, &a, NULL);
}

static char *line(void)
{
	static char buf[4096];
	size_t n = 0;
	// No stdio: a child must not have what was read ahead for its parent.
	while (n + 1 < sizeof buf) {
		ssize_t r = read(0, buf + n, 1);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return NULL;
		if (buf[n] == '\n')
			break;
		n++;
	}
	buf[n] = 0;
	return buf;
}

int main(int argc, char **argv)
{
	(void)argc;
	arguments = argv;
	out = stdout;
	on(SIGPIPE, SIG_IGN, 0);
	answer("= ready %d", getpid());
	for (char *l; (l = line());) {
		char verb[32] = "", name[4000] = "";
		long value = 0;
		if (sscanf(l, "%31s %3999s %ld", verb, name, &value) < 1)
			continue;
		if (strcmp(verb, "storm") == 0)
			sscanf(l, "%*s %ld %3999s", &value, name);
		long (*call)(long) = find(name);
		if (strcmp(verb, "call") == 0 && call) {
			answer("= %ld", call(value));
		} else if (strcmp(verb, "start") == 0 && call) {
			answer("= %d", start(worker, call, value));
		} else if (strcmp(verb, "join") == 0) {
			void *v = NULL;
			pthread_join(last, &v);
			answer("= %ld", (long)v);
		} else if (strcmp(verb, "gated") == 0) {
			answer("= %d", atomic_load(&gated));
		} else if (strcmp(verb, "release") == 0) {
			opened = 1;
			answer("= 0");
		} else if (strcmp(verb, "close") == 0) {
			opened = 0;
			answer("= 0");
		} else if (strcmp(verb, "fork") == 0) {
			int pid = child();
			if (pid == 0)
				answer("= ready %d", getpid());
			else
				answer("= %d", pid);
		} else if (strcmp(verb, "child") == 0 && to_child) {
			char reply[4096] = "! no answer\n";
			fprintf(to_child, "%s\n", l + strlen("child "));
			fflush(to_child);
			if (!fgets(reply, sizeof reply, from_child))
				strcpy(reply, "! no answer\n");
			reply[strcspn(reply, "\n")] = 0;
			answer("%s", reply);
		} else if (strcmp(verb, "vfork") == 0) {
			answer("= %d", start(vforking, NULL, 0));
		} else if (strcmp(verb, "storm") == 0 && call) {
			atomic_store(&storming, 1);
			for (storms = 0; storms < value && storms < 64; storms++)
				pthread_create(&storm[storms], NULL, squall, (void *)call);
			answer("= %d", storms);
		} else if (strcmp(verb, "calm") == 0) {
			atomic_store(&storming, 0);
			for (int i = 0; i < storms; i++)
				pthread_join(storm[i], NULL);
			answer("= %ld", atomic_load(&calls));
		} else if (strcmp(verb, "tick") == 0 && call) {
			struct itimerval t = {{0, 1000}, {0, 1000}};
			ticked = call;
			on(SIGALRM, tick, SA_RESTART);
			setitimer(ITIMER_REAL, &t, NULL);
			answer("= 0");
		} else if (strcmp(verb, "ticks") == 0) {
			answer("= %ld", atomic_load(&ticks));
		} else if (strcmp(verb, "handler") == 0 && call) {
			on(SIGUSR1, wait_in_handler, SA_ONSTACK | SA_RESTART);
			start(interrupted, call, value);
			usleep(20000);
			answer("= %d", pthread_kill(last, SIGUSR1));
		} else if (strcmp(verb, "exec") == 0) {
			execv("/proc/self/exe", arguments);
			answer("! exec: %s", strerror(errno));
		} else if (strcmp(verb, "load") == 0) {
			void *h = dlopen(name, RTLD_NOW);
			late = h ? dlsym(h, "late_table") : NULL;
			answer(late ? "= 0" : "! %s", dlerror());
		} else if (strcmp(verb, "quit") == 0) {
			answer("= 0");
			return 0;
		} else {
			answer("! %s", l);
		}
	}
	return 0;
}
