// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"context"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// Input is one changed object of the target.
type Input struct {
	Object string // path of the object in the build directory, "fs/ext4/mballoc.o"
	Module string // name of the module it is linked into, "" for vmlinux
	// Plain is the original compiled just as kbuild does, without function
	// sections: its sections are those that the linker has put into the target.
	Plain   *elfobj.File
	Extract objdiff.Extract
}

// Options say what module to make.
type Options struct {
	Name string // module name: a-z, 0-9 and _, at most 55 bytes
	// Keep makes the patch stack on others instead of replacing every live
	// patch that is active (klp_patch.replace = false).
	Keep        bool
	Description string            // for modinfo; one line
	Info        map[string]string // further modinfo, written as tsugi_KEY=VALUE
	// Sign, if not nil, gets the finished module and returns it signed.
	Sign func(ko []byte) ([]byte, error)
}

// Module is a finished live patch module.
type Module struct {
	Name      string
	KO        []byte
	Functions []Function
	Symbols   []Symbol // what the kernel's livepatch core must resolve
	States    []State
	Proof     Proof
	// Stays says why the module can't be unloaded once it is loaded: addresses
	// of its own that somebody may keep. Empty: it can.
	Stays []string
	// Warnings are the lines in which Kbuild or objtool complained about the
	// module, undefined symbols aside. A clean build has none.
	Warnings []string
}

// Function is one replaced function.
type Function struct {
	Object  string // module that holds it, "vmlinux" for the kernel proper
	File    string // object file, "fs/ext4/mballoc.o"
	Name    string // as the target's symbol table has it
	SymPos  int    // 0: the name is unique in Object
	Section string // in a module: the section that Address counts from
	Address uint64 // link-time address in vmlinux; offset in Section in a module
	Size    uint64 // bytes of the original
	NewSize uint64 // bytes of the replacement, without its .cold part
	Change  string // why it counts as changed, from the differ
}

// State is one klp_state of the module.
type State struct {
	ID      uint64
	Version uint32
}

// Symbol is one symbol that livepatch relocations of the module refer to.
type Symbol struct {
	Object string `json:"object"` // "vmlinux" or a module
	Name   string `json:"name"`
	SymPos int    `json:"sympos"`
	Relocs int    `json:"relocs"` // how many relocations use it
}

// Proof counts what was compared with the target's own bytes.
type Proof struct {
	Functions int `json:"functions"` // replaced functions, all equal to the running code
	Bytes     int `json:"bytes"`     // of those and their .cold parts
	Exact     int `json:"exact"`     // relocated fields compared by value, not only masked
	Masked    int `json:"masked"`    // relocated fields whose value could not be known
}

// Build makes the module. It returns a *code.Problem when the inputs and the
// target do not fit (TS51xx), when something cannot be placed safely (TS52xx),
// or when the module does not link or does not pass the last check (TS53xx).
// The same target, options and inputs give the same bytes.
func Build(ctx context.Context, t *Target, opts Options, inputs []Input) (*Module, error) {
	return build(ctx, t, opts, inputs)
}

// Place does all of Build that needs no compiler, and returns the module
// without its bytes: whether every function can be replaced and every symbol
// resolved, in a tenth of the time. It returns the problems of Build up to
// TS52xx.
func Place(t *Target, opts Options, inputs []Input) (*Module, error) {
	m, _, _, err := ready(t, opts, inputs)
	return m, err
}
