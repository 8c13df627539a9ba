// SPDX-License-Identifier: Apache-2.0

// Package layout compares how the types of C code lie in memory, as BTF tells
// it: the kernel's own (section .BTF of vmlinux and of its modules) and that
// of single objects (gcc -gbtf).
//
// A live patch must not change the layout of a type that unchanged code uses
// as well, and no code must be carried into a kernel whose types lie
// otherwise than the compiler believed. Neither shows in an object's code
// when only changed functions use the type.
//
// BTF is Documentation/bpf/btf.rst's format; it is parsed by
// github.com/cilium/ebpf/btf.
package layout

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/cilium/ebpf/btf"
)

// ErrNoTypes is in the chain of errors that say that there is no BTF.
var ErrNoTypes = errors.New("no type information (BTF)")

// Types is the type information of one kernel, module or object.
type Types struct {
	spec   *btf.Spec
	module *btf.Spec // types that a module has beside the kernel's
}

// Parse reads the contents of a .BTF section.
func Parse(raw []byte) (*Types, error) {
	spec, err := load(raw, nil)
	if err != nil {
		return nil, err
	}
	return &Types{spec: spec}, nil
}

// WithModule adds a module's .BTF section, which refers to the kernel's types.
// The result has its own copy of those: a module's spec fills in types of its
// base without the base's lock.
func (t *Types) WithModule(raw []byte) (*Types, error) {
	base := t.spec.Copy()
	spec, err := load(raw, base)
	if err != nil {
		return nil, err
	}
	return &Types{spec: base, module: spec}, nil
}

// load guards against a library that panics on what it did not expect: type
// information is foreign bytes.
func load(raw []byte, base *btf.Spec) (spec *btf.Spec, err error) {
	defer func() {
		if r := recover(); r != nil {
			spec, err = nil, fmt.Errorf("BTF: %v", r)
		}
	}()
	if len(raw) == 0 {
		return nil, ErrNoTypes
	}
	if base != nil {
		return btf.LoadSplitSpecFromReader(bytes.NewReader(raw), base)
	}
	return btf.LoadSpecFromReader(bytes.NewReader(raw))
}

// Size returns the size in bytes of a struct or union. Where several types
// share the name and differ in size it does not know.
func (t *Types) Size(name string) (int, bool) {
	size, ok := 0, false
	for _, c := range t.named(name, false) {
		n, err := btf.Sizeof(c)
		if err != nil || ok && n != size {
			return 0, false
		}
		size, ok = n, true
	}
	return size, ok
}

// named returns all structs and unions with a tag, and, if untagged ones are
// wanted, those that a typedef or a variable of the name is of.
func (t *Types) named(name string, untagged bool) []btf.Type {
	var out []btf.Type
	specs := []*btf.Spec{t.spec}
	if t.module != nil {
		specs = append(specs, t.module)
	}
	for _, s := range specs {
		all, err := s.AnyTypesByName(name)
		if err != nil {
			continue
		}
		for _, c := range all {
			if composite(c) {
				out = append(out, c)
			} else if n := nameless(c); untagged && n != nil {
				out = append(out, n)
			}
		}
	}
	return out
}

// nameless is the struct or union without a tag that only a typedef
// ("typedef struct { … } name_t") or a variable ("static struct { … } name[8]")
// names, or what a pointer of that name leads to, or nil.
func nameless(t btf.Type) btf.Type {
	switch v := t.(type) {
	case *btf.Typedef:
		t = v.Type
	case *btf.Var:
		if t = v.Type; ofTypedef(t) {
			return nil // compared under that name
		}
	default:
		return nil
	}
	t, _ = behind(t)
	if !composite(t) || t.TypeName() != "" {
		return nil
	}
	return t
}

func composite(t btf.Type) bool {
	switch t.(type) {
	case *btf.Struct, *btf.Union:
		return true
	}
	return false
}

// Change is a type whose layout differs between two builds.
type Change struct {
	Type   string // "struct ext4_buddy"
	Detail string // one clause
	// Padding: the size and all old members stay; the new ones are numbers, for
	// which zero is a state like another, and lie where padding was.
	Padding bool
	// Pointers: it would be Padding but for these new ones, which lead nowhere
	// where objects are zero, and anywhere where they are not.
	Pointers []string
	// Locks: it would be Padding but for these new ones, spinlocks of one word, which
	// are unlocked where objects are zero, and locked for ever where they are not.
	Locks []string
	// Grown: it would be Padding, or that with Pointers and Locks, but that the new
	// ones lie behind the old size. This is the new size; objects need that much room.
	Grown int
	// Added are the new members of which that is so, and Behind says for each
	// which old one it follows.
	Added, Behind []string
	// Numbers: it is no layout, but the numbers of enumerators (enum.go).
	Numbers bool
}

// Compare reports the structs and unions that both sides have in different
// layouts, by their tag or by the typedef or variable that names them, and
// enumerations whose numbers mean something else. What only one side has is no
// change: nothing that runs already knows it.
func Compare(orig, patched *Types) []Change {
	return append(compare(orig, patched, true, differing), renumbered(orig, patched)...)
}

// compare looks at the types of each name. differ returns one of each side that
// tell them apart, or nil.
func compare(orig, patched *Types, untagged bool, differ func(olds, news []btf.Type) (o, p btf.Type)) []Change {
	var out []Change
	seen := map[string]bool{}
	for typ := range patched.all() {
		name := typ.TypeName()
		if name == "" || !composite(typ) && (!untagged || nameless(typ) == nil) || seen[name] {
			continue
		}
		seen[name] = true
		o, p := differ(orig.named(name, untagged), patched.named(name, untagged))
		if o == nil || p == nil {
			continue
		}
		c := difference(o, p)
		c.Type = kindName(p) + " " + name
		out = append(out, c)
	}
	slices.SortFunc(out, func(a, b Change) int { return strings.Compare(a.Type, b.Type) })
	return out
}

// Mismatches lists the types of an object that the kernel has under the same
// name in other layouts only. The kernel's BTF comes from pahole and the
// object's from gcc, which differ in how they put vector types; where one of
// them knows no size of a member, its place has to do.
func Mismatches(kernel, object *Types) []Change { return compare(kernel, object, false, unlike) }

func (t *Types) all() func(func(btf.Type) bool) {
	return func(yield func(btf.Type) bool) {
		for typ, err := range t.spec.All() {
			if err != nil || !yield(typ) {
				return
			}
		}
	}
}

// differing finds a type of one side that the other has not, and the one that
// it has in its place. One object may have several of a name, such as a
// struct's tag and a variable whose struct has none: that one of them is as it
// was says nothing of the others.
func differing(olds, news []btf.Type) (o, p btf.Type) {
	if o = without(olds, news); o == nil {
		return nil, nil // as nearly always
	}
	return o, without(news, olds)
}

func without(list, others []btf.Type) btf.Type {
	for _, t := range list {
		if !slices.ContainsFunc(others, func(o btf.Type) bool { return sameShape(t, o) }) {
			return t
		}
	}
	return nil
}

// unlike finds no type of a kernel like one of an object. Of several that the
// kernel has under one name, which are its translation units' own, one will do.
func unlike(kernel, object []btf.Type) (o, p btf.Type) {
	if len(kernel) == 0 || len(object) == 0 || slices.ContainsFunc(kernel, func(k btf.Type) bool {
		return slices.ContainsFunc(object, func(o btf.Type) bool { return samePlaces(k, o) })
	}) {
		return nil, nil
	}
	return kernel[0], object[0]
}

func sameShape(o, p btf.Type) bool {
	return shape(o) == shape(p) && len(otherPointees(o, p)) == 0
}

func samePlaces(o, p btf.Type) bool {
	was, _ := btf.Sizeof(o)
	is, _ := btf.Sizeof(p)
	om, pm := members(o, 0, 0), members(p, 0, 0)
	return was == is && slices.EqualFunc(om, pm, func(a, b member) bool {
		return a == b || a.name == b.name && a.bits == b.bits && (a.size == 0 || b.size == 0)
	})
}

func kindName(t btf.Type) string {
	if _, ok := t.(*btf.Union); ok {
		return "union"
	}
	return "struct"
}

// difference words the first difference of two types.
func difference(o, p btf.Type) Change {
	was, _ := btf.Sizeof(o)
	is, _ := btf.Sizeof(p)
	old := map[string]member{}
	for _, m := range members(o, 0, 0) {
		old[m.name] = m
	}
	var added, behind, moved []string
	last := ""
	for _, m := range members(p, 0, 0) {
		before, ok := old[m.name]
		switch {
		case !ok:
			added, behind = append(added, m.name), append(behind, last)
		case before != m:
			moved = append(moved, m.name)
		}
		if ok {
			last = m.name
		}
		delete(old, m.name)
	}
	var parts []string
	if was != is {
		parts = append(parts, fmt.Sprintf("its size goes from %d to %d bytes", was, is))
	}
	if len(added) > 0 {
		parts = append(parts, "new: "+strings.Join(added, ", "))
	}
	if len(moved) > 0 {
		parts = append(parts, "moved or changed: "+strings.Join(moved, ", "))
	}
	if len(old) > 0 {
		var gone []string
		for name := range old {
			gone = append(gone, name)
		}
		slices.Sort(gone)
		parts = append(parts, "gone: "+strings.Join(gone, ", "))
	}
	far := otherPointees(o, p)
	if len(far) > 0 {
		parts = append(parts, "what they point to is another or lies otherwise: "+strings.Join(far, ", "))
	}
	c := Change{Detail: strings.Join(parts, "; ")}
	if len(moved)+len(old)+len(far) > 0 || is < was {
		return c
	}
	made, locks, pointers := madeMembers(p, added)
	if len(made) > 0 {
		c.Detail += ", which nothing has set up in objects that exist"
	}
	if len(made) > len(locks) {
		return c
	}
	c.Added, c.Behind, c.Locks, c.Pointers = added, behind, locks, pointers
	if is > was {
		c.Grown = is
	}
	c.Padding = len(locks)+len(pointers) == 0 && is == was
	return c
}

// empty reports whether a type takes no memory: what is configured away.
func empty(t btf.Type) bool {
	n, err := btf.Sizeof(t)
	return err == nil && n == 0 && composite(btf.UnderlyingType(t))
}

// madeMembers lists those of some members that are more than numbers and
// pointers: a list or a reference count of zeros is no valid one. Those that
// are locks of one word are told beside, and the pointers.
func madeMembers(t btf.Type, names []string) (made, locks, pointers []string) {
	var walk func(t btf.Type, depth int)
	walk = func(t btf.Type, depth int) {
		for _, m := range parts(t) {
			inner := btf.UnderlyingType(m.Type)
			if m.Name == "" && composite(inner) && depth < 16 {
				walk(inner, depth+1)
				continue
			}
			if slices.Contains(names, m.Name) && wordLock(m.Type) {
				locks = append(locks, m.Name)
			}
			for a, ok := inner.(*btf.Array); ok; a, ok = inner.(*btf.Array) {
				inner = btf.UnderlyingType(a.Type)
			}
			if !slices.Contains(names, m.Name) {
				continue
			}
			if _, ok := inner.(*btf.Pointer); ok {
				pointers = append(pointers, m.Name)
			}
			if !scalar(inner) && !empty(m.Type) {
				made = append(made, m.Name)
			}
		}
	}
	walk(t, 0)
	return made, locks, pointers
}
