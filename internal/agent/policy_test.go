// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// TestABundleFollowsThePolicy of the machine, and holds what it leaves out.
func TestABundleFollowsThePolicy(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		o1 := w.offer(1)
		o2 := w.offer(2)
		w.publishTo("db", func(x *trust.Index) { x.Patches = []trust.Offer{o2}; x.Sequence = 9 })
		w.set(func() { w.index.Patches = []trust.Offer{o1}; w.down, w.bundled = true, "db" })
		a := w.open()
		defer a.Close()
		p, err := a.ApplyBundle(t.Context(), []byte("bundle"))
		if err != nil { // the server is gone, and the bundle is its double here
			w.set(func() { w.down = false })
			p, err = a.ApplyBundle(t.Context(), []byte("bundle"))
		}
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(len(p) == 1 && p[0].Version == 2), qt.Commentf("%+v", p))
		s, _ := a.journal.view()
		qt.Check(t, qt.Equals(s.Current.Patch.Policy, "db"))
		x, err := trust.ParseIndex(w.files[indexName])
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(x.Policy, "db"), qt.Commentf("the index that the next boot obeys"))
		w.set(func() { w.bundled = "web" })
		_, err = a.ApplyBundle(t.Context(), []byte("bundle"))
		qt.Check(t, qt.Equals(code.Of(err), "TS9429"))
		qt.Check(t, qt.StringContains(err.Error(), "web"))
	})
}

// TestAnotherPolicysRevertKeepsNothingOut at a boot; its block does.
func TestAnotherPolicysRevertKeepsNothingOut(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(x *trust.Index)
		want   int
	}{
		"a revert": {func(x *trust.Index) { x.Revert = &trust.Revert{To: 1, Below: 5, Reason: "bad in web"} }, 1},
		"a block": {func(x *trust.Index) {
			x.Blocked = []trust.BlockRef{{ID: "debian-6.1.0-55-amd64-v2", Version: 2, Reason: "bad"}}
		}, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.offer(1)
				w.offer(2)
				_, stop := w.start()
				later()
				w.publishTo("web", func(x *trust.Index) { x.Patches = nil; c.change(x) })
				w.set(func() { w.policy = "web"; w.bump() })
				later()
				stop()
				w.boot()
				w.set(func() { w.down = true })
				_, stop = w.start()
				defer stop()
				later()
				qt.Check(t, qt.HasLen(w.loaded(), c.want))
			})
		})
	}
}

// TestAnIndexOfAnotherPolicyOffersNothing: the machine was moved, and the new
// policy's index can't be fetched yet, or there is none.
func TestAnIndexOfAnotherPolicyOffersNothing(t *testing.T) {
	t.Parallel()
	for _, there := range []bool{true, false} {
		t.Run(fmt.Sprint(there), func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.offer(1)
				a, stop := w.start()
				defer stop()
				later()
				qt.Assert(t, qt.IsNil(a.Hold(t.Context(), true)))
				w.offer(2)
				later()
				if there {
					w.publishTo("web", func(x *trust.Index) { x.Patches = x.Patches[:1] })
				}
				w.set(func() { w.policy, w.stale = "web", code.New("TS7120", "", ""); w.bump() })
				later()
				qt.Assert(t, qt.IsNil(a.Hold(t.Context(), false)))
				later()
				s := a.Status()
				qt.Check(t, qt.Equals(s.Applied.Version, 1), qt.Commentf("version 2 is the old policy's"))
				qt.Check(t, qt.StringContains(s.Decision, "waits for the signed index of tier stable and policy web"))
				w.set(func() { w.stale = nil; w.bump() })
				later()
				qt.Check(t, qt.Equals(a.Status().Applied.Version, 1))
			})
		})
	}
}

// TestEachPolicyHasItsFloor: a machine that comes to another policy may go to
// a lower version there, and not below what it had of that one.
func TestEachPolicyHasItsFloor(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		o1 := w.offer(1)
		w.offer(2)
		a, stop := w.start()
		defer stop()
		later()
		qt.Assert(t, qt.Equals(a.Status().Applied.Version, 2))
		w.publishTo("web", func(x *trust.Index) { x.Patches = []trust.Offer{o1} })
		later()
		qt.Assert(t, qt.Equals(a.Status().Applied.Version, 2), qt.Commentf("the index of another policy"))
		w.set(func() { w.policy = "web"; w.bump() })
		later()
		s, _ := a.journal.view()
		qt.Check(t, qt.Equals(s.Current.Patch.Version, 1))
		qt.Check(t, qt.Equals(s.Current.Patch.Policy, "web"))
		qt.Check(t, qt.DeepEquals(s.Floors, map[string]int{testBuildID: 2, testBuildID + "/web": 1}))
		time.Sleep(time.Minute)
		qt.Check(t, qt.Equals(a.Status().Protection, api.Protected), qt.Commentf("%s", a.Status().Reason))

		// Back in the first policy nothing below version 2 is loaded, whatever the
		// index offers.
		w.set(func() {
			x := *w.index
			x.Patches, x.Sequence = []trust.Offer{o1}, x.Sequence+1
			w.index, w.policy = &x, ""
			delete(w.patches, "tsugi_v1")
			w.bump()
		})
		later()
		_, err := a.Clear(t.Context(), "all")
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.IsNil(a.Refresh(t.Context())))
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.StringContains(a.Status().Reason, "only a signed revert leads back"))
	})
}
