// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"strings"

	"github.com/tsugi-project/tsugi/internal/arch"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// A jump label on a key of the module that is patched cannot work in a live
// patch: the kernel reads the table of labels when the live patch is loaded,
// and livepatch writes addresses of that module later. Its key is readable all
// the same, so the label's place gets a jump to code behind the function that
// tests the key and goes one way or the other (arch.KeyTest). That is what the
// label does, a few cycles slower, and at once when the key is switched.

// keyTest is one such label.
type keyTest struct {
	entry  *entry
	branch bool   // the label jumps while the key is off
	key    target // the key's count
	to     target // where the label jumps
}

// foreignKey returns the symbol of an entry's static key when that lives in a
// module and not in the patch: the kernel would use the entry before livepatch
// has written the key's address.
func (r *Result) foreignKey(e *entry) *elfobj.Symbol {
	k := e.key()
	if k == nil || r.opt.KeyOwner == nil {
		return nil
	}
	sym := k.to.extern
	if t := k.to.atom; t != nil {
		if t.included || t.byContent() || t.state == fresh {
			return nil // the patch's own
		}
		sym = t.sym
	}
	if sym == nil || r.opt.KeyOwner(sym) != OwnerModule {
		return nil
	}
	return sym
}

// dropKeys decides about an atom's entries whose key lives in a module. A
// static call works through its trampoline all the same; a jump label becomes
// a test of its key. Where that can't be, a tracepoint stays silent, and any
// other key is refused.
func (r *Result) dropKeys(a *atom) {
	var tests []keyTest
	var labels []string
	for _, e := range a.special {
		sym := r.foreignKey(e)
		if sym == nil {
			continue
		}
		r.dropped[e] = true
		if e.spec.KeyKind == arch.StaticCall {
			continue
		}
		labels = append(labels, sym.Name)
		k := e.key().to
		t := keyTest{entry: e, branch: k.off&1 != 0, key: k, to: e.label()}
		t.key.off &^= 3 // the kernel's and objtool's flags
		tests = append(tests, t)
	}
	if len(tests) == 0 {
		return
	}
	w, why := r.rewrite(a, tests)
	if why == "" {
		r.rewritten[a] = w
	}
	for _, name := range labels {
		switch {
		case why == "":
			r.risk("TS8020", a.family().name(), strings.TrimPrefix(name, "__tracepoint_"))
		case strings.HasPrefix(name, "__tracepoint_") && r.patched.arch.KeyTest == nil:
			r.risk("TS8003", a.family().name(), strings.TrimPrefix(name, "__tracepoint_"))
		default:
			r.refuse("TS4020", a.family().name(), "the key "+name+" belongs to the module itself, and "+why)
		}
	}
}

// label is where an entry of the table of jump labels leads.
func (e *entry) label() target {
	for i := range e.refs {
		if i != e.spec.Owner && i != e.spec.Key {
			return e.refs[i].to
		}
	}
	return target{}
}

// at is where a reference into code leads, counted from the atom's start.
func (f *ref) at() uint64 { return uint64(f.to.off) + f.to.atom.entry - f.to.atom.start }

// rewrite plans the code of an atom with tests in place of labels.
func (r *Result) rewrite(a *atom, tests []keyTest) (*rewritten, string) {
	kt := r.patched.arch.KeyTest
	switch {
	case kt == nil || r.patched.arch.Decode == nil:
		return nil, "nobody has written code for " + r.patched.arch.Name + " that tests it"
	case a.kind != function || a.undecoded:
		return nil, "its code can't be read"
	}
	for _, u := range a.users {
		for i := range u.refs {
			if f := &u.refs[i]; !u.class.code() && f.to.atom == a && f.to.off != 0 {
				return nil, u.name() + " points into the function"
			}
		}
	}
	g, why := newGrower(r.patched.arch, a, tests)
	if why != "" {
		return nil, why
	}
	if why := g.relax(); why != "" {
		return nil, why
	}
	return g.write()
}
