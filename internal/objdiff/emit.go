// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// ErrRefused is what Extract returns for a result with refusals.
var ErrRefused = errors.New("the change is refused")

// Extract writes the object that a live patch carries. It fails with
// ErrRefused when the result has refusals.
func (r *Result) Extract() (*Extract, error) {
	if r.Refused() {
		return nil, ErrRefused
	}
	e := &emitter{
		r:       r,
		out:     &Extract{File: &elfobj.File{Machine: r.patched.file.Machine, Order: r.patched.file.Order, OSABI: r.patched.file.OSABI, Flags: r.patched.file.Flags}},
		place:   map[*atom]place{},
		secSyms: map[*elfobj.Section]*elfobj.Symbol{},
		undef:   map[any]*elfobj.Symbol{},
		strings: map[string]int64{},
		taken:   takenAddresses(r.orig),
		refs:    map[*elfobj.Symbol]int{},
		names:   definedNames(r.orig),
	}
	e.layout()
	if err := e.fill(); err != nil {
		return nil, err
	}
	if err := e.entries(); err != nil {
		return nil, err
	}
	if err := e.edits(); err != nil {
		return nil, err
	}
	if err := e.frames(); err != nil {
		return nil, err
	}
	e.out.Opened = e.r.opened()
	e.out.Lent = e.r.Lent
	e.hooks()
	return e.out, nil
}

// place is where an atom's entry lies in the new object.
type place struct {
	sec *elfobj.Section
	off int64 // of the entry
	sym *elfobj.Symbol
}

type emitter struct {
	r       *Result
	out     *Extract
	place   map[*atom]place
	secSyms map[*elfobj.Section]*elfobj.Symbol
	undef   map[any]*elfobj.Symbol // by extern name, or by atom of the original
	strings map[string]int64       // offset of a literal in its section, by section name and content
	taken   map[string]bool
	refs    map[*elfobj.Symbol]int    // index in out.Refs, by undefined symbol
	names   map[string]*elfobj.Symbol // what the original defines: primary symbols by any of their names
}

// layout gives every carried atom a section and a symbol.
func (e *emitter) layout() {
	for _, a := range e.r.patched.atoms {
		if !a.included {
			continue
		}
		sec := &elfobj.Section{
			Name: sectionName(a), Type: a.sec.Type, Align: max(a.sec.Align, 1),
			Flags: a.sec.Flags & (elf.SHF_ALLOC | elf.SHF_WRITE | elf.SHF_EXECINSTR),
		}
		pad := a.entry - a.start
		if a.start%sec.Align != 0 { // keep what alignment it had by its place
			sec.Align = a.start & -a.start
		}
		if sec.Type == elf.SHT_NOBITS {
			sec.NoBits = a.end - a.start
		} else {
			sec.Type = elf.SHT_PROGBITS
			sec.Data = bytes.Clone(a.sec.Data[a.start:a.end])
			if w := e.r.rewritten[a]; w != nil {
				sec.Data = bytes.Clone(w.data)
			}
		}
		if sec.Size() == 0 { // linkers drop empty sections, and with them the address
			sec.Type, sec.Data, sec.NoBits = elf.SHT_NOBITS, nil, 1
		}
		e.out.File.Sections = append(e.out.File.Sections, sec)
		p := place{sec: sec, off: int64(pad)}
		if a.sym != nil {
			p.sym = e.define(a, sec, pad)
		}
		e.place[a] = p
		if a.kind == function && a.state == changed && a.parent == nil {
			e.out.Replaced = append(e.out.Replaced, Replacement{Orig: a.twin.sym, New: p.sym, Change: a.why})
		}
	}
}

func (e *emitter) define(a *atom, sec *elfobj.Section, pad uint64) *elfobj.Symbol {
	sym := &elfobj.Symbol{
		Name: a.sym.Name, Bind: elf.STB_LOCAL, Type: a.sym.Type, Other: a.sym.Other,
		Section: sec, Value: pad, Size: a.end - a.entry,
	}
	if e.r.rewritten[a] != nil {
		sym.Size = sec.Size() - pad
	}
	switch {
	case a.named(exitFunction): // the live patch has one of its own
		sym.Name = "tsugi_exit"
	case a.state == changed:
		sym.Name = a.twin.name()
	case a.state == fresh && a.sym.Bind != elf.STB_LOCAL:
		sym.Bind = a.sym.Bind
	}
	e.out.File.Symbols = append(e.out.File.Symbols, sym)
	return sym
}

// sectionName names the section of a carried atom by what it is, so that
// nothing depends on which special section it came from.
func sectionName(a *atom) string {
	if a.sym == nil {
		if a.sec.Exec() {
			return a.sec.Name // .altinstr_replacement, .altinstr_aux, .fixup
		}
		switch {
		case a.sec.Type == elf.SHT_NOBITS:
			return ".bss.tsugi"
		case a.sec.Flags&elf.SHF_WRITE != 0:
			return ".data.tsugi"
		}
		return ".rodata.tsugi.const"
	}
	name := a.sym.Name
	switch {
	case a.kind == function && (a.trampoline() || strings.HasPrefix(a.sec.Name, ".static_call.")):
		return a.sec.Name
	case a.kind == function && a.parent != nil:
		return ".text.unlikely." + a.family().name()
	case a.kind == function:
		return ".text." + name
	case a.sec.Name == "__dyndbg", strings.HasPrefix(a.sec.Name, ".data..percpu"):
		return a.sec.Name
	case a.sec.Type == elf.SHT_NOBITS:
		return ".bss." + name
	case a.sec.Flags&elf.SHF_WRITE == 0:
		return ".rodata." + name
	}
	return ".data." + name
}

// fill copies the relocations of the carried atoms.
func (e *emitter) fill() error {
	for _, a := range e.r.patched.atoms {
		if !a.included {
			continue
		}
		p := e.place[a]
		refs := a.refs
		if w := e.r.rewritten[a]; w != nil {
			refs = w.refs
		}
		for i := range refs {
			ref := &refs[i]
			rel, err := e.reloc(a, ref)
			if err != nil {
				return fmt.Errorf("%s: %w", a.where(ref.off), err)
			}
			switch {
			case ref.implicit && ref.size == 1:
				rel.Off = veneer(p.sec, ref)
			case ref.implicit:
				clear(p.sec.Data[ref.off : ref.off+uint64(ref.size)])
			}
			p.sec.Relocs = append(p.sec.Relocs, rel)
		}
	}
	return nil
}

// reloc expresses a reference in the new object.
func (e *emitter) reloc(from *atom, ref *ref) (elfobj.Reloc, error) {
	rel := elfobj.Reloc{Off: ref.off, Type: ref.typ}
	t := ref.to
	if ref.implicit && ref.size == 1 { // a veneer's field takes its place
		long := *ref
		long.size, long.toEnd = 4, 4
		ref = &long
	}
	switch {
	case t.extern != nil:
		rel.Sym = e.undefined(t.extern.Name, e.origExtern(t.extern), t.extern, ref, from)
		rel.Addend = t.off - ref.toEnd
	case t.atom == nil && t.litSec != nil:
		sym, off := e.literal(t)
		rel.Sym, rel.Addend = sym, off-ref.toEnd
	case t.atom == nil:
		// no symbol: an absolute value or R_*_NONE
	case e.original(from, ref):
		rel.Sym = e.undefined(t.atom.twin, t.atom.twin.sym, t.atom.twin.sym, ref, from)
		rel.Addend = t.off - ref.toEnd
	case t.atom.included:
		p := e.place[t.atom]
		rel.Sym, rel.Addend = p.sym, e.moved(t)-ref.toEnd
		if p.sym == nil {
			rel.Sym, rel.Addend = e.sectionSymbol(p.sec), p.off+e.moved(t)-ref.toEnd
		}
	default:
		return rel, fmt.Errorf("%s is neither carried nor in the original", t.atom.name())
	}
	return rel, nil
}

// moved is a target's offset from the entry of its atom in the new object.
func (e *emitter) moved(t target) int64 {
	w, pad := e.r.rewritten[t.atom], int64(t.atom.entry-t.atom.start)
	if w == nil || t.off < -pad {
		return t.off
	}
	return int64(w.moved(uint64(t.off+pad))) - pad
}

// original reports whether a reference goes to what the target already has:
// unchanged things, and the address of a changed function, which must stay
// good when the live patch is gone and equal to what others hold.
func (e *emitter) original(from *atom, ref *ref) bool {
	t := ref.to.atom
	if t.twin == nil || t.byContent() || t.state == fresh {
		return false
	}
	if t.state != changed || !t.included {
		return true
	}
	if t.kind != function || t.parent != nil || ref.to.off != 0 {
		return false
	}
	return !ref.branch || t.sym.Bind != elf.STB_LOCAL && e.r.opt.Preempted != nil && e.r.opt.Preempted(t.twin.name())
}

// origExtern finds what a name that the patched object leaves undefined means
// in the original: undefined there too, or defined.
func (e *emitter) origExtern(sym *elfobj.Symbol) *elfobj.Symbol {
	if s := e.r.orig.externs[sym.Name]; s != nil {
		return s
	}
	return e.names[sym.Name]
}

// definedNames lists the symbols of an object's atoms under all their names.
func definedNames(o *object) map[string]*elfobj.Symbol {
	out := map[string]*elfobj.Symbol{}
	for _, a := range o.atoms {
		if a.sym == nil {
			continue
		}
		for _, s := range append([]*elfobj.Symbol{a.sym}, a.aliases...) {
			if out[s.Name] == nil {
				out[s.Name] = a.sym
			}
		}
	}
	return out
}

// undefined returns the undefined symbol for something outside, one for each.
func (e *emitter) undefined(key any, orig, like *elfobj.Symbol, ref *ref, from *atom) *elfobj.Symbol {
	sym := e.undef[key]
	if sym == nil {
		bind := elf.STB_GLOBAL
		if like.Bind == elf.STB_WEAK && like.Section == nil {
			bind = elf.STB_WEAK
		}
		sym = &elfobj.Symbol{Name: like.Name, Bind: bind, Type: elf.STT_NOTYPE, Index: elf.SHN_UNDEF}
		if like.Index == elf.SHN_ABS && like.Section == nil {
			sym.Index, sym.Value = elf.SHN_ABS, like.Value
		}
		e.undef[key] = sym
		e.out.File.Symbols = append(e.out.File.Symbols, sym)
		if sym.Index == elf.SHN_UNDEF {
			e.refs[sym] = len(e.out.Refs)
			e.out.Refs = append(e.out.Refs, Ref{Symbol: sym, Orig: orig})
		}
	}
	if i, ok := e.refs[sym]; ok && from != nil && !ref.branch {
		e.out.Refs[i].Pointer = true
		if ref.to.off == 0 {
			e.out.Refs[i].NewPointer = !e.taken[like.Name]
		}
	}
	return sym
}

// takenAddresses lists by name what an object takes the address of.
func takenAddresses(o *object) map[string]bool {
	out := map[string]bool{}
	for _, a := range o.atoms {
		for i := range a.refs {
			r := &a.refs[i]
			switch {
			case r.branch || r.to.off != 0:
			case r.to.extern != nil:
				out[r.to.extern.Name] = true
			case r.to.atom != nil && r.to.atom.sym != nil:
				out[r.to.atom.sym.Name] = true
			}
		}
	}
	return out
}

// literal stores a string once and returns where. Strings are not left to the
// linker to merge: relocations against merged sections do not survive ld -r
// with addends that reach into a string.
func (e *emitter) literal(t target) (*elfobj.Symbol, int64) {
	width, align := charWidth(t.litSec), min(max(t.litSec.Align, 1), 64)
	name := fmt.Sprintf(".rodata.tsugi.str%d.%d", width, align)
	sec := e.out.File.Section(name)
	if sec == nil {
		sec = &elfobj.Section{Name: name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: align, Data: []byte{}}
		e.out.File.Sections = append(e.out.File.Sections, sec)
	}
	key := name + "\x00" + string(t.literal)
	off, ok := e.strings[key]
	if !ok {
		for uint64(len(sec.Data))%sec.Align != 0 {
			sec.Data = append(sec.Data, 0)
		}
		off = int64(len(sec.Data))
		sec.Data = append(append(sec.Data, t.literal...), make([]byte, width)...)
		e.strings[key] = off
	}
	return e.sectionSymbol(sec), off
}

func (e *emitter) sectionSymbol(sec *elfobj.Section) *elfobj.Symbol {
	sym := e.secSyms[sec]
	if sym == nil {
		sym = &elfobj.Symbol{Name: sec.Name, Bind: elf.STB_LOCAL, Type: elf.STT_SECTION, Section: sec}
		e.secSyms[sec] = sym
		e.out.File.Symbols = append(e.out.File.Symbols, sym)
	}
	return sym
}

// hooks names the targets of the author's macros.
func (e *emitter) hooks() {
	for _, h := range e.r.patched.hooks {
		if a := h.target.atom; a != nil && e.place[a].sym != nil {
			e.out.Hooks = append(e.out.Hooks, Hook{Kind: h.kind, Symbol: e.place[a].sym})
		}
	}
}
