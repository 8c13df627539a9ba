// SPDX-License-Identifier: Apache-2.0

#include "control.h"
#include <string.h>

static NOINLINE long sum(const char *s)
{
	long n = 0;
	while (*s)
		n = n * 31 % 1000003 + *s++;
	return n;
}

#if LEVEL
static const long numbers[] = {7, 11, 13, 17, 19, 23, 29, 31};
#else
static const long numbers[] = {1, 2, 3, 4, 5, 6, 7, 8};
#endif

// A table of constants that grows with the function.
NOINLINE long pick(long v)
{
#if LEVEL
	return numbers[v & 7] + 100;
#else
	return numbers[v & 7];
#endif
}

// A string, and a switch that becomes a table of jumps.
NOINLINE long f(long v)
{
	switch (v) {
	case 0: return sum("zero");
	case 1: return sum("one");
#if LEVEL
	case 2: return sum("two, corrected");
#else
	case 2: return sum("two");
#endif
	case 3: return sum("three");
	case 4: return gate(4) + 1;
	case 5: return sum("five");
	case 6: return sum("six") + 1;
	}
	return -1;
}

const struct entry table[] = {{"f", f}, {"pick", pick}, {0}};
