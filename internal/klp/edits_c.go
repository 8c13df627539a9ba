// SPDX-License-Identifier: Apache-2.0

package klp

const editsIncludes = `#include <linux/mm.h>
#include <linux/rcupdate.h>
#include <linux/sched.h>
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
	u64 before;	/* when this live patch came */
	u64 value, bits, expect;
	void *map;
	u32 state, pending;
};
static_assert(sizeof(struct tsugi_edit) == 96);

enum { TSUGI_IDLE, TSUGI_APPLIED, TSUGI_UNDONE };
enum { TSUGI_OPTIONAL = 1, TSUGI_ANY = 2, TSUGI_FILLED = 4, TSUGI_EXIT = 8 };

struct tsugi_list {
	struct tsugi_edit *edits;
	unsigned int nr;
	unsigned int object;	/* 0 is vmlinux */
};

struct tsugi_data {
	unsigned int nr;
	unsigned int replaced;	/* another live patch is taking over */
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

/* Every other CPU stands still. */
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
		if ((e->flags & TSUGI_OPTIONAL) && ((now ^ e->expect) & e->bits))
			continue;
		tsugi_put(e, (now & ~e->bits) | (e->value & e->bits));
	}
	return 0;
}

/* The data may be read-only: write by way of a second mapping. */
static int tsugi_commit(struct tsugi_data *d)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;
	unsigned int n = 0;
	int ret = 0;

	tsugi_each(d, l, e) {
		struct page *page;

		if (!e->pending)
			continue;
		n++;
		page = l->object ? vmalloc_to_page(e->at) : virt_to_page(lm_alias(e->at));
		e->map = vmap(&page, 1, VM_MAP, PAGE_KERNEL);
		if (!e->map)
			ret = -ENOMEM;
	}
	if (n && !ret)
		ret = stop_machine(tsugi_poke, d, NULL);
	tsugi_each(d, l, e) {
		if (!e->pending)
			continue;
		e->pending = 0;
		if (e->map)
			vunmap(e->map);
		e->map = NULL;
	}
	return ret;
}

static struct tsugi_edit *tsugi_find(struct tsugi_data *d, const void *at)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;

	if (d) {
		tsugi_each(d, l, e) {
			if (e->at == at)
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

/* Prepares an edit; refuses when there is something that was not expected. */
static int tsugi_begin(struct tsugi_edit *e, struct tsugi_edit *prev)
{
	u64 now = tsugi_get(e), base = now;
	bool ok;

	if (prev && prev->state != TSUGI_APPLIED)
		prev = NULL;
	if (prev)
		base = (now & ~prev->mask) | (prev->base & prev->mask);
	ok = (e->flags & TSUGI_ANY) || !((base ^ e->old) & e->mask) || !((base ^ e->new) & e->mask) ||
	     ((e->flags & TSUGI_FILLED) && !(e->old & e->mask));
	if (prev && ((now ^ prev->new) & prev->mask & e->mask))
		ok = false;
	if (!ok && (e->flags & TSUGI_OPTIONAL)) {
		pr_notice("%s: %pS has been set, and is left as it is\n", THIS_MODULE->name, e->at);
		return 0;
	}
	if (!ok) {
		pr_err("%s: %pS is not what the kernel was built with\n", THIS_MODULE->name, e->at);
		return -EBUSY;
	}
	e->base = base;
	e->before = now;
	e->state = TSUGI_APPLIED;
	tsugi_want(e, e->new, e->mask, now);
	return 0;
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

static int tsugi_apply(struct klp_object *obj, unsigned int object)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;
	int ret = 0;

	tsugi_each(&tsugi_data, l, e) {
		if (l->object == object && (e->flags & TSUGI_EXIT))
			e->at = tsugi_exit_of(obj);
	}
	if (tsugi_data.replaced)
		return 0; /* the other one's callbacks are for it */
	tsugi_each(&tsugi_data, l, e) {
		if (l->object == object && e->state == TSUGI_IDLE && e->at && !ret)
			ret = tsugi_begin(e, tsugi_find(tsugi_prev, e->at));
	}
	if (!ret)
		ret = tsugi_commit(&tsugi_data);
	if (!ret)
		return 0;
	tsugi_each(&tsugi_data, l, e) {
		if (l->object == object) {
			e->state = TSUGI_IDLE;
			e->pending = 0;
		}
	}
	return ret;
}

/* Every task has left code that may have read a pointer and not yet used it. */
static void tsugi_settle(void)
{
	synchronize_rcu_tasks();
}

/* Writes an object's data back, and tells whether there was any. */
static bool tsugi_undo(unsigned int object, unsigned int state)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;
	bool any = false;

	tsugi_each(&tsugi_data, l, e) {
		if (l->object != object || e->state != TSUGI_APPLIED)
			continue;
		e->state = state;
		any = true;
		tsugi_want(e, tsugi_prev ? e->before : e->base, e->mask, e->new);
	}
	if (tsugi_commit(&tsugi_data)) {
		/* Its functions may still be called: it must never leave. */
		pr_err("%s: no memory to write data back; the module stays\n", THIS_MODULE->name);
		__module_get(THIS_MODULE);
	}
	return any;
}

/* Takes what only the live patch before this one edits out, or puts it back. */
static int tsugi_withdraw(bool back)
{
	struct tsugi_list *l;
	struct tsugi_edit *p;
	int ret;

	tsugi_prev->replaced = !back;
	tsugi_each(tsugi_prev, l, p) {
		struct tsugi_edit *own = tsugi_find(&tsugi_data, p->at);
		u64 bits = p->mask & ~(own ? own->mask : 0);

		if (back && p->state == TSUGI_IDLE && p->at) /* its module came meanwhile */
			tsugi_begin(p, NULL);
		else if (p->state == TSUGI_APPLIED && bits && back)
			tsugi_want(p, p->new, bits, p->base);
		else if (p->state == TSUGI_APPLIED && bits)
			tsugi_want(p, p->base, bits, p->new);
	}
	ret = tsugi_commit(tsugi_prev);
	if (ret && back)
		pr_err("%s: no memory to put back what %s is without\n", THIS_MODULE->name, "the live patch before");
	return ret;
}

static int tsugi_edits_pre_patch(struct klp_object *obj, unsigned int object)
{
	struct klp_state *prev;
	struct tsugi_list *l;
	struct tsugi_edit *e;
	int ret;

	if (!object) {
		tsugi_each(&tsugi_data, l, e) { /* obj is the first of all objects */
			if (e->flags & TSUGI_EXIT)
				e->at = tsugi_exit_of(obj + l->object);
		}
		prev = klp_get_prev_state(TSUGI_EDITS_STATE);
		tsugi_prev = prev ? prev->data : NULL;
		if (tsugi_prev) {
			ret = tsugi_withdraw(false);
			if (ret) {
				tsugi_withdraw(true);
				return ret;
			}
		}
	}
	ret = tsugi_apply(obj, object);
	if (ret && !object && tsugi_prev)
		tsugi_withdraw(true);
	return ret;
}

/* Another callback has refused: livepatch calls none of the object's then. */
static void __maybe_unused tsugi_edits_cancel(struct klp_object *obj, unsigned int object)
{
	tsugi_undo(object, TSUGI_IDLE);
	if (!object && tsugi_prev)
		tsugi_withdraw(true);
}

static void tsugi_edits_post_patch(struct klp_object *obj, unsigned int object)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;

	tsugi_each(&tsugi_data, l, e) {
		if (!object)
			e->before = e->base;
		if (l->object == object && e->state == TSUGI_UNDONE) { /* it was to go, and stays */
			e->state = TSUGI_APPLIED;
			tsugi_want(e, e->new, e->mask, e->base);
		}
	}
	if (tsugi_commit(&tsugi_data))
		pr_err("%s: no memory to edit data again\n", THIS_MODULE->name);
	if (!object && tsugi_prev) {
		if (tsugi_prev->nr)
			tsugi_settle();
		tsugi_prev = NULL;
	}
}

static bool tsugi_going(struct klp_object *obj, unsigned int object)
{
	struct tsugi_list *l;
	struct tsugi_edit *e;

	if (!obj->mod || obj->mod->state != MODULE_STATE_GOING)
		return false;
	tsugi_each(&tsugi_data, l, e) {
		if (l->object != object)
			continue;
		e->state = TSUGI_IDLE;
		if (e->flags & TSUGI_EXIT)
			e->at = NULL;
	}
	return true;
}

static void __maybe_unused tsugi_edits_pre_unpatch(struct klp_object *obj, unsigned int object)
{
	if (!tsugi_going(obj, object))
		tsugi_undo(object, TSUGI_UNDONE);
}

static void tsugi_edits_post_unpatch(struct klp_object *obj, unsigned int object)
{
	bool late;

	if (tsugi_going(obj, object))
		return;
	late = tsugi_undo(object, TSUGI_IDLE); /* when it never was whole */
	if (!object && tsugi_prev)
		tsugi_withdraw(true);
	/* Once for all objects, whose data was written back before the transition. */
	if (late || (!object && tsugi_data.nr))
		tsugi_settle();
}
`
