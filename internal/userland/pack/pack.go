// SPDX-License-Identifier: Apache-2.0

// Package pack makes the payload of a userland live patch, a splice.File, from
// what objdiff extracted of patched objects and from where everything that
// they mention lies in the shipped ELF file. It does in advance what a linker
// does: lays sections into three areas, gives imported functions PLT stubs and
// new pointers a GOT, and turns relocations into the few kinds that a splice
// has. What can't be expressed so is refused.
//
// Code of the patch uses the ELF file's own GOT entries where there are any:
// they hold what the loader found, with versions, interposition, IFUNC and
// copies of variables already settled.
//
// It is pure apart from reading the ELF file, and the same inputs give the
// same File.
package pack

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// Input is the whole for one ELF file.
type Input struct {
	File       *dso.File // as shipped, x86-64
	Name, Path string    // as splice.File has them
	Parts      []Part
	// Exceptions: code of the patch may have exceptions or cancellation pass
	// through it (C++, -fexceptions), so the process's unwinder must know it.
	// Parts whose frames name a personality routine imply it.
	Exceptions bool
}

// Part is the changed part of one object.
type Part struct {
	Source  string // of the object, for people
	Extract *objdiff.Extract
	// Functions tells of each Replacement.New what it replaces. New and NewSize
	// are set here; Name and Source are when empty, and SHA256, which is
	// compared with the ELF file when not.
	Functions map[*elfobj.Symbol]splice.Function
	// Resolve tells of each undefined symbol where the ELF file has it. What
	// only the patched object mentions is looked for in the other Parts first.
	Resolve map[*elfobj.Symbol]Target
}

// Target is where the ELF file has something.
type Target struct {
	// Defined: it lies in the ELF file itself, at Vaddr; for thread-local
	// variables that is the offset in PT_TLS. Else Import names it.
	Defined    bool
	Vaddr      uint64
	TLS, IFunc bool
	// Slot is the GOT entry (GLOB_DAT or JUMP_SLOT) of the ELF file that the
	// loader puts its address into, 0 for none. It is given also for what is
	// defined here and may be interposed. The entries of thread-local variables
	// and of IFUNCs without a name are found without it.
	Slot   uint64
	Import splice.Import
}

// Pack makes the payload. The error joins *code.Problems, refusals among them;
// File is nil then.
func Pack(in Input) (*splice.File, error) {
	p := &packer{
		in: in, out: &splice.File{Format: splice.Format, BuildID: in.File.BuildID, Name: in.Name, Path: in.Path, Register: in.Exceptions},
		where: map[*elfobj.Section]place{}, globals: map[string]*elfobj.Symbol{}, slots: map[uint64]*dso.Slot{},
		words: map[word]uint64{}, stubs: map[splice.Ref]uint64{}, imports: map[splice.Import]int{},
	}
	for _, s := range in.File.Segments {
		p.out.Segments = append(p.out.Segments, splice.Segment{Vaddr: s.Vaddr, Memsz: s.Memsz, Filesz: s.Filesz, Flags: s.Flags & 7})
	}
	if in.File.Machine != elf.EM_X86_64 {
		return nil, code.New("TS3503", in.Name, fmt.Sprintf("it is for %v", in.File.Machine))
	}
	list, err := in.File.Slots()
	if err != nil {
		return nil, code.New("TS3507", in.Name, "its GOT can't be read").With(err)
	}
	for i := range list {
		p.slots[list[i].Vaddr] = &list[i]
	}
	p.list = list
	for _, step := range []func(){p.place, p.frames, p.relocate, p.functions, p.entries} {
		if step(); len(p.problems) > 0 {
			return nil, errors.Join(p.problems...)
		}
	}
	slices.SortFunc(p.out.Relocs, func(a, b splice.Reloc) int {
		return cmp.Or(cmp.Compare(areas[a.Area], areas[b.Area]), cmp.Compare(a.Offset, b.Offset))
	})
	if err := p.out.Check(); err != nil {
		return nil, err
	}
	return p.out, nil
}

var areas = map[splice.Area]int{splice.InText: 0, splice.InROData: 1, splice.InData: 2}

type packer struct {
	in       Input
	out      *splice.File
	where    map[*elfobj.Section]place
	globals  map[string]*elfobj.Symbol // what the Parts define for each other
	list     []dso.Slot
	slots    map[uint64]*dso.Slot
	words    map[word]uint64       // the patch's own GOT: offsets in ROData
	stubs    map[splice.Ref]uint64 // PLT stubs by the pointer that they jump through: offsets in Text
	imports  map[splice.Import]int
	problems []error
}

// place is where a section lies.
type place struct {
	area splice.Area
	off  uint64
}

// maxProblems is how many things a person wants to read at once.
const maxProblems = 32

func (p *packer) refuse(c code.Code, where, why string, args ...any) {
	if len(p.problems) < maxProblems {
		p.problems = append(p.problems, code.New(c, where, fmt.Sprintf(why, args...)))
	}
}

// place lays the sections of all Parts into the areas.
func (p *packer) place() {
	for i := range p.in.Parts {
		part := &p.in.Parts[i]
		e := part.Extract
		if len(e.Hooks) > 0 || e.Edits != nil {
			p.refuse("TS3503", part.Source, "callbacks and edits of data are for kernels")
		}
		for _, s := range e.File.Sections {
			p.placeSection(part, s)
		}
		for _, s := range e.File.Symbols {
			if s.Section == nil || s.Bind == elf.STB_LOCAL {
				continue
			}
			if p.globals[s.Name] != nil {
				p.refuse("TS3507", s.Name, "two objects of the fix define it, the second is %s", part.Source)
			}
			p.globals[s.Name] = s
		}
	}
	// zeros lie behind all data, so they come last
	for i := range p.in.Parts {
		for _, s := range p.in.Parts[i].Extract.File.Sections {
			if s.Flags&(elf.SHF_ALLOC|elf.SHF_TLS) != elf.SHF_ALLOC || s.Type != elf.SHT_NOBITS {
				continue
			}
			at := up(uint64(len(p.out.Data))+uint64(p.out.BSS), max(s.Align, 1))
			end := at + s.NoBits - uint64(len(p.out.Data))
			if s.Align > splice.Align || s.NoBits > splice.MaxData || end > splice.MaxData {
				p.refuse("TS3503", p.in.Parts[i].Source+": "+s.Name, "%d bytes, aligned to %d", s.NoBits, s.Align)
				continue
			}
			p.out.BSS = uint32(end)
			p.where[s] = place{splice.InData, at}
		}
	}
}

func (p *packer) placeSection(part *Part, s *elfobj.Section) {
	switch {
	case s.Flags&elf.SHF_ALLOC == 0 || s.Name == ".eh_frame" || s.Type == elf.SHT_NOTE:
		return
	case s.Flags&elf.SHF_TLS != 0:
		p.refuse("TS3505", part.Source+": "+s.Name, "a new thread-local variable")
		return
	case s.Type == elf.SHT_INIT_ARRAY || s.Type == elf.SHT_FINI_ARRAY || s.Type == elf.SHT_PREINIT_ARRAY || s.Implicit:
		p.refuse("TS3503", part.Source+": "+s.Name, "a section of type %v", s.Type)
		return
	case s.Align > splice.Align:
		p.refuse("TS3503", part.Source+": "+s.Name, "it is aligned to %d bytes", s.Align)
		return
	case s.Flags&elf.SHF_WRITE != 0 && s.Exec():
		p.refuse("TS3503", part.Source+": "+s.Name, "code that is written to")
		return
	case s.Type == elf.SHT_NOBITS:
		return
	}
	at, area, fill := splice.InROData, &p.out.ROData, byte(0)
	switch {
	case s.Exec():
		at, area, fill = splice.InText, &p.out.Text, 0xcc
	case s.Flags&elf.SHF_WRITE != 0:
		at, area = splice.InData, &p.out.Data
	}
	p.where[s] = place{at, appendAligned(area, s.Data, s.Align, fill)}
}

// appendAligned returns the offset that data got.
func appendAligned(area *[]byte, data []byte, align uint64, fill byte) uint64 {
	off := up(uint64(len(*area)), max(align, 1))
	*area = append(*area, bytes.Repeat([]byte{fill}, int(off)-len(*area))...)
	*area = append(*area, data...)
	return off
}

func up(n, align uint64) uint64 { return (n + align - 1) / align * align }

// functions fills the table of what is replaced.
func (p *packer) functions() {
	for i := range p.in.Parts {
		part := &p.in.Parts[i]
		for _, r := range part.Extract.Replaced {
			fn, ok := part.Functions[r.New]
			w, placed := p.where[r.New.Section]
			where := part.Source + ": " + r.New.Name
			if !ok || !placed || w.area != splice.InText {
				p.refuse("TS3507", where, "its place in the ELF file is not given")
				continue
			}
			fn.Name, fn.Source = cmp.Or(fn.Name, r.New.Name), cmp.Or(fn.Source, part.Source)
			fn.New, fn.NewSize = uint32(w.off+r.New.Value), uint32(r.New.Size)
			old, err := p.in.File.Bytes(fn.Old, uint64(fn.Size))
			if err != nil {
				p.refuse("TS3507", where, "%v", err)
				continue
			}
			sum := sha256.Sum256(old)
			if digest := hex.EncodeToString(sum[:]); fn.SHA256 == "" {
				fn.SHA256 = digest
			} else if fn.SHA256 != digest {
				p.refuse("TS3507", where, "the bytes at %#x are other ones", fn.Old)
			}
			if fn.Room < fn.Skip+splice.JumpSize {
				p.refuse("TS3506", where, "%d bytes, a jump needs %d", fn.Room, fn.Skip+splice.JumpSize)
			}
			p.out.Functions = append(p.out.Functions, fn)
		}
	}
	if len(p.out.Functions) == 0 && len(p.problems) == 0 {
		p.refuse("TS3507", p.in.Name, "no function of it is replaced")
	}
	slices.SortStableFunc(p.out.Functions, func(a, b splice.Function) int { return cmp.Compare(a.Old, b.Old) })
}

// site names a place for people.
func site(part *Part, s *elfobj.Section, off uint64) string {
	for _, prefix := range []string{".text.unlikely.", ".text."} {
		if name, ok := strings.CutPrefix(s.Name, prefix); ok {
			return fmt.Sprintf("%s: %s+%#x", part.Source, name, off)
		}
	}
	return fmt.Sprintf("%s: %s+%#x", part.Source, s.Name, off)
}
