// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"strings"

	"github.com/cilium/ebpf/btf"
)

// Move says where a new member of a struct has room: behind an old one. Or it
// says of an old member, which the patched struct has no more, where it was:
// behind another one, or "" in the first place.
type Move struct {
	Member, After string
	Kept          bool
	What          Sort
}

// Fit finds room in the padding of the original struct for every member that
// the patched one has beside the old ones, and lets members stay that are gone:
// they take part in nothing any more, and hold the others in their places. The
// old members have to be what they were. It is true when all find room: with
// the new members there, the old ones lie where they lay. typ is a name as in
// Change.Type: a tag, or the typedef of a struct without one.
//
// Only structs that hold a pointer or an atomic are looked at: the others may be
// what a device, a disk or a network reads, where the order is the meaning. New
// members find room when they are numbers, pointers or a spinlock of one word:
// padding of objects that exist is zero where they were zeroed, which is no
// state that a list or a reference count could begin with. Members that are
// gone stay when they are numbers, pointers or locks; a list, a timer or a
// completion has others that wait for it or will follow it, and nobody would
// end that. The caller has to see that objects can be without what What says.
//
// room is how many bytes are known to belong to each object of the struct, when
// that is more than its size: then there is room behind the last member.
//
// A live patch may replace another, and objects hold what that one put into a
// member. So the place of a member must not depend on the other fixes of a
// build: owner tells which fix a member is of, and the members of each are
// placed as if there were no others. It is false when two come into one hole.
func Fit(orig, patched *Types, typ string, room int, owner func(member string) string) ([]Move, bool) {
	name, ok := strings.CutPrefix(typ, "struct ")
	if !ok {
		return nil, false
	}
	o, ok := orig.theStruct(name)
	p, also := patched.theStruct(name)
	if !ok || !also || !holdsPointer(o, 0) && !holdsAtomic(o, 0) {
		return nil, false
	}
	added, moves, ok := additions(o, p)
	if !ok || len(added)+len(moves) == 0 {
		return nil, false
	}
	touched := map[string]bool{} // fixes that take a member away: theirs are all placed anew
	for _, m := range moves {
		touched[owner(m.Member)] = true
	}
	var order []string
	groups := map[string][]addition{}
	for _, a := range added {
		if empty(a.Type) {
			continue
		}
		who := owner(a.Name)
		if groups[who] == nil {
			order = append(order, who)
		}
		groups[who] = append(groups[who], a)
	}
	taken := map[string]string{} // holes, by the old member before, and by whom
	for _, who := range order {
		var used []string
		if !touched[who] && stay(o, groups[who]) {
			for _, a := range groups[who] {
				used = append(used, a.behind)
			}
		} else {
			placed, in, ok := place(groups[who], holes(o, uint32(max(room, 0))))
			if !ok {
				return nil, false
			}
			moves, used = append(moves, placed...), in
		}
		for _, h := range used {
			if other, ok := taken[h]; ok && other != who {
				return nil, false
			}
			taken[h] = who
		}
	}
	return moves, true
}

// addition is a new member, and the old one behind which the fix has it.
type addition struct {
	btf.Member
	behind string
}

// fits is where a new member comes to lie from a place on, and where it ends. It
// is false for what can't do with zeros.
func (a addition) fits(from uint32) (end uint32, what Sort, ok bool) {
	size, err := btf.Sizeof(a.Type)
	align := alignment(a.Type, 0)
	what, _ = sortOf(a.Type, 0)
	if err != nil || size <= 0 || align == 0 || a.BitfieldSize != 0 || !scalar(a.Type) && (what != Lock || !wordLock(a.Type)) {
		return 0, 0, false
	}
	return (from+align-1)/align*align + uint32(size), what, true
}

// stay reports whether members have room where the fix has them.
func stay(o *btf.Struct, list []addition) bool {
	there := map[string]*hole{}
	for _, h := range holes(o, 0) {
		there[h.after] = &h
	}
	for _, a := range list {
		h := there[a.behind]
		if h == nil {
			return false
		}
		end, _, ok := a.fits(h.from)
		if !ok || end > h.to {
			return false
		}
		h.from = end
	}
	return true
}

// place finds room for members in the first holes that hold them, and names
// these holes by the old members before them.
func place(list []addition, holes []hole) (moves []Move, used []string, ok bool) {
	names := make([]string, len(holes))
	for i, h := range holes {
		names[i] = h.after
	}
	for _, a := range list {
		found := false
		for i := range holes {
			h := &holes[i]
			end, what, ok := a.fits(h.from)
			if !ok {
				return nil, nil, false
			}
			if end > h.to {
				continue
			}
			moves = append(moves, Move{Member: a.Name, After: h.after, What: what})
			h.from, h.after, found = end, a.Name, true
			used = append(used, names[i])
			break
		}
		if !found {
			return nil, nil, false
		}
	}
	return moves, used, true
}

// additions lists the members that only p has, in order, and those that only o
// has. It is false unless p has all others of o, in their order and of their
// types.
func additions(o, p *btf.Struct) (added []addition, kept []Move, ok bool) {
	there := map[string]bool{"": true}
	for _, m := range p.Members {
		there[m.Name] = true
	}
	k, last := 0, ""
	gone := func() bool {
		for ; k < len(o.Members) && !there[o.Members[k].Name]; k++ {
			m := o.Members[k]
			what, known := sortOf(m.Type, 0)
			if !known || k > 0 && last == "" {
				return false
			}
			kept = append(kept, Move{Member: m.Name, After: last, Kept: true, What: what})
			last = m.Name
		}
		return true
	}
	for _, m := range p.Members {
		if !gone() {
			return nil, nil, false
		}
		if k < len(o.Members) && m.Name == o.Members[k].Name && sameMember(o.Members[k], m) {
			last = m.Name
			k++
			continue
		}
		if m.Name == "" {
			return nil, nil, false
		}
		added = append(added, addition{m, last})
	}
	return added, kept, gone() && k == len(o.Members)
}

func sameMember(o, p btf.Member) bool {
	a, err1 := btf.Sizeof(o.Type)
	b, err2 := btf.Sizeof(p.Type)
	return err1 == nil && err2 == nil && a == b && o.BitfieldSize == p.BitfieldSize &&
		typeWord(btf.UnderlyingType(o.Type)) == typeWord(btf.UnderlyingType(p.Type))
}

// hole is padding behind a member.
type hole struct {
	after    string
	from, to uint32
}

// holes lists padding behind members that have a name and bytes of their own.
// Behind the last one it goes as far as objects do.
func holes(s *btf.Struct, room uint32) []hole {
	var out []hole
	for i, m := range s.Members {
		last := i+1 == len(s.Members)
		size, err := btf.Sizeof(m.Type)
		if err != nil || size <= 0 || m.Name == "" || m.BitfieldSize != 0 && !last {
			continue
		}
		from, to := uint32(m.Offset)/8+uint32(size), max(s.Size, room)
		if m.BitfieldSize != 0 {
			from = (uint32(m.Offset) + uint32(m.BitfieldSize) + 7) / 8
		}
		if !last {
			if s.Members[i+1].BitfieldSize != 0 {
				continue
			}
			to = uint32(s.Members[i+1].Offset) / 8
		}
		if from < to {
			out = append(out, hole{m.Name, from, to})
		}
	}
	return out
}

func scalar(t btf.Type) bool {
	switch btf.UnderlyingType(t).(type) {
	case *btf.Int, *btf.Enum, *btf.Pointer:
		return true
	}
	return false
}

// alignment is what a type asks of its place, 0 if that is not known.
func alignment(t btf.Type, depth int) uint32 {
	if depth > 16 {
		return 0
	}
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Pointer:
		return 8
	case *btf.Array:
		return alignment(t.Type, depth+1)
	case *btf.Struct:
		return widest(t.Members, depth)
	case *btf.Union:
		return widest(t.Members, depth)
	case *btf.Int, *btf.Enum, *btf.Float:
		n, err := btf.Sizeof(t)
		if err != nil || n <= 0 || n > 16 || n&(n-1) != 0 {
			return 0
		}
		return uint32(n)
	}
	return 0
}

func widest(list []btf.Member, depth int) uint32 {
	most := uint32(1)
	for _, m := range list {
		a := alignment(m.Type, depth+1)
		if a == 0 {
			return 0
		}
		most = max(most, a)
	}
	return most
}

// holdsAtomic reports whether an atomic or a lock is among a type's members: what
// several processors of one machine use is no format.
func holdsAtomic(s *btf.Struct, depth int) bool {
	for _, m := range s.Members {
		if what, ok := sortOf(m.Type, 0); ok && (what == Counter || what == Lock) {
			return true
		}
		inner, pointed := behind(m.Type)
		if c, ok := inner.(*btf.Struct); ok && !pointed && depth < 8 && holdsAtomic(c, depth+1) {
			return true
		}
	}
	return false
}

// holdsPointer reports whether a pointer is among a type's members, at any
// depth.
func holdsPointer(t btf.Type, depth int) bool {
	if depth > 16 {
		return false
	}
	var list []btf.Member
	switch t := btf.UnderlyingType(t).(type) {
	case *btf.Pointer:
		return true
	case *btf.Array:
		return holdsPointer(t.Type, depth+1)
	case *btf.Struct:
		list = t.Members
	case *btf.Union:
		list = t.Members
	}
	for _, m := range list {
		if holdsPointer(m.Type, depth+1) {
			return true
		}
	}
	return false
}
