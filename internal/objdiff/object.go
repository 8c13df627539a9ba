// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"bytes"
	"debug/elf"
	"fmt"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/arch"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// object is one side of a comparison, cut into atoms.
type object struct {
	file    *elfobj.File
	arch    *arch.Arch
	opt     Options
	class   map[*elfobj.Section]class
	atoms   []*atom // in the order of sections and offsets
	bySec   map[*elfobj.Section][]*atom
	bySym   map[*elfobj.Symbol]*atom
	externs map[string]*elfobj.Symbol // undefined and absolute symbols by name
	specs   map[*elfobj.Section]*arch.Special
	hooks   []*hookRef
	traced  bool // some function has the tracer's entry call
	loader  []loaderRef
}

// hookRef is a pointer in a section of <tsugi/livepatch.h>.
type hookRef struct {
	kind   HookKind
	target target
}

// ref is a reference from an atom or special entry to something else.
type ref struct {
	off      uint64 // from the atom's start, or in the entry
	typ      uint32
	toEnd    int64 // in code, PC-relative: bytes from the field to the end of the instruction
	size     int   // bytes of the field, 0 if unknown
	branch   bool  // a call or jump, not an address taken
	implicit bool  // resolved by the assembler: no relocation holds it
	to       target
}

// target is what a reference means.
type target struct {
	extern  *elfobj.Symbol // undefined or absolute
	atom    *atom
	off     int64 // from the atom's entry, or from the extern's value
	literal []byte
	litSec  *elfobj.Section // section of the literal
}

func newObject(f *elfobj.File, a *arch.Arch, opt Options) (*object, error) {
	o := &object{
		file: f, arch: a, opt: opt,
		class: map[*elfobj.Section]class{}, bySec: map[*elfobj.Section][]*atom{},
		bySym: map[*elfobj.Symbol]*atom{}, externs: map[string]*elfobj.Symbol{},
		specs: map[*elfobj.Section]*arch.Special{},
	}
	for _, s := range f.Sections {
		o.class[s] = o.classify(s)
	}
	o.cutAtSymbols()
	sites := o.sites()
	o.cutGaps(sites)
	for _, s := range f.Sections {
		o.atoms = append(o.atoms, o.bySec[s]...)
	}
	if err := o.bind(sites); err != nil {
		return nil, err
	}
	if err := o.attachEntries(sites); err != nil {
		return nil, err
	}
	o.markConstructors(sites)
	o.adoptColdParts()
	o.linkUsers()
	return o, nil
}

func (o *object) cutAtSymbols() {
	bySection := map[*elfobj.Section][]*elfobj.Symbol{}
	for _, s := range o.file.Symbols {
		switch {
		case s.Type == elf.STT_SECTION || s.Type == elf.STT_FILE || strings.HasPrefix(s.Name, ".L"):
			// .L is the assembler's prefix of labels that name nothing
		case s.Section != nil:
			bySection[s.Section] = append(bySection[s.Section], s)
		case o.externs[s.Name] == nil && s.Name != "":
			o.externs[s.Name] = s
		}
	}
	patchable := o.patchableEntries()
	for _, sec := range o.file.Sections {
		switch o.class[sec] {
		case ignored, special, parallel, literals, hookData, frames:
			continue
		}
		list := o.symbolAtoms(sec, bySection[sec], patchable[sec])
		o.bySec[sec] = list
		for _, a := range list {
			a.private = o.private(a)
			o.bySym[a.sym] = a
			for _, s := range a.aliases {
				o.bySym[s] = a
			}
		}
	}
}

// patchableEntries lists per code section where compilers put padding for
// -fpatchable-function-entry.
func (o *object) patchableEntries() map[*elfobj.Section][]uint64 {
	out := map[*elfobj.Section][]uint64{}
	for _, s := range o.file.Sections {
		if s.Name != "__patchable_function_entries" {
			continue
		}
		for _, r := range s.Relocs {
			if r.Sym != nil && r.Sym.Section != nil {
				out[r.Sym.Section] = append(out[r.Sym.Section], r.Sym.Value+uint64(r.Addend))
			}
		}
	}
	return out
}

// cutGaps makes anonymous atoms where references lead to no symbol.
func (o *object) cutGaps(sites map[*elfobj.Section][]site) {
	cuts := map[*elfobj.Section][]uint64{}
	for _, from := range o.file.Sections {
		spec := o.specs[from]
		for i := range sites[from] {
			s := &sites[from][i]
			if s.sec == nil || s.to.atom != nil || s.at < 0 || uint64(s.at) >= s.sec.Size() {
				continue
			}
			if spec != nil && spec.Rule != arch.Compare || o.class[from] == frames && o.class[s.sec].code() {
				continue // these only mark places in code
			}
			cuts[s.sec] = append(cuts[s.sec], uint64(s.at))
		}
	}
	for _, sec := range o.file.Sections {
		switch o.class[sec] {
		case ignored, special, parallel, literals, hookData, frames:
			continue
		}
		o.bySec[sec] = o.gapAtoms(sec, o.bySec[sec], cuts[sec])
	}
}

// bind turns sites into refs of atoms.
func (o *object) bind(sites map[*elfobj.Section][]site) error {
	for _, sec := range o.file.Sections {
		list := sites[sec]
		for i := range list {
			o.bindTarget(&list[i])
		}
		if o.class[sec] == special {
			continue
		}
		if o.class[sec] == frames {
			if err := o.attachFrames(sec, list); err != nil {
				return err
			}
			continue
		}
		if o.opt.Userland && loaderArray(sec.Name) {
			for _, s := range list {
				o.loader = append(o.loader, loaderRef{sec.Name, s.to})
			}
		}
		if o.class[sec] == hookData {
			for _, s := range list {
				o.hooks = append(o.hooks, &hookRef{kind: HookKind(sec.Name[len(".tsugi."):]), target: s.to})
			}
			continue
		}
		i := 0
		for _, a := range o.bySec[sec] {
			for i < len(list) && list[i].off < a.start {
				i++
			}
			first := i
			for i < len(list) && list[i].off < a.end {
				i++
			}
			a.refs = make([]ref, 0, i-first)
			for _, s := range list[first:i] {
				r := s.ref
				r.off -= a.start
				a.refs = append(a.refs, r)
			}
		}
	}
	return nil
}

func (o *object) bindTarget(s *site) {
	if s.sec == nil || s.to.atom != nil {
		return
	}
	if o.class[s.sec] == literals {
		s.to = target{literal: literal(s.sec, s.at), litSec: s.sec}
		return
	}
	if a := o.find(s.sec, s.at); a != nil {
		s.to = target{atom: a, off: s.at - int64(a.entry)}
		return
	}
	// nothing is there to name: the section itself, as a whole
	a := &atom{kind: anonymous, class: o.class[s.sec], sec: s.sec, end: s.sec.Size()}
	o.bySec[s.sec] = []*atom{a}
	o.atoms = append(o.atoms, a)
	s.to = target{atom: a, off: s.at}
}

// literal returns the string at an offset, its terminator left off. Strings of
// wide characters end with a wide zero.
func literal(sec *elfobj.Section, at int64) []byte {
	if at < 0 || at >= int64(len(sec.Data)) {
		return nil
	}
	d := sec.Data[at:]
	w := charWidth(sec)
	if w == 1 {
		if i := bytes.IndexByte(d, 0); i >= 0 {
			d = d[:i]
		}
		return d
	}
	for i := 0; i+w <= len(d); i += w {
		if !slices.ContainsFunc(d[i:i+w], func(b byte) bool { return b != 0 }) {
			return d[:i]
		}
	}
	return d
}

// charWidth is the size of a character in a section of strings. What is no
// character size that C knows is taken as bytes.
func charWidth(sec *elfobj.Section) int {
	if sec.EntSize == 2 || sec.EntSize == 4 {
		return int(sec.EntSize)
	}
	return 1
}

// markConstructors finds the functions that only the loader of a program or
// library calls, when it loads it: those in the arrays of constructors, and
// resolvers of indirect functions.
func (o *object) markConstructors(sites map[*elfobj.Section][]site) {
	for _, sec := range o.file.Sections {
		if !hasAnyPrefix(sec.Name, []string{".init_array", ".preinit_array", ".ctors"}) {
			continue
		}
		for _, s := range sites[sec] {
			if a := s.to.atom; a != nil && a.kind == function && a.class == text {
				a.class = bootText
			}
		}
	}
	for _, a := range o.atoms {
		indirect := func(s *elfobj.Symbol) bool { return s.Type == elf.STT_GNU_IFUNC }
		if a.kind == function && a.class == text && (indirect(a.sym) || slices.ContainsFunc(a.aliases, indirect)) {
			a.class = bootText
		}
	}
}

// adoptColdParts gives split-off parts to their functions.
func (o *object) adoptColdParts() {
	byName := map[string]*atom{}
	for _, a := range o.atoms {
		if a.kind == function {
			byName[a.name()] = a
			for _, s := range a.aliases {
				byName[s.Name] = a
			}
		}
	}
	for _, a := range o.atoms {
		if a.kind != function {
			continue
		}
		if name, ok := coldParent(a.name()); ok {
			if p := byName[name]; p != nil && p != a {
				a.parent = p
				p.children = append(p.children, a)
			}
		}
	}
}

// linkUsers records who refers to each atom.
func (o *object) linkUsers() {
	for _, a := range o.atoms {
		seen := map[*atom]bool{a: true}
		visit := func(refs []ref) {
			for i := range refs {
				if t := refs[i].to.atom; t != nil && !seen[t] {
					seen[t] = true
					t.users = append(t.users, a)
				}
			}
		}
		visit(a.refs)
		for _, e := range a.special {
			visit(e.refs)
		}
	}
}

// where describes a place in code for people.
func (a *atom) where(off uint64) string {
	if a.sym == nil {
		return fmt.Sprintf("%s+%#x", a.sec.Name, a.start+off)
	}
	return fmt.Sprintf("%s+%#x", a.sym.Name, int64(a.start+off)-int64(a.entry))
}
