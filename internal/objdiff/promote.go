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
// replaced instead and call a copy. Callers that can't be redirected either
// are promoted in turn; what is left over is refused later.
func (r *Result) promote() {
	if !r.traceRequired() {
		return
	}
	for again := true; again; {
		again = false
		for _, a := range r.patched.atoms {
			if a.kind != function || a.state != changed || a.parent != nil || r.orig.traceable(a.twin) || !calledOnlyHere(a) || !calledOnlyHere(a.twin) {
				continue
			}
			for _, u := range a.users {
				f := u.family()
				if f != a && f.state == same && f.class == text {
					f.state, f.why, f.standIn = changed, "calls "+a.name()+", which can't be redirected", true
				}
			}
			r.Notes = append(r.Notes, fmt.Sprintf("%s can't be redirected: its callers are replaced and call a copy", a.name()))
			a.twin.twin, a.twin, a.state = nil, nil, fresh
			again = true
		}
	}
}

func (r *Result) traceRequired() bool {
	return r.opt.Trace == TraceRequired || r.opt.Trace == TraceAuto && r.orig.traced
}

// calledOnlyHere reports whether a function is reached by direct calls and
// jumps of functions of its own object alone. Code of sections where no
// tracing is allowed is never moved out of them.
func calledOnlyHere(a *atom) bool {
	if a.sym.Bind != elf.STB_LOCAL || a.class != text || len(a.users) == 0 ||
		strings.HasPrefix(a.sec.Name, ".noinstr") || strings.HasPrefix(a.sec.Name, ".entry") {
		return false
	}
	for _, u := range a.users {
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
