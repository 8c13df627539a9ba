/* SPDX-License-Identifier: GPL-2.0 */
struct module {
	int state;
	void (*exit)(void);
	char name[56];
	char contents[56];
};
enum { MODULE_STATE_LIVE, MODULE_STATE_COMING, MODULE_STATE_GOING };
void __module_get(struct module *mod);
extern struct module __this_module;
#define THIS_MODULE (&__this_module)
#define __INFO(n, s) static const char __info_##n[] __attribute__((used, section(".modinfo"), aligned(1))) = s
#define _INFO(n, s) __INFO(n, s)
#define MODULE_INFO(tag, info) _INFO(__COUNTER__, #tag "=" info)
#define MODULE_LICENSE(s) MODULE_INFO(license, s)
#define MODULE_DESCRIPTION(s) MODULE_INFO(description, s)
#define module_init(f) int init_module(void) __attribute__((alias(#f)))
#define module_exit(f) void cleanup_module(void) __attribute__((alias(#f)))
