// SPDX-License-Identifier: Apache-2.0

package process

import (
	"slices"

	"github.com/tsugi-project/tsugi/internal/order"
)

// span is a piece of an address space, end not included.
type span struct{ start, end uint64 }

func (s span) size() uint64              { return s.end - s.start }
func (s span) holds(addr uint64) bool    { return addr >= s.start && addr < s.end }
func (s span) overlaps(other span) bool  { return s.start < other.end && other.start < s.end }
func (s span) around(margin uint64) span { return span{s.start - min(s.start, margin), s.end + margin} }

const (
	// reach is how far a 32-bit displacement leads, less what an instruction
	// and an addend may take off.
	reach = 1<<31 - 1<<20
	// lowest is below which nothing is placed: vm.mmap_min_addr at its usual height.
	lowest = 1 << 16
	// guard is left free on either side, so that nothing runs over into its neighbour.
	guard = pageSize
	// heapRoom stays free behind the heap that brk(2) grows, and stackRoom
	// below the stack, as long as there is room elsewhere.
	heapRoom  = 1 << 30
	stackRoom = 128 << 20
	// spread is within how much of a hole the place is drawn by lot.
	spread = 16 << 20
)

// neighbours is what a place must keep clear of.
type neighbours struct {
	used  []span // all mappings
	heap  span   // what brk(2) grows upwards; zero for none
	stack span   // what grows downwards; zero for none
}

// place finds where size bytes go, so that every byte of them and every byte of
// the object reach each other, below limit. The nearest hole is taken, and the
// place in it drawn with random, which gets how many places there are. It
// returns false when there is no hole.
func place(n neighbours, object span, size, limit uint64, random func(uint64) uint64) (uint64, bool) {
	size = pageUp(size)
	window := span{lowest, min(limit, addressEnd) - guard}
	if object.end > reach {
		window.start = max(window.start, pageUp(object.end-reach))
	}
	window.end = min(window.end, pageDown(object.start+reach))
	if size == 0 || object.size() >= reach || window.start >= window.end {
		return 0, false
	}
	// First with room for heap and stack to grow, then without.
	for _, careful := range []bool{true, false} {
		used := slices.Clone(n.used)
		if careful && n.heap.end != 0 {
			used = append(used, span{n.heap.start, n.heap.end + heapRoom})
		}
		if careful && n.stack.end != 0 {
			used = append(used, span{n.stack.start - min(n.stack.start, stackRoom), n.stack.end})
		}
		if at, ok := nearest(used, window, object, size, random); ok {
			return at, true
		}
	}
	return 0, false
}

// nearest takes the hole whose near end is nearest to the object.
func nearest(used []span, window, object span, size uint64, random func(uint64) uint64) (uint64, bool) {
	order.Sort(used, func(a, b span) int {
		switch {
		case a.start < b.start:
			return -1
		case a.start > b.start:
			return 1
		}
		return 0
	})
	var best span
	distance := ^uint64(0)
	try := func(hole span) {
		hole.start, hole.end = max(pageUp(hole.start)+guard, window.start), min(pageDown(hole.end), window.end+guard)
		if hole.end < guard {
			return
		}
		hole.end -= guard
		if hole.start >= hole.end || hole.size() < size {
			return
		}
		var d uint64
		if hole.start >= object.end {
			d = hole.start - object.end
		} else if hole.end <= object.start {
			d = object.start - hole.end
		}
		if d < distance {
			best, distance = hole, d
		}
	}
	at := uint64(0)
	for _, u := range used {
		if u.start > at {
			try(span{at, u.start})
		}
		at = max(at, u.end)
	}
	if at < addressEnd {
		try(span{at, addressEnd})
	}
	if distance == ^uint64(0) {
		return 0, false
	}
	places := min(best.size()-size, spread)/pageSize + 1
	off := random(places) * pageSize
	if best.start >= object.end {
		return best.start + off, true
	}
	return best.end - size - off, true
}

func pageUp(v uint64) uint64   { return (v + pageSize - 1) &^ (pageSize - 1) }
func pageDown(v uint64) uint64 { return v &^ (pageSize - 1) }
