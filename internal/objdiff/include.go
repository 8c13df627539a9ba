// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"slices"

	"github.com/tsugi-project/tsugi/internal/code"
)

// include marks what the patch must carry: the changed functions, hooks and
// new globals, and all that these refer to and that the target doesn't have.
func (r *Result) include() {
	w := &walker{r: r}
	for _, a := range r.patched.atoms {
		if a.parent == nil && r.root(a) {
			w.add(a)
		}
	}
	for _, h := range r.patched.hooks {
		if h.target.atom != nil {
			w.add(h.target.atom)
		}
	}
	w.followEdits()
	for len(w.todo) > 0 {
		a := w.todo[0]
		w.todo = w.todo[1:]
		w.visit(a)
	}
}

// root reports whether an atom is carried for its own sake.
func (r *Result) root(a *atom) bool {
	switch {
	case a.class != text && a.class != data && a.class != exitText:
		return false
	case a.class == exitText && r.opt.BuiltIn:
		return false // discarded at link: there is nothing to patch
	case a.kind == function:
		return a.state == changed || a.state == fresh && a.sym.Bind != elf.STB_LOCAL && a.class == text && !a.trampoline()
	}
	return a.kind == variable && a.state == fresh && a.sym.Bind != elf.STB_LOCAL && a.class == data && !a.private
}

func (r *Result) hasHooks() bool { return len(r.patched.hooks) > 0 }

type walker struct {
	r    *Result
	todo []*atom
}

func (w *walker) add(a *atom) {
	if !a.included {
		a.included = true
		w.todo = append(w.todo, a)
	}
}

func (w *walker) visit(a *atom) {
	if a.parent != nil {
		w.add(a.parent)
	}
	for _, c := range a.children {
		w.add(c)
	}
	for i := range a.refs {
		w.follow(&a.refs[i])
	}
	for _, f := range a.frames {
		for i := range f.refs {
			w.follow(&f.refs[i])
		}
		for i := range f.cie.refs {
			w.follow(&f.cie.refs[i])
		}
	}
	w.r.dropKeys(a)
	for _, e := range a.special {
		if w.r.dropped[e] {
			continue
		}
		for i := range e.refs {
			w.follow(&e.refs[i])
		}
	}
}

// follow includes what a reference leads to unless the target has it.
func (w *walker) follow(ref *ref) {
	if t := ref.to.atom; t != nil && (t.byContent() || t.state == fresh) {
		w.add(t)
	}
}

func (r *Result) refuse(c code.Code, where, why string) {
	if p := code.New(c, where, why); acceptable[c] && r.opt.Accept != nil && r.opt.Accept(p) {
		r.Risks = addProblem(r.Risks, c, where, why+"; accepted: this part of the change is left out")
		return
	}
	r.Refusals = addProblem(r.Refusals, c, where, why)
}

func (r *Result) risk(c code.Code, where, why string) {
	r.Risks = addProblem(r.Risks, c, where, why)
}

// addProblem says everything once.
func addProblem(list []*code.Problem, c code.Code, where, why string) []*code.Problem {
	if slices.ContainsFunc(list, func(p *code.Problem) bool { return p.Code == c && p.Where == where && p.Why == why }) {
		return list
	}
	return append(list, code.New(c, where, why))
}
