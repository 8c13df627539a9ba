// SPDX-License-Identifier: Apache-2.0

#include "control.h"

static long one(long v) { return v; }

const struct entry table[] = {{"one", one}, {0}};
