/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For authors of live patches: what a fix cannot say by changing functions.
 *
 * Include it in a .c file that the fix changes, after the other headers:
 *
 *	#include <tsugi/livepatch.h>
 *
 * Everything below acts on the object (vmlinux or the module) that the .c file
 * is part of. The macros stand at file scope, with no semicolon needed, and
 * cost nothing in the running kernel: Tsugi reads them out of the object file.
 *
 * Callbacks
 *
 *	static int fix_defaults(struct klp_object *obj)
 *	{
 *		WRITE_ONCE(sysctl_example, 3);
 *		return 0;
 *	}
 *	TSUGI_PRE_PATCH(fix_defaults)
 *
 * run once while the object is there: when the live patch is loaded, or when
 * the object's module is, and the other way round when either goes. They run
 * in process context and may sleep. At most one of each kind per .c file.
 *
 *	TSUGI_PRE_PATCH(fn)	before the first task uses new code; a return
 *				value other than 0 refuses the live patch (or
 *				the module that is being loaded)
 *	TSUGI_POST_PATCH(fn)	when every task uses new code
 *	TSUGI_PRE_UNPATCH(fn)	before the first task goes back
 *	TSUGI_POST_UNPATCH(fn)	when every task is back; also undoes a pre_patch
 *				whose live patch was given up
 *
 * When a newer live patch replaces this one, only the newer one's callbacks
 * run. So a callback must stand being run again by the next version.
 *
 * States
 *
 *	TSUGI_STATE(EXAMPLE_STATE, 1)
 *
 * declares that the live patch changes the state of the system beyond code,
 * under an id and a version (struct klp_state). The kernel then refuses to
 * replace it by one that does not know this id, or only a lower version of it.
 * In callbacks, klp_get_state() and klp_get_prev_state() find it.
 *
 * Shadow variables
 *
 * New fields of existing structures are the kernel's klp_shadow_get(),
 * klp_shadow_get_or_alloc(), klp_shadow_free() and klp_shadow_free_all() of
 * <linux/livepatch.h>; see Documentation/livepatch/shadow-vars.rst. Free them
 * in TSUGI_POST_UNPATCH.
 */
#ifndef _TSUGI_LIVEPATCH_H
#define _TSUGI_LIVEPATCH_H

#include <linux/build_bug.h>
#include <linux/compiler.h>
#include <linux/livepatch.h>

#define __tsugi_hook(kind, type, fn)					\
	static type * const __tsugi_##kind __used			\
		__section(".tsugi." #kind) = fn;

typedef int __tsugi_pre_t(struct klp_object *obj);
typedef void __tsugi_callback_t(struct klp_object *obj);

#define TSUGI_PRE_PATCH(fn)	__tsugi_hook(pre_patch, __tsugi_pre_t, fn)
#define TSUGI_POST_PATCH(fn)	__tsugi_hook(post_patch, __tsugi_callback_t, fn)
#define TSUGI_PRE_UNPATCH(fn)	__tsugi_hook(pre_unpatch, __tsugi_callback_t, fn)
#define TSUGI_POST_UNPATCH(fn)	__tsugi_hook(post_unpatch, __tsugi_callback_t, fn)

/* One per line of a file; the names are the line's. */
#define __tsugi_cat2(a, b)	a##b
#define __tsugi_cat(a, b)	__tsugi_cat2(a, b)

#define TSUGI_STATE(state_id, state_version)				\
	static_assert((state_id) != 0, "a state's id must not be 0");	\
	static const struct klp_state					\
	__tsugi_cat(__tsugi_klp_state_, __LINE__) = {			\
		.id = (state_id), .version = (state_version),		\
	};								\
	static const struct klp_state * const				\
	__tsugi_cat(__tsugi_state_, __LINE__) __used			\
		__section(".tsugi.state") =				\
		&__tsugi_cat(__tsugi_klp_state_, __LINE__);

#endif /* _TSUGI_LIVEPATCH_H */
