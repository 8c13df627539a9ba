// SPDX-License-Identifier: Apache-2.0

package process

import (
	"math/rand/v2"
	"testing"

	"github.com/go-quicktest/qt"
)

func first(uint64) uint64  { return 0 }
func last(n uint64) uint64 { return n - 1 }

func TestPlace(t *testing.T) {
	t.Parallel()
	const gib = 1 << 30
	lib := span{0x7f0000000000, 0x7f0000200000}
	for _, tt := range []struct {
		name   string
		n      neighbours
		object span
		size   uint64
		random func(uint64) uint64
		want   uint64
	}{
		{"right above", neighbours{used: []span{lib, {lib.start - gib, lib.start}}}, lib, 8192, first, lib.end + guard},
		{"right below", neighbours{used: []span{lib, {lib.end, lib.end + 3*gib}}}, lib, 8192, first, lib.start - guard - 8192},
		{"drawn within the spread", neighbours{used: []span{lib, {lib.end, lib.end + 3*gib}}}, lib, 8192, last, lib.start - guard - 8192 - spread},
		{"a hole that is just large enough", neighbours{used: []span{lib, {lib.end + 2*guard + 8192, lib.end + 3*gib}, {lib.start - 3*gib, lib.start}}}, lib, 8192, last, lib.end + guard},
		{"a hole that is too small", neighbours{used: []span{lib, {lib.end + 2*guard + 4096, lib.end + 3*gib}, {lib.start - 3*gib, lib.start}}}, lib, 8192, last, 0},
		{"no hole in reach", neighbours{used: []span{lib, {lib.end, lib.end + 2*gib}, {lib.start - 2*gib, lib.start}}}, lib, 4096, first, 0},
		{"a hole inside the object", neighbours{used: []span{{lib.start, lib.start + 0x1000}, {lib.end - 0x1000, lib.end}}}, lib, 4096, first, lib.end - 0x1000 - guard - 4096},
		{"below a program at its usual place", neighbours{used: []span{{0x400000, 0x405000}, {0x405000, 0x450000}}, heap: span{0x405000, 0x450000}}, span{0x400000, 0x405000}, 4096, first, 0x400000 - guard - 4096},
		{"behind the room of the heap", neighbours{used: []span{{lowest, 0x400000}, {0x400000, 0x405000}, {0x405000, 0x450000}}, heap: span{0x405000, 0x450000}}, span{0x400000, 0x405000}, 4096, first, 0x450000 + heapRoom + guard},
		{"in the room of the heap when there is no other", neighbours{used: []span{{lowest, 0x400000}, {0x400000, 0x405000}, {0x405000, 0x450000}, {0x450000 + gib, 4 * gib}}, heap: span{0x405000, 0x450000}}, span{0x400000, 0x405000}, 4096, first, 0x450000 + guard},
		{"not where the stack grows", neighbours{used: []span{lib, {lib.end + gib, lib.end + gib + 0x21000}, {lib.start - 3*gib, lib.start}}, stack: span{lib.end + gib, lib.end + gib + 0x21000}}, lib, gib - stackRoom - 2*guard, first, lib.end + guard},
		{"an object that is larger than the reach", neighbours{}, span{gib, 4 * gib}, 4096, first, 0},
		{"nothing to place", neighbours{}, lib, 0, first, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			at, ok := place(tt.n, tt.object, tt.size, addressEnd, tt.random)
			qt.Check(t, qt.Equals(at, tt.want), qt.Commentf("%#x, want %#x", at, tt.want))
			qt.Check(t, qt.Equals(ok, tt.want != 0))
		})
	}
}

// TestPlaceIsAlwaysFreeAndInReach tries random address spaces.
func TestPlaceIsAlwaysFreeAndInReach(t *testing.T) {
	t.Parallel()
	rnd := rand.New(rand.NewPCG(1, 2))
	found := 0
	_, low := place(neighbours{used: []span{{lowest, 0x500000}}}, span{0x400000, 0x500000}, 4096, 0x500000, first)
	qt.Assert(t, qt.IsFalse(low))
	for range 20000 {
		var n neighbours
		at := uint64(rnd.Uint64N(1<<47)) &^ (pageSize - 1)
		for range rnd.IntN(20) {
			size := (1 + rnd.Uint64N(1<<19)) * pageSize
			if at+size >= addressEnd {
				break
			}
			n.used = append(n.used, span{at, at + size})
			at += size + rnd.Uint64N(1<<19)*pageSize*rnd.Uint64N(2)
		}
		if len(n.used) == 0 {
			continue
		}
		object := n.used[rnd.IntN(len(n.used))]
		if rnd.IntN(3) == 0 {
			n.heap = n.used[rnd.IntN(len(n.used))]
		}
		size := (1 + rnd.Uint64N(1<<10)) * pageSize
		got, ok := place(n, object, size, addressEnd, rnd.Uint64N)
		if !ok {
			continue
		}
		found++
		area := span{got, got + size}
		for _, u := range n.used {
			qt.Assert(t, qt.IsFalse(area.around(guard).overlaps(u)), qt.Commentf("%#v over %#v", area, u))
		}
		qt.Assert(t, qt.IsTrue(area.start%pageSize == 0 && area.start >= lowest && area.end <= addressEnd))
		qt.Assert(t, qt.IsTrue(max(area.end, object.end)-min(area.start, object.start) <= 1<<31), qt.Commentf("%#v %#v", area, object))
	}
	qt.Assert(t, qt.IsTrue(found > 10000), qt.Commentf("%d", found))
}
