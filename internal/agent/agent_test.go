// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-quicktest/qt"
	"go.uber.org/goleak"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// in runs a test in a bubble of time, with an enrolled machine.
func in(t *testing.T, f func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		w.enroll()
		f(t, w)
	})
}

// soon lets the agent come to rest.
func soon() { time.Sleep(5 * time.Second); synctest.Wait() }

// later lets a health watch and its reports come to their end.
func later() { time.Sleep(3 * time.Minute); synctest.Wait() }

func TestALivePatchIsAppliedAndConfirmed(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		defer stop()
		soon()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		qt.Check(t, qt.Equals(a.Status().Applied.State, api.Applied))
		later()
		s := a.Status()
		qt.Check(t, qt.Equals(s.Protection, api.Protected), qt.Commentf("%s %v", s.Reason, s.Problems))
		qt.Check(t, qt.Equals(s.Applied.State, api.Healthy))
		qt.Check(t, qt.DeepEquals(s.Applied.CVEs, []string{"CVE-2026-12345"}))
		qt.Check(t, qt.Equals(s.Applied.Transition, int64(300)))
		qt.Check(t, qt.DeepEquals(w.states(), []string{"v1 verified", "v1 preflighted", "v1 loading", "v1 transitioning", "v1 applied", "v1 healthy"}))
		qt.Check(t, qt.Equals(s.Waiting, 0))
	})
}

func TestNewsReachAWaitingMachineAtOnce(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		_, stop := w.start()
		defer stop()
		later()
		w.offer(1)
		time.Sleep(time.Second)
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
	})
}

func TestANewerOneReplacesAnOlderOne(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		defer stop()
		later()
		w.offer(2)
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v2"}))
		qt.Check(t, qt.Equals(a.Status().Applied.Version, 2))
		// The older one is not kept: nothing leads back to it.
		files, _ := memDisk{w}.List(patchDir)
		qt.Check(t, qt.HasLen(files, 2), qt.Commentf("%v", files))
	})
}

// TestAnOfferWithoutAKeyIsWaitedFor is what a rollout looks like from a machine.
func TestAnOfferWithoutAKeyIsWaitedFor(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		later()
		second := trust.PatchID("debian:6.1.0-55-amd64", 2)
		w.set(func() { w.gated = []string{second} })
		w.offer(2)
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		qt.Check(t, qt.StringContains(a.Status().Reason, "its rollout has not come to this machine yet"))
		qt.Check(t, qt.IsFalse(strings.Contains(strings.Join(w.states(), ","), "blocked")))
		// A boot brings back what was confirmed, which waits for no key.
		stop()
		w.set(func() { w.gated = append(w.gated, trust.PatchID("debian:6.1.0-55-amd64", 1)) })
		w.boot()
		a, stop = w.start()
		defer stop()
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		w.set(func() {
			w.gated = nil
			w.bump()
		})
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v2"}))
		qt.Check(t, qt.Equals(a.Status().Applied.Version, 2))
	})
}

func TestABootPutsBackWhatWasConfirmed(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		_, stop := w.start()
		later()
		stop()
		w.set(func() { w.down = true })
		w.boot()
		// tsugi agent --boot: no network.
		b := w.open()
		b.Start(t.Context())
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		qt.Check(t, qt.IsNil(b.Close()))
		a, stop := w.start()
		defer stop()
		time.Sleep(15 * time.Second)
		synctest.Wait()
		qt.Check(t, qt.Equals(a.Status().Applied.State, api.Healthy))
		// The journal has it all, and the server gets it when it is back.
		w.set(func() { w.down = false; w.bump() })
		time.Sleep(20 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(w.states()[6:], []string{"v1 loading", "v1 transitioning", "v1 applied", "v1 applied", "v1 healthy"}))
	})
}

func TestALivePatchThatTakesTheMachineDownDoesSoOnce(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		w.panics["tsugi_v1"] = true
		_, stop := w.start()
		soon()
		stop()
		qt.Assert(t, qt.Equals(w.downs, 1))
		for range 3 {
			w.boot()
			b := w.open()
			b.Start(t.Context())
			a, stop := w.start()
			later()
			s := a.Status()
			qt.Check(t, qt.Equals(s.Protection, api.Failing))
			qt.Assert(t, qt.HasLen(s.Quarantine, 1))
			qt.Check(t, qt.Equals(s.Quarantine[0].Problem.Code, code.Code("TS9504")))
			stop()
		}
		qt.Check(t, qt.Equals(w.downs, 1))
		crash := w.got[len(w.got)-1]
		qt.Check(t, qt.Equals(crash.Kind, api.ReportCrash))
		qt.Check(t, qt.Equals(crash.Patch.State, api.Quarantined))
		// A newer one is not held back by it.
		w.offer(2)
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(a.Status().Protection, api.Protected))
	})
}

func TestClearLetsAQuarantinedLivePatchInAgain(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		o := w.offer(1)
		w.panics["tsugi_v1"] = true
		_, stop := w.start()
		soon()
		stop()
		w.panics = nil
		w.boot()
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		_, err := a.Clear(t.Context(), "nothing-v9")
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9419")))
		ids, err := a.Clear(t.Context(), o.ID)
		qt.Check(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(ids, []string{o.ID}))
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
	})
}

func TestAStuckTransitionIsNamedReversedAndTriedAgain(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		w.stuck["tsugi_v1"] = true
		a, stop := w.start()
		defer stop()
		time.Sleep(30 * time.Second)
		synctest.Wait()
		s := a.Status()
		qt.Assert(t, qt.HasLen(s.Stalls, 1))
		qt.Check(t, qt.DeepEquals(s.Stalls[0], api.Stall{PID: 7, Comm: "nfsd", Function: "tcp_ack"}))
		qt.Check(t, qt.StringContains(s.Reason, "transitioning"))
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.HasLen(w.loaded(), 0)) // reversed
		s = a.Status()
		qt.Check(t, qt.Equals(s.Protection, api.Failing))
		qt.Check(t, qt.Equals(s.Problems[0].Code, code.Code("TS9501")))
		qt.Check(t, qt.StringContains(s.Problems[0].Why, "nfsd (pid 7) in tcp_ack"))
		qt.Check(t, qt.IsTrue(s.Retry > 0))
		last := w.got[len(w.got)-1]
		qt.Check(t, qt.Equals(last.Patch.State, api.Waiting))
		qt.Check(t, qt.HasLen(last.Stalls, 1))
		// The task leaves, and the next try goes through.
		w.set(func() { w.stuck = nil })
		time.Sleep(10 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		qt.Check(t, qt.Equals(a.Status().Protection, api.Protected))
	})
}

func TestRevertEndsATransitionThatIsStuck(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		w.stuck["tsugi_v1"] = true
		a, stop := w.start()
		defer stop()
		time.Sleep(30 * time.Second)
		p, err := a.Revert(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.Version, 1))
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.StringContains(a.Status().Decision, "by hand"))
	})
}

func TestAnUnhealthyLivePatchIsTakenOutAndKeptOut(t *testing.T) {
	for name, harm := range map[string]func(*world, *Config){
		"by the kernel's log": func(w *world, _ *Config) {
			w.complain["tsugi_v2"] = "WARNING: CPU: 0 PID: 1 at net/ipv4/tcp.c:1 tcp_ack+0x1/0x2 [tsugi_v2]"
		},
		"by the command": func(w *world, c *Config) {
			c.Health.Command = []string{"/bin/false"}
			w.healthy = func([]string) error {
				if w.patches["tsugi_v2"] != nil {
					return errors.New("exit status 1")
				}
				return nil
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				c := testConfig()
				harm(w, &c)
				w.offer(1)
				a, stop := w.start(c)
				defer stop()
				later()
				w.offer(2)
				later()
				// The older one is back: it was confirmed.
				qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
				s := a.Status()
				qt.Assert(t, qt.HasLen(s.Quarantine, 1))
				qt.Check(t, qt.Equals(s.Quarantine[0].Problem.Code, code.Code("TS9503")))
				qt.Check(t, qt.Equals(s.Quarantine[0].Version, 2))
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
			})
		})
	}
}

func TestRevertByHandLasts(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		later()
		_, err := a.Revert(t.Context())
		qt.Assert(t, qt.IsNil(err))
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		_, err = a.Revert(t.Context())
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9418")))
		stop()
		w.boot()
		a, stop = w.start()
		defer stop()
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0)) // also after a boot
		qt.Check(t, qt.Equals(a.Status().Protection, api.Unprotected))
		qt.Check(t, qt.IsNil(a.Refresh(t.Context())))
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
	})
}

func TestANewerOneComesAfterARevertByHand(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		defer stop()
		later()
		_, err := a.Revert(t.Context())
		qt.Assert(t, qt.IsNil(err))
		w.offer(2)
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v2"}))
	})
}

// What a live patch put into objects is there after a revert, until the next boot.
func TestNoMemberLiesWhereThatOfARevertedOneLay(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		brings := func(name string) func(*livepatch.Patch) {
			return func(p *livepatch.Patch) {
				p.Manifest.Members = []livepatch.Member{{Struct: "struct sock", File: "include/net/sock.h", Behind: "sk_flags", Name: name}}
			}
		}
		w.offer(1, brings("held"))
		a, stop := w.start()
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		_, err := a.Revert(t.Context())
		qt.Assert(t, qt.IsNil(err))
		w.offer(2, brings("another"))
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		state, _ := a.journal.view()
		qt.Assert(t, qt.IsNotNil(state.Last.Problem))
		qt.Check(t, qt.Equals(state.Last.Problem.Code, "TS9225"))
		qt.Check(t, qt.StringContains(state.Last.Problem.Why, "where objects hold held of a live patch before"))
		stop()

		w.boot()
		_, stop = w.start()
		defer stop()
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v2"}))
	})
}

func TestARecallAndASignedRevertAreObeyed(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		defer stop()
		later()
		o := w.offer(2)
		later()
		w.publish(func(x *trust.Index) {
			x.Blocked = append(x.Blocked, trust.BlockRef{ID: o.ID, Version: 2, Reason: "oopses", Recall: true})
		})
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		w.publish(func(x *trust.Index) { x.Revert = &trust.Revert{To: 0, Below: 2, Reason: "all of it", By: "ops"} })
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.StringContains(w.got[len(w.got)-1].Detail, "all of it"))
		qt.Check(t, qt.Equals(a.Status().Protection, api.Unprotected))
	})
}

func TestABlockedOneIsNotPutBackByABoot(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		o := w.offer(1)
		_, stop := w.start()
		later()
		w.publish(func(x *trust.Index) {
			x.Blocked = append(x.Blocked, trust.BlockRef{ID: o.ID, Version: 1, Reason: "oopses"})
		})
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"})) // no recall
		stop()
		w.boot()
		w.set(func() { w.down = true })
		b := w.open()
		b.Start(t.Context())
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.StringContains(b.Status().Decision, "oopses"))
	})
}

func TestABootObeysTheSignedIndexAndNotTheFile(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		o := w.offer(1)
		_, stop := w.start()
		later()
		stop()
		x := *w.index
		x.Blocked = []trust.BlockRef{{ID: o.ID, Version: 1, Reason: "signed and kept"}}
		w.cached = &x
		w.boot()
		w.set(func() { w.down = true })
		b := w.open()
		b.Start(t.Context())
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.StringContains(b.Status().Decision, "signed and kept"))
	})
}

func TestHoldAndWindowKeepANewOneOut(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		c := testConfig()
		c.Timezone = "UTC"
		var win Window // the bubble's time begins on Saturday, 2000-01-01 at 00:00
		qt.Assert(t, qt.IsNil(win.UnmarshalText([]byte("Sat 02:00-04:00"))))
		c.Windows = []Window{win}
		w.offer(1)
		a, stop := w.start(c)
		defer stop()
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		s := a.Status()
		qt.Check(t, qt.Equals(s.Protection, api.Unprotected))
		qt.Check(t, qt.Equals(time.UnixMilli(s.NextWindow).UTC().Hour(), 2))
		qt.Check(t, qt.IsNil(a.Hold(t.Context(), true)))
		time.Sleep(150 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.StringContains(a.Status().Reason, "held"))
		qt.Check(t, qt.IsNil(a.Hold(t.Context(), false)))
		soon()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
	})
}

func TestWhatIsCachedIsNotLoadedUnderOldMetadata(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		o := w.offer(1)
		w.blockers[o.Name] = code.New("TS9206", "", "") // fetched, and not loaded
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { w.down = true; clear(w.blockers) })
		time.Sleep(5 * time.Hour) // tried again after 1, 2, 4 … minutes, and fresh for two hours
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{o.Name}))
		_ = a
	})
	in(t, func(t *testing.T, w *world) {
		o := w.offer(1)
		w.blockers[o.Name] = code.New("TS9206", "", "")
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { w.down = true })
		time.Sleep(5 * time.Hour)
		w.set(func() { clear(w.blockers) })
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.Equals(a.Status().Problems[0].Code, code.Code("TS9413")))
		w.set(func() { w.down = false })
		time.Sleep(10 * time.Hour)
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{o.Name}))
	})
}

func TestTsugiOffDoesNothing(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		_, stop := w.start()
		later()
		stop()
		w.boot()
		w.host.Off = true
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.StringContains(a.Status().Reason, "tsugi=off"))
		_, err := a.ApplyFile(t.Context(), w.plain("debian-6.1.0-55-amd64-v1"), true)
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9420")))
	})
}

func TestNothingIsLoadedThatIsNotWhatTheIndexSays(t *testing.T) {
	for name, c := range map[string]struct {
		harm func(*world, trust.Offer)
		want code.Code
	}{
		"other bytes": {func(w *world, o trust.Offer) { w.files2[o.ID] = append(w.files2[o.ID], 0) }, "TS9407"},
		"another key": {func(w *world, o trust.Offer) { w.keys[o.ID] = "other" }, "TS7106"},
		"provenance":  {func(w *world, o trust.Offer) { w.forged[o.ID] = code.New("TS7107", "", "") }, "TS7107"},
		"another version": {func(w *world, o trust.Offer) {
			w.index.Patches[0].Version = 7
		}, "TS9407"},
		"another kernel": {func(w *world, o trust.Offer) {
			w.host.Kernel.BuildID = strings.Repeat("cd", 20)
			w.index.Target.BuildID = w.host.Kernel.BuildID
		}, "TS9407"},
		"preflight":             {func(w *world, o trust.Offer) { w.blockers[o.Name] = code.New("TS9206", "", "off") }, "TS9206"},
		"the kernel's own word": {func(w *world, o trust.Offer) { w.refuse[o.Name] = code.New("TS9304", o.Name, "") }, "TS9304"},
		"expired metadata":      {func(w *world, o trust.Offer) { w.stale = code.New("TS7113", "timestamp.json", "") }, "TS7113"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				o := w.offer(1)
				c.harm(w, o)
				a, stop := w.start()
				defer stop()
				later()
				qt.Check(t, qt.HasLen(w.loaded(), 0))
				qt.Check(t, qt.HasLen(w.loads, 0))
				s := a.Status()
				found := false
				for _, p := range s.Problems {
					found = found || p.Code == c.want
				}
				qt.Check(t, qt.IsTrue(found), qt.Commentf("%+v", s.Problems))
				qt.Check(t, qt.Not(qt.Equals(s.Protection, api.Protected)))
				// The same refusal is one report and not one each time.
				time.Sleep(24 * time.Hour)
				synctest.Wait()
				blocked := strings.Count(strings.Join(w.states(), ","), "blocked")
				most := 2
				if len(w.refuse) > 0 {
					most = 20 // the kernel was asked each time, after 1, 2, 4 … minutes
				}
				qt.Check(t, qt.IsTrue(blocked <= most), qt.Commentf("%v", w.states()))
			})
		})
	}
}

func TestEveryReportArrivesOnceAndInOrder(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		defer stop()
		later()
		before := len(w.got)
		w.set(func() { w.down = true })
		for range 40 {
			qt.Assert(t, qt.IsNil(a.Hold(t.Context(), true)))
			qt.Assert(t, qt.IsNil(a.Hold(t.Context(), false)))
		}
		time.Sleep(time.Hour)
		qt.Check(t, qt.Equals(a.Status().Waiting, 80))
		w.set(func() { w.down = false })
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.Equals(a.Status().Waiting, 0))
		qt.Check(t, qt.Equals(len(w.got), before+80))
		for i := 1; i < len(w.got); i++ {
			qt.Check(t, qt.IsTrue(w.got[i-1].ID < w.got[i].ID))
		}
	})
}

func TestADiskThatCannotBeWrittenKeepsEverythingOut(t *testing.T) {
	for name, c := range map[string]struct {
		set  func(w *world, on bool)
		want code.Code
	}{
		"full":      {func(w *world, on bool) { w.full = on }, "TS9103"},
		"read-only": {func(w *world, on bool) { w.ro = on }, "TS9402"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.offer(1)
				a, stop := w.start()
				defer stop()
				later()
				w.set(func() { c.set(w, true) })
				w.offer(2)
				later()
				qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
				s := a.Status()
				qt.Check(t, qt.Equals(s.Problems[0].Code, c.want), qt.Commentf("%+v", s.Problems))
				qt.Check(t, qt.Not(qt.Equals(s.Protection, api.Protected)))
				// The server hears of it, though nothing can be journalled.
				last := w.checked[len(w.checked)-1]
				qt.Assert(t, qt.IsNotNil(last.Patch.Problem))
				qt.Check(t, qt.Equals(last.Patch.Problem.Code, c.want))
				// A person can still take it out.
				_, err := a.Revert(t.Context())
				qt.Check(t, qt.HasLen(w.loaded(), 0), qt.Commentf("%v", err))
				w.set(func() { c.set(w, false) })
				time.Sleep(3 * time.Hour)
				synctest.Wait()
				qt.Check(t, qt.Equals(a.Status().Protection, api.Protected), qt.Commentf("%+v", a.Status().Problems))
				qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v2"}))
				// What was written before, during and after is whole.
				_, good, err := ParseJournal(w.files[journalName])
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(int(good), len(w.files[journalName])))
			})
		})
	}
}

func TestADamagedJournalKeepsEverythingOutUntilAPersonHasLooked(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		_, stop := w.start()
		later()
		stop()
		w.boot()
		w.files[journalName][20] ^= 1
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		s := a.Status()
		qt.Check(t, qt.Equals(s.Problems[0].Code, code.Code("TS9403")))
		_, err := a.Clear(t.Context(), "journal")
		qt.Assert(t, qt.IsNil(err))
		later()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		qt.Check(t, qt.IsTrue(len(w.files[journalName+".damaged"]) > 0))
	})
}

func TestARevokedCredentialIsToldAndTakesNothingAway(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { w.refusal = code.New("TS7623", "", ""); w.bump() })
		time.Sleep(time.Hour)
		synctest.Wait()
		s := a.Status()
		qt.Check(t, qt.Equals(s.Problems[0].Code, code.Code("TS7623")))
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		n := len(w.checked)
		// And the machine does not hammer the server.
		time.Sleep(24 * time.Hour)
		synctest.Wait()
		qt.Check(t, qt.IsTrue(len(w.checked)-n < 300))
		w.set(func() { w.refusal = nil })
		_, err := a.Enroll(t.Context(), Enrollment{Server: "https://server:8443", Token: "t"})
		qt.Check(t, qt.IsNil(err))
		later()
		qt.Check(t, qt.Equals(a.Status().Protection, api.Protected), qt.Commentf("%+v", a.Status().Problems))
	})
}

func TestACopiedDiskIsFoundOut(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.host.MachineID = strings.Repeat("cd", 32)
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(a.Status().Problems[0].Code, code.Code("TS9409")))
		qt.Check(t, qt.HasLen(w.checked, 0))
	})
}

func TestACloneThatTheServerFindsIsTold(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.want = []api.Wish{api.WantReenroll, api.WantModules}
		w.host.Modules = []api.Module{{Name: "ext4", BuildID: "ab"}}
		a, stop := w.start()
		defer stop()
		soon()
		qt.Check(t, qt.HasLen(w.checked[len(w.checked)-1].Modules, 1)) // the other wish
		w.set(func() { w.want = []api.Wish{api.WantReenroll}; w.bump() })
		later()
		qt.Check(t, qt.Equals(a.Status().Problems[0].Code, code.Code("TS9428")))
	})
}

func TestAWishForModulesIsNoLoop(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.want = []api.Wish{api.WantModules} // and this kernel has none
		_, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.IsTrue(len(w.checked) < 6), qt.Commentf("%d check-ins", len(w.checked)))
	})
}

func TestAWrongClockIsTold(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.skew = -20 * 365 * 24 * time.Hour
		w.stale = code.New("TS7113", "timestamp.json", "")
		w.offer(1)
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		found := false
		for _, p := range a.Status().Problems {
			found = found || p.Code == "TS9411" && strings.Contains(p.Why, "2019") || strings.Contains(p.Why, "2020")
		}
		qt.Check(t, qt.IsTrue(found), qt.Commentf("%+v", a.Status().Problems))
	})
}

func TestOutsidersAreNoticed(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offer(1)
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { clear(w.patches); w.bump() }) // echo 0 > enabled; rmmod
		later()
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		s := a.Status()
		qt.Check(t, qt.IsNil(s.Applied))
		qt.Assert(t, qt.HasLen(s.ByHand, 1))
		last := w.got[len(w.got)-1]
		qt.Check(t, qt.Equals(last.Patch.Problem.Code, code.Code("TS9412")))
	})
}

func TestAFileByHand(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		o := w.offer(1)
		w.set(func() { w.index = nil; w.bump() })
		a, stop := w.start()
		defer stop()
		soon()
		file := w.plain(o.ID)
		_, err := a.ApplyFile(t.Context(), file, false)
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9424")))
		_, err = a.ApplyFile(t.Context(), file[:len(file)-1], true)
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS7001")))
		p, err := a.ApplyFile(t.Context(), file, true)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.ID, o.ID))
		_, err = a.ApplyFile(t.Context(), file, true)
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9421")))
		later()
		qt.Check(t, qt.Equals(a.Status().Applied.State, api.Healthy))
		f, err := a.Fixed()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(f.Fixes, []Fix{{ID: "fix", Title: "net: check the length", CVEs: []string{"CVE-2026-12345"}}}))
	})
}

func TestAFileByHandThatIsStuckIsTriedAgain(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t) // not enrolled
		o := w.offer(1)
		w.stuck[o.Name] = true
		a, stop := w.start()
		defer stop()
		soon()
		_, err := a.ApplyFile(t.Context(), w.plain(o.ID), true)
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9501")))
		soon()
		s := a.Status()
		qt.Check(t, qt.Equals(s.Protection, api.Failing))
		qt.Check(t, qt.Equals(s.Patch.State, api.Waiting))
		qt.Check(t, qt.Equals(s.Problems[0].Code, code.Code("TS9501")))
		qt.Check(t, qt.IsTrue(s.Retry > 0))
		w.set(func() { clear(w.stuck) })
		time.Sleep(15 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{o.Name}))
		qt.Check(t, qt.Equals(a.Status().Protection, api.Protected))
	})
}

func TestEnrolLeaveAndWhatNeedsThem(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		a, stop := w.start()
		defer stop()
		soon()
		qt.Check(t, qt.Equals(code.Of(a.Refresh(t.Context())), code.Code("TS9416")))
		qt.Check(t, qt.Equals(code.Of(a.Leave(t.Context(), false)), code.Code("TS9416")))
		w.offer(1)
		_, err := a.Enroll(t.Context(), Enrollment{Server: "https://server:8443", Token: "t"})
		qt.Assert(t, qt.IsNil(err))
		later()
		qt.Check(t, qt.Equals(a.Status().Protection, api.Protected))
		w.set(func() { w.down = true })
		qt.Check(t, qt.Equals(code.Of(a.Leave(t.Context(), false)), code.Code("TS9417")))
		qt.Check(t, qt.IsNil(a.Leave(t.Context(), true)))
		qt.Check(t, qt.IsNil(a.Status().Server))
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
		for _, f := range []string{machineName, identityName, indexName} {
			_, there := w.files[f]
			qt.Check(t, qt.IsFalse(there), qt.Commentf("%s", f))
		}
	})
}

func TestEnrollingAgainRenewsTheCache(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		o := w.offer(1)
		a, stop := w.start()
		later()
		w.set(func() { // the server wraps the key for the new identity
			w.files2[o.ID] = append([]byte("sealed:new:"), w.plain(o.ID)...)
			w.keys[o.ID] = "new"
			w.bump()
		})
		_, err := a.Enroll(t.Context(), Enrollment{Server: "https://server:8443", Token: "t"})
		qt.Assert(t, qt.IsNil(err))
		later()
		qt.Check(t, qt.Equals(a.Status().Protection, api.Protected))
		qt.Check(t, qt.HasLen(a.Status().Applied.CVEs, 1))
		stop()
		c, err := a.card(o.ID)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(c.Key, "new"))
		w.boot()
		w.set(func() { w.down = true })
		w.open().Start(t.Context())
		qt.Check(t, qt.DeepEquals(w.loaded(), []string{o.Name}))
	})
}

func TestAReportThatTheServerRefusesHoldsNothingUp(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { w.down = true })
		for i := range 30 {
			qt.Assert(t, qt.IsNil(a.Hold(t.Context(), i%2 == 0)))
		}
		s, _ := a.journal.view()
		n := 0
		w.set(func() { w.down, w.poison, n = false, s.Pending[7].ID, len(w.got) })
		time.Sleep(30 * time.Minute)
		synctest.Wait()
		qt.Check(t, qt.Equals(a.Status().Waiting, 0))
		qt.Check(t, qt.Equals(len(w.got), n+29))
	})
}

func TestParcelsAreBounded(t *testing.T) {
	t.Parallel()
	var all []api.Report
	for range 300 {
		all = append(all, api.Report{Detail: strings.Repeat("x", 8000)})
	}
	qt.Check(t, qt.IsTrue(len(parcel(all)) > 50 && len(parcel(all)) < 70))
	qt.Check(t, qt.HasLen(parcel(all[:3]), 3))
	for i := range all {
		all[i].Detail = ""
	}
	qt.Check(t, qt.HasLen(parcel(all), api.MaxReports))
	qt.Check(t, qt.HasLen(parcel([]api.Report{{Detail: strings.Repeat("x", maxParcel+1)}, {}}), 1))
}

func TestOneAgentAHost(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	w := newWorld(t)
	open := func() (*Agent, error) {
		return Open(t.Context(), Options{Dir: dir, System: memSystem{w}, Kernel: memKernel{w}, Link: memLink{w}, Crypt: memCrypt{}})
	}
	a, err := open()
	qt.Assert(t, qt.IsNil(err))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = Open(ctx, Options{Dir: dir, System: memSystem{w}})
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9408")))
	qt.Check(t, qt.IsNil(a.Close()))
	a, err = open()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(a.Close()))
	info, err := os.Stat(dir)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(info.IsDir()))
}
