// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"errors"
	"fmt"
)

// addresses yields the link-time address of each symbol.
type addresses struct {
	t    *tables
	pos  int // of the first entry
	form addrForm
	base uint64
}

// addrForm is how the tables store an address.
type addrForm int

const (
	// offsets from relative_base: CONFIG_KALLSYMS_BASE_RELATIVE
	formOffset addrForm = iota
	// the same with CONFIG_KALLSYMS_ABSOLUTE_PERCPU, x86 SMP before 6.15: a
	// positive number is an absolute (percpu) value, a negative one is
	// relative_base - 1 - address
	formPercpu
	// whole addresses, as before 4.6 and on IA-64
	formWhole
)

func (a addresses) at(i int) uint64 {
	switch a.form {
	case formWhole:
		return a.t.u64(a.pos + 8*i)
	case formPercpu:
		if v := int32(a.t.u32(a.pos + 4*i)); v < 0 {
			return a.base - 1 - uint64(int64(v))
		} else {
			return uint64(v)
		}
	default:
		return a.base + uint64(a.t.u32(a.pos+4*i))
	}
}

// findAddresses tries the places where versions of scripts/kallsyms.c put the
// addresses, and takes the one that makes sense.
func (t *tables) findAddresses(numSyms, count int) (addresses, error) {
	wide := align8(4 * count)
	var tries []addresses
	add := func(pos, base int) {
		if pos < 0 || base < 0 || pos+4*count > len(t.b) || base+8 > len(t.b) {
			return
		}
		for _, f := range []addrForm{formPercpu, formOffset} {
			tries = append(tries, addresses{t, pos, f, t.u64(base)})
		}
	}
	add(t.tokenEnd, t.tokenEnd+wide)    // since 6.4
	add(numSyms-8-wide, numSyms-8)      // 4.6 to 6.3
	if p := numSyms - 8*count; p >= 0 { // addresses, num_syms
		tries = append(tries, addresses{t, p, formWhole, 0})
	}
	err := errors.New("no addresses beside the names")
	for _, a := range tries {
		e := a.check(count)
		if e == nil {
			return a, nil
		}
		err = fmt.Errorf("%d symbols: %w", count, e)
	}
	return addresses{}, err
}

// check tells whether these are addresses of a kernel: ascending, as the
// build sorted them, and all but the absolute ones inside the image.
func (a addresses) check(count int) error {
	if a.form != formWhole && !a.t.kernel(a.base) {
		return fmt.Errorf("base %#x is outside the image", a.base)
	}
	last, inside := uint64(0), 0
	for i := range count {
		addr := a.at(i)
		if addr < last {
			return fmt.Errorf("address %#x of symbol %d follows %#x", addr, i, last)
		}
		last = addr
		if a.t.kernel(addr) {
			inside++
		}
	}
	// Absolute symbols (percpu, and constants like phys_startup_64) are few.
	if inside < count/2 {
		return fmt.Errorf("only %d of %d addresses are inside the image", inside, count)
	}
	return nil
}
