// SPDX-License-Identifier: Apache-2.0

package klp

const editsIncludes = `#include <linux/mm.h>
#include <linux/stop_machine.h>
#include <linux/vmalloc.h>
`

// editsTypes are what live patches read of each other: their version is
// EditsVersion.
const editsTypes = `
#define TSUGI_EDITS_STATE 0x5453554749UL

struct tsugi_edit {
	void *at;
	u64 old, new, mask;
	u32 size, flags;
	/* from here on for when it runs */
	u64 base;	/* without any live patch */
	u64 reserved;
	u64 value, bits, expect;
	void *map;
	u32 state, pending;
};
static_assert(sizeof(struct tsugi_edit) == 96);

enum { TSUGI_IDLE, TSUGI_APPLIED, TSUGI_UNDONE, TSUGI_READY };
enum { TSUGI_OPTIONAL = 1, TSUGI_ANY = 2, TSUGI_FILLED = 4, TSUGI_EXIT = 8, TSUGI_STAYS = 16 };

struct tsugi_list {
	struct tsugi_edit *edits;
	unsigned int nr;
	unsigned int object;	/* 0 is vmlinux */
};

struct tsugi_data {
	unsigned int nr;
	unsigned int reserved;
	struct tsugi_list *lists;
};

#define tsugi_each(d, l, e) \
	for (l = (d)->lists; l < (d)->lists + (d)->nr; l++) \
		for (e = l->edits; e < l->edits + l->nr; e++)

`

// editsSource edits data. Its functions run in livepatch's callbacks, one at a
// time, since livepatch holds its lock around them.
const editsSource = `
/* What the live patch that this one replaces has edited, until it has gone. */
static struct tsugi_data *tsugi_prev;

static u64 tsugi_get(const struct tsugi_edit *e)
{
	switch (e->size) {
	case 1:
		return READ_ONCE(*(u8 *)e->at);
	case 2:
		return READ_ONCE(*(u16 *)e->at);
	case 4:
		return READ_ONCE(*(u32 *)e->at);
	}
	return READ_ONCE(*(u64 *)e->at);
}

static void tsugi_put(const struct tsugi_edit *e, u64 value)
{
	void *to = e->map + offset_in_page(e->at);

	switch (e->size) {
	case 1:
		WRITE_ONCE(*(u8 *)to, value);
		break;
	case 2:
		WRITE_ONCE(*(u16 *)to, value);
		break;
	case 4:
		WRITE_ONCE(*(u32 *)to, value);
		break;
	default:
		WRITE_ONCE(*(u64 *)to, value);
	}
}

/* Every other CPU stands still. What nobody expected there is left alone. */
static int tsugi_poke(void *arg)
{
	struct tsugi_data *d = arg;
	struct tsugi_list *l;
	struct tsugi_edit *e;

	tsugi_each(d, l, e) {
		u64 now;

		if (!e->pending)
			continue;
		now = tsugi_get(e);
		if (!((now ^ e->expect) & e->bits))
			tsugi_put(e, (now & ~e->bits) | (e->value & e->bits));
	}
	return 0;
}

/* The data may be read-only: it is written by way of a second mapping. */
static int tsugi_map(const struct tsugi_list *l, struct tsugi_edit *e)
{
	struct page *page;

	if (e->map)
		return 0;
	page = l->object ? vmalloc_to_page(e->at) : virt_to_page(lm_alias(e->at));
	if (page)
		e->map = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
	return e->map ? 0 : -ENOMEM;
}

static void tsugi_unmap(struct tsugi_edit *e)
{
	if (e->map)
		vunmap(e->map);
	e->map = NULL;
	e->pending = 0;
}

/* Writes what is wanted and can be mapped. */
static void tsugi_commit(struct tsugi_data *d, const char *what)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;
	unsigned int n = 0;

	tsugi_each(d, l, e) {
		if (!e->pending)
			continue;
		if (!tsugi_map(l, e)) {
			n++;
			continue;
		}
		e->pending = 0;
		pr_err("%s: no memory to %s %pS\n", THIS_MODULE->name, what, e->at);
	}
	if (n)
		stop_machine(tsugi_poke, d, NULL);
	tsugi_each(d, l, e) {
		if (e->pending)
			tsugi_unmap(e);
	}
}

/* What a live patch has written at a place. */
static struct tsugi_edit *tsugi_find(struct tsugi_data *d, const void *at)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;

	if (d) {
		tsugi_each(d, l, e) {
			if (e->state == TSUGI_APPLIED && e->at == at)
				return e;
		}
	}
	return NULL;
}

static void tsugi_want(struct tsugi_edit *e, u64 value, u64 bits, u64 expect)
{
	e->value = value;
	e->bits = bits;
	e->expect = expect;
	e->pending = 1;
}

/*
 * Where there was no pointer, the new one stays: code that has found it and
 * not yet used it would call nothing. It leads into this module, which stays
 * as well, or to what was there before.
 */
static bool tsugi_stays(const struct tsugi_edit *e)
{
	return (e->flags & TSUGI_STAYS) && !(e->base & e->mask);
}

/* Whether there is what was expected, with a live patch that is there or not. */
static bool tsugi_expected(struct tsugi_edit *e)
{
	struct tsugi_edit *prev = tsugi_find(tsugi_prev, e->at);
	u64 now = tsugi_get(e), base = now;

	if (prev)
		base = (now & ~prev->mask) | (prev->base & prev->mask);
	e->base = base;
	e->expect = now;
	if (prev && ((now ^ prev->new) & prev->mask & e->mask))
		return false;
	return (e->flags & TSUGI_ANY) || !((base ^ e->old) & e->mask) || !((base ^ e->new) & e->mask) ||
	       ((e->flags & (TSUGI_FILLED | TSUGI_STAYS)) && !(e->old & e->mask));
}

/* The pointer to a module's exit function lies where only the module tells. */
static void *tsugi_exit_of(struct klp_object *obj)
{
#ifdef CONFIG_MODULE_UNLOAD
	return obj->mod ? &obj->mod->exit : NULL;
#else
	return NULL;
#endif
}

/* Nothing of an object is edited any more, and it may go. */
static void tsugi_forget(unsigned int object)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;

	tsugi_each(&tsugi_data, l, e) {
		if (l->object != object)
			continue;
		e->state = TSUGI_IDLE;
		tsugi_unmap(e);
		if (e->flags & TSUGI_EXIT)
			e->at = NULL;
	}
}

/* Writes an object's data back. */
static void tsugi_undo(unsigned int object)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;

	tsugi_each(&tsugi_data, l, e) {
		if (l->object != object || e->state != TSUGI_APPLIED)
			continue;
		e->state = TSUGI_UNDONE;
		if (!tsugi_stays(e))
			tsugi_want(e, e->base, e->mask, e->new);
	}
	tsugi_commit(&tsugi_data, "write back");
}

/* Writes back what only the live patch before this one has edited. */
static void tsugi_withdraw(void)
{
	struct tsugi_list *l;
	struct tsugi_edit *p;

	tsugi_each(tsugi_prev, l, p) {
		struct tsugi_edit *own = tsugi_find(&tsugi_data, p->at);
		u64 bits = p->mask & ~(own ? own->mask : 0);

		if (p->state == TSUGI_APPLIED && bits && !tsugi_stays(p))
			tsugi_want(p, p->base, bits, p->new);
	}
	tsugi_commit(tsugi_prev, "write back");
	tsugi_each(tsugi_prev, l, p)
		p->state = TSUGI_IDLE; /* nobody asks it again */
}

/* Sees whether an object's data can be edited, and writes nothing yet. */
static int tsugi_edits_pre_patch(struct klp_object *obj, unsigned int object)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;
	int ret = 0;

	if (!object) {
		struct klp_state *prev = klp_get_prev_state(TSUGI_EDITS_STATE);

		tsugi_prev = prev ? prev->data : NULL;
	}
	tsugi_each(&tsugi_data, l, e) {
		if (l->object != object || ret)
			continue;
		if (e->flags & TSUGI_EXIT)
			e->at = tsugi_exit_of(obj);
		if (!e->at)
			continue;
		if (tsugi_expected(e)) {
			ret = tsugi_map(l, e);
			e->state = TSUGI_READY;
		} else if (e->flags & TSUGI_OPTIONAL) {
			pr_notice("%s: %pS has been set, and is left as it is\n", THIS_MODULE->name, e->at);
		} else {
			pr_err("%s: %pS is not what the kernel was built with\n", THIS_MODULE->name, e->at);
			ret = -EBUSY;
		}
	}
	if (ret)
		tsugi_forget(object);
	return ret;
}

/* Every task runs the new code: edits an object's data, or with vmlinux all. */
static void tsugi_edits_post_patch(struct klp_object *obj, unsigned int object)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;

	tsugi_each(&tsugi_data, l, e) {
		if (object && l->object != object)
			continue;
		if (e->state == TSUGI_UNDONE) { /* it was to go, and is not */
			e->state = TSUGI_APPLIED;
			if (!tsugi_stays(e))
				tsugi_want(e, e->new, e->mask, e->base);
		} else if (e->state == TSUGI_READY && tsugi_expected(e)) {
			e->state = TSUGI_APPLIED;
			tsugi_want(e, e->new, e->mask, e->expect);
		} else if (e->state == TSUGI_READY) {
			pr_notice("%s: %pS has been set meanwhile, and is left as it is\n", THIS_MODULE->name, e->at);
			e->state = TSUGI_IDLE;
			tsugi_unmap(e);
		}
	}
	if (!object && tsugi_prev)
		tsugi_withdraw();
	tsugi_commit(&tsugi_data, "edit");
	if (!object)
		tsugi_prev = NULL;
}

static void __maybe_unused tsugi_edits_pre_unpatch(struct klp_object *obj, unsigned int object)
{
	tsugi_undo(object);
}

static void __maybe_unused tsugi_edits_post_unpatch(struct klp_object *obj, unsigned int object)
{
	tsugi_undo(object);
	tsugi_forget(object);
}
`
