// SPDX-License-Identifier: Apache-2.0

#include "control.h"

#if LEVEL
static NOINLINE long twin(long v) { return v + 200; }
#else
static NOINLINE long twin(long v) { return v + 2; }
#endif

long second(long v) { return twin(v); }
