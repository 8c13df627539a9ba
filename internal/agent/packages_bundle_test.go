// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"io/fs"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// bundled are the ids of the live patches that a bundle leaves applied.
func bundled(t *testing.T, a *Agent) string {
	t.Helper()
	all, err := a.ApplyBundle(t.Context(), []byte("bundle"))
	qt.Assert(t, qt.IsNil(err))
	var ids []string
	for _, p := range all {
		ids = append(ids, p.ID)
	}
	return strings.Join(ids, " ")
}

// TestABundleBringsPackages to a machine that never has a network: with the kernel's
// live patch or without one, to processes that run now, and a recall as well.
func TestABundleBringsPackages(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		kernel, one := w.offer(1), w.offerPackage(1)
		a := w.open()
		defer a.Close()
		qt.Check(t, qt.Equals(bundled(t, a), kernel.ID+" "+one.ID))
		qt.Check(t, qt.Equals(w.keptNow(), one.ID))
		qt.Check(t, qt.Equals(packageOf(a.Status()).Patch.State, api.Applied)) // no daemon, no watch
		two := w.offerPackage(2)
		w.set(func() { w.noIndex = fs.ErrNotExist }) // a bundle for the package alone
		qt.Check(t, qt.Equals(bundled(t, a), two.ID))
		qt.Check(t, qt.Equals(w.keptNow(), two.ID))
		w.publishPackage(func(x *trust.Index) {
			x.Blocked = append(x.Blocked, trust.BlockRef{ID: two.ID, Version: 2, Reason: "handshakes hang", Recall: true})
		})
		qt.Check(t, qt.Equals(bundled(t, a), one.ID)) // the one below it
		qt.Check(t, qt.Equals(w.keptNow(), one.ID))
	})
}

// TestABundleThatFits nothing here says so, and one without a key does.
func TestABundleThatFitsNothing(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		o := w.offerPackage(1)
		w.set(func() { w.noIndex, w.mapped = fs.ErrNotExist, nil })
		a := w.open()
		defer a.Close()
		_, err := a.ApplyBundle(t.Context(), []byte("bundle"))
		qt.Check(t, qt.Equals(code.Of(err), "TS9429"))
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		w.set(func() {
			w.mapped = map[string]int{packageRef().ID: 3}
			delete(w.keys, o.ID)
		})
		_, err = a.ApplyBundle(t.Context(), []byte("bundle"))
		qt.Check(t, qt.Equals(code.Of(err), "TS9414"))
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		w.set(func() { w.keys[o.ID], w.asleep = "key"+o.ID, true })
		_, err = a.ApplyBundle(t.Context(), []byte("bundle"))
		qt.Check(t, qt.Equals(code.Of(err), "TS9440")) // no keeper
		w.set(func() { w.asleep = false })
		qt.Check(t, qt.Equals(w.keptNow(), ""))
	})
}
