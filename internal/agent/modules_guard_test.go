// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/trust"
)

func hasProblem(s Status, c code.Code) bool {
	return slices.ContainsFunc(s.Problems, func(p code.Problem) bool { return p.Code == c })
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
			time.Sleep(30 * time.Minute) // or it may go while the live patch is put back
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
		_, a := w.withModules(bring("one", "v1"), bring("two", "v1"))
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
		_, a := w.withModules(bring("one", "v1"))
		w.set(func() { w.modprobe("one") })
		qt.Assert(t, qt.IsNil(a.Refresh(t.Context())))
		time.Sleep(65 * time.Second)
		j, _ := a.journal.view()
		qt.Check(t, qt.IsTrue(j.Modules[testBuildID].Files[0].Sure))
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

// TestWhatIsTakenBackAndRunsIsTold: out of an initramfs that was made while the
// file was on the disk it comes with each boot.
func TestWhatIsTakenBackAndRunsIsTold(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		o, a := w.withModules(bring("one", "v1"))
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
