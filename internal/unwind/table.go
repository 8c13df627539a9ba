// SPDX-License-Identifier: Apache-2.0

// Package unwind finds the registers of a caller from those of a frame, by the
// .eh_frame section of x86-64 ELF files (System V ABI for x86-64, chapter
// 3.7; DWARF 5, chapter 6.4; Linux Standard Base, chapter 10.6).
//
// Parse makes a Table of a section's bytes. A Table gives a Row for the address
// of an instruction, and Row.Step applies it to registers and a stack.
//
// The bytes come from processes that nobody vouches for: every count and every
// loop is bounded, and nothing panics. What the package does not understand is
// an error and never a guess: a register whose value got lost is unknown, and a
// rule that needs it fails. Callers take an error as "anything may be there".
package unwind

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"sort"
)

const (
	// maxFrames bounds the entries of one section; the largest programs have
	// some hundred thousand.
	maxFrames = 1 << 20
	// maxAugmentation bounds the length of an augmentation string.
	maxAugmentation = 16
)

var (
	// ErrNoEntry says that no entry of the table covers an address.
	ErrNoEntry = errors.New("no unwind entry")
	// ErrMalformed says that bytes are not what the format asks for.
	ErrMalformed = errors.New("malformed unwind information")
	// ErrUnsupported says that an entry uses what this package does not know.
	ErrUnsupported = errors.New("unsupported unwind information")
	// ErrMemory says that a word of memory that a rule needs is not there.
	ErrMemory = errors.New("memory cannot be read")
	// ErrLost says that a rule needs a register whose value is not known.
	ErrLost = errors.New("value of a register is not known")
)

// Table holds the unwind entries of one ELF file. It refers to the bytes that
// it was parsed from, which must not change. It may be used concurrently.
type Table struct {
	data    []byte
	addr    uint64 // of data[0]
	entries []entry
	cies    []cie
	signals [][2]uint64
	skipped int
}

// entry is a frame description entry: a function, usually.
type entry struct {
	start, end uint64
	cie        int32
	ambiguous  bool // another entry covers a part of this one
	code       span // its instructions
}

// span is a piece of Table.data.
type span struct{ from, to uint32 }

// cie is a common information entry.
type cie struct {
	codeAlign uint64
	dataAlign int64
	encoding  byte // of addresses in its entries
	augmented bool // its entries have augmentation data
	signal    bool
	code      span
}

// Parse reads an .eh_frame section that lies at the virtual address addr, up
// to its terminator or the end of the bytes. Entries of kinds that it does not
// know are left out; a length that leaves the bytes is an error.
func Parse(frame []byte, addr uint64) (*Table, error) {
	t, p, err := newParser(frame, addr)
	if err != nil {
		return nil, err
	}
	for at := 0; at < len(frame); {
		next, err := p.record(at)
		if err != nil {
			return nil, fmt.Errorf(".eh_frame offset %#x: %w", at, err)
		}
		if next == 0 {
			break
		}
		at = next
	}
	t.finish()
	return t, nil
}

// newParser checks what Parse and ParseHeader have in common.
func newParser(frame []byte, addr uint64) (*Table, *parser, error) {
	if len(frame) > math.MaxInt32 || addr+uint64(len(frame)) < addr {
		return nil, nil, fmt.Errorf(".eh_frame of %d bytes at %#x: %w", len(frame), addr, ErrUnsupported)
	}
	t := &Table{data: frame, addr: addr}
	return t, &parser{t: t, cies: map[int]int32{}}, nil
}

// finish orders the entries and marks those that overlap.
func (t *Table) finish() {
	slices.SortFunc(t.entries, func(a, b entry) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	reach := -1 // the entry before that ends last
	for i := range t.entries {
		if e := &t.entries[i]; reach >= 0 && e.start < t.entries[reach].end {
			e.ambiguous, t.entries[reach].ambiguous = true, true
		}
		if e := &t.entries[i]; t.cies[e.cie].signal {
			t.signals = append(t.signals, [2]uint64{e.start, e.end})
		}
		if reach < 0 || t.entries[i].end > t.entries[reach].end {
			reach = i
		}
	}
}

// Len returns how many entries the table has.
func (t *Table) Len() int { return len(t.entries) }

// Skipped returns how many entries were left out because they use what this
// package does not know. Row answers ErrNoEntry for what they cover.
func (t *Table) Skipped() int { return t.skipped }

// Bounds returns the addresses of the function, as the entry tells it, that pc
// lies in.
func (t *Table) Bounds(pc uint64) (start, end uint64, ok bool) {
	e, err := t.find(pc)
	if err != nil {
		return 0, 0, false
	}
	return e.start, e.end, true
}

func (t *Table) find(pc uint64) (*entry, error) {
	i := sort.Search(len(t.entries), func(i int) bool { return t.entries[i].start > pc }) - 1
	if i < 0 || pc >= t.entries[i].end {
		return nil, ErrNoEntry
	}
	if t.entries[i].ambiguous {
		return nil, fmt.Errorf("two entries for %#x: %w", pc, ErrMalformed)
	}
	return &t.entries[i], nil
}

// Signals returns the address ranges of the entries that are signal
// trampolines: what the kernel has signal handlers return to.
func (t *Table) Signals() [][2]uint64 { return t.signals }

// Row returns the rules for the instruction at the virtual address pc. For the
// frame of a caller, pc is one less than the return address.
func (t *Table) Row(pc uint64) (Row, error) {
	e, err := t.find(pc)
	if err != nil {
		return Row{}, err
	}
	m := machine{t: t, cie: &t.cies[e.cie], loc: e.start, pc: pc, steps: maxInstructions}
	if _, err := m.run(m.cie.code); err != nil {
		return Row{}, err
	}
	m.initial = m.row
	m.started = true
	if _, err := m.run(e.code); err != nil {
		return Row{}, err
	}
	m.row.Signal = m.cie.signal
	return m.row, nil
}
