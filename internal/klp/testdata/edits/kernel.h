/* SPDX-License-Identifier: GPL-2.0 */
/* As much of the kernel as the edits of live patches need, and of livepatch as calls them. */
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
#define __maybe_unused __attribute__((unused))
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, val) (*(volatile __typeof__(x) *)&(x) = (val))
#define ENOMEM 12
#define EBUSY 16
#define CONFIG_MODULE_UNLOAD 1
#define VM_MAP 0
#define PAGE_KERNEL 0
#define lm_alias(at) (at)
#define offset_in_page(at) ((unsigned long)(at) & 4095)
#define pr_err(fmt, ...) ((void)THIS_MODULE)
#define pr_notice(fmt, ...) ((void)THIS_MODULE)

struct page;
struct module { void (*exit)(void); const char *name; };
struct klp_object { struct module *mod; };
struct klp_state { unsigned long id; unsigned int version; void *data; };
extern struct module this_module;
#define THIS_MODULE (&this_module)

struct page *virt_to_page(const void *at);
struct page *vmalloc_to_page(const void *at);
void *vmap(struct page **pages, unsigned int n, unsigned long flags, int prot);
void vunmap(void *at);
int stop_machine(int (*fn)(void *), void *data, void *cpus);
struct klp_state *klp_get_prev_state(unsigned long id);

/* One live patch: patch.c is compiled once for each. */
struct patch {
	int (*pre_patch)(struct klp_object *obj, unsigned int object);
	void (*post_patch)(struct klp_object *obj, unsigned int object);
	void (*pre_unpatch)(struct klp_object *obj, unsigned int object);
	void (*post_unpatch)(struct klp_object *obj, unsigned int object);
	void (*relocate)(u64 *module); /* NULL: it went */
	void (*load)(bool load); /* into memory, or out of it */
	struct klp_state state;
	struct klp_object objs[2];
	bool undoable[2];
};

enum { PATCHES = 3, WORDS = 4, TARGET = 0x1000, OLD = 5 };
extern u64 vmlinux_data[];
/* What patch n writes to a word. */
#define OURS(n, i) (0x100000ul * ((n) + 1) + (i))
