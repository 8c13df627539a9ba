// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// KeyOwner tells the differ where the static keys that an object of module
// ("" for vmlinux) mentions live: the kernel fills in vmlinux's in time for
// jump labels and static calls of a patch, a module's too late.
func (t *Target) KeyOwner(module string) func(sym *elfobj.Symbol) objdiff.Owner {
	return func(sym *elfobj.Symbol) objdiff.Owner {
		if module != "" {
			if sym.Section != nil {
				return objdiff.OwnerModule
			}
			if o, err := t.owner(module); err == nil {
				if e, err := o.global(sym.Name); err == nil && e != nil {
					return objdiff.OwnerModule
				}
			}
		}
		if x, ok := t.Exports[sym.Name]; ok && x.Module != Vmlinux {
			return objdiff.OwnerModule
		}
		if sym.Section != nil {
			return objdiff.OwnerKernel
		}
		o, err := t.owner("")
		if err != nil || len(o.named(sym.Name)) == 0 {
			return objdiff.OwnerUnknown
		}
		return objdiff.OwnerKernel
	}
}
