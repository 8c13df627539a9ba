// SPDX-License-Identifier: Apache-2.0

package build

import (
	"cmp"
	"debug/elf"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// located says where the sections of a compiled unit lie in the linked file. A
// section moves as a whole, so that one symbol that is known places all others
// of it, and a static function is told from another of its name by what stands
// around it.
type located struct {
	b     *binder
	plain *elfobj.File
	file  string // STT_FILE of the unit, "" for none
	base  map[*elfobj.Section]uint64
	// extern are the addresses at which the unit's code in the linked file finds
	// what it does not define: a function, or a stub of the PLT.
	extern map[string]uint64
	byName map[string]*elfobj.Symbol
}

// locate places a unit. needed are symbols of plain that must be found and
// must be the same code in the linked file; data is found where code leads to it.
func (b *binder) locate(plain *elfobj.File, needed []*elfobj.Symbol, proof *Proof) (*located, error) {
	l := &located{
		b: b, plain: plain, base: map[*elfobj.Section]uint64{}, extern: map[string]uint64{},
		byName: map[string]*elfobj.Symbol{},
	}
	bySection := map[*elfobj.Section][]*elfobj.Symbol{}
	for _, s := range plain.Symbols {
		switch {
		case s.Type == elf.STT_FILE:
			l.file = s.Name
		case s.Section == nil || s.Type == elf.STT_SECTION || strings.HasPrefix(s.Name, ".L"):
		default:
			bySection[s.Section] = append(bySection[s.Section], s)
			if l.byName[s.Name] == nil {
				l.byName[s.Name] = s
			}
		}
	}
	wanted := map[*elfobj.Section][]*elfobj.Symbol{}
	for _, s := range needed {
		if !slices.Contains(wanted[s.Section], s) {
			wanted[s.Section] = append(wanted[s.Section], s)
		}
	}
	for _, sec := range plain.Sections { // in their order, so that the answer is always the same
		if len(wanted[sec]) > 0 {
			if err := l.settle(sec, bySection[sec], wanted[sec]); err != nil {
				return nil, err
			}
		}
	}
	for _, s := range needed {
		proof.Functions++
		proof.Bytes += int(s.Size)
	}
	l.lookAround(bySection)
	return l, l.settleRest(bySection)
}

// candidate is a possible address of a section, with how many of its symbols
// speak for it.
type candidate struct {
	base  uint64
	votes int
}

// candidates are the places that symbols of the linked file suggest for a
// section, the likeliest first.
func (l *located) candidates(symbols []*elfobj.Symbol) []candidate {
	votes := map[uint64]int{}
	for _, s := range symbols {
		for _, addr := range l.named(s) {
			votes[addr-s.Value]++
		}
	}
	var out []candidate
	for base, n := range votes {
		out = append(out, candidate{base, n})
	}
	slices.SortFunc(out, func(x, y candidate) int {
		return cmp.Or(cmp.Compare(y.votes, x.votes), cmp.Compare(x.base, y.base))
	})
	return out
}

// named lists the addresses of the linked file's symbols that may be a symbol
// of the unit: by name, and for static ones by the name of the source file,
// where that is known.
func (l *located) named(s *elfobj.Symbol) []uint64 {
	var out []uint64
	name, version, versioned := strings.Cut(s.Name, "@")
	if versioned && !strings.HasPrefix(version, "@") {
		name = s.Name
	}
	for _, c := range l.b.byName[name] {
		thread := s.Type == elf.STT_TLS
		if thread != (c.Type == elf.STT_TLS) || s.Bind == elf.STB_LOCAL && c.Source != "" && l.file != "" && c.Source != l.file {
			continue
		}
		if !thread && s.Section.Exec() != l.b.l.File.Executable(c.Value) {
			continue
		}
		out = append(out, c.Value)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// settle places a section of code so that the wanted functions are those of
// the linked file, byte by byte and reference by reference.
func (l *located) settle(sec *elfobj.Section, symbols, wanted []*elfobj.Symbol) error {
	list := l.candidates(symbols)
	if base, ok := l.base[sec]; ok { // what was placed before leads here
		list = []candidate{{base, 0}}
	}
	if len(list) == 0 {
		return code.New("TS3510", wanted[0].Name, fmt.Sprintf("no symbol of %s is known there", l.b.l.Name))
	}
	type match struct {
		votes int
		evidence
	}
	var found []match
	var first error
	for _, c := range list {
		e := l.evidence()
		e.base[sec] = c.base
		var err error
		for _, s := range wanted {
			if err = e.function(s); err != nil {
				break
			}
		}
		if err == nil {
			found = append(found, match{c.votes, e})
		} else if first == nil {
			first = err
		}
	}
	switch {
	case len(found) == 0:
		return first
	case len(found) > 1 && found[0].votes == found[1].votes:
		return code.New("TS3510", wanted[0].Name, fmt.Sprintf("%d places in %s hold these bytes", len(found), l.b.l.Name))
	}
	l.base, l.extern = found[0].base, found[0].extern
	return nil
}

func (l *located) evidence() evidence {
	return evidence{l: l, base: maps.Clone(l.base), extern: maps.Clone(l.extern)}
}

// lookAround asks the other functions of placed sections where they find data
// and others. Those that differ from the linked file say nothing.
func (l *located) lookAround(bySection map[*elfobj.Section][]*elfobj.Symbol) {
	for _, sec := range l.plain.Sections {
		if _, placed := l.base[sec]; !placed || !sec.Exec() {
			continue
		}
		for _, s := range bySection[sec] {
			if s.Type != elf.STT_FUNC || s.Size == 0 {
				continue
			}
			if e := l.evidence(); e.function(s) == nil {
				l.base, l.extern = e.base, e.extern
			}
		}
	}
}

// settleRest places what no code leads to by its symbols, and sees that
// symbols do not contradict what code says.
func (l *located) settleRest(bySection map[*elfobj.Section][]*elfobj.Symbol) error {
	for _, sec := range l.plain.Sections {
		if sec.Flags&elf.SHF_ALLOC == 0 || len(bySection[sec]) == 0 {
			continue
		}
		list := l.candidates(bySection[sec])
		base, placed := l.base[sec]
		switch {
		case placed && len(list) > 0 && !slices.ContainsFunc(list, func(c candidate) bool { return c.base == base }):
			return code.New("TS3511", sec.Name+" of "+l.file, fmt.Sprintf("code finds it at %#x, symbols at %#x", base, list[0].base))
		case placed || len(list) == 0 || len(list) > 1 && list[0].votes == list[1].votes:
		default:
			l.base[sec] = list[0].base
		}
	}
	return nil
}

// address is where a symbol of the unit lies in the linked file.
func (l *located) address(s *elfobj.Symbol) (uint64, bool) {
	base, ok := l.base[s.Section]
	return base + s.Value, ok
}
