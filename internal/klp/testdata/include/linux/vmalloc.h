/* SPDX-License-Identifier: GPL-2.0 */
#define VM_MAP 4
#define PAGE_KERNEL 0
void *vmap(struct page **pages, unsigned int count, unsigned long flags, unsigned long prot);
void vunmap(const void *at);
struct page *vmalloc_to_page(const void *at);
