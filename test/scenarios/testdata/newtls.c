// SPDX-License-Identifier: Apache-2.0

#include "control.h"

#if LEVEL
static __thread long fresh = 9;
#endif

NOINLINE long f(long v)
{
#if LEVEL
	return fresh++ + v;
#else
	return v;
#endif
}

const struct entry table[] = {{"f", f}, {0}};
