// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"slices"

	"github.com/cilium/ebpf/btf"
)

// A struct or union without a tag has no name under which it could be compared
// on its own. When only a pointer leads to it ("struct x { struct { int a; } *p; }")
// its layout is nowhere in that of the struct around it, but code that follows the pointer
// depends on it all the same.

// pointee is what a member's pointer leads to, when that has no tag.
type pointee struct{ member, shape string }

// pointees lists those of a struct or union, through arrays, further pointers
// and members without a tag. The depth is bounded against types that contain
// themselves.
func pointees(t btf.Type) []pointee {
	var out []pointee
	var walk func(t btf.Type, path string, depth int)
	walk = func(t btf.Type, path string, depth int) {
		var list []btf.Member
		switch t := t.(type) {
		case *btf.Struct:
			list = t.Members
		case *btf.Union:
			list = t.Members
		}
		for _, m := range list {
			name := path
			if m.Name != "" {
				name += "." + m.Name
			}
			inner, pointed := behind(m.Type)
			if !composite(inner) || inner.TypeName() != "" || depth >= 8 {
				continue
			}
			if pointed {
				out = append(out, pointee{name, shape(inner)})
			}
			walk(inner, name, depth+1)
		}
	}
	walk(t, "", 0)
	return out
}

// behind looks through arrays and pointers, and tells whether there was a pointer.
func behind(t btf.Type) (inner btf.Type, pointed bool) {
	t = btf.UnderlyingType(t)
	for range 16 {
		switch v := t.(type) {
		case *btf.Array:
			t = btf.UnderlyingType(v.Type)
		case *btf.Pointer:
			t, pointed = btf.UnderlyingType(v.Target), true
		default:
			return t, pointed
		}
	}
	return t, pointed
}

// ofTypedef reports whether arrays and pointers of a type end in a typedef.
func ofTypedef(t btf.Type) bool {
	for range 16 {
		switch v := t.(type) {
		case *btf.Typedef:
			return true
		case *btf.Array:
			t = v.Type
		case *btf.Pointer:
			t = v.Target
		case *btf.Const:
			t = v.Type
		case *btf.Volatile:
			t = v.Type
		case *btf.Restrict:
			t = v.Type
		default:
			return false
		}
	}
	return false
}

// otherPointees names the members that both types have and whose pointers lead
// to something without a tag that differs.
func otherPointees(o, p btf.Type) []string {
	was := map[string]string{}
	for _, x := range pointees(o) {
		was[x.member] = x.shape
	}
	var out []string
	for _, x := range pointees(p) {
		before, ok := was[x.member]
		if ok && before != x.shape && !slices.Contains(out, x.member[1:]) {
			out = append(out, x.member[1:])
		}
	}
	return out
}
