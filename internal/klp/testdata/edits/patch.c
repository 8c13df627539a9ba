// SPDX-License-Identifier: GPL-2.0
#include "kernel.h"
#define static_assert _Static_assert
#include "edits.h"

#define WORD(i, o, f) { .old = (o), .new = OURS(N, i), .mask = ~0ul, .size = 8, .flags = (f) }

static struct tsugi_edit vmlinux_edits[] = {
	WORD(0, TARGET, 0),		/* another function */
	WORD(1, 0, TSUGI_STAYS),	/* a function where none was */
	WORD(2, OLD, TSUGI_OPTIONAL),	/* a setting */
	WORD(3, TARGET + 3, TSUGI_ANY),	/* only the first live patch has it */
};
static struct tsugi_edit module_edits[] = {
	WORD(0, TARGET, 0),
	WORD(1, 0, TSUGI_STAYS | TSUGI_FILLED), /* that registering fills in */
	{ .old = TARGET + 9, .new = OURS(N, 9), .mask = ~0ul, .size = 8, .flags = TSUGI_EXIT },
};
static struct tsugi_list tsugi_lists[] = {
	{ vmlinux_edits, N ? 3 : 4, 0 },
	{ module_edits, 3, 1 },
};
static struct tsugi_data tsugi_data = { .nr = 2, .lists = tsugi_lists };

#include "edits.c"

static void relocate(u64 *module)
{
	for (int i = 0; i < 4; i++)
		vmlinux_edits[i].at = &vmlinux_data[i];
	for (int i = 0; i < 2; i++)
		module_edits[i].at = module ? &module[i] : NULL;
}

static void forget_all(struct tsugi_edit *e, int n)
{
	for (; n; n--, e++) {
		e->state = TSUGI_IDLE;
		e->map = NULL;
		e->pending = 0;
		e->base = e->expect = 0xbad;
	}
}

static void load(bool load)
{
	tsugi_data.lists = load ? tsugi_lists : NULL; /* which ends whoever looks at it */
	tsugi_prev = NULL;
	forget_all(vmlinux_edits, 4);
	forget_all(module_edits, 3);
	module_edits[2].at = NULL;
}

#define JOIN(a, b) a##b
#define NAME(n) JOIN(patch_, n)
struct patch NAME(N) = {
	tsugi_edits_pre_patch, tsugi_edits_post_patch, tsugi_edits_pre_unpatch, tsugi_edits_post_unpatch,
	relocate, load, { .id = TSUGI_EDITS_STATE, .data = &tsugi_data },
};
