// SPDX-License-Identifier: Apache-2.0

// A 32-bit program that needs no library: it says that it is ready, and waits.
static int call(int nr, int a, int b, int c)
{
	int r;
	__asm__ volatile("int $0x80" : "=a"(r) : "a"(nr), "b"(a), "c"(b), "d"(c) : "memory");
	return r;
}

void _start(void)
{
	static const char ready[] = "= ready\n";
	char c;
	call(4, 1, (int)ready, sizeof ready - 1);
	while (call(3, 0, (int)&c, 1) > 0)
		call(4, 1, (int)ready, sizeof ready - 1);
	call(252, 0, 0, 0);
}
