// SPDX-License-Identifier: Apache-2.0

// Package build makes live patches of libraries and programs.
//
// In go source fixes and a prepared target (package userland), out come a
// verdict and an artifact with one splice for each ELF file that changes:
//
//	fix ──► units ──► pairs ──► differences ──► places ──► splice
//	diff    sources   each      per function,   proven     package
//	        it        compiled  or why not      byte by    pack
//	        reaches   twice                     byte
//
// A translation unit is reached when its compiler reads a file that the fix
// changes: the rule that gcc -M writes says so. What can't be judged is an
// error, and never "not affected".
//
// The core is Splice, which knows no packages: two compiled objects of each
// unit and the linked file go in. Every function that is to be replaced, and
// every constant that new code shares with old, is found in the linked file
// and compared with the compiled one, relocations included; where that can't
// be done there is no live patch.
package build

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// Linked is the ELF file that is to be patched.
type Linked struct {
	File *dso.File // as shipped: its bytes are what processes map
	// Symbols are what is known of it: .symtab of the same file built again, of
	// a debug file of its build-id, or a list of names. The file's own dynamic
	// symbols need not be among them. Size and Source may be missing.
	Symbols []dso.Symbol
	Name    string // DT_SONAME, or the program's name
	Path    string // where the package installs it
}

// Unit is one translation unit of the linked file.
type Unit struct {
	Source string // in the source package, for people
	// Plain is compiled as packaging does it; nil: Orig stands for it.
	Plain *elfobj.File
	// Orig and Patched are compiled with the same flags and one section for
	// each symbol: -ffunction-sections -fdata-sections. With -g0 -gbtf they
	// tell the layouts of types as well.
	Orig, Patched *elfobj.File
}

// Options of Splice.
type Options struct {
	// Accept lets the caller live with a refusal, as in objdiff.Options.
	Accept func(*code.Problem) bool
	// Exceptions: the engine can register unwind tables in a process, so
	// functions where exceptions stop may change.
	Exceptions bool
	// EntryOnly: activations of the old code may end in it. Without it no thread
	// may be in any function that changes.
	EntryOnly bool
}

// Problem is a refusal or a risk with its place.
type Problem struct {
	*code.Problem
	Source string `json:"source,omitempty"` // the unit
}

// UnitResult is what became of one unit.
type UnitResult struct {
	Source string          `json:"source"`
	Diff   *objdiff.Result `json:"diff,omitempty"`
}

// Proof counts what was compared with the file as it was shipped.
type Proof struct {
	Functions int `json:"functions"`
	Bytes     int `json:"bytes"`
}

// Result is what Splice found and made.
type Result struct {
	Units    []UnitResult
	Refusals []Problem
	Risks    []Problem
	Proven   Proof
	// Splice is nil when something is refused or nothing changes.
	Splice *splice.File
}

// Refused reports that the change can't be had in running processes.
func (r *Result) Refused() bool { return len(r.Refusals) > 0 }

// Splice compares the units of one linked file and packs what changed. A fix
// that can't be live is a Result with Refusals and no error. An error says that
// there is no answer: TS3510 that something is not found in the file, TS3511
// that it holds other code than was compiled.
func Splice(l *Linked, units []Unit, opt Options) (*Result, error) {
	b, err := newBinder(l)
	if err != nil {
		return nil, err
	}
	r := &Result{}
	var parts []*part
	for _, u := range units {
		p, err := b.compare(u, opt, r)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", u.Source, err)
		}
		if p != nil {
			parts = append(parts, p)
		}
	}
	r.order()
	if r.Refused() || !slices.ContainsFunc(parts, func(p *part) bool { return len(p.extract.Replaced) > 0 }) {
		return r, nil
	}
	if err := b.place(parts, opt, r); err != nil {
		return nil, err
	}
	r.order()
	if r.Refused() {
		return r, nil
	}
	if err := b.pack(parts, opt, r); err != nil {
		return nil, err
	}
	r.order()
	return r, nil
}

// order puts what people read into one order, each thing once.
func (r *Result) order() {
	for _, list := range []*[]Problem{&r.Refusals, &r.Risks} {
		slices.SortStableFunc(*list, func(x, y Problem) int {
			return cmp.Or(cmp.Compare(x.Source, y.Source), cmp.Compare(x.Code, y.Code), cmp.Compare(x.Where, y.Where), cmp.Compare(x.Why, y.Why))
		})
		*list = slices.CompactFunc(*list, func(x, y Problem) bool {
			return x.Source == y.Source && x.Code == y.Code && x.Where == y.Where && x.Why == y.Why
		})
	}
}

// part is one unit on its way into a splice.
type part struct {
	unit    Unit
	diff    *objdiff.Result
	extract *objdiff.Extract
	where   *located
	same    map[string]bool // replaced functions that packaging compiles to the same instructions
	// functions are the places of the replaced ones, by their new symbol.
	functions map[*elfobj.Symbol]splice.Function
}

// compare diffs one unit. It returns nil when nothing of it is carried.
func (b *binder) compare(u Unit, opt Options, r *Result) (*part, error) {
	if u.Plain != nil {
		mergeAs(u.Plain, u.Orig, u.Patched)
	}
	d, err := objdiff.Diff(u.Orig, u.Patched, objdiff.Options{
		Trace: objdiff.TraceUnneeded, Userland: true, Preempted: b.preempted, Accept: opt.Accept,
	})
	if err != nil {
		return nil, err
	}
	r.Units = append(r.Units, UnitResult{Source: u.Source, Diff: d})
	for _, p := range d.Refusals {
		r.Refusals = append(r.Refusals, Problem{worded(p), u.Source})
	}
	for _, p := range d.Risks {
		if !kernelOnly[p.Code] {
			r.Risks = append(r.Risks, Problem{worded(p), u.Source})
		}
	}
	if err := compareTypes(u, opt, r); err != nil {
		return nil, err
	}
	if d.Refused() {
		return nil, nil
	}
	e, err := d.Extract()
	if err != nil {
		return nil, err
	}
	if len(e.Replaced) == 0 && len(e.File.Sections) == 0 {
		return nil, nil
	}
	if names := d.Landing(); len(names) > 0 && !opt.Exceptions {
		for _, n := range names {
			r.Refusals = append(r.Refusals, Problem{worded(code.New("TS4054", n, "")), u.Source})
		}
	}
	if isCPlusPlus(u.Source) && !opt.Exceptions {
		for _, n := range passed(u.Patched, e.File) {
			r.acceptable(code.New("TS4057", n, ""), u, opt)
		}
	}
	return &part{unit: u, diff: d, extract: e, functions: map[*elfobj.Symbol]splice.Function{}}, nil
}
