// SPDX-License-Identifier: Apache-2.0

#include "control.h"
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

extern char **environ;

// In the original the program uses none of what the patch needs: neither
// functions of libc, nor one that libc chooses by the processor, nor its data.
NOINLINE long f(long v)
{
#if LEVEL
	char b[64], c[64];
	long n = snprintf(b, sizeof b, "%ld-%s", v, "tail");
	memmove(c, b, n + 1);
	errno = 0;
	close(-1);
	return n * 1000 + (strrchr(c, '-') - c) * 100 + (errno == EBADF) * 10 +
#ifdef DATA // that the program does not use otherwise
	       (environ != NULL && stderr != NULL) +
#endif
	       (stdout != NULL && toupper('a') == 'A');
#else
	return v < 0 ? v * 3 : v;
#endif
}

#ifdef LATE
const struct entry late_table[] = {{"f", f}, {0}};
#else
const struct entry table[] = {{"f", f}, {0}};
#endif
