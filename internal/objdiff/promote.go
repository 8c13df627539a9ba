// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"fmt"
	"strings"
)

// promote deals with changed functions that the tracer can't redirect, such as
// an inline function that the compiler did not inline, or the body of a system
// call: when only direct calls of this object lead to it, its callers are
// replaced instead and call a copy; and where tables of operations of this
// object point to it, they are edited to point to the copy. Callers that can't
// be redirected either are promoted in turn; what is left over is refused
// later.
func (r *Result) promote(c *comparer) {
	if !r.traceRequired() {
		return
	}
	for again := true; again; {
		again = false
		for _, a := range r.patched.atoms {
			if a.kind != function || a.state != changed || a.parent != nil || r.orig.traceable(a.twin) || !reachedHere(a) || !reachedHere(a.twin) || !r.part(c, a) {
				continue
			}
			for _, u := range a.users {
				f := u.family()
				if f != a && f.state == same && f.class == text && f.kind == function {
					f.state, f.why, f.standIn = changed, "calls "+a.name()+", which can't be redirected", true
				}
			}
			r.Notes = append(r.Notes, fmt.Sprintf("%s can't be redirected: what leads to it leads to a copy", a.name()))
			again = true
		}
	}
}

// part makes a function a new one, for all that refers to it. It does not if a
// table that points to it can't be edited.
func (r *Result) part(c *comparer, a *atom) bool {
	o := a.twin
	o.twin, a.twin, a.state = nil, nil, fresh
	type before struct {
		table *atom
		state state
		why   string
	}
	var tables []before
	for _, u := range a.users {
		if u.kind != variable {
			continue
		}
		tables = append(tables, before{u, u.state, u.why})
		u.state, u.why = changed, "it points to "+a.name()+", which can't be redirected"
		_, why := r.editOf(c, u)
		if why == "" {
			continue
		}
		r.unparted[a] = u.name() + " points to it: " + why
		pair(o, a)
		a.state = changed
		for _, t := range tables {
			t.table.state, t.table.why = t.state, t.why
		}
		return false
	}
	return true
}

func (r *Result) traceRequired() bool {
	return r.opt.Trace == TraceRequired || r.opt.Trace == TraceAuto && r.orig.traced
}

// reachedHere reports whether a function is reached by direct calls and jumps
// of functions of its own object and by its variables alone. Code of sections
// where no tracing is allowed is never moved out of them.
func reachedHere(a *atom) bool {
	if a.sym.Bind != elf.STB_LOCAL || a.class != text || len(a.users) == 0 ||
		strings.HasPrefix(a.sec.Name, ".noinstr") || strings.HasPrefix(a.sec.Name, ".entry") {
		return false
	}
	for _, u := range a.users {
		if u.kind == variable && !u.private && u.class == data && u.twin != nil {
			continue
		}
		if u.kind != function {
			return false
		}
		for i := range u.refs {
			if ref := &u.refs[i]; ref.to.atom == a && !ref.branch && u.family() != a {
				return false
			}
		}
		for _, e := range u.special {
			if k := e.key(); k != nil && k.to.atom == a {
				return false
			}
		}
	}
	return true
}
