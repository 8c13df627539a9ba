// SPDX-License-Identifier: Apache-2.0

// A program without a library, so that it can be built for 32 bits anywhere.
void _start(void)
{
	for (;;) {
		int r;
		__asm__ volatile("int $0x80" : "=a"(r) : "a"(29 /* pause */) : "memory");
	}
}
