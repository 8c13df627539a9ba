// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// layout tells where the sections of one object lie in its owner. The linker
// moves an input section as a whole, so that one symbol of known address, an
// anchor, gives the address of everything in its section; all anchors of a
// section have to agree.
type layout struct {
	object string
	owner  *owner
	plain  *elfobj.File
	names  map[string]*elfobj.Symbol // defined symbols of plain
	inSec  map[*elfobj.Section][]*elfobj.Symbol
	bases  map[*elfobj.Section]located
	// Found when first asked for: see matchRun, jumpSites and comparison.symbol.
	run     map[*elfobj.Symbol]*symEntry
	sites   map[*elfobj.Section]map[uint64]bool
	implied map[*elfobj.Section]place
}

type located struct {
	base place
	err  error
}

func newLayout(object string, o *owner, plain *elfobj.File) *layout {
	l := &layout{
		object: object, owner: o, plain: plain,
		names: map[string]*elfobj.Symbol{},
		inSec: map[*elfobj.Section][]*elfobj.Symbol{},
		bases: map[*elfobj.Section]located{}, implied: map[*elfobj.Section]place{},
	}
	for _, s := range plain.Symbols {
		if s.Section == nil || s.Type == elf.STT_SECTION || s.Name == "" {
			continue
		}
		// An assembler defines a name once, so names are unique here.
		l.names[s.Name] = s
		l.inSec[s.Section] = append(l.inSec[s.Section], s)
	}
	return l
}

// base returns where the linker put sec.
func (l *layout) base(sec *elfobj.Section) (place, error) {
	if at, ok := l.bases[sec]; ok {
		return at.base, at.err
	}
	// Anchors can lead back here by way of content; a section is unknown
	// while it is being looked for.
	l.bases[sec] = located{err: fmt.Errorf("section %s is being located", sec.Name)}
	base, err := l.locate(sec)
	l.bases[sec] = located{base, err}
	return base, err
}

func (l *layout) locate(sec *elfobj.Section) (place, error) {
	if !placed(sec) {
		return place{}, code.New("TS5102", l.object+": section "+sec.Name, "the linker merges, moves or drops its content")
	}
	base, found, err := l.byUniqueNames(sec)
	if found || err != nil {
		return base, err
	}
	cands := l.candidates(sec)
	for _, narrow := range []func(*elfobj.Section, []place) []place{l.sameRun, l.sameReferences, l.sameContent, l.sameSectionName} {
		if len(cands) <= 1 {
			break
		}
		if fewer := narrow(sec, cands); len(fewer) > 0 {
			cands = fewer
		}
	}
	switch len(cands) {
	case 1:
		return cands[0], nil
	case 0:
		return place{}, code.New("TS5102", l.object+": section "+sec.Name,
			fmt.Sprintf("%s has nothing with its symbols (%s) at their distances", l.owner, l.someNames(sec)))
	}
	return place{}, code.New("TS5103", l.object+": section "+sec.Name,
		fmt.Sprintf("its symbols (%s) fit %s at %s, at %s and %d other places", l.someNames(sec), l.owner, cands[0], cands[1], len(cands)-2))
}

// placed reports whether a section is copied whole into the target.
func placed(sec *elfobj.Section) bool {
	return sec.Flags&elf.SHF_ALLOC != 0 && sec.Flags&elf.SHF_MERGE == 0 && !strings.HasPrefix(sec.Name, ".discard")
}

// byUniqueNames uses the symbols whose name leaves no choice.
func (l *layout) byUniqueNames(sec *elfobj.Section) (base place, found bool, err error) {
	var anchor *elfobj.Symbol
	for _, s := range l.inSec[sec] {
		e := l.unique(s)
		if e == nil {
			continue
		}
		b, ok := minus(e.at, s.Value)
		if !ok || sec.Align > 1 && b.addr%sec.Align != 0 {
			return place{}, false, code.New("TS5104", l.object+": "+s.Name,
				fmt.Sprintf("%s has it at %s, which does not fit its offset %#x in section %s", l.owner, e.at, s.Value, sec.Name))
		}
		if anchor == nil {
			anchor, base, found = s, b, true
		} else if b != base {
			return place{}, false, code.New("TS5104", l.object+": section "+sec.Name,
				fmt.Sprintf("by %s it begins at %s, by %s at %s", anchor.Name, base, s.Name, b))
		}
	}
	return base, found, nil
}

// unique returns the entry that s must be, or nil when several could be. A
// weak definition may have lost to another object's, so it proves nothing.
func (l *layout) unique(s *elfobj.Symbol) *symEntry {
	if s.Bind == elf.STB_WEAK {
		return nil
	}
	entries := l.owner.named(s.Name)
	if s.Bind == elf.STB_GLOBAL {
		entries = slices.DeleteFunc(entries, func(e *symEntry) bool { return !e.global })
	}
	if len(entries) != 1 || entries[0].nowhere {
		return nil
	}
	return entries[0]
}

// candidates returns the places where all of the section's symbols that the
// owner lists at all are found at their distances.
func (l *layout) candidates(sec *elfobj.Section) []place {
	var syms []*elfobj.Symbol
	for _, s := range l.inSec[sec] {
		if _, listed := l.owner.byName[s.Name]; listed && s.Bind != elf.STB_WEAK {
			syms = append(syms, s)
		}
	}
	var out []place
	if len(syms) == 0 {
		return nil
	}
	for _, e := range l.owner.named(syms[0].Name) {
		if e.nowhere {
			continue
		}
		base, ok := minus(e.at, syms[0].Value)
		if !ok || sec.Align > 1 && base.addr%sec.Align != 0 || slices.Contains(out, base) {
			continue
		}
		if !slices.ContainsFunc(syms, func(s *elfobj.Symbol) bool { return !l.has(plus(base, s.Value), s.Name) }) {
			out = append(out, base)
		}
	}
	return out
}

func (l *layout) has(p place, name string) bool {
	return slices.ContainsFunc(l.owner.at(p), func(e *symEntry) bool { return e.name == name })
}

// sameRun narrows with the order of a module's local symbols: ld -r writes
// those of each input object together, in their order, so that the object's
// own sequence of names shows which entries are its.
func (l *layout) sameRun(sec *elfobj.Section, cands []place) []place {
	if l.owner.ko == nil {
		return nil
	}
	if l.run == nil {
		l.run = l.matchRun()
	}
	for _, s := range l.inSec[sec] {
		e := l.run[s]
		if e == nil {
			continue
		}
		return slices.DeleteFunc(slices.Clone(cands), func(p place) bool { return plus(p, s.Value) != e.at })
	}
	return nil
}

// matchRun pairs the object's local symbols with a run of the owner's. It
// gives nothing unless exactly one run fits.
func (l *layout) matchRun() map[*elfobj.Symbol]*symEntry {
	var want []*elfobj.Symbol
	for _, s := range l.plain.Symbols {
		if s.Bind == elf.STB_LOCAL && s.Section != nil && s.Type != elf.STT_SECTION && l.names[s.Name] == s {
			if _, listed := l.owner.byName[s.Name]; listed {
				want = append(want, s)
			}
		}
	}
	var have []*symEntry
	for i := range l.owner.entries {
		if e := &l.owner.entries[i]; !e.global && !e.nowhere {
			have = append(have, e)
		}
	}
	out := map[*elfobj.Symbol]*symEntry{}
	fits := 0
	for i := 0; len(want) > 0 && i+len(want) <= len(have); i++ {
		if !slices.EqualFunc(want, have[i:i+len(want)], func(s *elfobj.Symbol, e *symEntry) bool { return s.Name == e.name }) {
			continue
		}
		if fits++; fits > 1 {
			return map[*elfobj.Symbol]*symEntry{}
		}
		for k, s := range want {
			out[s] = have[i+k]
		}
	}
	return out
}

func (l *layout) sameSectionName(sec *elfobj.Section, cands []place) []place {
	return slices.DeleteFunc(slices.Clone(cands), func(p place) bool { return p.sec == nil || p.sec.Name != sec.Name })
}

// sameReferences narrows with what the target's own code refers to, where the
// object's refers to the section: two files may each have a variable of a name,
// and their functions tell which is whose. Every reference has to agree.
func (l *layout) sameReferences(sec *elfobj.Section, cands []place) []place {
	var at place
	found := false
	for _, from := range l.plain.Sections {
		if from == sec || !from.Exec() || !placed(from) || !refersTo(from, sec) {
			continue
		}
		base, known, err := l.byUniqueNames(from)
		if err != nil || !known {
			continue
		}
		for i := range from.Relocs {
			r := &from.Relocs[i]
			if r.Sym == nil || r.Sym.Section != sec {
				continue
			}
			dest, ok := l.leadsTo(from, base, r)
			if !ok || found && dest != at || !slices.Contains(cands, dest) {
				return nil
			}
			at, found = dest, true
		}
	}
	if !found {
		return nil
	}
	return []place{at}
}

func refersTo(from, sec *elfobj.Section) bool {
	return slices.ContainsFunc(from.Relocs, func(r elfobj.Reloc) bool { return r.Sym != nil && r.Sym.Section == sec })
}

// leadsTo reads a field of the target that a relocation of the object is for,
// and tells where the section of the relocation's symbol then begins. It is
// false when the target has another instruction there.
func (l *layout) leadsTo(from *elfobj.Section, base place, r *elfobj.Reloc) (place, bool) {
	n := fieldSize(r.Type)
	const opcode = 2 // bytes before the field that have to be equal
	if r.Off < opcode || n < 4 || r.Off+n > uint64(len(from.Data)) {
		return place{}, false
	}
	start := r.Off - opcode
	got, relocs, err := l.owner.bytes(plus(base, start), opcode+n)
	if err != nil || !bytes.Equal(got[:opcode], from.Data[start:r.Off]) {
		return place{}, false
	}
	offset := r.Sym.Value + uint64(r.Addend)
	if l.owner.ko != nil {
		for _, h := range relocs {
			if h.Off == opcode && h.Sym != nil && h.Sym.Section != nil {
				return place{h.Sym.Section, h.Sym.Value + uint64(h.Addend) - offset}, true
			}
		}
		return place{}, false
	}
	var dest uint64
	if n == 8 {
		dest = binary.LittleEndian.Uint64(got[opcode:])
	} else {
		dest = uint64(int64(int32(binary.LittleEndian.Uint32(got[opcode:]))))
	}
	if pcRelative(r.Type) {
		dest += plus(base, r.Off).addr
	}
	return place{addr: dest - offset}, true
}

// sameContent keeps the candidates whose bytes are the section's, relocated
// fields aside.
func (l *layout) sameContent(sec *elfobj.Section, cands []place) []place {
	if sec.Type == elf.SHT_NOBITS {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(cands), func(p place) bool {
		c := comparison{layout: l, sec: sec, from: 0, to: sec.Size(), base: p, masked: true}
		return c.run() != nil
	})
}

// find returns the target's entry for a symbol that plain defines: the one of
// the same name at its place, else any other name there.
func (l *layout) find(s *elfobj.Symbol) (*symEntry, error) {
	if s.Section.Flags&elf.SHF_MERGE != 0 {
		// The linker places each constant by itself.
		if e := l.unique(s); e != nil {
			return e, nil
		}
	}
	base, err := l.base(s.Section)
	if err != nil {
		return nil, err
	}
	at := plus(base, s.Value)
	entries := l.owner.at(at)
	for _, e := range entries {
		if e.name == s.Name {
			return e, nil
		}
	}
	for _, e := range entries {
		if e.global == (s.Bind != elf.STB_LOCAL) {
			return e, nil
		}
	}
	return nil, code.New("TS5105", l.object+": "+s.Name,
		fmt.Sprintf("%s lists no symbol at %s, where the object's section %s puts it", l.owner, at, s.Section.Name))
}

func (l *layout) someNames(sec *elfobj.Section) string {
	syms := l.inSec[sec]
	names := make([]string, 0, 4)
	for i, s := range syms {
		if i == 3 {
			names = append(names, "…")
			break
		}
		names = append(names, s.Name)
	}
	if len(names) == 0 {
		return "none"
	}
	return strings.Join(names, ", ")
}

func plus(p place, n uint64) place { p.addr += n; return p }

// minus is false when the result would lie before the beginning of a section.
func minus(p place, n uint64) (place, bool) {
	if p.sec != nil && p.addr < n {
		return place{}, false
	}
	p.addr -= n
	return p, true
}
