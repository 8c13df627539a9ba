// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

// dynamic reads PT_DYNAMIC: the tags that occur once, the libraries that are
// needed, and the name.
func (f *File) dynamic() error {
	raw, err := f.Bytes(f.Dynamic.Start, min(f.Dynamic.Size, maxDynamic*16)&^15)
	if err != nil {
		return err
	}
	f.dyn = map[elf.DynTag]uint64{}
	var needed []uint64
	for ; len(raw) > 0; raw = raw[16:] {
		tag, value := elf.DynTag(int64(binary.LittleEndian.Uint64(raw))), binary.LittleEndian.Uint64(raw[8:])
		if tag == elf.DT_NULL {
			break
		}
		if tag == elf.DT_NEEDED {
			needed = append(needed, value)
			continue
		}
		f.dyn[tag] = value
	}
	flags := elf.DynFlag(f.dyn[elf.DT_FLAGS])
	_, now := f.dyn[elf.DT_BIND_NOW]
	f.BindNow = now || flags&elf.DF_BIND_NOW != 0 || elf.DynFlag1(f.dyn[elf.DT_FLAGS_1])&elf.DF_1_NOW != 0
	f.PIE = elf.DynFlag1(f.dyn[elf.DT_FLAGS_1])&elf.DF_1_PIE != 0
	_, symbolic := f.dyn[elf.DT_SYMBOLIC]
	f.Symbolic = symbolic || flags&elf.DF_SYMBOLIC != 0
	for _, off := range needed {
		name, err := f.dynString(off)
		if err != nil {
			return fmt.Errorf("needed library: %w", err)
		}
		f.Needed = append(f.Needed, name)
	}
	if off, ok := f.dyn[elf.DT_SONAME]; ok {
		if f.Soname, err = f.dynString(off); err != nil {
			return fmt.Errorf("name: %w", err)
		}
	}
	return nil
}

// pointer is the virtual address in a tag. glibc's loader adds the bias in
// place to some of them where the section is writable, other loaders don't.
func (f *File) pointer(tag elf.DynTag) (vaddr uint64, there bool, err error) {
	v, ok := f.dyn[tag]
	if !ok {
		return 0, false, nil
	}
	if f.Bias == 0 {
		if !f.Own(v) {
			return 0, true, fmt.Errorf("%v %#x is in no segment", tag, v)
		}
		return v, true, nil
	}
	plain, moved := f.Own(v), v >= f.Bias && f.Own(v-f.Bias)
	switch {
	case plain && moved:
		return 0, true, fmt.Errorf("%v %#x may be an address with or without the bias", tag, v)
	case plain:
		return v, true, nil
	case moved:
		return v - f.Bias, true, nil
	}
	return 0, true, fmt.Errorf("%v %#x is in no segment", tag, v)
}

// table reads the table that one tag points to and another gives the size of.
// It is nil if there is none.
func (f *File) table(at, size elf.DynTag) ([]byte, error) {
	vaddr, ok, err := f.pointer(at)
	if err != nil || !ok {
		return nil, err
	}
	n := f.dyn[size]
	if n > maxTable {
		return nil, fmt.Errorf("%v of %d bytes", at, n)
	}
	raw, err := f.Bytes(vaddr, n)
	if err != nil {
		return nil, fmt.Errorf("%v: %w", at, err)
	}
	return raw, nil
}

func (f *File) dynString(off uint64) (string, error) {
	vaddr, ok, err := f.pointer(elf.DT_STRTAB)
	if err != nil || !ok {
		return "", errors.Join(errors.New("no table of names"), err)
	}
	size := f.dyn[elf.DT_STRSZ]
	if off >= size {
		return "", fmt.Errorf("name %d of a table of %d bytes", off, size)
	}
	return f.stringAt(vaddr+off, min(size-off, 4096))
}
