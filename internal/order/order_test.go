// SPDX-License-Identifier: Apache-2.0

package order_test

import (
	"cmp"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/order"
)

// pair is compared by its key alone.
type pair struct{ key, place int }

func byKey(a, b pair) int { return cmp.Compare(a.key, b.key) }

// TestSortsAsPackageSlicesDoes is checked on slices with many equal keys.
func TestSortsAsPackageSlicesDoes(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var s []pair
		for i, k := range rapid.SliceOfN(rapid.IntRange(0, 20), 0, 200).Draw(t, "keys") {
			s = append(s, pair{k, i})
		}
		stable, want := slices.Clone(s), slices.Clone(s)
		slices.SortStableFunc(want, byKey)
		order.SortStable(stable, byKey)
		if !slices.Equal(stable, want) {
			t.Fatalf("%v, not %v", stable, want)
		}

		order.Sort(s, byKey)
		if !slices.IsSortedFunc(s, byKey) {
			t.Fatalf("%v is not sorted", s)
		}
		slices.SortFunc(s, func(a, b pair) int { return cmp.Or(byKey(a, b), cmp.Compare(a.place, b.place)) })
		if !slices.Equal(s, want) {
			t.Fatalf("elements were lost: %v", s)
		}
	})
}
