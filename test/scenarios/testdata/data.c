// SPDX-License-Identifier: Apache-2.0

#include "control.h"

static long count;
long shared_value = 5;

NOINLINE long f(long v)
{
#if LEVEL
	static long calls;
	static long limit = 3;
	count++;
	if (++calls > limit)
		return -calls;
	return count * 100 + shared_value + v;
#else
	count++;
	return count + shared_value + v;
#endif
}

static long look(long v) { return count + v; }

const struct entry table[] = {{"f", f}, {"look", look}, {0}};
