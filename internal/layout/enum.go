// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/cilium/ebpf/btf"
)

// Objects that exist hold the numbers of enumerators: states, kinds, bits of a
// word of flags. When a fix puts an enumerator in front of others, these get
// other numbers, all code that names them is compiled anew and agrees, and what
// objects hold means something else from then on. That shows in no layout.
//
// A number that is mended, as that of a register, is told from that: nothing
// else comes to where it was, and nothing else was where it comes to.

// renumbered lists the enumerations in which that happens.
func renumbered(orig, patched *Types) []Change {
	olds := map[string]*btf.Enum{} // by enumerator; nil where a name has two meanings
	for e := range orig.enums() {
		for _, v := range e.Values {
			if before, ok := olds[v.Name]; ok && before != e {
				olds[v.Name] = nil
				continue
			}
			olds[v.Name] = e
		}
	}
	var out []Change
	for p := range patched.enums() {
		for _, v := range p.Values {
			o := olds[v.Name]
			if o == nil {
				continue
			}
			if c, ok := shifted(o, p, v); ok {
				if !slices.ContainsFunc(out, func(x Change) bool { return x.Type == c.Type }) {
					out = append(out, c)
				}
				break
			}
		}
	}
	return out
}

func (t *Types) enums() func(func(*btf.Enum) bool) {
	return func(yield func(*btf.Enum) bool) {
		for typ := range t.all() {
			if e, ok := typ.(*btf.Enum); ok && !yield(e) {
				return
			}
		}
	}
}

// shifted tells of an enumerator that both have whether it changed numbers with
// others.
func shifted(o, p *btf.Enum, is btf.EnumValue) (Change, bool) {
	was, _ := valueOf(o, is.Name)
	if was == is.Value || last(o, is.Name, was) && last(p, is.Name, is.Value) {
		return Change{}, false
	}
	c := Change{Type: "enum " + p.Name, Numbers: true}
	for _, other := range p.Values {
		if before, ok := valueOf(o, other.Name); other.Value == was && (!ok || before != was) {
			if p.Name == "" {
				c.Type = other.Name
			}
			c.Detail = fmt.Sprintf("%s goes from %d to %d, and %d, which objects that exist may hold, is %s", is.Name, int64(was), int64(is.Value), int64(was), other.Name)
			return c, true
		}
	}
	for _, other := range o.Values {
		if now, ok := valueOf(p, other.Name); other.Value == is.Value && (!ok || now != is.Value) {
			if p.Name == "" {
				c.Type = is.Name
			}
			c.Detail = fmt.Sprintf("%s goes from %d to %d, which objects that exist may hold for %s", is.Name, int64(was), int64(is.Value), other.Name)
			return c, true
		}
	}
	return Change{}, false
}

func valueOf(e *btf.Enum, name string) (uint64, bool) {
	i := slices.IndexFunc(e.Values, func(v btf.EnumValue) bool { return v.Name == name })
	if i < 0 {
		return 0, false
	}
	return e.Values[i].Value, true
}

var counting = regexp.MustCompile(`(?i)(^|_)(max|num|nr|n|cnt|count|last|end|nbits|bits|size|total|limit|top)(_|$)`)

// last reports whether an enumerator is the number of the others, or of the
// last of them: that is not what objects hold.
func last(e *btf.Enum, name string, value uint64) bool {
	return counting.MatchString(name) && !slices.ContainsFunc(e.Values, func(v btf.EnumValue) bool {
		return int64(v.Value) > int64(value) && !counting.MatchString(v.Name)
	})
}
