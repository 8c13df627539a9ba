// SPDX-License-Identifier: Apache-2.0

#include "control.h"

NOINLINE static long plain(long v) { return v + 1; }
__attribute__((used)) NOINLINE static long chosen_one(long v)
{
#if LEVEL
	return v + 20;
#else
	return v + 2;
#endif
}

static long (*resolve(void))(long)
{
#if LEVEL == 2
	return plain;
#else
	return opened ? plain : chosen_one;
#endif
}

long chosen(long v) __attribute__((ifunc("resolve")));

NOINLINE long f(long v)
{
#if LEVEL
	return chosen(v) + 1000;
#else
	return chosen(v);
#endif
}

static long direct(long v) { return chosen(v); }

const struct entry table[] = {{"f", f}, {"direct", direct}, {0}};
