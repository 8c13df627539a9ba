// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"hash/crc32"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// withPackage is a machine whose processes map the package.
func withPackage(t *testing.T, f func(t *testing.T, w *world)) {
	in(t, func(t *testing.T, w *world) {
		w.mapped = map[string]int{packageRef().ID: 40}
		f(t, w)
	})
}

// count is how many check-ins the server took, and how many it refused.
func (w *world) count() (taken, refused int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return len(w.checked), w.refused
}

// last is what the last check-in said of the package.
func (w *world) last() api.Package {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, c := range slices.Backward(w.checked) {
		for _, p := range c.Packages {
			if p.ID == packageRef().ID {
				return p
			}
		}
		break
	}
	return api.Package{}
}

func TestALivePatchOfAPackageIsApplied(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		o := w.offerPackage(1)
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(w.keptNow(), o.ID))
		qt.Check(t, qt.DeepEquals(w.states(), []string{"v1 verified", "v1 loading", "v1 transitioning", "v1 applied", "v1 healthy"}))
		s := a.Status()
		p := packageOf(s)
		qt.Check(t, qt.Equals(p.Protection, api.Protected), qt.Commentf("%+v", s))
		qt.Check(t, qt.Equals(p.Patch.State, api.Healthy))
		qt.Check(t, qt.DeepEquals(p.Processes, api.Processes{Protected: 40}))
		qt.Check(t, qt.DeepEquals(p.CVEs, []string{"CVE-2026-45445"}))
		qt.Check(t, qt.Equals(s.Protection, api.Protected))
		qt.Check(t, qt.IsTrue(strings.HasPrefix(s.Reason, testPackage+": version 1")), qt.Commentf("%s", s.Reason))
		qt.Check(t, qt.HasLen(s.Problems, 0))
		said := w.last()
		qt.Check(t, qt.Equals(said.Target, testPackage))
		qt.Check(t, qt.Equals(said.Patch.State, api.Healthy))
		qt.Check(t, qt.DeepEquals(said.Processes, api.Processes{Protected: 40}))
		// The kernel has nothing of it.
		qt.Check(t, qt.HasLen(w.loaded(), 0))
		qt.Check(t, qt.Equals(w.checked[len(w.checked)-1].Patch.ID, ""))
	})
}

func TestAPackageThatNobodyMapsIsLeftAlone(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		qt.Check(t, qt.HasLen(a.Status().Packages, 0))
		w.set(func() { w.mapped = map[string]int{packageRef().ID: 1} })
		later()
		qt.Check(t, qt.Equals(packageOf(a.Status()).Patch.State, api.Healthy))
	})
}

func TestPackagesCanBeLeftOut(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		cfg := testConfig()
		cfg.Processes.Off = true
		a, stop := w.start(cfg)
		defer stop()
		later()
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		qt.Check(t, qt.HasLen(a.Status().Packages, 0))
		qt.Check(t, qt.HasLen(w.checked[len(w.checked)-1].Packages, 0))
	})
}

func TestTheKernelAndAPackageGoTogether(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offer(1)
		w.offerPackage(1)
		a, stop := w.start()
		defer stop()
		later()
		s := a.Status()
		qt.Check(t, qt.Equals(s.Applied.State, api.Healthy))
		qt.Check(t, qt.Equals(packageOf(s).Patch.State, api.Healthy))
		f, err := a.Fixed()
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(f.Packages, 1))
		qt.Check(t, qt.IsTrue(f.Packages[0].Whole()))
		qt.Check(t, qt.DeepEquals(f.Packages[0].Names, []string{"libssl3"}))
		// A problem of one keeps the other as it is.
		w.set(func() { w.complain["tsugi_v2"] = "WARNING: tsugi_v2" })
		w.offer(2)
		w.offerPackage(2)
		later()
		s = a.Status()
		qt.Check(t, qt.HasLen(s.Quarantine, 1))
		qt.Check(t, qt.Equals(packageOf(s).Patch.Version, 2))
	})
}

func TestANewerVersionOfAPackageAndItsRecall(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		one, two := w.offerPackage(1), w.offerPackage(2)
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(w.keptNow(), two.ID))
		w.publishPackage(func(x *trust.Index) {
			x.Blocked = append(x.Blocked, trust.BlockRef{ID: two.ID, Version: 2, Reason: "bad", Recall: true})
		})
		later()
		qt.Check(t, qt.Equals(w.keptNow(), one.ID), qt.Commentf("%v", w.states()))
		qt.Check(t, qt.Equals(packageOf(a.Status()).Patch.State, api.Healthy))
		w.publishPackage(func(x *trust.Index) {
			x.Blocked = append([]trust.BlockRef{{ID: one.ID, Version: 1, Reason: "bad", Recall: true}}, x.Blocked...)
		})
		later()
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		states := w.states()
		qt.Check(t, qt.Equals(states[len(states)-1], "v1 reverted"))
	})
}

func TestAHoldKeepsAPackageAsItIs(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		a, stop := w.start()
		defer stop()
		later()
		qt.Assert(t, qt.IsNil(a.Hold(t.Context(), true)))
		w.offerPackage(2)
		later()
		p := packageOf(a.Status())
		qt.Check(t, qt.Equals(p.Patch.Version, 1))
		qt.Check(t, qt.Equals(p.Protection, api.Outdated))
		qt.Assert(t, qt.IsNil(a.Hold(t.Context(), false)))
		later()
		qt.Check(t, qt.Equals(packageOf(a.Status()).Patch.Version, 2))
	})
}

func TestAProgramThatCrashesTakesALivePatchOut(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		o := w.offerPackage(1)
		a, stop := w.start()
		defer stop()
		soon()
		w.set(func() {
			w.crashes = append(w.crashes, Crash{Patch: o.ID, Program: "nginx", PID: 77, Signal: "SIGSEGV", After: 12000})
		})
		later()
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		s := a.Status()
		qt.Assert(t, qt.HasLen(s.Quarantine, 1))
		qt.Check(t, qt.Equals(s.Quarantine[0].Problem.Code, code.Code("TS9503")))
		qt.Check(t, qt.Equals(s.Quarantine[0].Problem.Why, "nginx (pid 77) was ended by SIGSEGV 12s after the live patch came into it"))
		qt.Check(t, qt.Equals(packageOf(s).Protection, api.Failing))
		i := slices.IndexFunc(w.got, func(r api.Report) bool { return r.Patch.State == api.Quarantined })
		qt.Check(t, qt.Equals(w.got[i].Kind, api.ReportHealth))
		qt.Check(t, qt.HasLen(w.gives, 1))
		// A person lets it in again.
		_, err := a.Clear(t.Context(), o.ID)
		qt.Assert(t, qt.IsNil(err))
		later()
		qt.Check(t, qt.Equals(packageOf(a.Status()).Patch.State, api.Healthy))
	})
}

func TestACrashAfterTheWatch(t *testing.T) {
	t.Parallel()
	for _, late := range []bool{false, true} {
		withPackage(t, func(t *testing.T, w *world) {
			o := w.offerPackage(1)
			a, stop := w.start()
			defer stop()
			later()
			w.set(func() {
				w.crashes = append(w.crashes, Crash{Patch: o.ID, Program: "nginx", PID: 77, Signal: "SIGSEGV", After: 12000, Late: late})
			})
			later()
			want := api.Healthy
			if late {
				want = api.Quarantined // it came into a process that ran
			}
			qt.Check(t, qt.Equals(packageOf(a.Status()).Patch.State, want), qt.Commentf("late: %v", late))
		})
	}
}

func TestTheHealthCommandSpeaksForPackagesToo(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		w.healthy = func([]string) error { return fmt.Errorf("exit status 3") }
		cfg := testConfig()
		cfg.Health.Command = []string{"/usr/local/bin/works"}
		a, stop := w.start(cfg)
		defer stop()
		later()
		s := a.Status()
		qt.Assert(t, qt.HasLen(s.Quarantine, 1))
		qt.Check(t, qt.StringContains(s.Quarantine[0].Problem.Why, "exit status 3"))
		qt.Check(t, qt.Equals(w.keptNow(), ""))
	})
}

func TestTheKeeperDoesNotRun(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		o := w.offerPackage(1)
		w.asleep = true
		a, stop := w.start()
		defer stop()
		later()
		s := a.Status()
		qt.Check(t, qt.Equals(packageOf(s).Protection, api.Failing))
		qt.Check(t, qt.Equals(s.Problems[0].Code, code.Code("TS9440")))
		qt.Check(t, qt.DeepEquals(w.states(), []string{"v1 blocked"}))
		qt.Check(t, qt.Equals(w.last().Patch.State, api.Blocked))
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		w.set(func() { w.asleep = false })
		time.Sleep(15 * time.Minute)
		qt.Check(t, qt.Equals(w.keptNow(), o.ID))
		// It stops later: what is there stays, and new processes are told of.
		w.set(func() { w.asleep = true })
		later()
		p := packageOf(a.Status())
		qt.Check(t, qt.Equals(p.Protection, Partly))
		qt.Check(t, qt.StringContains(p.Reason, "processes that start now"))
	})
}

func TestTheKeeperComesToNoEnd(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		w.slow = true
		a, stop := w.start()
		defer stop()
		time.Sleep(10 * time.Minute)
		s := a.Status()
		qt.Check(t, qt.IsTrue(slices.ContainsFunc(s.Problems, func(p code.Problem) bool { return p.Code == "TS9441" })), qt.Commentf("%+v", s.Problems))
		w.set(func() { w.slow = false })
		time.Sleep(time.Hour)
		qt.Check(t, qt.Equals(packageOf(a.Status()).Patch.State, api.Healthy), qt.Commentf("%v", w.states()))
	})
}

func TestAMachineWithoutAKeeperSaysNothing(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		w.absent = true
		a, stop := w.start()
		defer stop()
		later()
		s := a.Status()
		qt.Check(t, qt.HasLen(s.Problems, 0))
		qt.Check(t, qt.HasLen(s.Packages, 0))
		qt.Check(t, qt.HasLen(w.checked[len(w.checked)-1].Problems, 0))
	})
}

func TestProcessesThatAreBusyAreTold(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		w.busy = 3
		a, stop := w.start()
		defer stop()
		later()
		s := a.Status()
		p := packageOf(s)
		qt.Check(t, qt.Equals(p.Protection, Partly))
		qt.Check(t, qt.Equals(p.Reason, "37 of 40 processes have it"))
		qt.Check(t, qt.Equals(s.Protection, Partly))
		qt.Check(t, qt.DeepEquals(w.last().Processes, api.Processes{Protected: 37, Pending: 3}))
		f, err := a.Fixed()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsFalse(f.Packages[0].Whole()))
		w.set(func() { w.busy = 0 })
		later() // the server hears of it at once
		qt.Check(t, qt.DeepEquals(w.last().Processes, api.Processes{Protected: 40}))
	})
}

func TestCountsAreToldNowAndThen(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		a, stop := w.start()
		defer stop()
		later()
		later()
		w.set(func() { w.mapped[packageRef().ID] = 41 })
		asked, _ := w.count()
		time.Sleep(30 * time.Second)
		now, _ := w.count()
		qt.Check(t, qt.Equals(now, asked)) // no check-in of their own
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		qt.Check(t, qt.Equals(w.last().Processes.Protected, 41))
		w.set(func() { w.mapped[packageRef().ID] = 42 })
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		qt.Check(t, qt.Equals(w.last().Processes.Protected, 41)) // a moment ago
	})
}

// TestReplacedFilesAreTold: what processes run and the disk has no more is told to a
// server that asks for it, and to no other.
func TestReplacedFilesAreTold(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		stale := &api.Stale{Processes: 3, Files: []api.StaleFile{{Path: "/usr/lib/libssl.so.3", BuildID: "0123456789abcdef", Processes: 3, Program: "nginx"}}}
		w.staleFiles, w.staleOf = stale, map[string]int{packageRef().ID: 2}
		said := func() *api.Stale {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.checked[len(w.checked)-1].Stale
		}
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.IsNil(said()))
		qt.Check(t, qt.Equals(w.last().Stale, 0))
		w.set(func() { w.want = []api.Wish{api.WantStale}; w.bump() })
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		time.Sleep(10 * time.Second) // it comes again by itself
		qt.Check(t, qt.DeepEquals(said(), stale))
		qt.Check(t, qt.Equals(w.last().Stale, 2))

		// What a keeper said that has ended is of another time.
		w.set(func() { w.asleep = true })
		later()
		qt.Check(t, qt.IsNil(said()))
		qt.Check(t, qt.Equals(w.last().Stale, 0))
		w.set(func() { w.asleep = false })
		later()
		qt.Check(t, qt.DeepEquals(said(), stale))

		// An older server takes the place of the one that asked.
		w.set(func() { w.old, w.want = true, nil; w.bump() })
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		_, refused := w.count()
		qt.Check(t, qt.Equals(refused, 1))
		qt.Check(t, qt.IsNil(said()))
		qt.Check(t, qt.Equals(w.last().Stale, 0))
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		asked, refused := w.count()
		qt.Check(t, qt.Equals(refused, 1)) // this one has not asked
		// The one beside it asks again, and they take turns: nothing goes round and round.
		w.set(func() { w.want = []api.Wish{api.WantStale}; w.bump() })
		later()
		now, _ := w.count()
		qt.Check(t, qt.IsTrue(now < asked+20), qt.Commentf("%d", now-asked))
	})
}

func TestALivePatchOfAPackageIsTakenOutByHand(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		o := w.offerPackage(1)
		a, stop := w.start()
		defer stop()
		later()
		_, err := a.RevertPackage(t.Context(), "debian:libc6=2.36-9+deb12u7")
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9664")))
		p, err := a.RevertPackage(t.Context(), testPackage)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.ID, o.ID))
		later()
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		qt.Check(t, qt.HasLen(a.Status().ByHand, 1))
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		later()
		qt.Check(t, qt.Equals(w.keptNow(), o.ID))
		// Somebody does it without the agent.
		w.set(func() { delete(w.kept, o.ID) })
		qt.Assert(t, qt.IsNil(a.act(t.Context())))
		later()
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		states := w.states()
		qt.Check(t, qt.Equals(states[len(states)-1], "v1 reverted"))
	})
}

func TestAFileThatTheIndexOffers(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		o := w.offerPackage(1)
		w.gated = []string{o.ID} // its turn has not come
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(packageOf(a.Status()).Protection, api.Unprotected))
		qt.Assert(t, qt.IsNotNil(a.Status().Listed))
		qt.Check(t, qt.Equals(*a.Status().Listed, 1))
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		qt.Check(t, qt.Equals(w.last().Patch.State, api.Waiting))
		p, err := a.ApplyFile(t.Context(), w.plainPackage(o.ID), false)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.ID, o.ID))
		qt.Check(t, qt.Equals(p.State, api.Applied))
		later()
		qt.Check(t, qt.Equals(packageOf(a.Status()).Patch.State, api.Healthy))
		_, err = a.ApplyFile(t.Context(), w.plainPackage(o.ID), false)
		qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9421")))
	})
}

func TestARolloutGatesAPackage(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		o := w.offerPackage(1)
		w.gated = []string{o.ID}
		_, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(w.keptNow(), ""))
		w.set(func() { w.gated = nil; w.bump() })
		later()
		qt.Check(t, qt.Equals(w.keptNow(), o.ID))
	})
}

// TestTheMachineGoesDownByALivePatchOfAPackage: the first process maps libraries
// too, and its end is the machine's.
func TestTheMachineGoesDownByALivePatchOfAPackage(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		one := w.offerPackage(1)
		_, stop := w.start()
		later()
		stop()
		two := w.offerPackage(2)
		w.panics[two.ID] = true
		_, stop = w.start()
		later()
		qt.Assert(t, qt.IsTrue(w.off))
		stop()
		w.boot()
		b := w.open()
		w.set(func() { w.asleep = true })
		b.Start(t.Context()) // tsugi-boot, before the keeper
		qt.Check(t, qt.IsNil(b.Close()))
		w.set(func() { w.asleep = false })
		qt.Check(t, qt.IsFalse(strings.Contains(w.keptNow(), two.ID)))
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.Equals(w.downs, 1))
		s := a.Status()
		qt.Assert(t, qt.HasLen(s.Quarantine, 1))
		qt.Check(t, qt.Equals(s.Quarantine[0].Problem.Code, code.Code("TS9504")))
		qt.Check(t, qt.Equals(w.keptNow(), one.ID), qt.Commentf("%v", w.states()))
		qt.Check(t, qt.Equals(packageOf(s).Patch.State, api.Healthy))
	})
}

func TestAnOrderlyEndDuringTheWatchOverAPackage(t *testing.T) {
	t.Parallel()
	withPackage(t, func(t *testing.T, w *world) {
		w.offerPackage(1)
		_, stop := w.start()
		soon()
		stop()
		w.boot()
		a, stop := w.start()
		defer stop()
		later()
		s := a.Status()
		qt.Check(t, qt.HasLen(s.Quarantine, 0))
		qt.Check(t, qt.Equals(packageOf(s).Patch.State, api.Healthy))
	})
}

// TestJournalsOfBefore: what an agent wrote that knew nothing of packages is
// read, in both forms, and packages come beside it.
func TestJournalsOfBefore(t *testing.T) {
	t.Parallel()
	line := func(r Record) []byte {
		b, err := r.line()
		qt.Assert(t, qt.IsNil(err))
		return b
	}
	// As such an agent summed up: without the key for packages.
	text := []byte(`{"seq":3,"base":{"seq":3,"floors":{"k":2},"healthy":{"k":{"id":"p-v2","version":2}}}}`)
	old := fmt.Appendf(nil, "%08x %s\n", crc32.Checksum(text, castagnoli), text)
	report := func(id string, p api.Patch) *api.Report {
		return &api.Report{ID: id, Kind: api.ReportState, BootID: "b", Kernel: api.Kernel{BuildID: "k"}, Patch: p}
	}
	ref := packageRef()
	b := slices.Concat(old,
		line(Record{Seq: 4, Report: report("a", api.Patch{ID: "p-v3", Version: 3, State: api.Loading})}),
		line(Record{Seq: 5, Package: &ref, Report: report("b", api.Patch{ID: "q-v1", Version: 1, State: api.Loading})}),
		line(Record{Seq: 6, Package: &ref, Report: report("c", api.Patch{ID: "q-v1", Version: 1, State: api.Applied})}),
	)
	s, _, err := ParseJournal(b)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(s.Intent.Patch.ID, "p-v3"))
	qt.Check(t, qt.IsNil(s.Current))
	qt.Check(t, qt.Equals(s.Packages[ref.ID].Intent.Patch.ID, "q-v1"))
	qt.Check(t, qt.Equals(s.Packages[ref.ID].Current.Patch.ID, "q-v1"))
	qt.Check(t, qt.Equals(s.Packages[ref.ID].Target, testPackage))
	s, _, err = ParseJournal(append(b, line(Record{Seq: 7, Package: &ref, Report: report("d", api.Patch{ID: "q-v1", Version: 1, State: api.Healthy})})...))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(s.Floors, map[string]int{"k": 2, ref.ID: 1}))
	qt.Check(t, qt.Equals(s.Intent.Patch.ID, "p-v3"))
	// A summary has it all.
	again, _, err := ParseJournal(line(Record{Seq: 9, Base: s}))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again.Packages, s.Packages))
}
