// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"os"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// packageScenarios are lives of a machine with a live patch of a package.
func packageScenarios() map[string]struct{ prepare, play func(w *world) } {
	run := func(w *world, during func(a *Agent)) {
		a, stop := w.start()
		defer stop()
		during(a)
	}
	calm := func(w *world) { run(w, func(*Agent) { later() }) }
	return map[string]struct{ prepare, play func(w *world) }{
		"a first live patch": {
			func(w *world) { w.offerPackage(1) },
			calm,
		},
		"a newer one": {
			func(w *world) { w.offerPackage(1); calm(w) },
			func(w *world) { w.offerPackage(2); calm(w) },
		},
		"a recall": {
			func(w *world) { w.offerPackage(1); calm(w); w.offerPackage(2); calm(w) },
			func(w *world) {
				w.publishPackage(func(x *trust.Index) {
					x.Blocked = append(x.Blocked, trust.BlockRef{ID: x.Patches[1].ID, Version: 2, Reason: "bad", Recall: true})
				})
				calm(w)
			},
		},
		"one that makes programs crash": {
			func(w *world) { w.offerPackage(1); calm(w) },
			func(w *world) {
				o := w.offerPackage(2)
				run(w, func(*Agent) {
					soon()
					w.set(func() {
						w.crashes = []Crash{{Patch: o.ID, Program: "nginx", PID: 7, Signal: "SIGSEGV", After: 100}}
					})
					later()
				})
			},
		},
		"a revert by hand": {
			func(w *world) { w.offerPackage(1); calm(w) },
			func(w *world) {
				run(w, func(a *Agent) {
					soon()
					_, _ = a.RevertPackage(w.t.Context(), testPackage) // the power may go in it
					later()
				})
			},
		},
		"with one of the kernel": {
			func(w *world) { w.offerPackage(1); w.offer(1) },
			calm,
		},
	}
}

// stride leaves steps out where nobody asked for long tests: each takes a part of
// a second.
func stride() int {
	if os.Getenv("TSUGI_TEST_LONG") != "" {
		return 1
	}
	return 2
}

// lose plays a scenario until the power goes at a step, or returns false.
func lose(t *testing.T, s struct{ prepare, play func(w *world) }, step int, mode dieMode) (*world, bool) {
	w := newWorld(t)
	w.mapped = map[string]int{packageRef().ID: 40}
	w.enroll()
	s.prepare(w)
	w.dieAt, w.mode = w.steps+step, mode
	s.play(w)
	return w, w.off
}

func stepsOf(t *testing.T, s struct{ prepare, play func(w *world) }) (total int) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.mapped = map[string]int{packageRef().ID: 40}
		w.enroll()
		s.prepare(w)
		before := w.steps
		s.play(w)
		total = w.steps - before
	})
	qt.Assert(t, qt.IsTrue(total > 3), qt.Commentf("%d steps", total))
	return total
}

// TestPowerLossWithAPackage cuts the power before, in and after each step that
// lasts. What was not confirmed is out before the keeper begins, and no other is
// forgotten.
func TestPowerLossWithAPackage(t *testing.T) {
	t.Parallel()
	for name, s := range packageScenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total := stepsOf(t, s)
			for step := 1; step <= total; step += stride() {
				for mode := range dieModes {
					synctest.Test(t, func(t *testing.T) {
						if w, gone := lose(t, s, step, mode); gone {
							afterPackageLoss(t, w, fmt.Sprintf("step %d of %d, mode %d", step, total, mode))
						}
					})
				}
			}
		})
	}
}

func afterPackageLoss(t *testing.T, w *world, when string) {
	t.Helper()
	note := qt.Commentf("power loss at %s", when)
	s, _, err := ParseJournal(w.files[journalName])
	qt.Assert(t, qt.IsNil(err), note)
	now := s.Packages[packageRef().ID]
	unconfirmed := ""
	if now.Intent != nil && !now.Intent.Stopped {
		unconfirmed = now.Intent.Patch.ID
	}
	// What processes had is in the journal.
	for id := range w.kept {
		qt.Check(t, qt.IsTrue(id == unconfirmed || now.Current != nil && now.Current.Patch.ID == id || slices.ContainsFunc(s.History, func(r api.Report) bool {
			return r.Patch.ID == id && r.Patch.State == api.Healthy
		})), qt.Commentf("%s: the keeper has %s and the journal says %+v", when, id, now))
	}
	w.boot()
	w.set(func() { w.asleep = true })
	b := w.open()
	b.Start(t.Context())
	qt.Check(t, qt.IsNil(b.Close()), note)
	if unconfirmed != "" {
		_, there := w.kept[unconfirmed]
		qt.Check(t, qt.IsFalse(there), qt.Commentf("%s: %s is there when the keeper begins", when, unconfirmed))
	}
	w.set(func() { w.asleep = false })
	a, stop := w.start()
	time.Sleep(15 * time.Minute)
	synctest.Wait()
	status := a.Status()
	stop()
	p := packageOf(status)
	if unconfirmed != "" {
		qt.Check(t, qt.IsTrue(slices.ContainsFunc(status.Quarantine, func(q api.Patch) bool {
			return q.ID == unconfirmed && q.Problem != nil && q.Problem.Code == "TS9504"
		})), qt.Commentf("%s: %+v", when, status.Quarantine))
	}
	if p.Protection != api.Protected {
		why := len(status.Quarantine) > 0 || len(status.ByHand) > 0
		qt.Check(t, qt.IsTrue(why && p.Reason != ""), qt.Commentf("%s: %s: %s %v", when, p.Protection, p.Reason, w.states()))
	} else {
		qt.Check(t, qt.Equals(p.Patch.State, api.Healthy), note)
		qt.Check(t, qt.Equals(w.keptNow(), p.Patch.ID), note)
	}
	end, _, err := ParseJournal(w.files[journalName])
	qt.Assert(t, qt.IsNil(err), note)
	qt.Check(t, qt.HasLen(end.Pending, 0), note)
	qt.Check(t, qt.Equals(len(w.got), len(end.History)), note)
}

// TestTheAgentIsKilledWithAPackage ends the process and not the machine: nothing
// is held against a live patch that did nothing.
func TestTheAgentIsKilledWithAPackage(t *testing.T) {
	t.Parallel()
	for name, s := range packageScenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total := stepsOf(t, s)
			for step := 1; step <= total; step += 2 * stride() {
				for mode := range dieModes {
					synctest.Test(t, func(t *testing.T) {
						w, gone := lose(t, s, step, mode)
						if !gone {
							return
						}
						when := fmt.Sprintf("killed at step %d of %d, mode %d", step, total, mode)
						w.set(func() { w.off, w.dieAt = false, 0 })
						for _, p := range w.patches {
							p.Transition = false
						}
						a, stop := w.start()
						time.Sleep(15 * time.Minute)
						synctest.Wait()
						status := a.Status()
						stop()
						p := packageOf(status)
						for _, q := range status.Quarantine {
							qt.Check(t, qt.Equals(q.Problem.Code, "TS9503"), qt.Commentf("%s", when))
						}
						if p.Protection != api.Protected {
							qt.Check(t, qt.IsTrue(len(status.ByHand) > 0), qt.Commentf("%s: %s: %s %v", when, p.Protection, p.Reason, w.states()))
						} else {
							qt.Check(t, qt.Equals(p.Patch.State, api.Healthy), qt.Commentf("%s", when))
							qt.Check(t, qt.Equals(w.keptNow(), p.Patch.ID), qt.Commentf("%s", when))
						}
						qt.Check(t, qt.Equals(status.Waiting, 0), qt.Commentf("%s", when))
					})
				}
			}
		})
	}
}
