// SPDX-License-Identifier: Apache-2.0

#include "control.h"

long lib(long v);

NOINLINE long f(long v)
{
#if LEVEL
	return lib(v) * 2;
#else
	return lib(v);
#endif
}

const struct entry table[] = {{"f", f}, {"lib", lib}, {0}};
