// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"fmt"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// parts are the members of a struct or union, none of anything else.
func parts(t btf.Type) []btf.Member {
	switch t := t.(type) {
	case *btf.Struct:
		return t.Members
	case *btf.Union:
		return t.Members
	}
	return nil
}

// member is one named member at its place, anonymous structs looked through.
type member struct {
	name string
	bits uint32 // offset
	size uint32 // in bits
	typ  string
}

func (m member) String() string { return fmt.Sprintf("%s@%d:%d %s", m.name, m.bits, m.size, m.typ) }

func shape(t btf.Type) string {
	var b strings.Builder
	size, _ := btf.Sizeof(t)
	fmt.Fprintf(&b, "%d", size)
	for _, m := range members(t, 0, 0) {
		fmt.Fprintf(&b, "|%s", m)
	}
	return b.String()
}

// members flattens a struct or union. The depth of anonymous nesting is
// bounded against types that contain themselves.
func members(t btf.Type, base uint32, depth int) []member {
	var out []member
	for _, m := range parts(t) {
		at := base + uint32(m.Offset)
		inner := btf.UnderlyingType(m.Type)
		if m.Name == "" && composite(inner) && inner.TypeName() == "" && depth < 16 {
			out = append(out, members(inner, at, depth+1)...)
			continue
		}
		bits := uint32(m.BitfieldSize)
		if bits == 0 {
			if n, err := btf.Sizeof(m.Type); err == nil {
				bits = uint32(n) * 8
			}
		}
		out = append(out, member{m.Name, at, bits, typeWord(inner)})
	}
	return out
}

// typeWord names a member's type as far as its layout depends on it: named
// types are compared on their own.
func typeWord(t btf.Type) string {
	switch t := unwrap(t).(type) {
	case *btf.Struct, *btf.Union:
		if t.TypeName() == "" {
			return "{" + shape(t) + "}"
		}
		return t.TypeName()
	case *btf.Array:
		// gcc and pahole nest the dimensions of an array in different order
		elem, n := btf.UnderlyingType(t.Type), uint64(t.Nelems)
		for inner, ok := elem.(*btf.Array); ok && n > 0; inner, ok = elem.(*btf.Array) {
			elem, n = btf.UnderlyingType(inner.Type), n*uint64(inner.Nelems)
		}
		return fmt.Sprintf("%s[%d]", typeWord(elem), n)
	case *btf.Pointer:
		return "*"
	case *btf.Int, *btf.Enum:
		return "int"
	}
	return ""
}

// unwrap looks through structs and unions that only wrap one member, such as
// spinlock_t around raw_spinlock_t: in memory they are that member.
func unwrap(t btf.Type) btf.Type {
	for range 8 {
		list := parts(t)
		if len(list) != 1 || list[0].Offset != 0 || list[0].BitfieldSize != 0 {
			return t
		}
		inner := btf.UnderlyingType(list[0].Type)
		outer, err1 := btf.Sizeof(t)
		size, err2 := btf.Sizeof(inner)
		if err1 != nil || err2 != nil || outer != size {
			return t
		}
		t = inner
	}
	return t
}
