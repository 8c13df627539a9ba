// SPDX-License-Identifier: Apache-2.0

package dso

import (
	"debug/elf"
	"encoding/binary"
	"errors"
	"fmt"
)

const (
	versionMask   = 0x7fff
	versionHidden = 0x8000
	verFlgBase    = 1
)

// readVersions reads DT_VERSYM and the names that its numbers stand for.
func (f *File) readVersions(t *symbolTable, count uint32, names *nameTable) error {
	at, ok, err := f.pointer(elf.DT_VERSYM)
	if err != nil || !ok {
		return err
	}
	raw, err := f.Bytes(at, uint64(count)*2)
	if err != nil {
		return err
	}
	t.names = map[uint16]version{}
	if err := f.versionNeeds(t.names, names); err != nil {
		return err
	}
	if err := f.versionDefinitions(t.names, names); err != nil {
		return err
	}
	t.versions = make([]uint16, count)
	for i := range t.list {
		v := binary.LittleEndian.Uint16(raw[2*i:])
		t.versions[i] = v
		s := &t.list[i]
		if n, ok := t.names[v&versionMask]; ok && !n.base {
			s.Version, s.Library, s.Hidden = n.name, n.library, v&versionHidden != 0
		}
	}
	return nil
}

// versionNeeds walks DT_VERNEED: per library, the versions wanted of it.
func (f *File) versionNeeds(into map[uint16]version, names *nameTable) error {
	at, ok, err := f.pointer(elf.DT_VERNEED)
	if err != nil || !ok {
		return err
	}
	left := maxVersions
	for { // Verneed: version, count, file, aux, next
		need, err := f.Bytes(at, 16)
		if err != nil {
			return err
		}
		library, err := names.at(binary.LittleEndian.Uint32(need[4:]))
		if err != nil {
			return err
		}
		aux := at + uint64(binary.LittleEndian.Uint32(need[8:]))
		for range binary.LittleEndian.Uint16(need[2:]) { // Vernaux: hash, flags, other, name, next
			if left--; left < 0 {
				return errors.New("more versions than 15 bits can count")
			}
			raw, err := f.Bytes(aux, 16)
			if err != nil {
				return err
			}
			name, err := names.at(binary.LittleEndian.Uint32(raw[8:]))
			if err != nil {
				return err
			}
			into[binary.LittleEndian.Uint16(raw[6:])&versionMask] = version{name: name, library: library}
			next := binary.LittleEndian.Uint32(raw[12:])
			if next == 0 {
				break
			}
			aux += uint64(next)
		}
		next := binary.LittleEndian.Uint32(need[12:])
		if left--; next == 0 || left < 0 {
			return nil
		}
		at += uint64(next)
	}
}

// versionDefinitions walks DT_VERDEF: the versions that the file has.
func (f *File) versionDefinitions(into map[uint16]version, names *nameTable) error {
	at, ok, err := f.pointer(elf.DT_VERDEF)
	if err != nil || !ok {
		return err
	}
	for left := maxVersions; left > 0; left-- { // Verdef: version, flags, ndx, count, hash, aux, next
		def, err := f.Bytes(at, 20)
		if err != nil {
			return err
		}
		aux, err := f.Bytes(at+uint64(binary.LittleEndian.Uint32(def[12:])), 8) // the first is its own name
		if err != nil {
			return err
		}
		name, err := names.at(binary.LittleEndian.Uint32(aux))
		if err != nil {
			return err
		}
		into[binary.LittleEndian.Uint16(def[4:])&versionMask] = version{
			name: name, base: binary.LittleEndian.Uint16(def[2:])&verFlgBase != 0,
		}
		next := binary.LittleEndian.Uint32(def[16:])
		if next == 0 {
			return nil
		}
		at += uint64(next)
	}
	return fmt.Errorf("more than %d versions", maxVersions)
}
