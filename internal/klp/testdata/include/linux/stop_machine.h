/* SPDX-License-Identifier: GPL-2.0 */
int stop_machine(int (*fn)(void *), void *data, const void *cpus);
