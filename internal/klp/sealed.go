// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"fmt"

	"github.com/tsugi-project/tsugi/internal/kimage"
)

// seals says which functions of an owner may not be called indirectly.
type seals struct {
	tracked bool           // the kernel is built for indirect branch tracking
	places  map[place]bool // whose ENDBR the kernel overwrites at boot (.ibt_endbr_seal)
}

// seals reads an owner's list, once.
func (t *Target) seals(o *owner) (seals, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s, ok := t.sealed[o.module]; ok {
		return s, nil
	}
	s := seals{places: map[place]bool{}}
	_, _, s.tracked = t.Image.Section(".ibt_endbr_seal")
	if o.ko == nil {
		addrs, err := kimage.SealedEndbr(o.image)
		if err != nil {
			return seals{}, fmt.Errorf("kernel image: %w", err)
		}
		for _, a := range addrs {
			s.places[place{addr: a}] = true
		}
	} else if sec := o.ko.Section(".ibt_endbr_seal"); sec != nil {
		// The entries are relative to themselves: the relocation's symbol and
		// addend are what they point at.
		for _, r := range sec.Relocs {
			if r.Sym != nil && r.Sym.Section != nil {
				s.places[place{r.Sym.Section, r.Sym.Value + uint64(r.Addend)}] = true
			}
		}
	}
	if t.sealed == nil {
		t.sealed = map[string]seals{}
	}
	t.sealed[o.module] = s
	return s, nil
}
