// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"encoding/binary"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// EditsSymbol names the table of edits in an Extract's file: an array of
// struct tsugi_edit (package klp writes its C), of which these fields are
// written here, and the others are for when it runs:
//
//	void *at; u64 old, new, mask; u32 size, flags; ...
const EditsSymbol = "tsugi_edits"

// EditSize is the size of struct tsugi_edit.
const EditSize = 96

// Flags of struct tsugi_edit.
const (
	EditOptional uint32 = 1 << iota // leave it where somebody has set it
	EditAny                         // what was there can't be checked
	EditFilled                      // something may be where nothing was
	EditExit                        // it is the module's exit function
	EditStays                       // a pointer where none was: it is not taken away again
)

// edits writes the table of edited words. What the words point at is carried
// or an undefined symbol, like everything else.
func (e *emitter) edits() error {
	if len(e.r.edits) == 0 {
		return nil
	}
	sec := &elfobj.Section{Name: ".data.tsugi.edits", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_WRITE, Align: 8, Data: []byte{}}
	for _, ed := range e.r.edits {
		at := &ref{typ: uint32(elf.R_X86_64_64), size: 8, to: target{atom: ed.atom}}
		variable := e.undefined(ed.was, ed.was.sym, ed.was.sym, at, nil)
		for i := range ed.words {
			if err := e.editWord(sec, ed, &ed.words[i], variable); err != nil {
				return err
			}
		}
		e.out.Edited = append(e.out.Edited, ed.was.sym)
	}
	e.out.File.Sections = append(e.out.File.Sections, sec)
	e.out.Edits = &elfobj.Symbol{Name: EditsSymbol, Bind: elf.STB_LOCAL, Type: elf.STT_OBJECT, Section: sec, Size: uint64(len(sec.Data))}
	e.out.File.Symbols = append(e.out.File.Symbols, e.out.Edits)
	return nil
}

func (e *emitter) editWord(sec *elfobj.Section, ed *editing, w *word, variable *elfobj.Symbol) error {
	const oldAt, newAt, maskAt, sizeAt, flagsAt = 8, 16, 24, 32, 36
	base := uint64(len(sec.Data))
	entry := make([]byte, EditSize)
	var flags uint32
	for _, f := range []struct {
		on   bool
		flag uint32
	}{{w.optional, EditOptional}, {w.oldAny, EditAny}, {w.mayBeFilled, EditFilled}, {ed.exit, EditExit}, {w.stays, EditStays}} {
		if f.on {
			flags |= f.flag
		}
	}
	binary.LittleEndian.PutUint64(entry[maskAt:], w.mask)
	binary.LittleEndian.PutUint32(entry[sizeAt:], uint32(w.size))
	binary.LittleEndian.PutUint32(entry[flagsAt:], flags)
	where := elfobj.Reloc{Off: base, Type: uint32(elf.R_X86_64_64), Sym: variable, Addend: int64(w.off)}
	if ed.exit { // where the pointer is only the module tells; what it holds is the function
		where.Off = base + oldAt
	}
	sec.Relocs = append(sec.Relocs, where)
	switch {
	case ed.exit:
	case w.oldRef == nil:
		binary.LittleEndian.PutUint64(entry[oldAt:], w.old)
	case !w.oldAny:
		sec.Relocs = append(sec.Relocs, e.oldPointer(w.oldRef, base+oldAt))
	}
	if w.newRef == nil {
		binary.LittleEndian.PutUint64(entry[newAt:], w.new)
	} else {
		rel, err := e.reloc(ed.atom, w.newRef)
		if err != nil {
			return err
		}
		rel.Off = base + newAt
		sec.Relocs = append(sec.Relocs, rel)
	}
	sec.Data = append(sec.Data, entry...)
	return nil
}

// oldPointer expresses what a word of the original points at.
func (e *emitter) oldPointer(f *ref, off uint64) elfobj.Reloc {
	rel := elfobj.Reloc{Off: off, Type: f.typ, Addend: f.to.off}
	if f.to.extern != nil {
		rel.Sym = e.undefined(f.to.extern.Name, f.to.extern, f.to.extern, f, nil)
		return rel
	}
	rel.Sym = e.undefined(f.to.atom, f.to.atom.sym, f.to.atom.sym, f, nil)
	return rel
}

// opened lists what has been static and becomes global.
func (r *Result) opened() []Opened {
	var out []Opened
	for _, a := range r.patched.atoms {
		if a.sym == nil || a.sym.Bind == elf.STB_LOCAL || a.twin == nil || a.twin.sym == nil || a.twin.sym.Bind != elf.STB_LOCAL ||
			a.class != text && a.class != data {
			continue
		}
		out = append(out, Opened{Name: a.sym.Name, Orig: a.twin.sym})
	}
	return out
}
