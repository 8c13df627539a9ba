// SPDX-License-Identifier: Apache-2.0
// What comes in place of lib.c's functions. V is the version.
#include <string.h>
#include <unistd.h>

#ifndef V
#define V 2
#endif

extern int count(void);

int value(int x) { return x + V * 100 + 1; }
int own(int x) { return x + V * 100 + 1; }
int twin(int x) { return x + V * 100 + 2; }

#ifdef IMPORTS
int rest(int microseconds) { return usleep(microseconds) + V * 100; }

// strlen is chosen by the processor, getppid a plain function, count the library's own.
int deep(int n, int (*f)(int))
{
	return (int)strlen((const char *)f) + (getppid() > 0) * 1000 + (count() >= 0) * 2000 + n;
}
#else
int rest(int microseconds) { return microseconds * 0 + V * 100; }
int deep(int n, int (*f)(int)) { return n + V * 100 + 4 + (f ? 0 : 1); }
#endif
