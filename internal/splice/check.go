// SPDX-License-Identifier: Apache-2.0

package splice

import (
	"cmp"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/order"
)

// Limits on what a File may hold. A fix of a library is a few KiB.
const (
	MaxText    = 16 << 20 // bytes, and so for ROData
	MaxData    = 64 << 20 // bytes of Data and BSS
	MaxList    = 1 << 16  // functions, imports
	MaxRelocs  = 1 << 20
	maxName    = 64 << 10
	maxAddress = 1 << 47 // of user space on x86-64
	maxAddend  = 1 << 40
	maxPadding = 64

	// Align is what the start of each area is a multiple of, and so the most
	// that anything in an area may ask for.
	Align = 64
	// JumpSize is the length of the jump that stands at a replaced function.
	JumpSize = 5
)

const (
	flagX = 1 // PF_X
	flags = 7 // PF_X, PF_W, PF_R
)

// Check returns what is wrong with a File, a *code.Problem TS3501: nothing that
// passes can lead Layout and Resolve out of the areas, or a jump out of a
// function that the File names.
func (f *File) Check() error {
	for _, step := range []func(*File) error{
		(*File).checkHead, (*File).checkAreas, (*File).checkFunctions, (*File).checkImports, (*File).checkRelocs, (*File).checkUnwind,
	} {
		if err := step(f); err != nil {
			return code.New("TS3501", printable(f.Name), err.Error())
		}
	}
	return nil
}

// printable keeps a foreign name from writing to a terminal.
func printable(s string) string {
	if badText(s, 256) != nil {
		return "a payload"
	}
	return s
}

func badText(s string, limit int) error {
	if len(s) > limit {
		return fmt.Errorf("%d bytes of text", len(s))
	}
	if strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) || r == unicode.ReplacementChar }) {
		return errors.New("text that can't be printed")
	}
	return nil
}

func (f *File) checkHead() error {
	if f.Format != Format {
		return fmt.Errorf("format %d, not %d", f.Format, Format)
	}
	if id, err := hex.DecodeString(f.BuildID); err != nil || len(id) < 4 || len(id) > 64 || hex.EncodeToString(id) != f.BuildID {
		return errors.New("the build-id is none")
	}
	if err := errors.Join(badText(f.Name, 255), badText(f.Path, 4096)); err != nil || f.Name == "" {
		return cmp.Or(err, errors.New("no name"))
	}
	if len(f.Segments) == 0 || len(f.Segments) > 64 {
		return fmt.Errorf("%d segments", len(f.Segments))
	}
	end := uint64(0)
	for i, s := range f.Segments {
		if s.Vaddr < end || s.Vaddr > maxAddress || s.Memsz > maxAddress || s.Filesz > s.Memsz || s.Flags&^flags != 0 {
			return fmt.Errorf("segment %d is none", i)
		}
		end = s.Vaddr + s.Memsz
	}
	return nil
}

func (f *File) checkAreas() error {
	switch {
	case len(f.Text) == 0:
		return errors.New("no code")
	case len(f.Text) > MaxText || len(f.ROData) > MaxText || len(f.Data) > MaxData || uint64(len(f.Data))+uint64(f.BSS) > MaxData:
		return errors.New("an area is too long")
	}
	return nil
}

// inFile reports that a range lies in bytes that a segment has in the file; of
// an executable segment if exec.
func (f *File) inFile(r Range, exec bool) bool {
	for _, s := range f.Segments {
		if r.Start >= s.Vaddr && r.Start-s.Vaddr <= s.Filesz && r.Size <= s.Filesz-(r.Start-s.Vaddr) {
			return !exec || s.Flags&flagX != 0
		}
	}
	return false
}

func (f *File) checkFunctions() error {
	if len(f.Functions) == 0 || len(f.Functions) > MaxList {
		return fmt.Errorf("%d functions", len(f.Functions))
	}
	var taken []Range // what is of one function and no other
	for i := range f.Functions {
		fn := &f.Functions[i]
		if err := f.checkFunction(fn); err != nil {
			return fmt.Errorf("function %d: %w", i, err)
		}
		if i > 0 && fn.Old <= f.Functions[i-1].Old {
			return fmt.Errorf("function %d is not behind the one before it", i)
		}
		taken = append(taken, Range{fn.Old, uint64(max(fn.Size, fn.Room))})
		taken = append(taken, fn.Parts...)
	}
	order.Sort(taken, func(a, b Range) int { return cmp.Compare(a.Start, b.Start) })
	for i := 1; i < len(taken); i++ {
		if taken[i].Start-taken[i-1].Start < taken[i-1].Size {
			return fmt.Errorf("two functions share %#x", taken[i].Start)
		}
	}
	return nil
}

func (f *File) checkFunction(fn *Function) error {
	if err := errors.Join(badText(fn.Name, maxName), badText(fn.Source, 4096)); err != nil || fn.Name == "" {
		return cmp.Or(err, errors.New("no name"))
	}
	switch {
	case fn.Size == 0 || !f.inFile(Range{fn.Old, uint64(max(fn.Size, fn.Room))}, true):
		return errors.New("it is not in the file's code")
	case fn.Skip != 0 && fn.Skip != 4:
		return fmt.Errorf("a jump behind %d bytes", fn.Skip)
	case fn.Room < fn.Skip+JumpSize || fn.Room < fn.Size || fn.Room-fn.Size > maxPadding:
		return fmt.Errorf("%d bytes have room for a jump, of a function of %d", fn.Room, fn.Size)
	case fn.NewSize == 0 || uint64(fn.New)+uint64(fn.NewSize) > uint64(len(f.Text)):
		return errors.New("its new code is not in the text")
	case fn.Policy != Quiescent && fn.Policy != EntryOnly:
		return errors.New("unknown policy")
	case len(fn.Parts) > 256:
		return fmt.Errorf("%d parts", len(fn.Parts))
	}
	if sum, err := hex.DecodeString(fn.SHA256); err != nil || len(sum) != 32 || hex.EncodeToString(sum) != fn.SHA256 {
		return errors.New("its digest is none")
	}
	for _, p := range fn.Parts {
		if p.Size == 0 || !f.inFile(p, true) {
			return errors.New("a part is not in the file's code")
		}
	}
	return nil
}

func (f *File) checkImports() error {
	if len(f.Imports) > MaxList {
		return fmt.Errorf("%d imports", len(f.Imports))
	}
	seen := map[Import]bool{}
	for i, m := range f.Imports {
		if err := errors.Join(badText(m.Name, maxName), badText(m.Version, 255), badText(m.Library, 255)); err != nil || m.Name == "" {
			return fmt.Errorf("import %d: %w", i, cmp.Or(err, errors.New("no name")))
		}
		if seen[m] {
			return fmt.Errorf("import %d is there twice", i)
		}
		seen[m] = true
	}
	return nil
}

func (f *File) checkRelocs() error {
	if len(f.Relocs) > MaxRelocs {
		return fmt.Errorf("%d relocations", len(f.Relocs))
	}
	for i, r := range f.Relocs {
		area, ok := f.area(r.Area)
		if !ok || r.Kind.size() == 0 || uint64(r.Offset)+r.Kind.size() > uint64(len(area)) {
			return fmt.Errorf("relocation %d is in no area", i)
		}
		if i > 0 {
			last := f.Relocs[i-1]
			order := cmp.Compare(last.Area.rank(), r.Area.rank())
			if order > 0 || order == 0 && uint64(last.Offset)+last.Kind.size() > uint64(r.Offset) {
				return fmt.Errorf("relocation %d is not behind the one before it", i)
			}
		}
		if err := f.checkRef(r); err != nil {
			return fmt.Errorf("relocation %d: %w", i, err)
		}
	}
	return nil
}

func (f *File) checkRef(r Reloc) error {
	if r.Addend > maxAddend || r.Addend < -maxAddend {
		return fmt.Errorf("addend %d", r.Addend)
	}
	if r.Ref.Import != 0 && r.Ref.Kind != RefSlot {
		return errors.New("an import beside what is no slot")
	}
	ok := false
	switch r.Ref.Kind {
	case RefText:
		ok = r.Ref.Value <= uint64(len(f.Text))
	case RefROData:
		ok = r.Ref.Value <= uint64(len(f.ROData))
	case RefData:
		ok = r.Ref.Value <= uint64(len(f.Data))+uint64(f.BSS)
	case RefTarget:
		last := f.Segments[len(f.Segments)-1] // _end and __bss_start are behind what they end
		ok = r.Ref.Value >= f.Segments[0].Vaddr && r.Ref.Value <= last.Vaddr+last.Memsz
	case RefSlot:
		ok = r.Kind == Abs64 && r.Addend == 0 && r.Ref.Import >= 0 && r.Ref.Import <= len(f.Imports) && f.inMemory(Range{r.Ref.Value, 8})
	case RefImport:
		ok = r.Ref.Value < uint64(len(f.Imports))
	}
	if !ok {
		return errors.New("it refers to nothing")
	}
	return nil
}

func (f *File) inMemory(r Range) bool {
	for _, s := range f.Segments {
		if r.Start >= s.Vaddr && r.Start-s.Vaddr <= s.Memsz && r.Size <= s.Memsz-(r.Start-s.Vaddr) {
			return true
		}
	}
	return false
}

func (f *File) checkUnwind() error {
	u := f.Unwind
	if u == (Range{}) {
		if f.Register {
			return errors.New("nothing to tell the unwinder")
		}
		return nil
	}
	n := uint64(len(f.ROData))
	if u.Start%8 != 0 || u.Start > n || u.Size < 4 || u.Size > n-u.Start || u.Size%4 != 0 {
		return errors.New(".eh_frame is not in the constants")
	}
	if binary.LittleEndian.Uint32(f.ROData[u.Start+u.Size-4:]) != 0 {
		return errors.New(".eh_frame has no end")
	}
	return nil
}

// area returns the bytes of an area that are written.
func (f *File) area(a Area) ([]byte, bool) {
	switch a {
	case InText:
		return f.Text, true
	case InROData:
		return f.ROData, true
	case InData:
		return f.Data, true
	}
	return nil, false
}

// rank orders areas.
func (a Area) rank() int { return slices.Index([]Area{InText, InROData, InData}, a) }

// size is how many bytes are written; 0 for an unknown kind.
func (k RelocKind) size() uint64 {
	switch k {
	case PC32, Abs32:
		return 4
	case Abs64, PC64:
		return 8
	}
	return 0
}
