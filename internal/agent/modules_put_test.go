// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

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
		_, a := w.withModules(bring("one", "v1"), bring("two", "v1"))
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
		_, a := w.withModules(bring("one", "v1"))
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
		_, a := w.withModules(bring("one", "v1"), bring("two", "v1"))
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
		_, a := w.withModules(bring("one", "v1"))
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
		_, a := w.withModules(bring("one", "v1"))
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
