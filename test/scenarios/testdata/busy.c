// SPDX-License-Identifier: Apache-2.0

#include "control.h"

// spin is the frame on top: nothing of it is on the stack.
NOINLINE long spin(long v)
{
	while (!opened)
		;
#if LEVEL
	return v + 100;
#else
	return v + 1;
#endif
}

// deep lies below many others.
static NOINLINE long descend(long n)
{
	volatile char weight[512];
	weight[n & 511] = 1;
	if (n == 0)
		return gate(0) + weight[0] - 1;
	return descend(n - 1) + weight[n & 511] - 1;
}

NOINLINE long deep(long v)
{
#if LEVEL
	return descend(v) + 100;
#else
	return descend(v) + 1;
#endif
}

// held waits in gate and has a tail, so that its frame stays.
NOINLINE long held(long v)
{
	long w = gate(v);
#if LEVEL == 0
	return w + 1;
#else
	return w + LEVEL * 100;
#endif
}

const struct entry table[] = {{"spin", spin}, {"deep", deep}, {"held", held}, {0}};
