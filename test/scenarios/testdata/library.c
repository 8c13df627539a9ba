// SPDX-License-Identifier: Apache-2.0

#include "control.h"
#include <stdlib.h>

static long state;

NOINLINE long lib_inner(long v)
{
#if LEVEL
	return v + 500;
#else
	return v + 5;
#endif
}

NOINLINE long lib(long v)
{
	void *p = malloc(v);
	state += p != NULL;
	free(p);
	return lib_inner(v) + (state > 0);
}

#ifdef LATE
const struct entry late_table[] = {{"lib", lib}, {0}};
#endif
