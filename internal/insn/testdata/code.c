/* SPDX-License-Identifier: Apache-2.0 */
/* Ordinary C whose machine code has every common shape: branches near and
 * far, a jump table, RIP-relative operands with immediates behind them,
 * 64-bit constants, bit operations, atomics, floating point and loops that
 * vectorise. */
#include <stdint.h>
#include <stddef.h>

int counter, flags;
static int hidden[4];
extern void warn(const char *file, int line, long a, long b, long c, long d);
extern void *table[];

void line_numbers(long a) { warn(__FILE__, __LINE__, 1, 0x123456789abcdefLL, -1, 0x80000000u); flags = 0x1234567; hidden[a & 3] |= 0x40; }

int dispatch(int op, int a, int b)
{
	switch (op) {
	case 0: return a + b;
	case 1: return a - b;
	case 2: return a * b;
	case 3: return b ? a / b : 0;
	case 4: return a << (b & 31);
	case 5: return a >> (b & 31);
	case 6: return __builtin_popcount(a) + __builtin_ctz(b | 1);
	case 7: return a ^ b;
	case 8: return __sync_val_compare_and_swap(&counter, a, b);
	case 9: return __sync_fetch_and_add(&counter, a);
	case 10: __builtin_unreachable();
	case 11: return ((int (*)(int))table[b])(a);
	}
	if (a > 1000000)
		__builtin_trap();
	return counter;
}

void sum(float *restrict x, const float *restrict y, int n) { for (int i = 0; i < n; i++) x[i] = x[i] * 3.5f + y[i]; }
void sumd(double *restrict x, const int *restrict y, int n) { for (int i = 0; i < n; i++) x[i] += y[i] * 0.25; }
void bytes(uint8_t *restrict x, const uint8_t *restrict y, int n) { for (int i = 0; i < n; i++) x[i] = (x[i] + y[i] + 1) >> 1; }
void shifts(uint64_t *x, int n, int s) { for (int i = 0; i < n; i++) x[i] = (x[i] << (s & 63)) | (x[i] >> (64 - (s & 63))); }
void gather(int *restrict x, const int *restrict y, const int *restrict z, int n) { for (int i = 0; i < n; i++) x[i] = z[y[i]]; }
int find(const char *s, char c) { for (int i = 0; s[i]; i++) if (s[i] == c) return i; return -1; }
long double slow(long double x) { return x * x + 1.5L; }
struct big { long v[40]; } copy(const struct big *b) { return *b; }
unsigned long long wide(unsigned long long a, unsigned long long b) { return (unsigned __int128)a * b >> 64; }
