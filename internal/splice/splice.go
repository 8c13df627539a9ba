// SPDX-License-Identifier: Apache-2.0

// Package splice is what a userland live patch puts into the processes that map
// one ELF file: new code and data, what they refer to, and the functions that
// they stand for. It is pure: bytes in, values out, and back. Package
// userland/pack makes it, package process puts it into running processes.
//
// Addresses of the patched ELF file are its own virtual addresses, those of its
// program headers and symbols; a process adds its load bias. What the patch
// brings lies in three areas, which never share a page: Text is mapped R-X,
// ROData R-- and Data RW-. Nothing is ever writable and executable.
package splice

// Format is the number of this version of the encoding.
const Format = 1

// File is the whole for one ELF file, which is named by its build-id.
type File struct {
	Format  int    `json:"format"`
	BuildID string `json:"build_id"` // GNU build-id, hex
	Name    string `json:"name"`     // DT_SONAME, or the program's name
	Path    string `json:"path"`     // where the package installs it
	// Segments are the PT_LOAD headers of the ELF file, in its order. A process
	// in which they lie otherwise does not map this file.
	Segments []Segment `json:"segments"`

	Text   []byte `json:"text"`
	ROData []byte `json:"rodata,omitempty"` // constants, the patch's own GOT, .eh_frame
	Data   []byte `json:"data,omitempty"`
	BSS    uint32 `json:"bss,omitempty"` // zero bytes behind Data

	Functions []Function `json:"functions"` // ordered by Old, no overlap
	Relocs    []Reloc    `json:"relocs,omitempty"`
	Imports   []Import   `json:"imports,omitempty"`
	// Unwind is where ROData holds .eh_frame for Text, ended by a zero length.
	Unwind Range `json:"unwind,omitzero"`
	// Register tells that the unwinder of the process must know Unwind, because
	// exceptions or cancellation may pass through Text.
	Register bool `json:"register,omitempty"`
}

// Segment is one PT_LOAD header.
type Segment struct {
	Vaddr  uint64 `json:"vaddr"`
	Memsz  uint64 `json:"memsz"`
	Filesz uint64 `json:"filesz"`
	Flags  uint32 `json:"flags"` // PF_R, PF_W, PF_X
}

// Function is one function of the ELF file that gets new code.
type Function struct {
	Name   string `json:"name"`
	Source string `json:"source,omitempty"` // the file that defines it, in the source package
	Old    uint64 `json:"old"`              // virtual address
	Size   uint32 `json:"size"`             // bytes
	SHA256 string `json:"sha256"`           // hex, of the Size bytes at Old as shipped
	// Parts are other ranges of the ELF file that are this function too: what
	// the compiler put apart (.cold) and what only it calls (.part, .isra).
	Parts []Range `json:"parts,omitempty"`
	// Room is how many bytes from Old a jump may take: Size, and the padding
	// behind it.
	Room uint32 `json:"room"`
	// Skip is 4 where endbr64 stands first and must stay, else 0.
	Skip    uint32 `json:"skip,omitempty"`
	New     uint32 `json:"new"`      // offset in Text
	NewSize uint32 `json:"new_size"` // bytes
	Policy  Policy `json:"policy"`
}

// Policy says when a function may be redirected.
type Policy string

const (
	// Quiescent: no thread is in the old code of any function of the File.
	Quiescent Policy = "quiescent"
	// EntryOnly: activations of the old code may end in it; only the bytes of
	// the jump must be free.
	EntryOnly Policy = "entry-only"
)

// Range is a piece of an address space or of an area.
type Range struct {
	Start uint64 `json:"start"`
	Size  uint64 `json:"size"`
}

// Area is one of the three areas that a patch brings.
type Area string

// The areas.
const (
	InText   Area = "text"
	InROData Area = "rodata"
	InData   Area = "data" // BSS lies behind it
)

// RelocKind is what is written at a place.
type RelocKind string

const (
	// Abs64 writes S + A, 8 bytes.
	Abs64 RelocKind = "abs64"
	// PC32 writes S + A - P, 4 bytes, signed: S must be within 2 GiB.
	PC32 RelocKind = "pc32"
	// Abs32 writes S + A, 4 bytes: below 2 GiB, as only programs of fixed
	// addresses have it.
	Abs32 RelocKind = "abs32"
	// PC64 writes S + A - P, 8 bytes (jump tables and .eh_frame of large models).
	PC64 RelocKind = "pc64"
)

// Reloc is one place in an area that hangs on where things lie in a process.
type Reloc struct {
	Area   Area      `json:"area"`
	Offset uint32    `json:"offset"`
	Kind   RelocKind `json:"kind"`
	Ref    Ref       `json:"ref"`
	Addend int64     `json:"addend,omitempty"`
}

// RefKind is what a Ref's Value counts.
type RefKind string

const (
	// RefText, RefROData and RefData: an offset in an area of this patch.
	RefText   RefKind = "text"
	RefROData RefKind = "rodata"
	RefData   RefKind = "data"
	// RefTarget: a virtual address in the patched ELF file.
	RefTarget RefKind = "target"
	// RefSlot: the 8 bytes that the loader has put at this virtual address of
	// the patched ELF file: a GOT entry, a thread-local offset, a module id.
	// It goes with Abs64 and no addend. Where the entry is bound lazily and is
	// not bound yet, Import says what it will be.
	RefSlot RefKind = "slot"
	// RefImport: an index of Imports, looked up as the loader would.
	RefImport RefKind = "import"
)

// Ref names something that has an address, or a value for RefSlot.
type Ref struct {
	Kind  RefKind `json:"kind"`
	Value uint64  `json:"value"`
	// Import is 1 + the index of the import that a RefSlot holds, 0 for none.
	Import int `json:"import,omitempty"`
}

// Import is a symbol of another ELF file.
type Import struct {
	Name    string `json:"name"`
	Version string `json:"version,omitempty"` // "GLIBC_2.14"
	Library string `json:"library,omitempty"` // that the version is of: "libc.so.6"
	Func    bool   `json:"func,omitempty"`    // STT_FUNC or STT_GNU_IFUNC
	Weak    bool   `json:"weak,omitempty"`    // it may be missing: its address is 0 then
}
