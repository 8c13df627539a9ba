// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// scenarios are lives of a machine. The power can go at every step of each.
// prepare is what happened before, in peace; play is what it goes during.
func scenarios() map[string]struct{ prepare, play func(w *world) } {
	run := func(w *world, during func(a *Agent)) {
		a, stop := w.start()
		defer stop()
		during(a)
	}
	calm := func(w *world) { run(w, func(*Agent) { later() }) }
	return map[string]struct{ prepare, play func(w *world) }{
		"a first live patch": {
			func(w *world) { w.offer(1) },
			calm,
		},
		"a newer one": {
			func(w *world) { w.offer(1); calm(w) },
			func(w *world) {
				run(w, func(*Agent) { later(); w.offer(2); later() })
			},
		},
		"a boot": {
			func(w *world) { w.offer(1); calm(w); w.boot() },
			func(w *world) {
				b := w.open()
				b.Start(w.t.Context())
				_ = b.Close()
				calm(w)
			},
		},
		"an unhealthy one": {
			func(w *world) {
				w.offer(1)
				w.complain["tsugi_v2"] = "WARNING: tsugi_v2"
				calm(w)
			},
			func(w *world) {
				run(w, func(*Agent) { later(); w.offer(2); later() })
			},
		},
		"a stuck one": {
			func(w *world) { w.offer(1); w.stuck["tsugi_v1"] = true },
			func(w *world) {
				run(w, func(*Agent) { later(); w.set(func() { w.stuck = nil }); time.Sleep(15 * time.Minute); later() })
			},
		},
		"fixed modules come, change and go": {
			func(w *world) {
				w.install("shipped")
				w.offer(1, bring("one", "v1"), bring("two", "v1"))
				calm(w)
			},
			func(w *world) {
				run(w, func(a *Agent) {
					later()
					w.offer(2, bring("two", "v2"), bring("three", "v2"), changes("one"))
					later()
				})
			},
		},
		"a revert by hand": {
			func(w *world) { w.offer(1); calm(w) },
			func(w *world) {
				run(w, func(a *Agent) {
					later()
					_, _ = a.Revert(w.t.Context()) // the power may go in it
					later()
				})
			},
		},
		"a recall": {
			func(w *world) { w.offer(1); calm(w); w.offer(2); calm(w) },
			func(w *world) {
				run(w, func(*Agent) {
					later()
					w.publish(func(x *trust.Index) {
						x.Blocked = append(x.Blocked, trust.BlockRef{ID: x.Patches[1].ID, Version: 2, Reason: "bad", Recall: true})
					})
					later()
				})
			},
		},
		"a restart of the agent": {
			func(w *world) { w.offer(1) },
			func(w *world) {
				run(w, func(*Agent) { soon() })
				calm(w)
			},
		},
	}
}

// TestPowerLossAtEveryStep cuts the power before, in and after each step that
// lasts, and looks at what the machine is like after it has booted again.
func TestPowerLossAtEveryStep(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total := 0
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.enroll()
				s.prepare(w)
				before := w.steps
				s.play(w)
				total = w.steps - before
			})
			qt.Assert(t, qt.IsTrue(total > 5), qt.Commentf("%d steps", total))
			missed := 0
			for step := 1; step <= total; step++ {
				for mode := range dieModes {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.enroll()
						s.prepare(w)
						w.dieAt, w.mode = w.steps+step, mode
						s.play(w)
						if !w.off {
							missed++ // reports went out in fewer parcels this time
							return
						}
						afterPowerLoss(t, w, fmt.Sprintf("step %d of %d, mode %d", step, total, mode))
					})
				}
			}
			qt.Check(t, qt.IsTrue(missed <= 3*int(dieModes)), qt.Commentf("%d times the power did not go", missed))
		})
	}
}

// afterPowerLoss holds for every machine that comes back.
func afterPowerLoss(t *testing.T, w *world, when string) {
	t.Helper()
	note := qt.Commentf("power loss at %s", when)
	// What the medium says about that moment.
	s, _, err := ParseJournal(w.files[journalName])
	qt.Assert(t, qt.IsNil(err), note)
	unconfirmed := ""
	if s.Intent != nil && !s.Intent.Stopped {
		unconfirmed = s.Intent.Patch.Name
	}
	// What was in the kernel and nothing had confirmed must be in the journal.
	for name := range w.patches {
		p := s.Healthy[testBuildID]
		known := name == unconfirmed || name == p.Name || s.Current != nil && s.Current.Patch.Name == name ||
			slices.ContainsFunc(s.History, func(r api.Report) bool { return r.Patch.Name == name && r.Patch.State == api.Healthy })
		qt.Assert(t, qt.IsTrue(known), qt.Commentf("%s: the kernel had %s and the journal does not know: %+v", when, name, s))
	}
	w.modulesAreFound(when)
	w.boot()
	w.set(func() { w.down = true })
	b := w.open()
	b.Start(t.Context())
	qt.Check(t, qt.IsNil(b.Close()), note)
	w.set(func() { w.down = false })
	a, stop := w.start()
	time.Sleep(15 * time.Minute)
	synctest.Wait()
	status := a.Status()
	stop()
	// The one that was under way is not loaded in this boot.
	if unconfirmed != "" {
		qt.Check(t, qt.IsFalse(slices.Contains(w.loads, w.host.BootID+" "+unconfirmed)), qt.Commentf("%s: %v", when, w.loads))
		qt.Check(t, qt.IsTrue(slices.ContainsFunc(status.Quarantine, func(p api.Patch) bool {
			return p.Name == unconfirmed && p.Problem != nil && p.Problem.Code == "TS9504"
		})), qt.Commentf("%s: %+v", when, status.Quarantine))
	}
	// It is protected or says why not.
	if status.Protection != api.Protected {
		why := len(status.Problems) > 0 || len(status.Quarantine) > 0 || len(status.ByHand) > 0 || strings.Contains(status.Reason, "is blocked")
		qt.Check(t, qt.IsTrue(why && status.Reason != ""), qt.Commentf("%s: %s: %s", when, status.Protection, status.Reason))
	} else {
		qt.Check(t, qt.HasLen(w.loaded(), 1), note)
		qt.Check(t, qt.Equals(status.Applied.State, api.Healthy), qt.Commentf("%s: %v", when, w.states()))
		w.modulesAreThoseOf(status.Applied.Version, when)
	}
	// The server has heard of all that the journal holds, once and in order.
	end, _, err := ParseJournal(w.files[journalName])
	qt.Assert(t, qt.IsNil(err), note)
	qt.Check(t, qt.HasLen(end.Pending, 0), note)
	qt.Check(t, qt.Equals(len(w.got), len(end.History)), note)
	for i := range min(len(w.got), len(end.History)) {
		qt.Check(t, qt.Equals(w.got[i].ID, end.History[i].ID), note)
	}
	if unconfirmed != "" {
		qt.Check(t, qt.IsTrue(slices.ContainsFunc(w.got, func(r api.Report) bool { return r.Kind == api.ReportCrash })), note)
		// A person lets it in again, and the machine is whole.
		w.set(func() { clear(w.complain); w.stuck = map[string]bool{} })
		a, stop := w.start()
		soon()
		_, err := a.Clear(t.Context(), "all")
		qt.Check(t, qt.IsNil(err), note)
		if len(status.ByHand) > 0 {
			qt.Check(t, qt.IsNil(a.Refresh(t.Context())), note)
		}
		later()
		later()
		end := a.Status()
		stop()
		if !strings.Contains(end.Reason, "is blocked") {
			qt.Check(t, qt.Equals(end.Protection, api.Protected), qt.Commentf("%s: %s %+v", when, end.Reason, end.Problems))
		}
	}
}

// TestPowerLossAgainAndAgain cuts the power at ever later steps of one life.
func TestPowerLossAgainAndAgain(t *testing.T) {
	t.Parallel()
	for gap := 1; gap <= 12; gap++ {
		t.Run(fmt.Sprintf("every %d steps", gap), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.enroll()
				w.offer(1)
				for n := range 10 {
					w.dieAt, w.mode = w.steps+gap+n, dieMode(n)%dieModes
					_, stop := w.start()
					later()
					stop()
					w.boot()
				}
				a, stop := w.start()
				defer stop()
				time.Sleep(15 * time.Minute)
				synctest.Wait()
				s := a.Status()
				qt.Check(t, qt.IsTrue(s.Protection == api.Protected || len(s.Quarantine) > 0), qt.Commentf("%s %v %v", s.Reason, s.Problems, w.states()))
				_, _, err := ParseJournal(w.files[journalName])
				qt.Check(t, qt.IsNil(err))
			})
		})
	}
}

// TestACrashLongAfterIsNotHeldAgainstALivePatch: what is confirmed is trusted.
func TestACrashLongAfterIsNotHeldAgainstALivePatch(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		_, stop := w.start()
		later()
		w.set(func() { w.off = true })
		stop()
		w.boot()
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(a.Status().Protection, api.Protected))
		qt.Check(t, qt.HasLen(a.Status().Quarantine, 0))
	})
}

// TestAnOrderlyEndIsNoCrash: a reboot during the health watch.
func TestAnOrderlyEndIsNoCrash(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		_, stop := w.start()
		soon()
		stop()
		w.boot()
		a, stop := w.start()
		defer stop()
		later()
		s := a.Status()
		qt.Check(t, qt.Equals(s.Protection, api.Protected), qt.Commentf("%+v", s.Problems))
		qt.Check(t, qt.HasLen(s.Quarantine, 0))
	})
}

// TestTheAgentIsKilledAtEveryStep ends the process and not the machine: its
// next run goes on in the same boot, and nothing is held against a live patch.
func TestTheAgentIsKilledAtEveryStep(t *testing.T) {
	t.Parallel()
	for name, s := range scenarios() {
		if name == "a boot" || name == "fixed modules come, change and go" {
			continue // begins with a boot of its own; is put right as after a loss of power
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			total := 0
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				w.enroll()
				s.prepare(w)
				before := w.steps
				s.play(w)
				total = w.steps - before
			})
			for step := 1; step <= total; step++ {
				for mode := range dieModes {
					synctest.Test(t, func(t *testing.T) {
						w := newWorld(t)
						w.enroll()
						s.prepare(w)
						w.dieAt, w.mode = w.steps+step, mode
						s.play(w)
						if !w.off {
							return
						}
						note := qt.Commentf("killed at step %d of %d, mode %d", step, total, mode)
						w.set(func() { w.off, w.dieAt, w.stuck = false, 0, map[string]bool{} })
						// The kernel goes on without the agent.
						for _, p := range w.patches {
							if p.Transition && !p.Enabled {
								delete(w.patches, p.Name)
							}
							p.Transition = false
						}
						a, stop := w.start()
						time.Sleep(15 * time.Minute)
						synctest.Wait()
						status := a.Status()
						stop()
						for _, q := range status.Quarantine {
							qt.Check(t, qt.Equals(q.Problem.Code, "TS9503"), note) // the unhealthy one, found again
						}
						if status.Protection != api.Protected {
							why := len(status.Problems) > 0 || len(status.ByHand) > 0 || strings.Contains(status.Reason, "is blocked")
							qt.Check(t, qt.IsTrue(why), qt.Commentf("step %d of %d, mode %d: %s: %s %v", step, total, mode, status.Protection, status.Reason, w.states()))
						} else {
							qt.Check(t, qt.HasLen(w.loaded(), 1), note)
							qt.Check(t, qt.Equals(status.Applied.State, api.Healthy), note)
						}
						qt.Check(t, qt.Equals(status.Waiting, 0), note)
					})
				}
			}
		})
	}
}
