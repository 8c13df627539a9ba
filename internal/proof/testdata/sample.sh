#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Fails while the library answers 9 for 4.
# tsugi: c show -lsample
# tsugi: talk show
test "$(ask 4)" = 10

exit $?
: <<'show.c'
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int sample_answer(int n);

int main(void)
{
	char line[64];
	while (fgets(line, sizeof line, stdin)) {
		if (!strncmp(line, "alive", 5))
			puts("yes");
		else
			printf("%d\n", sample_answer(atoi(line)));
		fflush(stdout);
	}
	return 0;
}
show.c
