// SPDX-License-Identifier: Apache-2.0

#include "control.h"

// Another file of the program has a static function of the same name.
static NOINLINE long twin(long v) { return v + 1; }

static long first(long v) { return twin(v); }

long second(long v);

const struct entry table[] = {{"first", first}, {"second", second}, {0}};
