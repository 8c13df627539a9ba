// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"debug/elf"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// mergeAs makes strings of constants that are strings only because packaging's
// compiler run has them so. With -fmerge-all-constants, as glibc has it, a named
// array that holds a string is put among those that linkers merge, unless each
// symbol has a section of its own. Who compiles so has given up that such an
// array has an address of its own, and the differ compares and carries strings
// by content.
func mergeAs(plain *elfobj.File, objects ...*elfobj.File) {
	merges := false
	for _, s := range plain.Symbols {
		merges = merges || s.Type == elf.STT_OBJECT && s.Section != nil && mergedStrings(s.Section)
	}
	if !merges {
		return
	}
	for _, f := range objects {
		for _, s := range f.Symbols {
			if s.Type == elf.STT_OBJECT && s.Bind == elf.STB_LOCAL && s.Section != nil && isString(s) {
				s.Section.Flags |= elf.SHF_MERGE | elf.SHF_STRINGS
				s.Section.EntSize = 1
			}
		}
	}
}

func mergedStrings(s *elfobj.Section) bool {
	const want = elf.SHF_MERGE | elf.SHF_STRINGS
	return s.Flags&want == want
}

// isString reports whether a symbol is all of a constant section, which holds
// one string and nothing else.
func isString(s *elfobj.Symbol) bool {
	sec := s.Section
	return sec.Type == elf.SHT_PROGBITS && sec.Flags&^(elf.SHF_MERGE|elf.SHF_STRINGS) == elf.SHF_ALLOC && len(sec.Relocs) == 0 &&
		s.Value == 0 && s.Size == uint64(len(sec.Data)) && s.Size > 0 && bytes.IndexByte(sec.Data, 0) == len(sec.Data)-1
}
