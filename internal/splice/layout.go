// SPDX-License-Identifier: Apache-2.0

package splice

import "slices"

// PageSize is the granularity of protections.
const PageSize = 4096

// Layout says how the areas of a File lie in one piece of address space, from
// an address that is a multiple of PageSize on.
type Layout struct {
	// Text, ROData and Data are where the areas begin.
	Text, ROData, Data uint64
	// Parts are the pages by protection, in order and without a gap.
	Parts []Part
	Size  uint64 // of the whole, a multiple of PageSize
}

// Part is a run of pages of one protection. All can be read; none can be
// written and executed.
type Part struct {
	Offset, Size uint64
	Write, Exec  bool
}

// Layout lays the areas out: header bytes for whoever keeps its own notes
// there, and the constants, in pages that are only read; then the code; then
// the data. Areas that are empty get no pages.
func (f *File) Layout(header uint32) Layout {
	var l Layout
	part := func(size uint64, write, exec bool) {
		if size = up(size, PageSize); size > 0 {
			l.Parts = append(l.Parts, Part{Offset: l.Size, Size: size, Write: write, Exec: exec})
			l.Size += size
		}
	}
	l.ROData = up(uint64(header), Align)
	if len(f.ROData) > 0 {
		part(l.ROData+uint64(len(f.ROData)), false, false)
	} else {
		part(uint64(header), false, false)
	}
	l.Text = l.Size
	part(uint64(len(f.Text)), false, true)
	l.Data = l.Size
	part(uint64(len(f.Data))+uint64(f.BSS), true, false)
	return l
}

// Place is the layout at an address, in a process that adds bias to the virtual
// addresses of the ELF file. Slots and Imports are the caller's to find.
func (l Layout) Place(base, bias uint64) Place {
	return Place{Bias: bias, Text: base + l.Text, ROData: base + l.ROData, Data: base + l.Data}
}

// Limit is the address below which all areas must lie.
func (f *File) Limit() uint64 {
	if slices.ContainsFunc(f.Relocs, func(r Reloc) bool { return r.Kind == Abs32 }) {
		return 1 << 31
	}
	return maxAddress
}

func up(n, align uint64) uint64 { return (n + align - 1) &^ (align - 1) }
