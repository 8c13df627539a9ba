// SPDX-License-Identifier: Apache-2.0

#include "control.h"

NOINLINE long f(long v)
{
#if LEVEL == 0
	return v + 1;
#else
	return v * 10 + LEVEL;
#endif
}

static NOINLINE long caller(long v) { return f(v) + 1000; }

long (*volatile pointer)(long) = f;
static long through(long v) { return pointer(v); }

const struct entry table[] = {{"f", f}, {"caller", caller}, {"through", through}, {0}};
