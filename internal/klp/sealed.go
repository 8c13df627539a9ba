// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"fmt"

	"github.com/tsugi-project/tsugi/internal/kimage"
)

// sealedPlaces returns where an owner's functions begin that the kernel seals
// against indirect calls (.ibt_endbr_seal). It is empty without
// CONFIG_X86_KERNEL_IBT.
func (t *Target) sealedPlaces(o *owner) (map[place]bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if m, ok := t.sealed[o.module]; ok {
		return m, nil
	}
	m := map[place]bool{}
	if o.ko == nil {
		addrs, err := kimage.SealedEndbr(o.image)
		if err != nil {
			return nil, fmt.Errorf("kernel image: %w", err)
		}
		for _, a := range addrs {
			m[place{addr: a}] = true
		}
	} else if s := o.ko.Section(".ibt_endbr_seal"); s != nil {
		// The entries are relative to themselves: the relocation's symbol and
		// addend are what they point at.
		for _, r := range s.Relocs {
			if r.Sym != nil && r.Sym.Section != nil {
				m[place{r.Sym.Section, r.Sym.Value + uint64(r.Addend)}] = true
			}
		}
	}
	if t.sealed == nil {
		t.sealed = map[string]map[place]bool{}
	}
	t.sealed[o.module] = m
	return m, nil
}
