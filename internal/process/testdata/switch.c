// SPDX-License-Identifier: Apache-2.0
// A program that changes into a coroutine which was left in the middle of f. The
// traps tell the test when.
#include <ucontext.h>

static ucontext_t back, other;
static char stack[1 << 16];

__attribute__((noinline)) int f(int x)
{
	swapcontext(&other, &back);
	return x + 1;
}

static void body(void)
{
	for (volatile int x = 0;; x++) f(x);
}

int main(void)
{
	getcontext(&other);
	other.uc_stack.ss_sp = stack;
	other.uc_stack.ss_size = sizeof stack;
	other.uc_link = &back;
	makecontext(&other, body, 0);
	for (int i = 0; i < 3; i++) {
		swapcontext(&back, &other);
		__asm__ volatile("int3");
	}
	return 0;
}
