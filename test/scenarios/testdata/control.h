// SPDX-License-Identifier: Apache-2.0

// What the programs of the scenarios have in common: see control.c. LEVEL is 0
// in the original version of a file, 1, 2, 3 in patched ones.
#ifndef CONTROL_H
#define CONTROL_H

#ifdef __cplusplus
extern "C" {
#endif

#define NOINLINE __attribute__((noinline, noclone))

struct entry {
	const char *name;
	long (*call)(long);
};

// table ends with an entry without a name. A library that is loaded later has
// one under the name "late_table".
extern const struct entry table[];

// gate keeps the thread in a system call until the command "release".
long gate(long v);
// opened is 0 until then.
extern volatile int opened;

#ifdef __cplusplus
}
#endif
#endif
