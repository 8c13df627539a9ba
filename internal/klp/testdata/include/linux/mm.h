/* SPDX-License-Identifier: GPL-2.0 */
#define bool _Bool
#define false 0
#define true 1
#define NULL ((void *)0)
#define __maybe_unused __attribute__((unused))
#define static_assert _Static_assert
typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long u64;
#define READ_ONCE(x) (*(const volatile __typeof__(x) *)&(x))
#define WRITE_ONCE(x, val) (*(volatile __typeof__(x) *)&(x) = (val))
#define ENOMEM 12
#define EBUSY 16
int _printk(const char *fmt, ...);
#define pr_err(fmt, ...) _printk(fmt, ##__VA_ARGS__)
#define pr_notice(fmt, ...) _printk(fmt, ##__VA_ARGS__)
struct page;
struct page *virt_to_page(const void *at);
#define lm_alias(at) (at)
#define offset_in_page(at) ((unsigned long)(at) & 4095)
