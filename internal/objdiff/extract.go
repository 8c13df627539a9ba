// SPDX-License-Identifier: Apache-2.0

package objdiff

import "github.com/tsugi-project/tsugi/internal/elfobj"

// Extract is the part of a patched object that a live patch must carry:
// changed and new functions, the data that only they bring, and the entries of
// special sections that belong to them. It knows nothing of kernels: how its
// undefined symbols are found in the target is its user's business.
type Extract struct {
	// File is a relocatable object of its own. Changed functions are local
	// symbols under their original names, each in a section ".text.<name>";
	// new global functions and data stay global. Whatever exists in the target
	// already is an undefined symbol; an undefined symbol may bear the name of
	// a local one (a pointer to the original of a changed function).
	File *elfobj.File
	// Replaced lists the changed functions, in the order of the original object.
	Replaced []Replacement
	// Refs says of every undefined symbol of File what it stands for.
	Refs []Ref
	// Hooks are the callbacks and states that the author wrote with
	// <tsugi/livepatch.h>.
	Hooks []Hook
	// Opened are the functions and variables that were static and are global
	// now, so that other objects of the fix may name them.
	Opened []Opened
	// Edits is the table of edited words in File (see EditsSymbol), nil if
	// there are none, and Edited the variables that they are in, in the
	// original object.
	Edits  *elfobj.Symbol
	Edited []*elfobj.Symbol
	// Lent are addresses in File that may be kept longer than a task runs in
	// it: a module that holds it must never leave memory.
	Lent []string
}

// Replacement pairs a function of the original object with its new code.
type Replacement struct {
	Orig   *elfobj.Symbol // in the original object
	New    *elfobj.Symbol // in Extract.File
	Change string         // why it counts as changed, for people
}

// Ref explains an undefined symbol of an Extract.
type Ref struct {
	Symbol *elfobj.Symbol // undefined, in Extract.File
	// Orig is the symbol it stands for in the original object: defined there
	// (a function or variable of that object, local or global) or undefined
	// there too. It is nil when only the patched object mentions it: then it
	// is a global that the target or another Extract defines.
	Orig *elfobj.Symbol
	// Pointer tells that the address is taken, not only called or jumped to.
	Pointer bool
	// NewPointer tells that the original object never took this address.
	NewPointer bool
}

// Opened is something static that becomes global.
type Opened struct {
	Name string         // in the patched object
	Orig *elfobj.Symbol // in the original object
}

// Hook is one use of a macro of <tsugi/livepatch.h>.
type Hook struct {
	Kind   HookKind
	Symbol *elfobj.Symbol // the callback or the state object, in Extract.File
}

// HookKind names a macro of <tsugi/livepatch.h>.
type HookKind string

// The hooks, named after the fields of struct klp_callbacks; a state is a
// struct klp_state. Each is a pointer in section ".tsugi.<kind>".
const (
	HookPrePatch    HookKind = "pre_patch"
	HookPostPatch   HookKind = "post_patch"
	HookPreUnpatch  HookKind = "pre_unpatch"
	HookPostUnpatch HookKind = "post_unpatch"
	HookState       HookKind = "state"
)
