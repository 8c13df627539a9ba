// SPDX-License-Identifier: Apache-2.0

package build

import (
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"sort"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/insn"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// jumpSize is the length of the jump that takes the place of an entry: e9 and
// four bytes.
const jumpSize = 5

// pageSize is the smallest page: a jump that crosses it can't be written whole.
const pageSize = 4096

// maxPadding bounds what is looked at behind a function.
const maxPadding = 64

// padding counts the bytes behind a function that only fill the gap to the next
// code: whole nops and traps.
func (b *binder) padding(at uint64) uint64 {
	next, ok := b.next(at - 1)
	if !ok || next == at {
		return 0
	}
	raw, err := b.l.File.Bytes(at, min(next-at, maxPadding))
	if err != nil {
		return 0
	}
	n := uint64(0)
	for n < uint64(len(raw)) {
		in, err := insn.Decode(raw[n:])
		if err != nil || in.Kind != insn.Nop && !(in.Kind == insn.Trap && raw[n] == 0xcc) {
			break
		}
		n += uint64(in.Len)
	}
	return n
}

// entry decides where the jump goes, and says why none can be there. That no
// code branches behind the jump's first byte is for package pack to see, which
// goes through all of the file.
func (b *binder) entry(f *splice.Function, p *part, orig *elfobj.Symbol) string {
	old, err := b.l.File.Bytes(f.Old, uint64(f.Size))
	if err != nil {
		return err.Error()
	}
	if len(old) >= 4 && binary.BigEndian.Uint32(old) == 0xf30f1efa {
		f.Skip = endbrSize
	}
	from, to := f.Old+uint64(f.Skip), f.Old+uint64(f.Skip)+jumpSize
	switch {
	case uint64(f.Skip)+jumpSize > uint64(f.Room):
		return fmt.Sprintf("it has room for %d bytes", f.Room)
	case from/pageSize != (to-1)/pageSize:
		return fmt.Sprintf("the jump at %#x would cross a page", from)
	}
	for _, s := range b.slots {
		if s.Vaddr+8 > f.Old && s.Vaddr < f.Old+uint64(f.Size) {
			return "the loader writes into its code"
		}
	}
	return tables(p.unit.Orig, orig, uint64(f.Skip))
}

// tables looks for addresses of places inside the jump in data of the unit:
// labels of a computed goto, or of a switch at a function's very beginning.
func tables(f *elfobj.File, s *elfobj.Symbol, skip uint64) string {
	for _, sec := range f.Sections {
		if sec.Flags&elf.SHF_ALLOC == 0 || sec.Exec() || sec.Name == ".eh_frame" {
			continue
		}
		starts := []uint64{0}
		for _, x := range f.Symbols {
			if x.Section == sec {
				starts = append(starts, x.Value)
			}
		}
		slices.Sort(starts)
		for _, r := range sec.Relocs {
			if r.Sym == nil || r.Sym.Section != s.Section {
				continue
			}
			off := int64(r.Sym.Value) + r.Addend - int64(s.Value)
			if t := elf.R_X86_64(r.Type); t == elf.R_X86_64_PC32 || t == elf.R_X86_64_PC64 {
				i := sort.Search(len(starts), func(i int) bool { return starts[i] > r.Off })
				off -= int64(r.Off - starts[i-1]) // an entry counts from its table
			}
			if off > int64(skip) && off < int64(skip+jumpSize) {
				return fmt.Sprintf("%s+%#x points to %s%+d, into the jump", sec.Name, r.Off, s.Name, off)
			}
		}
	}
	return ""
}
