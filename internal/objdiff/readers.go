// SPDX-License-Identifier: Apache-2.0

package objdiff

import (
	"encoding/binary"
	"slices"

	"github.com/tsugi-project/tsugi/internal/insn"
	"github.com/tsugi-project/tsugi/internal/layout"
)

// A variable can be edited only when those who have read it before do not
// contradict those who read it after. What is known of readers by the types of
// the kernel is in known.go; the rest is read from the code and the tables that
// use the variable.

// remembers says why the value of a variable may mean something else by now
// than how it is set up: "" for settings that administrators may write at any
// time, so that the code has to stand that.
func (r *Result) remembers(p *atom) string {
	for _, u := range p.users {
		if u.kind != variable {
			continue
		}
		if u.sec.Name == "__param" && paramWritable(u) {
			return ""
		}
		for i := range u.refs {
			if at := u.refs[i].off; u.refs[i].to.atom == p && at >= u.entry-u.start {
				if f, ok := r.fieldOf(u, at-(u.entry-u.start)); ok && f.Of == "ctl_table" && r.sysctlWritable(u, f) {
					return ""
				}
			}
		}
	}
	return "it is no setting (a sysctl or parameter that can be written): what its value means by now is not known"
}

const (
	writers   = 0o222
	paramPerm = 24 // struct kernel_param: name, mod, ops, then u16 perm
)

func paramWritable(u *atom) bool {
	b := content(u)
	return len(b) >= paramPerm+2 && binary.LittleEndian.Uint16(b[paramPerm:])&writers != 0
}

// sysctlWritable looks at the mode of the entry whose data a field is.
func (r *Result) sysctlWritable(u *atom, data layout.Field) bool {
	entry, _, ok := cutLast(data.Name, ".")
	b := content(u)
	for off := uint64(0); ok && off < uint64(len(b)); {
		f, found := r.fieldOf(u, off)
		if !found || f.Size == 0 {
			off++
			continue
		}
		if f.Name == entry+".mode" && f.Size == 2 && f.Off+2 <= uint64(len(b)) {
			return binary.LittleEndian.Uint16(b[f.Off:])&writers != 0
		}
		off = f.Off + f.Size
	}
	return false
}

// copiedBy names a function that a user of the variable calls to copy things.
func copiedBy(a *atom) string {
	for _, u := range a.users {
		for i := range u.refs {
			if x := u.refs[i].to.extern; x != nil && copiers[x.Name] {
				return u.family().name()
			}
		}
	}
	return ""
}

// takenApart names a function that reads members of a table by its name, as the
// copy of a struct does. Calls by them and comparisons do not count.
func (o *object) takenApart(a *atom) string {
	for _, u := range a.users {
		if !u.class.code() {
			continue
		}
		if o.arch.Decode == nil || u.kind != function || u.undecoded {
			return u.family().name()
		}
		list := steps(u, o.arch.Decode)
		moves := slices.ContainsFunc(list, func(s step) bool {
			return s.Map == insn.Map1Byte && s.Prefix&insn.Rep != 0 && (s.Opcode == 0xa4 || s.Opcode == 0xa5) // rep movs
		})
		for i := range list {
			for k := range list[i].ref {
				f := &list[i].ref[k]
				if f.to.atom == a && (moves && list[i].takes(u, f) || list[i].reads(u, f)) {
					return u.family().name()
				}
			}
		}
	}
	return ""
}

// reads reports whether an instruction loads what a reference leads to into a
// register.
func (s *step) reads(a *atom, f *ref) bool {
	field, _ := s.FieldAt(int(int64(f.off-(a.entry-a.start)) - s.at))
	switch {
	case field != insn.DispField || s.Kind == insn.IndirectCall || s.Kind == insn.IndirectJump:
		return false
	case s.Enc == insn.Legacy && s.Map == insn.Map1Byte:
		op := s.Opcode
		return op != 0x8d && (op < 0x38 || op > 0x3d) && op != 0x84 && op != 0x85 && (op < 0x80 || op > 0x83 || s.Reg() != 7)
	}
	return true
}
