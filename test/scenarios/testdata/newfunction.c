// SPDX-License-Identifier: Apache-2.0

#include "control.h"

#if LEVEL
static NOINLINE long helper(long v) { return v * v; }
NOINLINE long fresh(long v) { return v - 3; }
#endif

// What a program keeps of a function is the address of the old entry.
long identity(long v);
long (*volatile kept)(long) = identity;

NOINLINE long identity(long v)
{
#if LEVEL
	return kept == identity ? v + 5 : -1;
#else
	return kept == identity ? v : -1;
#endif
}

NOINLINE long f(long v)
{
#if LEVEL
	return helper(v) + fresh(v);
#else
	return v;
#endif
}

const struct entry table[] = {{"f", f}, {"identity", identity}, {0}};
