// SPDX-License-Identifier: Apache-2.0

#include "control.h"

NOINLINE long value(long v)
{
#if LEVEL
	return v * 10 + LEVEL;
#else
	return v * 3 + 1;
#endif
}
