// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/go-quicktest/qt"
)

// TestABootThatWasAnnounced: the server hears that a boot was orderly if, and
// only if, all since the last that it has heard of were.
func TestABootThatWasAnnounced(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.enroll()
		live := func(goesDown bool) bool {
			t.Helper()
			a := w.open()
			a.opts.GoesDown = func(ctx context.Context) bool { return goesDown && ctx.Err() == nil }
			ctx, cancel := context.WithCancel(context.Background())
			var wg sync.WaitGroup
			wg.Go(func() { qt.Check(t, qt.IsNil(a.Run(ctx))) })
			later()
			cancel()
			wg.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.checked[len(w.checked)-1].Orderly
		}
		qt.Check(t, qt.IsFalse(live(false))) // nothing is known of before
		qt.Check(t, qt.IsFalse(live(true)))  // the service only; now the machine goes down
		w.boot()
		qt.Check(t, qt.IsTrue(live(false)))
		qt.Check(t, qt.IsTrue(live(false))) // it says so as long as the boot lasts
		w.boot()
		qt.Check(t, qt.IsFalse(live(true))) // that one ended without a word
		w.boot()
		w.set(func() { w.down = true })
		live(false) // and this one, of which the server never hears
		w.boot()
		w.set(func() { w.down = false })
		qt.Check(t, qt.IsFalse(live(true)))
		w.boot()
		w.set(func() { w.down = true })
		live(true) // in good order, and unheard
		w.boot()
		w.set(func() { w.down = false })
		qt.Check(t, qt.IsTrue(live(true)))
		// A boot that ended before the daemon ran, and after the early service did.
		w.boot()
		early := w.open()
		early.Start(t.Context())
		qt.Assert(t, qt.IsNil(early.Close()))
		w.boot()
		qt.Check(t, qt.IsFalse(live(true)))
	})
}

func TestTheNextBoot(t *testing.T) {
	for _, c := range []struct {
		was  Boots
		boot string
		want Boots
	}{
		{Boots{}, "b", Boots{Boot: "b"}},
		{Boots{Boot: "a", Told: true}, "b", Boots{Boot: "b"}},
		{Boots{Boot: "a", Told: true, Ended: true}, "b", Boots{Boot: "b", Orderly: true}},
		{Boots{Boot: "a", Ended: true}, "b", Boots{Boot: "b"}},
		{Boots{Boot: "a", Orderly: true, Ended: true}, "b", Boots{Boot: "b", Orderly: true}},
		{Boots{Boot: "b", Orderly: true, Told: true, Ended: true}, "b", Boots{Boot: "b", Orderly: true, Told: true}},
	} {
		qt.Check(t, qt.Equals(c.was.next(c.boot), c.want))
	}
}
