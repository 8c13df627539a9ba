/* SPDX-License-Identifier: GPL-2.0 */
/* Just enough for the module's own part to compile without a kernel tree. */
#define __init __attribute__((section(".init.text")))
#define __exit __attribute__((section(".exit.text")))
#define true 1
#define false 0
