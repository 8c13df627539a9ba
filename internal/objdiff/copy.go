// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"debug/elf"
	"slices"
	"strings"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/insn"
)

// copyable: a changed constant whose identity can't matter to anyone: local,
// never written, used by code alone, and either free of pointers or only ever
// given to functions that look it through.
func (r *Result) copyable(p *atom) bool {
	if p.sym.Bind != elf.STB_LOCAL || !readOnly(p.sec) || p.class != data || len(p.users) == 0 {
		return false
	}
	for _, u := range slices.Concat(p.users, p.twin.users) {
		if u.kind != function {
			return false
		}
	}
	if len(p.refs) == 0 && len(p.twin.refs) == 0 {
		return true
	}
	return lastingPointers(p) && r.patched.lookedThrough(p)
}

// lastingPointers reports whether what a table points at stays when the live
// patch goes, strings and functions aside: those are used while a table is
// looked through.
func lastingPointers(p *atom) bool {
	for i := range p.refs {
		t := p.refs[i].to
		if t.atom != nil && t.atom.kind != function && (t.atom.byContent() || t.atom.twin == nil) {
			return false
		}
	}
	return true
}

// lookedThrough reports whether all that code does with a table is to hand it
// to one of the matchers: its address is loaded, and that call comes next.
func (o *object) lookedThrough(p *atom) bool {
	if o.arch.Decode == nil {
		return false
	}
	for _, u := range p.users {
		if u.undecoded {
			return false
		}
		list := steps(u, o.arch.Decode)
		for i := range list {
			if slices.ContainsFunc(list[i].ref, func(f ref) bool { return f.to.atom == p }) && !handedOver(list[i:]) {
				return false
			}
		}
	}
	return len(p.users) > 0
}

// handedOver looks for the call of a matcher behind an instruction that loads
// an address.
func handedOver(rest []step) bool {
	for _, s := range rest {
		switch s.Kind {
		case insn.Call:
			return len(s.ref) == 1 && s.ref[0].to.extern != nil && matchers[s.ref[0].to.extern.Name]
		case insn.Jump, insn.CondJump, insn.Ret, insn.IndirectJump, insn.IndirectCall:
			return false
		}
	}
	return false
}

// deviceTable reports whether a variable lists devices for modprobe and udev
// (MODULE_DEVICE_TABLE gives it a second name).
func deviceTable(a *atom) bool {
	return a.sym != nil && slices.ContainsFunc(append([]*elfobj.Symbol{a.sym}, a.aliases...), func(s *elfobj.Symbol) bool {
		return strings.HasPrefix(s.Name, "__mod_") && strings.HasSuffix(s.Name, "_device_table")
	})
}

// whyNotCopied says what keeps a table of another size from being carried.
func (r *Result) whyNotCopied(a *atom) string {
	switch {
	case deviceTable(a) && !r.leftOut(a):
		return "; devices are bound by the old table until the module is loaded anew, and nothing else in its object changes without it"
	case deviceTable(a):
		return "; entries of the device table change or go"
	case !readOnly(a.sec):
		return ""
	case a.sym.Bind != elf.STB_LOCAL || slices.ContainsFunc(slices.Concat(a.users, a.twin.users), func(u *atom) bool { return u.kind != function }):
		return "; others than code of its object may point to it"
	}
	return "; somebody may keep a pointer into it, or to what it points to, when the live patch goes"
}

// leftOut reports whether the rest of a change is whole without a variable's
// new content: some code changes, and none of it uses the variable.
func (r *Result) leftOut(a *atom) bool {
	changes := false
	for _, f := range r.patched.atoms {
		if f.included && f.class.code() {
			changes = changes || f.state == changed
			if slices.Contains(a.users, f) {
				return false
			}
		}
	}
	return changes
}

// onlyAdds reports whether a table of records has all the old ones, in their
// order.
func (r *Result) onlyAdds(p *atom) bool {
	size := r.recordSize(p)
	if size == 0 || p.size()%size != 0 || p.twin.size()%size != 0 {
		return false
	}
	c := &comparer{arch: r.patched.arch, memo: map[[2]*atom]bool{}}
	or, why1 := pointers(p.twin)
	pr, why2 := pointers(p)
	if why1 != "" || why2 != "" {
		return false
	}
	ob, pb := content(p.twin), content(p)
	same := func(o, n uint64) bool {
		for i := range size {
			a, b := or[o+i], pr[n+i]
			if ob[o+i] != pb[n+i] || (a == nil) != (b == nil) || a != nil && !c.targets(a.to, b.to, nil) {
				return false
			}
		}
		return true
	}
	n := uint64(0)
	for o := uint64(0); o < uint64(len(ob)); o += size {
		for n < uint64(len(pb)) && !same(o, n) {
			n += size
		}
		if n >= uint64(len(pb)) {
			return false
		}
		n += size
	}
	return true
}

// recordSize is the size of an array's elements, 0 if types don't tell.
func (r *Result) recordSize(p *atom) uint64 {
	if r.opt.Field == nil {
		return 0
	}
	for off := uint64(0); off < min(p.size(), 4096); off++ {
		if f, ok := r.fieldOf(p, off); ok && strings.HasPrefix(f.Name, "[1]") {
			// the first member may lie behind others without a name
			return off
		}
	}
	return 0
}
