// SPDX-License-Identifier: Apache-2.0

// Package objdiff compares two builds of one object, the original and the
// patched one, and says which functions changed, what the new ones need, and
// what of the change can't be had by replacing functions.
//
// The unit is the symbol, not the section: both objects are cut into atoms (a
// function, a variable, a string, an anonymous constant, an entry of a special
// section), relocations are resolved to atoms, atoms of the two sides are
// correlated by name, use and content, and then compared. A relocation so
// means "the variable count of tcp_ack at offset 0" and not "section 12 plus
// 4", whatever the compiler called it and wherever it lies.
//
// The package is pure: two elfobj.Files in, a Result out, the same every time.
// It knows no kernel and no target; what only a target can answer is asked
// through Options. Best results come from objects compiled with
// -ffunction-sections -fdata-sections, but nothing depends on it.
package objdiff

import (
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/arch"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/layout"
)

// Options asks of a target what objects don't tell. The zero value compares
// two objects with no target at hand.
type Options struct {
	// EntrySize returns the size in bytes of a kernel struct by name (from
	// BTF), for the entries of special sections.
	EntrySize func(structName string) (size int, ok bool)
	// Trace says whether replaced functions need the tracer's entry call.
	Trace Trace
	// BuiltIn: the object is part of vmlinux, where __exit code does not exist.
	BuiltIn bool
	// KeyOwner tells where a static key or static call key lives. sym is its
	// symbol in the patched object, defined or undefined there. Nil: unknown.
	KeyOwner func(sym *elfobj.Symbol) Owner
	// Field tells by the patched object's types what lies at an offset of one
	// of its variables. Nil: nothing is known, and no variable is edited.
	Field func(variable string, off uint64) (layout.Field, bool)
	// Userland: the objects are of a program or library, not of a kernel. Their
	// .eh_frame is read and carried, what only a loader acts on is refused, and
	// kernels' names mean nothing.
	Userland bool
	// Preempted reports whether calls of a global function of the original may
	// end in another file's function of that name. Nil: none do.
	Preempted func(name string) bool
	// Accept lets the caller live with a refusal: the part of the change that
	// it is about is then left out, and a risk in its place. It is asked only
	// about what can be left out without breaking the rest.
	Accept func(*code.Problem) bool
}

// acceptable are the refusals about effects at boot or on data that exists:
// without them the functions that changed are still whole.
var acceptable = map[code.Code]bool{"TS4002": true, "TS4010": true, "TS4012": true, "TS4013": true}

// Trace is a requirement on functions that are to be replaced.
type Trace uint8

const (
	// TraceAuto requires the entry call when any function of the original
	// object has one.
	TraceAuto Trace = iota
	TraceRequired
	TraceUnneeded
)

// Owner is where a symbol lives in the target.
type Owner uint8

const (
	OwnerUnknown Owner = iota
	OwnerKernel        // vmlinux
	OwnerModule
)

// Result is what a comparison found. Lists are in the order of the objects.
type Result struct {
	Arch     string          `json:"arch"`
	Changed  []Function      `json:"changed,omitempty"`
	New      []Function      `json:"new,omitempty"`
	Removed  []string        `json:"removed,omitempty"`
	Opened   []string        `json:"opened,omitempty"`  // static ones that become global
	Data     []Datum         `json:"data,omitempty"`    // data that the patch brings
	Special  []Kept          `json:"special,omitempty"` // special section entries that it brings
	Edits    []Edit          `json:"edits,omitempty"`   // data of the target that it edits in place
	Lent     []string        `json:"lent,omitempty"`    // addresses of its own that somebody may keep, see lend.go
	Refusals []*code.Problem `json:"refusals,omitempty"`
	Risks    []*code.Problem `json:"risks,omitempty"`
	Notes    []string        `json:"notes,omitempty"`

	orig, patched *object
	opt           Options
	dropped       map[*entry]bool      // special entries left out on purpose
	rewritten     map[*atom]*rewritten // code that tests keys in their place
	unparted      map[*atom]string     // functions that stay because of what points to them
	edits         []*editing
	unedited      map[*atom]string // changed variables that can't be edited, and why
}

// Function is a changed or new function.
type Function struct {
	Name    string `json:"name"`
	Section string `json:"section"`
	Size    int    `json:"size"` // bytes of new code, its cold part not counted
	Why     string `json:"why,omitempty"`
	Global  bool   `json:"global,omitempty"`
	// StandIn: it changes only to call the copy of a function that the tracer
	// can't redirect.
	StandIn bool `json:"stand_in,omitempty"`
}

// Datum is a variable or constant that the patch carries.
type Datum struct {
	Name    string `json:"name"`
	Section string `json:"section"`
	Size    int    `json:"size"`
}

// Kept counts the entries of one special section that a function brings.
type Kept struct {
	Section  string `json:"section"`
	Function string `json:"function"`
	Entries  int    `json:"entries"`
	// Dropped counts entries that were left out, which a risk explains.
	Dropped int `json:"dropped,omitempty"`
}

// Same reports that the patched object does what the original does.
func (r *Result) Same() bool {
	return len(r.Changed) == 0 && len(r.Edits) == 0 && len(r.Refusals) == 0 && !r.hasHooks()
}

// Refused reports that the change can't be had by replacing functions.
func (r *Result) Refused() bool { return len(r.Refusals) > 0 }

// Diff compares two builds of one object. The error says that the objects
// can't be compared at all; what can't be patched is in Result.Refusals.
func Diff(orig, patched *elfobj.File, opt Options) (*Result, error) {
	if orig.Machine != patched.Machine || orig.Order != patched.Order || orig.Flags != patched.Flags {
		return nil, code.New("TS1002", "", fmt.Sprintf("the original is %v (flags %#x), the patched one %v (flags %#x)",
			orig.Machine, orig.Flags, patched.Machine, patched.Flags))
	}
	for _, f := range []*elfobj.File{orig, patched} {
		if f.Symbol("__gnu_lto_slim") != nil {
			return nil, code.New("TS1003", "", "it was compiled with -flto")
		}
	}
	a := arch.For(orig.Machine)
	o, err := newObject(orig, a, opt)
	if err != nil {
		return nil, fmt.Errorf("original object: %w", err)
	}
	p, err := newObject(patched, a, opt)
	if err != nil {
		return nil, fmt.Errorf("patched object: %w", err)
	}
	correlate(o, p)
	r := &Result{Arch: a.Name, orig: o, patched: p, opt: opt, dropped: map[*entry]bool{}, rewritten: map[*atom]*rewritten{}, unparted: map[*atom]string{}}
	r.edit(r.compare())
	r.include()
	r.judge()
	if opt.Userland {
		r.judgeUserland()
	}
	r.Lent = r.lends()
	r.describe()
	return r, nil
}

// describe fills the lists that people read.
func (r *Result) describe() {
	for _, a := range r.patched.atoms {
		if !a.included {
			continue
		}
		switch {
		case a.kind == function && a.parent != nil:
		case a.kind == function && a.state == changed:
			r.Changed = append(r.Changed, describeFunction(a))
		case a.kind == function:
			r.New = append(r.New, describeFunction(a))
		case a.kind == variable:
			r.Data = append(r.Data, Datum{Name: a.name(), Section: a.sec.Name, Size: int(a.size())})
		}
		r.describeEntries(a)
	}
	for _, a := range r.orig.atoms {
		if a.kind == function && a.twin == nil && a.parent == nil && !a.trampoline() {
			r.Removed = append(r.Removed, a.name())
		}
	}
	for _, o := range r.opened() {
		r.Opened = append(r.Opened, o.Name)
	}
	order := func(x, y *code.Problem) int {
		return strings.Compare(string(x.Code)+x.Where, string(y.Code)+y.Where)
	}
	slices.SortStableFunc(r.Refusals, order)
	slices.SortStableFunc(r.Risks, order)
}

func describeFunction(a *atom) Function {
	return Function{
		Name: a.name(), Section: a.sec.Name, Size: int(a.size()), Why: a.why,
		Global: a.sym.Bind != elf.STB_LOCAL, StandIn: a.standIn,
	}
}

func (r *Result) describeEntries(a *atom) {
	var list []Kept
	for _, e := range a.special {
		i := slices.IndexFunc(list, func(k Kept) bool { return k.Section == e.spec.Name })
		if i < 0 {
			i = len(list)
			list = append(list, Kept{Section: e.spec.Name, Function: a.family().name()})
		}
		if r.dropped[e] {
			list[i].Dropped++
		} else {
			list[i].Entries++
		}
	}
	r.Special = append(r.Special, list...)
}
