// SPDX-License-Identifier: Apache-2.0

#include "control.h"

#if LEVEL
long level = 7;
#else
long level = 5;
#endif

NOINLINE long f(long v) { return level + v; }

const struct entry table[] = {{"f", f}, {0}};
