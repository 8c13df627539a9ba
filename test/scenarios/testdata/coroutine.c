// SPDX-License-Identifier: Apache-2.0

#include "control.h"
#include <stdlib.h>
#include <ucontext.h>

static ucontext_t main_context, other;
static long result;

static NOINLINE void leave(void) { swapcontext(&other, &main_context); }

// f is left in the middle, and nobody's stack shows it.
NOINLINE long f(long v)
{
	leave();
#if LEVEL
	return v + 100;
#else
	return v + 1;
#endif
}

static void body(void)
{
	for (;;) {
		result = f(7);
		leave();
	}
}

static long begin(long v)
{
	getcontext(&other);
	other.uc_stack.ss_sp = malloc(1 << 16);
	other.uc_stack.ss_size = 1 << 16;
	other.uc_link = &main_context;
	makecontext(&other, body, 0);
	swapcontext(&main_context, &other);
	return v;
}

static long resume(long v)
{
	swapcontext(&main_context, &other);
	return result + v;
}

const struct entry table[] = {{"begin", begin}, {"resume", resume}, {0}};
