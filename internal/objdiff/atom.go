// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"cmp"
	"debug/elf"
	"slices"
	"sort"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// kind of an atom.
type kind uint8

const (
	function kind = iota
	variable
	anonymous // no symbol: an unnamed constant, a jump table, replacement code
)

// state of an atom of the patched object.
type state uint8

const (
	same state = iota
	changed
	fresh // has no twin
)

// atom is a range of bytes that lives and moves as a whole.
type atom struct {
	kind    kind
	class   class
	sec     *elfobj.Section
	start   uint64 // first byte, the padding before a function's entry included
	entry   uint64 // what its symbol points at
	end     uint64
	sym     *elfobj.Symbol // primary symbol, nil if anonymous
	aliases []*elfobj.Symbol
	refs    []ref
	special []*entry
	users   []*atom // atoms that refer to it, each once

	parent   *atom   // of a cold part: the function
	children []*atom // its cold parts

	frames []*frame // of a function, in .eh_frame

	private   bool // compared by content, carried as a copy
	undecoded bool // code with bytes that are no known instruction

	twin     *atom
	state    state
	why      string // of a changed one
	included bool
	standIn  bool // changed only for the sake of a callee that can't be redirected
}

func (a *atom) size() uint64 { return a.end - a.entry }

func (a *atom) name() string {
	if a.sym == nil {
		return a.sec.Name
	}
	return a.sym.Name
}

// family is the function that a cold part belongs to, or the atom itself.
func (a *atom) family() *atom {
	if a.parent != nil {
		return a.parent
	}
	return a
}

// byContent reports whether identity does not matter, only what it holds.
func (a *atom) byContent() bool { return a.kind == anonymous || a.private }

// trampoline reports whether it is the code of a static call, which the
// kernel rewrites at run time.
func (a *atom) trampoline() bool { return strings.HasPrefix(a.name(), "__SCT__") }

func (a *atom) bytes() []byte {
	if a.sec.Type == elf.SHT_NOBITS {
		return nil
	}
	return a.sec.Data[a.start:a.end]
}

// zero reports whether every byte is zero.
func (a *atom) zero() bool {
	for _, b := range a.bytes() {
		if b != 0 {
			return false
		}
	}
	return true
}

// prefixed reports whether a symbol marks the padding before a function
// (kernel: __pfx_ of objtool, __cfi_ of kCFI).
func prefixed(s *elfobj.Symbol) bool {
	return s.Type == elf.STT_FUNC && (strings.HasPrefix(s.Name, "__pfx_") || strings.HasPrefix(s.Name, "__cfi_"))
}

// symbolAtoms cuts a section at its symbols. patchable holds the addresses
// that __patchable_function_entries names: where a function's padding begins.
func (o *object) symbolAtoms(sec *elfobj.Section, syms []*elfobj.Symbol, patchable []uint64) []*atom {
	c := o.class[sec]
	slices.SortStableFunc(syms, func(x, y *elfobj.Symbol) int {
		return cmp.Or(cmp.Compare(x.Value, y.Value), cmp.Compare(y.Size, x.Size), cmp.Compare(rank(x), rank(y)))
	})
	var out []*atom
	var prefixes []uint64
	for _, s := range syms {
		size := sec.Size()
		switch {
		case s.Value > size:
			continue // a symbol behind its section's end marks nothing
		case prefixed(s):
			prefixes = append(prefixes, s.Value)
			continue
		case s.Value == size && s.Size == 0 && s.Type != elf.STT_OBJECT:
			continue // an end label; an object may well be empty (struct lock_class_key)
		}
		if n := len(out); n > 0 {
			last := out[n-1]
			if s.Value == last.entry || s.Value < last.end {
				last.aliases = append(last.aliases, s)
				if s.Value == last.entry && rank(s) < rank(last.sym) && s.Size >= last.sym.Size {
					last.aliases = append(last.aliases, last.sym)
					last.sym = s
				}
				continue
			}
		}
		end := size
		if s.Size > 0 && s.Size <= size-s.Value {
			end = s.Value + s.Size
		}
		k := variable
		if c.code() {
			k = function
		}
		out = append(out, &atom{kind: k, class: c, sec: sec, start: s.Value, entry: s.Value, end: end, sym: s})
		if s.Size == 0 { // reaches to the next symbol
			out[len(out)-1].end = s.Value
		}
	}
	for i, a := range out {
		if a.sym.Size == 0 {
			a.end = sec.Size()
			if i+1 < len(out) {
				a.end = out[i+1].entry
			}
		}
	}
	if c.code() {
		padFunctions(out, append(prefixes, patchable...))
	}
	return out
}

// rank orders symbols at one address: the first names the atom.
func rank(s *elfobj.Symbol) int {
	n := 0
	if s.Type != elf.STT_FUNC && s.Type != elf.STT_OBJECT {
		n += 8
	}
	switch s.Bind {
	case elf.STB_GLOBAL:
	case elf.STB_WEAK:
		n++
	default:
		n += 2
	}
	return n
}

// padFunctions lets functions begin where their padding does.
func padFunctions(atoms []*atom, marks []uint64) {
	slices.Sort(marks)
	prev := uint64(0)
	for i, a := range atoms {
		switch k, _ := slices.BinarySearch(marks, prev); {
		case k < len(marks) && marks[k] < a.entry:
			a.start = marks[k]
		case i == 0 && a.entry > 0 && a.entry <= 64 && len(atoms) == 1:
			a.start = 0 // a section of its own: what precedes the entry belongs to it
		}
		prev = a.end
	}
}

// gapAtoms makes anonymous atoms of what lies between symbols and is referred
// to, cut where references point.
func (o *object) gapAtoms(sec *elfobj.Section, named []*atom, cuts []uint64) []*atom {
	if len(cuts) == 0 {
		return named
	}
	slices.Sort(cuts)
	cuts = slices.Compact(cuts)
	all := slices.Clone(named)
	gap := func(from, to uint64) {
		if from >= to {
			return
		}
		i, _ := slices.BinarySearch(cuts, from)
		for ; i < len(cuts) && cuts[i] < to; i++ {
			end := to
			if i+1 < len(cuts) && cuts[i+1] < to {
				end = cuts[i+1]
			}
			if cuts[i] == from && from > 0 && o.padding(sec, from, end) {
				continue // one past the end of the atom before
			}
			if sec.EntSize > 1 && sec.Flags&elf.SHF_MERGE != 0 && sec.EntSize < end-cuts[i] {
				end = cuts[i] + sec.EntSize
			}
			all = append(all, &atom{kind: anonymous, class: o.class[sec], sec: sec, start: cuts[i], entry: cuts[i], end: end})
		}
	}
	pos := uint64(0)
	for _, a := range named {
		gap(pos, a.start)
		pos = max(pos, a.end)
	}
	gap(pos, sec.Size())
	slices.SortFunc(all, func(x, y *atom) int { return cmp.Compare(x.start, y.start) })
	return all
}

// padding reports whether a range holds only what fills gaps: zeros, or nops
// and traps in code.
func (o *object) padding(sec *elfobj.Section, from, to uint64) bool {
	if sec.Type == elf.SHT_NOBITS {
		return true
	}
	for _, b := range sec.Data[from:to] {
		if b != 0 && !(sec.Exec() && (b == 0x90 || b == 0xcc)) {
			return false
		}
	}
	return true
}

// find returns the atom that offset off of a section belongs to. A section
// with one atom belongs to it wholly, so pointers one past its end, or before
// its beginning, stay with it.
func (o *object) find(sec *elfobj.Section, off int64) *atom {
	list := o.bySec[sec]
	switch {
	case len(list) == 0:
		return nil
	case len(list) == 1:
		return list[0]
	case off < 0:
		return list[0]
	}
	i := sort.Search(len(list), func(i int) bool { return list[i].start > uint64(off) })
	if i == 0 {
		return list[0]
	}
	return list[i-1]
}
