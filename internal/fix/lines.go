// SPDX-License-Identifier: Apache-2.0

package fix

import (
	"slices"
	"strings"
)

// splitLines cuts text behind each newline; only the last line may lack one.
func splitLines(b []byte) []string {
	return slices.Collect(strings.Lines(string(b)))
}

// Edit replaces lines [OldFrom, OldTo) of a file by lines [NewFrom, NewTo) of
// another, counted from 0. Between edits the files are equal.
type Edit struct{ OldFrom, OldTo, NewFrom, NewTo int }

// maxEdits bounds the work of Compare: time and memory grow with its
// square. Files that differ in more lines are replaced between their common
// beginning and end.
const maxEdits = 6000

// Compare returns the edits between two files, ascending and never
// adjacent: a shortest edit script (Myers, "An O(ND) difference algorithm and
// its variations", 1986), with each change slid down as far as it goes, as
// git does, so that an added block ends with its own closing line.
func Compare(a, b []string) []Edit {
	x, y := number(a, b)
	lead := 0
	for lead < len(x) && lead < len(y) && x[lead] == y[lead] {
		lead++
	}
	x, y = x[lead:], y[lead:]
	for len(x) > 0 && len(y) > 0 && x[len(x)-1] == y[len(y)-1] {
		x, y = x[:len(x)-1], y[:len(y)-1]
	}
	del, ins := make([]bool, len(a)), make([]bool, len(b))
	shortest(x, y, del[lead:], ins[lead:])

	var edits []Edit
	for i, j := 0, 0; i < len(a) || j < len(b); i, j = i+1, j+1 {
		e := Edit{OldFrom: i, NewFrom: j}
		for i < len(a) && del[i] {
			i++
		}
		for j < len(b) && ins[j] {
			j++
		}
		if e.OldTo, e.NewTo = i, j; e.OldFrom < i || e.NewFrom < j {
			edits = append(edits, e)
		}
	}
	slide(a, b, edits)
	return edits
}

// number gives equal lines equal numbers.
func number(a, b []string) (x, y []int) {
	ids := make(map[string]int, len(a))
	of := func(lines []string) []int {
		out := make([]int, len(lines))
		for i, l := range lines {
			id, ok := ids[l]
			if !ok {
				id = len(ids)
				ids[l] = id
			}
			out[i] = id
		}
		return out
	}
	return of(a), of(b)
}

// shortest marks deleted and inserted lines of a shortest edit script.
func shortest(a, b []int, del, ins []bool) {
	n, m := len(a), len(b)
	limit := min(n+m, maxEdits)
	// v[k] is the furthest line of a on diagonal k = x-y; trace keeps it per step.
	v := make([]int32, 2*limit+3)
	off := limit + 1
	var trace [][]int32
	for d := 0; d <= limit; d++ {
		for k := -d; k <= d; k += 2 {
			var x int
			if k == -d || k != d && v[off+k-1] < v[off+k+1] {
				x = int(v[off+k+1])
			} else {
				x = int(v[off+k-1]) + 1
			}
			y := x - k
			for x < n && y < m && x >= 0 && y >= 0 && a[x] == b[y] {
				x++
				y++
			}
			v[off+k] = int32(x)
			if x >= n && y >= m {
				walkBack(trace, d, n, m, del, ins)
				return
			}
		}
		trace = append(trace, slices.Clone(v[off-d:off+d+1]))
	}
	for i := range a {
		del[i] = true
	}
	for j := range b {
		ins[j] = true
	}
}

// walkBack follows the steps of shortest from the end.
func walkBack(trace [][]int32, d, x, y int, del, ins []bool) {
	for ; d > 0; d-- {
		v := trace[d-1] // of diagonals -(d-1) … d-1
		at := func(k int) int {
			if k < -(d-1) || k > d-1 {
				return -1
			}
			return int(v[k+d-1])
		}
		k := x - y
		down := k == -d || k != d && at(k-1) < at(k+1)
		if down {
			k++
		} else {
			k--
		}
		x = at(k)
		y = x - k
		if down {
			ins[y] = true
		} else {
			del[x] = true
		}
	}
}

// slide moves each pure insertion or deletion down while the line behind it
// equals its first, short of the next edit.
func slide(a, b []string, edits []Edit) {
	for i := range edits {
		e := &edits[i]
		end := len(a)
		if i+1 < len(edits) {
			end = edits[i+1].OldFrom - 1
		}
		lines, from, to := b, &e.NewFrom, &e.NewTo
		switch {
		case e.NewFrom == e.NewTo:
			lines, from, to = a, &e.OldFrom, &e.OldTo
		case e.OldFrom != e.OldTo:
			continue
		}
		for e.OldTo < end && *to < len(lines) && lines[*from] == lines[*to] {
			e.OldFrom++
			e.OldTo++
			e.NewFrom++
			e.NewTo++
		}
	}
}
