// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

func TestSamplesAreThinnedAsTheyGetOld(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		// Two days of hours, and after a while as many again.
		add := func() {
			t.Helper()
			for i := range 48 {
				added, err := s.AddSample(ctx, fmt.Appendf(nil, `{"machines":%d}`, i))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsTrue(added))
				again, err := s.AddSample(ctx, []byte(`{}`))
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.IsFalse(again)) // another server, in the same hour
				c.pass(time.Hour)
			}
		}
		first := c.ms()
		add()
		last := c.in(-time.Hour)
		number := func() int {
			t.Helper()
			all, err := s.Samples(ctx, first, last)
			qt.Assert(t, qt.IsNil(err))
			for i := 1; i < len(all); i++ {
				qt.Assert(t, qt.IsTrue(all[i-1].Taken < all[i].Taken))
			}
			return len(all)
		}
		qt.Check(t, qt.Equals(number(), 48))
		for _, step := range []struct{ days, left int }{{20, 8}, {100, 2}, {300, 0}} {
			c.pass(time.Duration(step.days) * 24 * time.Hour)
			_, err := s.AddSample(ctx, []byte(`{}`))
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.Equals(number(), step.left), qt.Commentf("after %d days more", step.days))
		}
	})
}

func TestWindows(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, s *Store, c *clock) {
		ctx := t.Context()
		save := func(w Window) {
			t.Helper()
			qt.Assert(t, qt.IsNil(s.Update(ctx, func(tx *Tx) error { return tx.SaveWindow(ctx, w) })))
		}
		save(Window{Target: "b", Ends: 5, ChangedBy: "ann"})
		save(Window{Target: "a", Begins: 1, Ends: 2, Note: "n"})
		save(Window{Target: "b", Ends: 6, ChangedBy: "bob"})
		all, err := s.Windows(ctx)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(all, []Window{
			{Target: "a", Begins: 1, Ends: 2, Note: "n", Changed: c.ms()}, {Target: "b", Ends: 6, Changed: c.ms(), ChangedBy: "bob"},
		}))
		drop := func() error { return s.Update(ctx, func(tx *Tx) error { return tx.DeleteWindow(ctx, "a") }) }
		qt.Assert(t, qt.IsNil(drop()))
		qt.Check(t, qt.ErrorIs(drop(), ErrNotFound))
	})
}
