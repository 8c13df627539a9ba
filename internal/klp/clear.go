// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
)

// When a patched module goes, kernels before 6.3 leave its addresses in the
// patch; when it comes back they find the fields in use and refuse the module:
// a firewall that reloads nf_tables would be left without it. Since then
// clear_relocate_add() puts zeros there. For a kernel that does not have it,
// the patch does the same itself, in the callback that livepatch calls for the
// object that goes.

// ownSymbols returns what that code needs of the kernel: nothing if the kernel
// clears the fields itself, or if no module's symbols are used.
func (t *Target) ownSymbols(pieces []*piece) ([]klpSym, error) {
	kernel, err := t.owner("")
	if err != nil || len(kernel.named("clear_relocate_add")) > 0 {
		return nil, err
	}
	late := slices.ContainsFunc(pieces, func(p *piece) bool {
		for _, k := range p.klp {
			if k.module() {
				return true
			}
		}
		return false
	})
	if !late {
		return nil, nil
	}
	var out []klpSym
	for _, name := range []string{"text_poke", "text_mutex"} {
		e, err := kernel.global(name)
		if err != nil {
			return nil, err
		}
		if e == nil {
			return nil, code.New("TS5201", name, "needed for patched modules that are loaded again")
		}
		pos, err := kernel.position(e)
		if err != nil {
			return nil, err
		}
		out = append(out, klpSym{rela: Vmlinux, object: Vmlinux, name: name, pos: pos})
	}
	return out, nil
}

const clearIncludes = "#include <linux/elf.h>\n#include <linux/memory.h>\n#include <linux/mutex.h>\n#include <linux/string.h>\n#include <asm/text-patching.h>\n"

// clearSource follows what apply_relocate_add() writes. It does nothing while
// the module stays: functions of a patch that is disabled by force may still
// be running then.
const clearSource = `
/*
 * When a module goes, take its addresses out of this patch: this kernel would
 * refuse to write them again when the module comes back.
 */
static void tsugi_clear_relocs(struct klp_object *obj)
{
	struct klp_modinfo *info = THIS_MODULE->klp_info;
	size_t len = strlen(obj->name);
	const u64 zero = 0;
	unsigned int i;

	if (!obj->mod || obj->mod->state == MODULE_STATE_LIVE)
		return;
	for (i = 1; i < info->hdr.e_shnum; i++) {
		Elf_Shdr *sec = &info->sechdrs[i];
		const char *name = info->secstrings + sec->sh_name;
		Elf_Rela *rela = (void *)sec->sh_addr;
		unsigned long n;

		if (!(sec->sh_flags & SHF_RELA_LIVEPATCH) ||
		    strncmp(name, ".klp.rela.", 10) ||
		    strncmp(name + 10, obj->name, len) || name[10 + len] != '.')
			continue;
		for (n = sec->sh_size / sizeof(*rela); n; n--, rela++) {
			void *loc = (void *)info->sechdrs[sec->sh_info].sh_addr + rela->r_offset;

			mutex_lock(&text_mutex);
			switch (ELF64_R_TYPE(rela->r_info)) {
			case R_X86_64_64:
			case R_X86_64_PC64:
				text_poke(loc, &zero, 8);
				break;
			case R_X86_64_32:
			case R_X86_64_32S:
			case R_X86_64_PC32:
			case R_X86_64_PLT32:
				text_poke(loc, &zero, 4);
				break;
			}
			mutex_unlock(&text_mutex);
		}
	}
}
`
