// SPDX-License-Identifier: Apache-2.0
//
// Code under test. With FIXED it is the patched source: work() refers to every
// kind of thing that a payload can refer to.
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct op { const char *name; int (*fn)(int, int); };

static int calls;
int total = 100;
__thread int per_thread = 7;
static __thread int hidden_per_thread = 9;
const char *const *words(void);

__attribute__((noinline)) int add(int a, int b) { return a + b + total; }
__attribute__((noinline)) static int sub(int a, int b) { calls++; return a - b - *(volatile int *)&calls * 0; }
__attribute__((noinline)) static int twice(int a) { hidden_per_thread += a; return 2 * a + hidden_per_thread; }

static const struct op ops[] = { { "add", add }, { "sub", sub } };

const char *const *words(void)
{
	static const char *const list[] = { "one", "two", "three" };
	return list;
}

#ifdef FIXED
int fresh_counter = 40;
static int fresh_zero[64];
static const struct op more[] = { { "sub", sub }, { "abs", NULL }, { "add", add } };
static int (*const libc_functions[])(int) = { toupper, tolower };

#ifdef NEAR
static int words_as_abs(int a) { return a < 0 ? -a : a; }
#endif

__attribute__((noinline)) int fresh(int a)
{
	fresh_zero[a & 63] += a;
	return fresh_counter++ + fresh_zero[a & 63];
}
#endif

int work(char *out, size_t size, int n)
{
	errno = 0;
	total++;
	per_thread += n;
#ifdef FIXED
	char copy[32];
	double d = 1.5 * n;
#ifndef NEAR /* with addresses of 4 bytes, abs would have to be near */
	int (*volatile abs_)(int) = abs;
#else
	int (*const volatile abs_)(int) = words_as_abs;
#endif
	const char *how;
	switch (n) {
	case 0: how = "none"; break;
	case 1: how = "single"; break;
	case 2: how = "pair"; break;
	case 3: how = "several"; break;
	default: how = "many"; break;
	}
	memset(copy, 0, sizeof(copy));
	strncpy(copy, words()[n % 3], sizeof(copy) - 1);
	copy[0] = libc_functions[n & 1](copy[0]);
	return snprintf(out, size, "[fixed %s %s %s %d %d %d %d %d %g %d %d %d %s]", how, copy, more[n % 3].name, add(n, 1), ops[n & 1].fn(n, 2),
		more[0].fn(9, n), twice(n), fresh(n), d, abs_(-n), per_thread, calls > 0, getenv("TSUGI_TEST_WORD"));
#else
	return snprintf(out, size, "[old %s %d %d %d %d]", words()[n % 3], add(n, 1), ops[n & 1].fn(n, 2), twice(n), per_thread);
#endif
}
