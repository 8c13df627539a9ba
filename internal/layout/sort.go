// SPDX-License-Identifier: Apache-2.0

package layout

import "github.com/cilium/ebpf/btf"

// Sort is what a member is, as far as it depends on that whether objects can be
// without it: old ones without a new member, new ones without an old.
type Sort uint8

const (
	Number  Sort = iota // zero is one like another
	Counter             // atomic: a number, if nothing is freed by it
	Pointer             // to what is not known
	Lock                // unlocked when it is zero, or has been set up
)

// sortOf tells what a member is, and false of what is none of these.
func sortOf(t btf.Type, depth int) (Sort, bool) {
	if depth > 8 {
		return 0, false
	}
	for range 8 {
		switch t.TypeName() {
		case "mutex", "spinlock", "spinlock_t", "raw_spinlock", "raw_spinlock_t", "rwlock_t", "rw_semaphore":
			return Lock, true
		case "atomic_t", "atomic64_t", "atomic_long_t":
			return Counter, true
		case "refcount_t", "refcount_struct", "kref", "percpu_ref":
			return 0, false // objects live by it
		}
		d, ok := t.(*btf.Typedef)
		if !ok {
			break
		}
		t = d.Type
	}
	var list []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Int, *btf.Enum:
		return Number, true
	case *btf.Pointer:
		return Pointer, true
	case *btf.Array:
		what, ok := sortOf(t.Type, depth+1)
		return what, ok && (what == Number || what == Counter)
	case *btf.Struct:
		list = t.Members
	case *btf.Union:
		list = t.Members
	}
	sum := Number
	for _, m := range list {
		what, ok := sortOf(m.Type, depth+1)
		if !ok || what != Number && what != Counter {
			return 0, false
		}
		sum = max(sum, what)
	}
	return sum, len(list) > 0
}

// wordLock reports whether a spinlock is one word and nothing else: on x86-64
// without debugging of locks, where zero is the unlocked state
// (include/asm-generic/qspinlock_types.h).
func wordLock(t btf.Type) bool {
	for range 8 {
		t = btf.UnderlyingType(t)
		size, err := btf.Sizeof(t)
		if err != nil || size != 4 {
			return false
		}
		if t.TypeName() == "qspinlock" {
			return true
		}
		list := parts(t)
		if len(list) != 1 {
			return false
		}
		t = list[0].Type
	}
	return false
}

// theStruct finds the one struct of a name, by its tag or by its typedef.
func (t *Types) theStruct(name string) (*btf.Struct, bool) {
	all, err := t.spec.AnyTypesByName(name)
	if err != nil {
		return nil, false
	}
	var found *btf.Struct
	for _, c := range all {
		if d, ok := c.(*btf.Typedef); ok {
			if c = btf.UnderlyingType(d); c.TypeName() != "" {
				continue // has a tag of its own
			}
		}
		switch s, ok := c.(*btf.Struct); {
		case !composite(c):
		case !ok, found != nil && found != s:
			return nil, false // which is which would be a guess
		default:
			found = s
		}
	}
	return found, found != nil
}
