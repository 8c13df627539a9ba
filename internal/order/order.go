// SPDX-License-Identifier: Apache-2.0

// Package order sorts slices of structures for programs that have to be small.
//
// slices.SortFunc is compiled once for each type that it sorts: some 25 KB of
// the agent for each, and there are dozens. Here all types share one copy, which
// moves elements by reflection and is about half as fast. What sorts where time
// counts, in the engine, uses package slices.
package order

import "sort"

// Sort sorts by compare, as slices.SortFunc does. Equal elements may change
// places.
func Sort[E any](s []E, compare func(a, b E) int) {
	sort.Slice(s, func(i, j int) bool { return compare(s[i], s[j]) < 0 })
}

// SortStable sorts by compare and keeps equal elements in their order, as
// slices.SortStableFunc does.
func SortStable[E any](s []E, compare func(a, b E) int) {
	sort.SliceStable(s, func(i, j int) bool { return compare(s[i], s[j]) < 0 })
}
