// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// TestBackoff: a process that stays busy is tried less and less often, and at once
// when something about it changes.
func TestBackoff(t *testing.T) {
	t.Parallel()
	w := &waits{}
	id := proc.ID{PID: 7, Start: 1}
	want := []Want{{Patch: "p-v1"}}
	found := proc.Finding{ID: id, Program: 5, BuildIDs: []string{givenBuild}}
	row := Process{PID: 7, start: 1, program: 5, Patch: "p-v1", BuildID: givenBuild, Standing: Pending, Problem: &api.Problem{Code: "TS9620"}}
	now := time.UnixMilli(1_000_000_000)
	began := now
	held := func() []Process { return w.hold(want, now)[0].held(found) }
	qt.Check(t, qt.IsNil(held()))
	tries := 0
	for ; now.Sub(began) < time.Hour; tries++ {
		ps := []Process{row}
		w.note(ps, want, now, true)
		qt.Assert(t, qt.Equals(ps[0].Since, began.UnixMilli()))
		gap := time.UnixMilli(ps[0].Next).Sub(now)
		qt.Assert(t, qt.IsTrue(gap >= firstWait*3/4 && gap <= mostWait), qt.Commentf("%s", gap))
		if tries > 8 {
			qt.Assert(t, qt.IsTrue(gap >= mostWait*3/4), qt.Commentf("%s", gap))
		}
		again := held()
		qt.Assert(t, qt.HasLen(again, 1))
		w.note(again, want, now.Add(time.Second), true) // a pass that did not try it
		qt.Check(t, qt.Equals(again[0].Next, ps[0].Next))
		qt.Check(t, qt.Equals(again[0].Problem.Code, "TS9620"))
		now = w.next()
		qt.Assert(t, qt.IsNil(held()))
	}
	qt.Check(t, qt.IsTrue(tries > 15 && tries < 30), qt.Commentf("%d tries in an hour", tries))

	reset := func() {
		t.Helper()
		w.note([]Process{row}, want, now, true)
		qt.Assert(t, qt.IsNotNil(held()))
	}
	reset()
	found.Program++ // it runs another program
	qt.Check(t, qt.IsNil(held()))
	row.program++
	ps := []Process{row}
	w.note(ps, want, now, true)
	qt.Check(t, qt.Equals(ps[0].Since, now.UnixMilli()))
	qt.Check(t, qt.IsTrue(ps[0].Next <= now.Add(firstWait).UnixMilli()))
	reset()
	found.BuildIDs = nil // it has another file now
	qt.Check(t, qt.IsNil(held()))
	found.BuildIDs = []string{givenBuild}
	reset()
	w.told([]int{7})
	qt.Check(t, qt.IsNil(held()))
	reset()
	w.reset()
	qt.Check(t, qt.IsNil(held()))
	reset()
	row.Standing = Protected
	w.note([]Process{row}, want, now, false)
	qt.Check(t, qt.IsNil(held()))
	qt.Check(t, qt.IsTrue(w.next().IsZero()))
	row.Standing = Pending
	reset()
	w.note(nil, want, now, true) // it has ended
	qt.Check(t, qt.IsTrue(w.next().IsZero()))

	// What is to go is tried again soon.
	want[0].Out = true
	for range 12 {
		w.note([]Process{row}, want, now, true)
		qt.Assert(t, qt.IsTrue(w.next().Sub(now) <= mostWaitOut))
		now = w.next()
	}
}
