// SPDX-License-Identifier: Apache-2.0

// Package dso reads linked ELF64 files, shared libraries and programs: their
// segments, build-id, symbols with versions, and what the loader writes into
// which GOT entry. A file may be one on disk, or one that a process has mapped
// and that is read out of that process's memory, where the path may long be
// another file's. Relocatable objects are package elfobj's.
//
// All addresses are the file's own virtual addresses, as its program headers
// and symbols count. A process adds File.Bias.
//
// The bytes may be a hostile process's: every length is bounded before it is
// believed, and memory is only taken for what could be read. Nothing that a
// File says about a process may be trusted beyond what that process could do
// to itself.
//
// The format is the System V gABI's; symbol versions and DT_GNU_HASH are as
// glibc's elf/dl-lookup.c and elf/dl-version.c understand them.
package dso

import (
	"debug/elf"
	"errors"
	"io"
	"sync"
)

var (
	// ErrFormat is in the chain of every error about bytes that are no linked
	// ELF64 file, or that contradict themselves.
	ErrFormat = errors.New("not a usable linked ELF64 file")
	// ErrClass is there too when it is an ELF file of another word size or
	// byte order.
	ErrClass = errors.New("not of 64 bits, little-endian")
)

// Limits on what foreign bytes may claim. The largest programs of Debian 12 are
// below a tenth of each.
const (
	maxHeaders  = 1 << 10   // program headers
	maxSections = 1 << 16   // section headers
	maxDynamic  = 1 << 12   // entries of PT_DYNAMIC
	maxSymbols  = 1 << 20   // of one table
	maxRelocs   = 1 << 20   // dynamic relocations
	maxVersions = 1 << 15   // what 15 bits can count
	maxNote     = 64 << 10  // bytes of one PT_NOTE
	maxName     = 64 << 10  // bytes of one name
	maxTable    = 64 << 20  // bytes of one table
	maxScan     = 256 << 20 // bytes looked at for the ends of names, in one table
)

// File is one linked ELF file. It may be used by many goroutines at once if
// its reader may. Tables are read when they are first asked for and kept.
type File struct {
	Type    elf.Type // ET_DYN or ET_EXEC
	Machine elf.Machine
	Entry   uint64 // 0 for none
	BuildID string // GNU build-id in lower-case hex, "" for none
	Soname  string // DT_SONAME
	Interp  string // PT_INTERP: the dynamic loader that a program asks for
	Needed  []string
	// Segments are the PT_LOAD headers, ordered by address, without overlap.
	Segments []Segment
	// TLS, Relro, Dynamic and EHFrameHdr are PT_TLS, PT_GNU_RELRO, PT_DYNAMIC
	// and PT_GNU_EH_FRAME; of size 0 where there is none.
	TLS, Relro, Dynamic, EHFrameHdr Range
	TLSAlign                        uint64
	PIE                             bool // DF_1_PIE: a program that may lie anywhere
	BindNow                         bool // all its GOT entries are resolved at the start
	Symbolic                        bool // DF_SYMBOLIC: it looks into itself first
	// Memory tells that the file is read from a process's memory, and Bias
	// what that process adds to virtual addresses.
	Memory bool
	Bias   uint64

	r   io.ReaderAt
	dyn map[elf.DynTag]uint64

	relocs  func() ([]rela, error)
	symbols func() (*symbolTable, error)
}

// Range is a piece of the file's virtual address space.
type Range struct{ Start, Size uint64 }

// Segment is one PT_LOAD header.
type Segment struct {
	Vaddr, Memsz   uint64
	Offset, Filesz uint64
	Align          uint64
	Flags          uint32 // PF_R, PF_W, PF_X
}

// Open reads a file. r need not be closed by anybody but its owner, and must
// live as long as the File is used.
func Open(r io.ReaderAt) (*File, error) { return open(r, 0, false) }

// OpenMemory reads a file that a process has mapped: r is the process's
// address space, and base the address at which the mapping of file offset 0
// lies, where the ELF header is.
func OpenMemory(r io.ReaderAt, base uint64) (*File, error) { return open(r, base, true) }

// Own reports that a virtual address lies in one of the file's segments.
func (f *File) Own(vaddr uint64) bool { _, ok := f.segment(vaddr); return ok }

// Executable reports that a virtual address lies in a segment that is mapped
// with the right to execute.
func (f *File) Executable(vaddr uint64) bool {
	s, ok := f.segment(vaddr)
	return ok && elf.ProgFlag(s.Flags)&elf.PF_X != 0
}

func (f *File) segment(vaddr uint64) (Segment, bool) {
	for _, s := range f.Segments {
		if vaddr >= s.Vaddr && vaddr-s.Vaddr < s.Memsz {
			return s, true
		}
	}
	return Segment{}, false
}

// lazy sets what is read on demand.
func (f *File) lazy() {
	f.relocs = sync.OnceValues(f.readRelocs)
	f.symbols = sync.OnceValues(f.readSymbols)
}
