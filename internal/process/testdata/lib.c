// SPDX-License-Identifier: Apache-2.0
// A library that tests patch while programs use it.
#include <string.h>
#include <unistd.h>

static int calls;

__attribute__((noinline)) int value(int x) { calls++; return x + 1; }
__attribute__((noinline)) int twin(int x) { calls++; return x + 2; }

// rest keeps a thread inside for a while.
__attribute__((noinline)) int rest(int microseconds) { usleep(microseconds); calls++; return 1; }

// deep calls back, so that value's caller may be anywhere.
__attribute__((noinline)) int deep(int n, int (*f)(int)) { int r = n ? deep(n - 1, f) : f(n); calls++; return r; }

int count(void) { return calls; }
