// SPDX-License-Identifier: Apache-2.0

// Package arch describes what differs by architecture when two builds of an
// object are compared: what a relocation means, which special sections a
// kernel object has and how their entries are laid out, and how functions
// begin. Everything else in the engine is the same for all.
//
// x86_64 is complete. For other architectures For gives a description without
// instruction decoding: objects are compared byte by byte and relocation by
// relocation, which finds every change but forgives less.
package arch

import (
	"debug/elf"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/insn"
)

// Arch is one architecture's description.
type Arch struct {
	Machine elf.Machine
	Name    string // the kernel's name of it, as in uname -m
	// Special lists the sections whose entries belong to functions.
	Special []Special
	// LineCallees names the functions that take a source line, LineRegs the
	// registers (insn.Inst.MovImm numbers) in which it may be passed.
	LineCallees map[string]bool
	LineRegs    map[int]bool
	// Decode is nil where instructions are not decoded.
	Decode func(code []byte) (insn.Inst, error)
	// rel classifies relocation types.
	rel func(typ uint32) Rel
	// entryCalls are the symbols that a function's first relocation refers to
	// when the compiler made it traceable.
	entryCalls map[string]bool
	// PCRelCall is the relocation type that the engine itself writes: that of
	// a call or jump.
	PCRelCall uint32
	// KeyTest is nil where nobody has written one.
	KeyTest *KeyTest
}

// KeyTest says how a jump label is turned into code that reads its key. It is
// code of its own behind the function, because it does not fit in the label's
// place; what it clobbers, the compiler takes a label to clobber.
type KeyTest struct {
	// On and Off are the code that goes on to Taken when the key is on, or off,
	// and else to Back. The fields are zero, and four bytes each.
	On, Off          []byte
	Key, Taken, Back int // offsets of the fields, each relative to an instruction's end
	KeyToEnd         int // bytes from the key's field to that end
	KeyRel           uint32
	// Jump is a jump whose displacement of four bytes comes last, Nop what a
	// label of the same length is while it does not jump.
	Jump, Nop []byte
}

// Rel is what the engine must know of a relocation type.
type Rel struct {
	Known bool
	PCRel bool
	Size  int // bytes of the field
	// ToEnd is how far behind the field an instruction ends, for PC-relative
	// fields of instructions that were not decoded.
	ToEnd int
	// Way is how the field leads to its symbol.
	Way Way
}

// Way is how a relocation's field leads to its symbol. The same bytes with the
// same symbol are two different instructions when the ways differ.
type Way uint8

const (
	Direct   Way = iota // the symbol itself, or a call of it through the PLT
	ByGOT               // an entry of the GOT that holds its address
	TLSGD               // thread-local: a pair of GOT entries for __tls_get_addr
	TLSLD               // the same pair for the object's own block
	TLSIE               // a GOT entry with the offset from the thread pointer
	TLSDesc             // a descriptor in the GOT
	TLSLE               // the offset from the thread pointer
	TLSBlock            // the offset in the object's block
	SizeOf              // the symbol's size
)

// ThreadLocal reports whether the symbol must be a thread-local one.
func (w Way) ThreadLocal() bool { return w >= TLSGD && w <= TLSBlock && w != TLSLD }

// Rel classifies a relocation type; an unknown one has Known false.
func (a *Arch) Rel(typ uint32) Rel { return a.rel(typ) }

// Special describes one special section: an array whose entries each belong
// to a piece of code.
type Special struct {
	Name string
	// Entry is the size of an entry in bytes when BTF does not tell; 0 means
	// that entries begin at the relocations which are a multiple of Relocs.
	Entry int
	// Struct is the kernel's name of the entry type, for a look-up in BTF.
	Struct string
	// Relocs is how many relocations an entry has at most.
	Relocs int
	// Owner is the ordinal of the relocation that points at the owning code.
	Owner int
	// Table names a parallel array without relocations (.orc_unwind beside
	// .orc_unwind_ip), TableEntry its entry size, TableStruct its type.
	Table, TableStruct string
	TableEntry         int
	Rule               Rule
	// Mask blanks the parts of an entry that are no change (a line number)
	// before comparison. It may be nil.
	Mask func(entry []byte)
	// IgnoreReloc tells that an entry's relocation is meaningless (the
	// replacement of an alternative without one). It may be nil.
	IgnoreReloc func(entry []byte, ordinal int) bool
	// Key is the ordinal of the relocation that names a static key or static
	// call key, or -1.
	Key     int
	KeyKind KeyKind
	// Covers tells how many bytes of the owning code are the entry's to
	// rewrite, where that is not one instruction. It may be nil.
	Covers func(entry []byte) int
}

// Rule says what to do with a special section's entries.
type Rule uint8

const (
	// Compare: entries are part of the function's meaning, and are kept.
	Compare Rule = iota
	// Keep: entries follow from the code; they are kept but not compared.
	Keep
	// Drop: entries are of no use in a module.
	Drop
)

// KeyKind tells the two kinds of run-time patched branches apart.
type KeyKind uint8

const (
	NoKey KeyKind = iota
	JumpLabel
	StaticCall
)

// FindSpecial returns the description that applies to a section name.
func (a *Arch) FindSpecial(name string) (Special, bool) {
	for _, s := range a.Special {
		if s.Name == name {
			return s, true
		}
	}
	return Special{}, false
}

// IsParallel reports whether the section is the Table of a special section.
func (a *Arch) IsParallel(name string) bool {
	for _, s := range a.Special {
		if s.Table == name && name != "" {
			return true
		}
	}
	return false
}

// EntryCall reports whether a relocation at a function's beginning refers to
// the tracer's entry hook.
func (a *Arch) EntryCall(sym *elfobj.Symbol) bool { return sym != nil && a.entryCalls[sym.Name] }

// For returns the description of a machine. It never fails: an architecture
// that nobody described is compared bytewise.
func For(m elf.Machine) *Arch {
	if m == elf.EM_X86_64 {
		return x8664()
	}
	return generic(m)
}
