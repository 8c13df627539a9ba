// SPDX-License-Identifier: Apache-2.0

#include "control.h"

__thread long counter = 40;
static __thread long hidden = 2;

NOINLINE long f(long v)
{
	counter += v;
	hidden++;
#if LEVEL
	return (counter + hidden) * 100;
#else
	return counter + hidden;
#endif
}

static long peek(long v) { return counter * 1000 + hidden + v; }

#ifdef LATE
const struct entry late_table[] = {{"f", f}, {"peek", peek}, {0}};
#else
const struct entry table[] = {{"f", f}, {"peek", peek}, {0}};
#endif
