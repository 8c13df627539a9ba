// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"slices"

	"github.com/cilium/ebpf/btf"
)

// Where a pointer lies says nothing of what it leads to. A struct with a tag is
// compared on its own; but when a member comes to lead to another one, objects
// that exist hold pointers to the former. And a struct or union without a tag
// has no name under which it could be compared: when only a pointer leads to it
// ("struct x { struct { int a; } *p; }") it is part of the struct around it.

// pointee is what a member's pointer leads to: the tag of a struct or union, or
// the shape of one that has none.
type pointee struct{ member, shape string }

// pointees lists those of a struct or union, through arrays, further pointers
// and members without a tag. Pointers to numbers, functions and nothing in
// particular are left out. The depth is bounded against types that contain
// themselves.
func pointees(t btf.Type) []pointee {
	var out []pointee
	var walk func(t btf.Type, path string, depth int)
	walk = func(t btf.Type, path string, depth int) {
		for _, m := range parts(t) {
			name := path
			if m.Name != "" {
				name += "." + m.Name
			}
			inner, pointed := behind(m.Type)
			switch f, forward := inner.(*btf.Fwd); {
			case forward && pointed:
				out = append(out, pointee{name, f.Name})
			case !composite(inner) || depth >= 8:
			case pointed && inner.TypeName() != "":
				out = append(out, pointee{name, inner.TypeName()})
			case inner.TypeName() == "":
				if pointed {
					out = append(out, pointee{name, shape(inner)})
				}
				walk(inner, name, depth+1)
			}
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
// to something else.
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
