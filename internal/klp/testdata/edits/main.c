// SPDX-License-Identifier: GPL-2.0
/*
 * Livepatch's side: what it calls when, as kernel/livepatch/core.c and
 * transition.c do, with all that can go wrong, in any order; and what must
 * hold after each step.
 */
#include "kernel.h"

extern struct patch patch_0, patch_1, patch_2;
static struct patch *patches[PATCHES] = { &patch_0, &patch_1, &patch_2 };
struct module this_module = { .name = "live patch" };

u64 vmlinux_data[512] __attribute__((aligned(4096)));
static u64 places[2][512] __attribute__((aligned(4096))); /* where the module may come to lie */
static struct { u64 data[2]; struct module m; } *module;
static int maps, memory = -1, place;

static int list[PATCHES], listed;	/* klp_patches */
static int transition = -1;		/* klp_transition_patch */
static bool up;				/* klp_target_state */
static int replaced;		/* live patches by another */
static u64 setting;		/* of an administrator */
static bool been[PATCHES];		/* was there for good at some time */
static const char *last = "";

#define must(x) do { if (!(x)) { fprintf(stderr, "line %d after %s: %s\n", __LINE__, last, #x); abort(); } } while (0)

static struct page *page_of(const void *at)
{
	const char *p = (const char *)((unsigned long)at & ~4095ul);

	must(p == (char *)vmlinux_data || (module && p == (char *)module));
	return (struct page *)p;
}
struct page *virt_to_page(const void *at) { must(page_of(at) == (void *)vmlinux_data); return page_of(at); }
struct page *vmalloc_to_page(const void *at) { must(module && page_of(at) == (void *)module); return page_of(at); }
void *vmap(struct page **pages, unsigned int n, unsigned long flags, int prot)
{
	must(n == 1);
	if (!memory)
		return NULL;
	maps++;
	return *pages;
}
void vunmap(void *at) { must(maps-- > 0 && page_of(at)); }
int stop_machine(int (*fn)(void *), void *data, void *cpus) { return fn(data); }

struct klp_state *klp_get_prev_state(unsigned long id)
{
	struct klp_state *prev = NULL;

	must(transition >= 0);
	for (int i = 0; i < listed && list[i] != transition; i++)
		prev = &patches[list[i]]->state;
	return prev;
}

static bool loaded(int o) { return !o || module; }
static bool chance(int n) { return rand() % n == 0; }

static int pre_patch(struct patch *p, int o)
{
	int ret = p->pre_patch(&p->objs[o], o);

	p->undoable[o] = !ret;
	return ret;
}
static void post_unpatch(struct patch *p, int o)
{
	if (p->undoable[o])
		p->post_unpatch(&p->objs[o], o);
	p->undoable[o] = false;
}
static void unlist(int n)
{
	int k = 0;

	for (int i = 0; i < listed; i++)
		if (list[i] != n)
			list[k++] = list[i];
	listed = k;
}
static bool on_list(int n)
{
	for (int i = 0; i < listed; i++)
		if (list[i] == n)
			return true;
	return false;
}

static void complete(void)
{
	struct patch *p = patches[transition];
	int n = transition;

	for (int o = 0; o < 2; o++) {
		if (!loaded(o))
			continue;
		if (up)
			p->post_patch(&p->objs[o], o);
		else
			post_unpatch(p, o);
	}
	if (up) {
		replaced += listed - 1;
		for (int i = 0; i < listed - 1; i++)
			patches[list[i]]->load(false);
		list[0] = n;
		listed = 1;
		been[n] = true;
	} else {
		unlist(n);
		p->load(false);
	}
	transition = -1;
}

static void enable(int n)
{
	struct patch *p = patches[n];
	bool failed = false;

	if (transition >= 0 || on_list(n))
		return;
	p->load(true);
	p->relocate(module ? module->data : NULL);
	list[listed++] = n;
	transition = n;
	up = true;
	for (int o = 0; o < 2 && !failed; o++) {
		p->objs[o].mod = o && module ? &module->m : NULL;
		if (loaded(o))
			failed = pre_patch(p, o) || chance(16); /* klp_patch_object */
	}
	if (failed) { /* klp_cancel_transition; the module's memory is freed at once */
		up = false;
		complete();
	}
}

static void disable(void)
{
	if (transition >= 0 || !listed)
		return;
	transition = list[0];
	up = false;
	for (int o = 0; o < 2; o++)
		if (loaded(o))
			patches[transition]->pre_unpatch(&patches[transition]->objs[o], o);
}

static void leave(int limit) /* klp_cleanup_module_patches_limited */
{
	for (int i = 0; i < limit; i++) {
		struct patch *p = patches[list[i]];

		if (list[i] != transition)
			p->pre_unpatch(&p->objs[1], 1);
		post_unpatch(p, 1);
		p->objs[1].mod = NULL;
		p->relocate(NULL);
	}
}

static void gone(void)
{
	u64 *data = module->data;

	module = NULL;
	memset(data, 0xdd, 4096);
}

static void come(void)
{
	if (module) {
		leave(listed);
		gone();
		return;
	}
	module = (void *)places[place ^= 1];
	memset(module, 0, 4096);
	module->data[0] = TARGET;
	module->m.exit = (void *)(u64)(TARGET + 9);
	if (chance(8))
		module->data[0] = 77; /* somebody else was here */
	for (int i = 0; i < listed; i++) {
		struct patch *p = patches[list[i]];
		int ret;

		p->objs[1].mod = &module->m;
		p->relocate(module->data);
		ret = pre_patch(p, 1);
		if (!ret && chance(16)) {
			post_unpatch(p, 1);
			ret = -1;
		}
		if (ret) { /* it keeps the addresses */
			p->objs[1].mod = NULL;
			leave(i);
			gone();
			return;
		}
		if (list[i] != transition)
			p->post_patch(&p->objs[1], 1);
	}
	if (chance(16)) { /* a notifier refuses it */
		leave(listed);
		gone();
	}
}

/* A pointer into a live patch is there only while that is there for good. */
static void lawful(u64 value, bool stays)
{
	int n = (int)(value / 0x100000ul) - 1;

	if (n < 0 || n >= PATCHES)
		return;
	must(been[n]);
	must(stays || memory >= 0 /* what can't be written back stays */ || (on_list(n) && n != transition));
}

static void check(bool disturbed)
{
	for (int i = 0; i < WORDS; i++)
		if (i != 2)
			lawful(vmlinux_data[i], i == 1);
	if (module) {
		lawful(module->data[0], false);
		lawful(module->data[1], true);
		lawful((u64)module->m.exit, false);
	}
	if (been[0] || been[1] || been[2])
		must(vmlinux_data[1] || memory >= 0); /* somebody may be about to call it */
	if (setting)
		must(vmlinux_data[2] == setting);
	if (transition >= 0)
		return;
	must(!maps);
	if (memory >= 0)
		return;
	if (!listed) {
		must(vmlinux_data[0] == TARGET && vmlinux_data[3] == TARGET + 3);
		must(disturbed || vmlinux_data[2] == OLD);
		must(!module || (u64)module->m.exit == TARGET + 9);
		return;
	}
	must(vmlinux_data[0] == OURS(list[0], 0) && vmlinux_data[1] == OURS(list[0], 1));
	must(vmlinux_data[3] == (list[0] ? TARGET + 3 : OURS(0, 3)));
	must(disturbed || vmlinux_data[2] == OURS(list[0], 2));
	must(!module || (module->data[0] == OURS(list[0], 0) && module->data[1] == OURS(list[0], 1)));
	must(!module || (u64)module->m.exit == OURS(list[0], 9));
}

static void begin(int seed, bool scarce)
{
	srand(seed);
	vmlinux_data[0] = TARGET;
	vmlinux_data[1] = 0;
	vmlinux_data[2] = OLD;
	vmlinux_data[3] = TARGET + 3;
	memory = scarce ? 1 : -1;
}

int main(int argc, char **argv)
{
	bool disturbed = false;

	begin(atoi(argv[1]), argc > 2);
	for (int i = 0; i < 4000; i++) {
		if (memory >= 0)
			memory = !chance(4);
		switch (rand() % 8) {
		case 0:
		case 1:
			last = "enable";
			enable(rand() % PATCHES);
			break;
		case 2:
			last = "disable";
			disable();
			break;
		case 3:
			last = "reverse";
			if (transition >= 0)
				up = !up;
			break;
		case 4:
			last = "module";
			if (memory < 0 || memory)
				come();
			break;
		case 5:
			last = "setting";
			if (i > 2000) {
				setting = 1000 + rand() % 9;
				vmlinux_data[2] = chance(2) ? OLD : setting;
				if (vmlinux_data[2] == OLD)
					setting = 0;
				disturbed = true;
			}
			break;
		default:
			last = "complete";
			if (transition >= 0)
				complete();
		}
		check(disturbed);
	}
	must(replaced > 50 || memory >= 0);
	return 0;
}
