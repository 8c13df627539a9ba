// SPDX-License-Identifier: Apache-2.0

// Shows two vulnerabilities of glibc 2.36-9+deb12u7 in a process with many
// threads that use the functions in question all the time. Each line on standard
// input is the number of a CVE, or "work": how much the threads have done, and
// how much of it was wrong.
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <regex.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

void *__libc_malloc(size_t), *__libc_calloc(size_t, size_t), *__libc_realloc(void *, size_t);
void __libc_free(void *);

/* The allocator of libc, but for a thread that wants an allocation to fail. What
 * it frees stays until it is done, so that freeing it twice does no harm. */
static _Thread_local int armed, left, twice, used;
static _Thread_local struct {
	void *p;
	int freed;
} blocks[4096];

static void *remember(void *p)
{
	if (!armed || p == NULL)
		return p;
	if (used == sizeof blocks / sizeof *blocks)
		abort();
	blocks[used].p = p, blocks[used++].freed = 0;
	return p;
}

static int fails(void) { return armed && left-- == 0; }

void *malloc(size_t n) { return fails() ? NULL : remember(__libc_malloc(n)); }
void *calloc(size_t n, size_t m) { return fails() ? NULL : remember(__libc_calloc(n, m)); }

void free(void *p)
{
	for (int i = 0; armed && i < used; i++)
		if (p != NULL && blocks[i].p == p) {
			twice += blocks[i].freed;
			blocks[i].freed = 1;
			return;
		}
	__libc_free(p);
}

void *realloc(void *p, size_t n)
{
	if (!armed)
		return __libc_realloc(p, n);
	void *q = malloc(n);
	if (p != NULL && q != NULL) {
		size_t old = malloc_usable_size(p);
		memcpy(q, p, old < n ? old : n);
		free(p);
	}
	return q;
}

/* disarm gives back what was freed meanwhile. */
static void disarm(void)
{
	armed = 0;
	for (int i = 0; i < used; i++)
		if (blocks[i].freed)
			__libc_free(blocks[i].p);
	used = 0;
}

/* CVE-2025-8058: a set of characters is freed twice when memory runs out. */
static void cve_2025_8058(void)
{
	regex_t r;
	int status, tries = 0;
	twice = 0;
	do {
		left = tries, armed = 1;
		status = regcomp(&r, "[a]", 0);
		disarm();
	} while (status == REG_ESPACE && ++tries < 1000);
	if (status != 0) {
		puts("broken: the pattern is not compiled");
		return;
	}
	regfree(&r);
	printf(twice ? "vulnerable: %d blocks were freed twice\n" : "fixed\n", twice);
}

/* CVE-2026-0861: the sum of an alignment and a size is small. */
static void cve_2026_0861(void)
{
	int status;
	pid_t child = fork();
	if (child == 0) {
		volatile size_t alignment = SIZE_MAX / 2 + 1, size = PTRDIFF_MAX;
		void *p = memalign(alignment, size);
		_exit(p == NULL && errno == ENOMEM ? 0 : 1);
	}
	if (child < 0 || waitpid(child, &status, 0) != child)
		puts("broken: no child");
	else if (WIFSIGNALED(status))
		printf("vulnerable: signal %d\n", WTERMSIG(status));
	else
		puts(WEXITSTATUS(status) ? "vulnerable: there is such memory" : "fixed");
}

static atomic_long done, wrong;
static atomic_int stop;

static int compiles(const char *pattern, const char *yes, const char *no)
{
	regex_t r;
	if (regcomp(&r, pattern, REG_EXTENDED | REG_NOSUB))
		return 0;
	int ok = regexec(&r, yes, 0, NULL, 0) == 0 && regexec(&r, no, 0, NULL, 0) == REG_NOMATCH;
	regfree(&r);
	return ok;
}

static int aligned(size_t alignment, size_t size)
{
	unsigned char *p = memalign(alignment, size);
	if (p == NULL || (uintptr_t)p % alignment)
		return 0;
	memset(p, 0x5a, size);
	int ok = p[0] == 0x5a && p[size - 1] == 0x5a;
	free(p);
	return ok;
}

static void *work(void *unused)
{
	while (!stop) {
		if (!compiles("^[a-f0-9]+[[:space:]]*[xyz]$", "c0ffee  y", "coffee y") || !compiles("[a]", "cat", "dog"))
			wrong++;
		for (size_t a = 32; a <= 65536; a *= 2)
			if (!aligned(a, a / 2 + 100))
				wrong++;
		done++;
		usleep(500);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	int n = argc > 1 ? atoi(argv[1]) : 4;
	pthread_t threads[n];
	char line[64];
	for (int i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, work, NULL))
			return 1;
	while (fgets(line, sizeof line, stdin)) {
		line[strcspn(line, "\n")] = 0;
		if (!strcmp(line, "CVE-2025-8058"))
			cve_2025_8058();
		else if (!strcmp(line, "CVE-2026-0861"))
			cve_2026_0861();
		else
			printf("%ld done, %ld wrong\n", done, wrong);
		fflush(stdout);
	}
	stop = 1;
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return wrong != 0;
}
