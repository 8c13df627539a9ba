// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"slices"
)

// exitFunction is the name by which the kernel calls a module's exit function,
// once and by a pointer in struct module. The tracer can't redirect it, but the
// pointer can be another one.
const exitFunction = "cleanup_module"

// editExit lets the kernel call a changed exit function of a module by its
// pointer, with copies of the changed functions that only it leads to.
func (r *Result) editExit() {
	if r.opt.BuiltIn || r.opt.Field == nil || r.patched.file.Machine != elf.EM_X86_64 {
		return
	}
	r.spreadExit()
	for _, a := range r.patched.atoms {
		if a.kind != function || a.class != exitText || a.state != changed || a.parent != nil || !a.named(exitFunction) ||
			slices.ContainsFunc(a.users, func(u *atom) bool { return u.class != bootData }) { // ___ADDRESSABLE is in .exit.data
			continue
		}
		was := a.twin
		part(a)
		a.state = fresh
		e := &editing{
			atom: a, was: was, exit: true,
			words: []word{{size: 8, mask: ^uint64(0), newRef: &ref{typ: uint32(elf.R_X86_64_64), size: 8, to: target{atom: a}}}},
			Edit:  Edit{Variable: exitFunction, Section: a.sec.Name, Fields: []string{"the pointer to it"}, Words: 1},
		}
		r.edits = append(r.edits, e)
		r.Edits = append(r.Edits, e.Edit)
	}
}

// spreadExit makes the callers of changed functions of the exit section carry
// copies of them.
func (r *Result) spreadExit() {
	for again := true; again; {
		again = false
		for _, a := range r.patched.atoms {
			if a.kind != function || a.class != exitText || a.state != changed || a.parent != nil || a.named(exitFunction) || len(a.users) == 0 ||
				slices.ContainsFunc(a.users, func(u *atom) bool { return u.class != exitText || u.kind != function }) {
				continue
			}
			for _, u := range a.users {
				if f := u.family(); f.state == same && f != a {
					f.state, f.why = changed, "calls "+a.name()
				}
			}
			part(a)
			a.state, again = fresh, true
		}
	}
}

// named reports whether a symbol of that name is at the atom's entry.
func (a *atom) named(name string) bool {
	if a.sym == nil {
		return false
	}
	if a.sym.Name == name {
		return true
	}
	for _, s := range a.aliases {
		if s.Name == name && s.Value == a.entry {
			return true
		}
	}
	return false
}
