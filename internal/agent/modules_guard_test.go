// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

func hasProblem(s Status, c code.Code) bool {
	return slices.ContainsFunc(s.Problems, func(p code.Problem) bool { return p.Code == c })
}

// didSwap are the modules that were unloaded to be loaded again.
func (w *world) didSwap() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.swapped)
}

// module is a module that is loaded.
func (w *world) module(name string) (api.Module, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return loadedModule(&w.host, name)
}

// cut is a loss of power of a machine whose agent runs.
func (w *world) cut(stop func()) {
	w.set(func() { w.off = true })
	stop()
	w.boot()
	w.set(func() { w.host.Modules = nil })
}

// TestAFixedModuleThatTakesTheMachineDown: whether it was seen loaded before
// that, or takes one boot after the other down as it loads.
func TestAFixedModuleThatTakesTheMachineDown(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		play    func(w *world, stop func()) (crashes int)
		blocked bool
	}{
		"in the watch over it": {func(w *world, stop func()) int {
			w.set(func() { w.modprobe("one") })
			soon()
			w.set(func() { w.bump() })
			soon()
			w.cut(stop)
			return 1
		}, true},
		"long after": {func(w *world, stop func()) int {
			w.set(func() { w.modprobe("one"); w.bump() })
			later()
			w.cut(stop)
			return 0
		}, false},
		"after an orderly end in the watch": {func(w *world, stop func()) int {
			w.set(func() { w.modprobe("one"); w.bump() })
			soon()
			stop()
			w.cut(func() {})
			return 0
		}, false},
		"as it loads, in two boots": {func(w *world, stop func()) int {
			w.set(func() { w.modprobe("one") })
			w.cut(stop)
			_, stop = w.start()
			time.Sleep(30 * time.Second) // the live patch itself is confirmed again
			w.set(func() { w.modprobe("one") })
			w.cut(stop)
			return 0
		}, true},
		"as it loads, with a boot of another kernel between": {func(w *world, stop func()) int {
			w.set(func() { w.modprobe("one") })
			w.cut(stop)
			mine := w.host.Kernel
			w.set(func() { w.spare, w.host.Kernel = mine.Release, otherKernel() })
			_, stop = w.start()
			soon()
			stop()
			w.boot()
			w.set(func() { w.host.Kernel = mine })
			_, stop = w.start()
			time.Sleep(30 * time.Second)
			w.set(func() { w.modprobe("one") })
			w.cut(stop)
			return 0
		}, true},
		"the power goes in one boot, with nothing loaded": {func(w *world, stop func()) int {
			w.cut(stop)
			return 0
		}, false},
		"the power goes again and again, in boots that lasted": {func(w *world, stop func()) int {
			for range 4 {
				time.Sleep(30 * time.Minute)
				w.cut(stop)
				_, stop = w.start()
			}
			w.cut(stop)
			return 0
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.install("shipped")
				w.set(func() { w.panicky = map[string]bool{} })
				w.offer(1, bring("one", "v1"), bring("two", "v1"))
				_, stop := w.start()
				later()
				qt.Assert(t, qt.DeepEquals(w.onDisk(), []string{"one.ko", "two.ko"}))
				if strings.HasPrefix(name, "as it loads") {
					w.set(func() { w.panicky["one"] = true })
				}
				crashes := c.play(w, stop)
				a, stop := w.start()
				later()
				s := a.Status()
				qt.Check(t, qt.Equals(hasProblem(s, "TS9436"), c.blocked), qt.Commentf("%+v", s.Problems))
				qt.Check(t, qt.Equals(slices.Contains(w.onDisk(), "one.ko"), !c.blocked))
				qt.Check(t, qt.Equals(s.Protection, api.Protected), qt.Commentf("the live patch is there all the same"))
				w.mu.Lock()
				reports := 0
				for _, r := range w.got {
					if r.Kind == api.ReportCrash {
						reports++
						qt.Check(t, qt.Equals(r.Patch.ID, "debian-6.1.0-55-amd64-v1"))
						qt.Check(t, qt.StringContains(r.Detail, "fixed module one"))
					}
				}
				w.mu.Unlock()
				qt.Check(t, qt.Equals(reports, crashes), qt.Commentf("that block it for others"))
				stop()
				if !c.blocked {
					return
				}
				// It is remembered, until a person lets it in.
				a, stop = w.start()
				defer stop()
				later()
				qt.Check(t, qt.IsFalse(slices.Contains(w.onDisk(), "one.ko")))
				_, err := a.Clear(t.Context(), "one")
				qt.Assert(t, qt.IsNil(err))
				_, err = a.Clear(t.Context(), "all")
				qt.Assert(t, qt.IsNil(err))
				later()
				qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"one.ko", "two.ko"}))
			})
		})
	}
}

func otherKernel() api.Kernel {
	return api.Kernel{Release: "6.1.0-44-amd64", BuildID: strings.Repeat("cd", 20)}
}

// TestAnotherKernelIsBootedAfterACrash: what took the machine down is found out
// there, and is not in the way of the next boot of its own kernel.
func TestAnotherKernelIsBootedAfterACrash(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.offer(1, bring("one", "v1"), bring("two", "v1"))
		_, stop := w.start()
		later()
		w.set(func() { w.modprobe("one") })
		soon()
		w.set(func() { w.bump() })
		soon()
		w.cut(stop)
		mine := w.host.Kernel
		w.set(func() { w.spare, w.host.Kernel = mine.Release, otherKernel() })
		_, stop = w.start()
		later()
		qt.Check(t, qt.HasLen(w.onDisk(), 0))
		w.mu.Lock()
		i := slices.IndexFunc(w.got, func(r api.Report) bool { return r.Kind == api.ReportCrash })
		qt.Assert(t, qt.IsTrue(i >= 0), qt.Commentf("%+v", w.got))
		qt.Check(t, qt.Equals(w.got[i].Kernel, mine))
		qt.Check(t, qt.Equals(w.got[i].Patch.Version, 1))
		w.mu.Unlock()
		stop() // in good order
		w.boot()
		w.set(func() { w.host.Kernel = mine })
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"two.ko"}))
		qt.Check(t, qt.IsTrue(hasProblem(a.Status(), "TS9436")))
	})
}

// TestAFixedModuleIsWatched: what the kernel says of it takes it away.
func TestAFixedModuleIsWatched(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.offer(1, bring("one", "v1"), bring("two", "v1"))
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { w.modprobe("one"); w.modprobe("two"); w.bump() })
		soon()
		w.set(func() { w.complain["one"] = "BUG: unable to handle page fault (in f)" })
		later()
		s := a.Status()
		qt.Check(t, qt.IsTrue(hasProblem(s, "TS9437")), qt.Commentf("%+v", s.Problems))
		qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"two.ko"}))
		j, _ := a.journal.view()
		two := j.Modules[testBuildID].Files[0]
		qt.Check(t, qt.IsTrue(two.Sure && two.Boot == ""), qt.Commentf("%+v", two))
	})
}

// TestTheWatchEndsInItsTime, also when a person's refresh was the first to see
// the module.
func TestTheWatchEndsInItsTime(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.offer(1, bring("one", "v1"))
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { w.modprobe("one") })
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		time.Sleep(65 * time.Second)
		j, _ := a.journal.view()
		qt.Check(t, qt.IsTrue(j.Modules[testBuildID].Files[0].Sure))
	})
}

// TestASwapIsNeverLeftHalfDone: an interrupt, or the end of the agent, between
// the unloading and the loading.
func TestASwapIsNeverLeftHalfDone(t *testing.T) {
	t.Parallel()
	swapping := testConfig()
	swapping.Modules.SwapUnused = true
	for name, c := range map[string]struct {
		fails bool
		kill  bool // the process ends, not the machine
	}{
		"interrupted":                          {},
		"interrupted, and it does not load":    {fails: true},
		"the agent is killed":                  {kill: true},
		"the agent is killed, and does not go": {kill: true, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.install("shipped")
				var running atomic.Pointer[Agent]
				w.set(func() {
					w.modprobe("one")
					if c.fails {
						w.noSwap = code.New("TS9433", "one", "modprobe: exit status 1")
					}
					w.swaps = func(string) {
						if c.kill {
							w.set(func() { w.off = true })
							return
						}
						running.Load().interrupt()
					}
				})
				w.offer(1, bring("one", "v1"))
				a, stop := w.start(swapping)
				running.Store(a)
				later()
				stop()
				w.set(func() { w.off, w.swaps = false, nil })
				if c.kill {
					_, is := w.module("one")
					qt.Assert(t, qt.IsFalse(is), qt.Commentf("killed in between"))
				}
				if c.kill {
					b, stop := w.start()
					later()
					stop()
					qt.Check(t, qt.IsFalse(hasProblem(b.Status(), "TS9432")), qt.Commentf("%+v", b.Status().Problems))
				}
				_, is := w.module("one")
				qt.Check(t, qt.IsTrue(is), qt.Commentf("it is loaded in any case"))
			})
		})
	}
}

// TestASwapWaits for the end of a hold and for a window, as a live patch does.
func TestASwapWaits(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.set(func() { w.modprobe("one") })
		w.offer(1, bring("one", "v1"), bring("two", "v1"))
		a, stop := w.start()
		defer stop()
		later()
		qt.Assert(t, qt.DeepEquals(w.onDisk(), []string{"two.ko"}))
		qt.Assert(t, qt.IsNil(a.Hold(t.Context(), true)))
		w.publish(func(x *trust.Index) { x.SwapUnused = true })
		w.set(func() { delete(w.fixed, "two.ko"); w.dep = nil })
		later()
		qt.Check(t, qt.HasLen(w.didSwap(), 0), qt.Commentf("held"))
		w.set(func() { w.unload("one"); w.bump() })
		later()
		qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"two.ko"}), qt.Commentf("put right, and nothing added"))
		w.set(func() { w.modprobe("one"); w.bump() })
		w.set(func() { w.held = true; w.bump() })
		qt.Assert(t, qt.IsNil(a.Hold(t.Context(), false)))
		later()
		qt.Check(t, qt.HasLen(w.didSwap(), 0), qt.Commentf("held by the server"))
		w.set(func() { w.held = false; w.bump() })
		later()
		qt.Check(t, qt.DeepEquals(w.didSwap(), []string{"one"}))
		qt.Check(t, qt.DeepEquals(states(a.Status()), map[string]api.ReplacementState{"one": api.LoadedNow, "two": api.OnDisk}))
	})
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.offer(1, bring("one", "v1"))
		cfg := testConfig()
		cfg.Modules.SwapUnused = true
		_, stop := w.start(cfg)
		later()
		stop()
		// The window of the night has ended, the machine boots, the initramfs
		// loads the shipped one.
		cfg.Timezone = "UTC"
		now := time.Now().UTC()
		cfg.Windows = make([]Window, 1)
		qt.Assert(t, qt.IsNil(cfg.Windows[0].UnmarshalText([]byte("daily "+now.Add(2*time.Hour).Format("15:04")+"-"+now.Add(4*time.Hour).Format("15:04")))))
		w.boot()
		w.set(func() { w.dep = nil; w.modprobe("one"); w.dep = []string{"one.ko"} })
		_, stop = w.start(cfg)
		defer stop()
		later()
		qt.Check(t, qt.HasLen(w.didSwap(), 0), qt.Commentf("not before the window"))
		time.Sleep(3 * time.Hour)
		qt.Check(t, qt.DeepEquals(w.didSwap(), []string{"one"}))
	})
}

// TestModulesThatShareAFixStayTogetherOverABoot: the initramfs loads the
// shipped build of one of them.
func TestModulesThatShareAFixStayTogetherOverABoot(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.offer(1, bring("one", "v1"), bring("three", "v1"), bring("two", "v1", "one"))
		_, stop := w.start()
		later()
		stop()
		qt.Assert(t, qt.DeepEquals(w.onDisk(), []string{"one.ko", "three.ko", "two.ko"}))
		w.boot()
		w.set(func() {
			w.host.Modules = []api.Module{{Name: "one", BuildID: idOf("shipped one")}, {Name: "three", BuildID: idOf("shipped three")}}
		})
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"three.ko"}))
		qt.Check(t, qt.DeepEquals(states(a.Status()), map[string]api.ReplacementState{"one": api.InUse, "two": api.NotYet, "three": api.InUse}))
	})
}

// TestASwapOfAGroupIsWholeOrNone: the second of two does not load.
func TestASwapOfAGroupIsWholeOrNone(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.set(func() {
			w.modprobe("one")
			w.modprobe("two")
			w.swaps = func(name string) {
				if name == "two" {
					w.set(func() { w.noSwap = code.New("TS9433", "two", "modprobe: exit status 1") })
				}
			}
		})
		w.offer(1, bring("one", "v1"), bring("two", "v1", "one"))
		cfg := testConfig()
		cfg.Modules.SwapUnused = true
		a, stop := w.start(cfg)
		defer stop()
		later()
		for _, n := range []string{"one", "two"} {
			m, is := w.module(n)
			qt.Check(t, qt.IsTrue(is))
			qt.Check(t, qt.Equals(m.BuildID, idOf("shipped "+n)), qt.Commentf("%s %v", n, w.didSwap()))
		}
		qt.Check(t, qt.HasLen(w.onDisk(), 0))
		qt.Check(t, qt.IsTrue(hasProblem(a.Status(), "TS9433")))
	})
}

// TestWhatIsTakenBackAndRunsIsTold: out of an initramfs that was made while the
// file was on the disk it comes with each boot.
func TestWhatIsTakenBackAndRunsIsTold(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		o := w.offer(1, bring("one", "v1"))
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { w.modprobe("one"); w.bump() })
		later()
		qt.Assert(t, qt.IsFalse(hasProblem(a.Status(), "TS9438")))
		w.publish(func(x *trust.Index) {
			x.Blocked = append(x.Blocked, trust.BlockRef{ID: o.ID, Version: 1, Reason: "bad", Recall: true})
		})
		later()
		qt.Check(t, qt.HasLen(w.onDisk(), 0))
		s := a.Status()
		qt.Assert(t, qt.IsTrue(hasProblem(s, "TS9438")), qt.Commentf("%+v", s.Problems))
		w.mu.Lock()
		in := w.checked[len(w.checked)-1]
		w.mu.Unlock()
		qt.Assert(t, qt.HasLen(in.Problems, 1)) // the server is told
		qt.Check(t, qt.Equals(in.Problems[0].Code, "TS9438"))
		qt.Check(t, qt.IsTrue(in.Able))
		w.set(func() { w.unload("one"); w.modprobe("one") })
		a.Kick()
		soon()
		qt.Check(t, qt.IsFalse(hasProblem(a.Status(), "TS9438")))
	})
}

// TestFixedModulesGoWithALivePatchThatDoesNotComeBack.
func TestFixedModulesGoWithALivePatchThatDoesNotComeBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		what func(w *world, a *Agent)
		left int
	}{
		"it was blocked, and is not recalled": {func(w *world, _ *Agent) {
			w.publish(func(x *trust.Index) {
				x.Blocked = append(x.Blocked, trust.BlockRef{ID: x.Patches[0].ID, Version: 1, Reason: "bad"})
			})
			later()
		}, 0},
		"the machine left its server": {func(w *world, a *Agent) { qt.Check(w.t, qt.IsNil(a.Leave(w.t.Context(), true))) }, 0},
		"this host does not take it now": {func(w *world, _ *Agent) {
			w.set(func() { w.blockers["tsugi_v1"] = code.New("TS9215", "tcp_ack", "") })
		}, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.install("shipped")
				w.offer(1, bring("one", "v1"))
				a, stop := w.start()
				later()
				c.what(w, a)
				qt.Check(t, qt.HasLen(w.onDisk(), 1), qt.Commentf("as long as it is applied"))
				stop()
				w.boot()
				a, stop = w.start()
				defer stop()
				later()
				s := a.Status()
				qt.Assert(t, qt.IsNil(s.Applied))
				qt.Check(t, qt.HasLen(w.onDisk(), c.left))
				qt.Check(t, qt.HasLen(s.Modules, c.left), qt.Commentf("what is there is told"))
			})
		})
	}
}

// TestFixedModulesComeBackWhenNothingTakesTheirPlace: a newer live patch that
// changes one of them is refused, fails, or is blocked.
func TestFixedModulesComeBackWhenNothingTakesTheirPlace(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]func(w *world){
		"this host can't take it":    func(w *world) { w.blockers["tsugi_v2"] = code.New("TS9215", "tcp_ack", "") },
		"the kernel does not":        func(w *world) { w.refuse["tsugi_v2"] = code.New("TS9301", "tsugi_v2", "") },
		"it is not healthy":          func(w *world) { w.complain["tsugi_v2"] = "WARNING: tsugi_v2" },
		"tasks never let it through": func(w *world) { w.stuck["tsugi_v2"] = true },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.install("shipped")
				w.offer(1, bring("one", "v1"))
				_, stop := w.start()
				defer stop()
				later()
				w.set(func() { c(w) })
				w.offer(2, changes("one"))
				later()
				if name == "the kernel does not" {
					qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"one.ko"}), qt.Commentf("although it is offered still"))
				}
				w.publish(func(x *trust.Index) {
					x.Blocked = append(x.Blocked, trust.BlockRef{ID: x.Patches[1].ID, Version: 2, Reason: "bad", Recall: true})
				})
				later()
				later()
				qt.Check(t, qt.DeepEquals(w.loaded(), []string{"tsugi_v1"}))
				qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"one.ko"}))
			})
		})
	}
}

// TestAModuleInTheWayIsSwappedWhenItGetsFree: not at the first try alone.
func TestAModuleInTheWayIsSwappedWhenItGetsFree(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.offer(1, bring("one", "v1"))
		cfg := testConfig()
		cfg.Modules.SwapUnused = true
		a, stop := w.start(cfg)
		defer stop()
		later()
		w.set(func() { w.modprobe("one"); w.users["one"] = "driver of eth0" })
		w.offer(2, changes("one"))
		later()
		qt.Check(t, qt.Equals(a.Status().Applied.Version, 1))
		qt.Check(t, qt.HasLen(w.onDisk(), 0), qt.Commentf("a boot would load the shipped one"))
		w.set(func() { delete(w.users, "one") })
		time.Sleep(20 * time.Minute)
		later()
		qt.Check(t, qt.DeepEquals(w.didSwap(), []string{"one"}))
		qt.Check(t, qt.Equals(a.Status().Applied.Version, 2))
	})
}

// TestALivePatchThatThisHostCanNotTakeCostsNothing: its way is not cleared.
func TestALivePatchThatThisHostCanNotTakeCostsNothing(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.offer(1, bring("one", "v1"))
		a, stop := w.start()
		defer stop()
		later()
		w.set(func() { w.blockers["tsugi_v2"] = code.New("TS9215", "tcp_ack", "") })
		before := len(a.History())
		w.offer(2, changes("one"))
		later()
		for _, r := range a.History()[before:] {
			qt.Check(t, qt.IsFalse(strings.Contains(r.Detail, "module")), qt.Commentf("%s", r.Detail))
		}
	})
}

// TestWhatModprobeIsNotLedToIsLeftOut and nothing else; and what depmod could
// not do is no protection.
func TestWhatModprobeIsNotLedToIsLeftOut(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.set(func() { w.noFind = map[string]bool{"one.ko": true}; w.depmod = errors.New("depmod: exit status 1") })
		w.offer(1, bring("one", "v1"), bring("two", "v1"))
		a, stop := w.start()
		defer stop()
		later()
		s := a.Status()
		qt.Check(t, qt.IsTrue(hasProblem(s, "TS9432")), qt.Commentf("%+v", s.Problems))
		qt.Check(t, qt.Equals(s.Applied.Coverage.Fixed, 1), qt.Commentf("the files are there, and nothing leads to them"))
		w.set(func() { w.depmod = nil })
		a.Kick()
		soon()
		qt.Check(t, qt.DeepEquals(states(a.Status()), map[string]api.ReplacementState{"one": api.NotHere, "two": api.OnDisk}))
		qt.Check(t, qt.IsTrue(hasProblem(a.Status(), "TS9435")))
		qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"two.ko"}))
		// Later somebody changes what depmod prefers.
		w.set(func() { w.dep = nil; w.noFind["two.ko"] = true })
		a.Kick()
		soon()
		qt.Check(t, qt.Equals(states(a.Status())["two"], api.NotHere))
	})
}

// TestWhatTheDiskSaysIsAskedAgain: the program that unpacks the shipped module
// is installed, or the package's module comes back.
func TestWhatTheDiskSaysIsAskedAgain(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.set(func() { delete(w.shipped, "kernel/one.ko") })
		w.offer(1, bring("one", "v1"))
		a, stop := w.start()
		defer stop()
		later()
		qt.Check(t, qt.IsTrue(hasProblem(a.Status(), "TS9434")))
		w.install("shipped")
		a.Kick()
		soon()
		qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"one.ko"}))
		qt.Check(t, qt.IsFalse(hasProblem(a.Status(), "TS9434")))
	})
}

// TestTendReadsTheMachine: a module was loaded while a transition was under
// way, and its fixed build is not put on the disk under it.
func TestTendReadsTheMachine(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.set(func() { delete(w.shipped, "kernel/one.ko") })
		w.offer(1, bring("one", "v1"))
		a, stop := w.start()
		defer stop()
		later()
		qt.Assert(t, qt.HasLen(w.onDisk(), 0))
		w.set(func() { w.stuck["tsugi_v2"] = true })
		w.offer(2)
		time.Sleep(30 * time.Second)
		qt.Assert(t, qt.HasLen(w.loaded(), 2), qt.Commentf("on its way"))
		w.install("shipped")
		w.set(func() { w.modprobe("one") })
		time.Sleep(2 * time.Minute)
		qt.Check(t, qt.HasLen(w.onDisk(), 0))
		qt.Check(t, qt.DeepEquals(states(a.Status()), map[string]api.ReplacementState{"one": api.InUse}))
	})
}

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
		qt.Assert(t, qt.IsTrue(p != nil && p.Version == 2), qt.Commentf("%+v", p))
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

// TestAPossibleAttributionIsToldAsOne.
func TestAPossibleAttributionIsToldAsOne(t *testing.T) {
	t.Parallel()
	c := &Card{
		Fixes: []livepatch.FixRef{
			{ID: "a", CVEs: []string{"CVE-2026-1001", "CVE-2026-1002", "CVE-2026-1003"}, Possible: []string{"CVE-2026-1002", "CVE-2026-1003"}},
			{ID: "b", CVEs: []string{"CVE-2026-1003"}},
		},
		Open: []livepatch.OpenFix{{ID: "x", CVEs: []string{"CVE-2026-1004"}, Possible: []string{"CVE-2026-1004"}, Kind: livepatch.OpenReboot}},
	}
	got := coverage(c, nil)
	qt.Check(t, qt.DeepEquals(got.Possible, []string{"CVE-2026-1002"}))
	qt.Check(t, qt.IsTrue(got.Open[0].Possible))
	qt.Check(t, qt.DeepEquals(fixedCVEs(c, got), []string{"CVE-2026-1001", "CVE-2026-1003"}))
	qt.Check(t, qt.Equals(got.Sentence(), "protected from 3 of 4 (1 of them by a possible attribution); none of the rest is known to be high"))
}

// TestAReasonToRebootWins over a fix of the same vulnerability that was left
// out on purpose, however severe that one is called.
func TestAReasonToRebootWins(t *testing.T) {
	t.Parallel()
	c := &Card{Open: []livepatch.OpenFix{
		{ID: "x", CVEs: []string{"CVE-2026-1002"}, Severity: "low", Kind: livepatch.OpenReboot},
		{ID: "y", CVEs: []string{"CVE-2026-1002"}, Severity: "high", Kind: livepatch.OpenExcluded},
	}}
	got := coverage(c, nil)
	qt.Check(t, qt.DeepEquals(got.Reboot(), []string{"CVE-2026-1002"}))
	qt.Check(t, qt.Equals(got.Open[0].Severity, "high"))
}
