// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/trust"
)

// --- ModuleDisk

type memModules struct{ w *world }

func (m memModules) Installed(release string) bool {
	return release == m.w.host.Kernel.Release || release == m.w.spare
}

func (m memModules) Shipped(_, path string) (ShippedModule, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if s, ok := m.w.shipped[path]; ok {
		return s, nil
	}
	return ShippedModule{}, code.New("TS9434", path, "")
}

func (m memModules) There(string) (map[string]FileThere, error) {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	out := map[string]FileThere{}
	for n, b := range m.w.fixed {
		out[n] = FileThere{digest(b), slices.Contains(m.w.dep, n)}
	}
	return out, nil
}

// Put has the order that its comment demands: files, depmod, then what goes.
func (m memModules) Put(_ context.Context, _ string, add map[string][]byte, keep []string) error {
	w := m.w
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, n := range slices.Sorted(maps.Keys(add)) {
		effect, err := w.step()
		if effect {
			w.fixed[n] = add[n]
		}
		if err != nil {
			return err
		}
	}
	if w.depmod != nil {
		return w.depmod
	}
	stays := func(n string) bool { return slices.Contains(keep, n) && !w.noFind[n] }
	effect, err := w.step()
	if effect {
		w.dep = slices.DeleteFunc(slices.Sorted(maps.Keys(w.fixed)), func(n string) bool { return !stays(n) })
	}
	if err != nil {
		return err
	}
	var unfound []string
	for _, n := range slices.Sorted(maps.Keys(w.fixed)) {
		if stays(n) {
			continue
		}
		if slices.Contains(keep, n) {
			unfound = append(unfound, n)
		}
		effect, err := w.step()
		if effect {
			delete(w.fixed, n)
		}
		if err != nil {
			return err
		}
	}
	if len(unfound) > 0 {
		return &Unfound{unfound, code.New("TS9435", strings.Join(unfound, ", "), "")}
	}
	return nil
}

func (m memModules) Fit(_ context.Context, r livepatch.Replacement, ko []byte) []*code.Problem {
	if strings.Contains(string(ko), "unsigned") {
		return []*code.Problem{code.New("TS9207", r.Name, "")}
	}
	return nil
}

func (m memModules) InUse(name string) string {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	if _, is := loadedModule(&m.w.host, name); !is {
		return "it is not loaded"
	}
	return m.w.users[name]
}

// Swap unloads and loads; neither can be interrupted once it has begun, and the
// power can go between them.
func (m memModules) Swap(ctx context.Context, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if use := m.InUse(name); use != "" {
		return code.New("TS9433", name, use)
	}
	m.w.mu.Lock()
	m.w.unload(name)
	m.w.swapped = append(m.w.swapped, name)
	during := m.w.swaps
	m.w.mu.Unlock()
	if during != nil {
		during(name)
	}
	m.w.mu.Lock()
	if err := m.w.noSwap; err != nil && slices.Contains(m.w.dep, name+".ko") {
		m.w.mu.Unlock()
		return err
	}
	m.w.mu.Unlock()
	return m.Restore(ctx, name)
}

func (m memModules) Restore(_ context.Context, name string) error {
	m.w.mu.Lock()
	defer m.w.mu.Unlock()
	effect, err := m.w.step()
	if _, is := loadedModule(&m.w.host, name); effect && !is {
		m.w.modprobe(name)
	}
	return err
}

func (w *world) unload(name string) {
	w.host.Modules = slices.DeleteFunc(slices.Clone(w.host.Modules), func(m api.Module) bool { return m.Name == name })
}

// modprobe loads what modules.dep leads to. The caller holds the lock.
func (w *world) modprobe(name string) {
	id := w.shipped["kernel/"+name+".ko"].BuildID
	if slices.Contains(w.dep, name+".ko") {
		var err error
		if id, err = moduleBuildID(w.fixed[name+".ko"], true); err != nil {
			w.t.Error(err)
		}
		if w.panicky[name] {
			w.off = true
			w.downs++
		}
	}
	w.host.Modules = append(slices.Clone(w.host.Modules), api.Module{Name: name, BuildID: id})
}

func idOf(text string) string { return digest([]byte(text))[:40] }

// fixedKO is a module as far as the agent reads it.
func fixedKO(name, text string) []byte {
	note := append([]byte("\x04\x00\x00\x00\x14\x00\x00\x00\x03\x00\x00\x00GNU\x00"), make([]byte, 20)...)
	id := idOf(name + text)
	for i := range 20 {
		fmt.Sscanf(id[2*i:2*i+2], "%02x", &note[16+i])
	}
	f := elfobj.File{Machine: elf.EM_X86_64, Order: elf.ELFDATA2LSB, Sections: []*elfobj.Section{
		{Name: ".note.gnu.build-id", Type: elf.SHT_NOTE, Flags: elf.SHF_ALLOC, Align: 4, Data: note},
		{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 1, Data: []byte("name=" + name + "\x00text=" + text + "\x00")},
	}}
	b, err := f.Bytes()
	if err != nil {
		panic(err)
	}
	return b
}

// bring adds a fixed module, and a fix that it alone carries; with others, all
// of them.
func bring(name, text string, with ...string) func(p *livepatch.Patch) {
	return func(p *livepatch.Patch) {
		m := &p.Manifest
		id := "fix-" + name
		modules := append(slices.Clone(with), name)
		slices.Sort(modules)
		diff := m.Fixes[0].Diff
		m.Fixes = append(m.Fixes, livepatch.FixRef{ID: id, CVEs: []string{cveOf(name)}, Severity: "high", Diff: diff})
		r := livepatch.Replacement{Name: name, Path: "kernel/" + name + ".ko", BuildID: idOf("shipped " + name), Fixes: []string{id}}
		if err := p.AddReplacement(r, fixedKO(name, text)); err != nil {
			panic(err)
		}
		m.Fixes[len(m.Fixes)-1].Modules = modules
	}
}

// changes makes a live patch change a module in the kernel.
func changes(module string) func(p *livepatch.Patch) {
	return func(p *livepatch.Patch) {
		p.Manifest.Functions = append(p.Manifest.Functions, livepatch.Function{Object: module, Name: "f"})
		livepatch.SortFunctions(p.Manifest.Functions)
	}
}

func cveOf(name string) string {
	return map[string]string{"one": "CVE-2026-1001", "two": "CVE-2026-1002", "three": "CVE-2026-1003"}[name]
}

// install puts the kernel's package on the machine.
func (w *world) install(version string) {
	w.set(func() {
		for _, n := range []string{"one", "two", "three"} {
			w.shipped["kernel/"+n+".ko"] = ShippedModule{Digest: digest([]byte(version + n)), BuildID: idOf(version + " " + n)}
		}
	})
}

// fixedFiles are the fixed modules on the disk, and those of them that
// modprobe finds.
func (w *world) fixedFiles() (there, found []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Sorted(maps.Keys(w.fixed)), slices.Sorted(slices.Values(w.dep))
}

// withModules starts an agent that brings version 1 with fixed modules, and
// waits until that is confirmed.
func (w *world) withModules(more ...func(p *livepatch.Patch)) (trust.Offer, *Agent) {
	o := w.offer(1, more...)
	a, stop := w.start()
	w.t.Cleanup(stop)
	later()
	return o, a
}

func (w *world) onDisk() []string {
	there, _ := w.fixedFiles()
	return there
}

// modulesAreFound holds at every moment: modprobe finds what modules.dep names.
func (w *world) modulesAreFound(when string) {
	there, found := w.fixedFiles()
	for _, n := range found {
		qt.Check(w.t, qt.IsTrue(slices.Contains(there, n)), qt.Commentf("%s: modules.dep names %s, which is not there", when, n))
	}
}

// modulesAreThoseOf holds in the end for the live patch that is applied.
func (w *world) modulesAreThoseOf(version int, when string) {
	w.t.Helper()
	p, err := livepatch.Read(w.plain(trust.PatchID("debian:6.1.0-55-amd64", version)))
	qt.Assert(w.t, qt.IsNil(err))
	var want []string
	for _, r := range p.Manifest.Replacements {
		want = append(want, r.Name+".ko")
		w.mu.Lock()
		got := digest(w.fixed[r.Name+".ko"])
		w.mu.Unlock()
		qt.Check(w.t, qt.Equals(got, r.Module.Digest), qt.Commentf("%s: %s", when, r.Name))
	}
	there, found := w.fixedFiles()
	qt.Check(w.t, qt.DeepEquals(there, want), qt.Commentf("%s", when))
	qt.Check(w.t, qt.DeepEquals(found, want), qt.Commentf("%s", when))
}

// --- tests

func states(s Status) map[string]api.ReplacementState {
	out := map[string]api.ReplacementState{}
	for _, m := range s.Applied.Coverage.Modules {
		out[m.Module] = m.State
	}
	return out
}

func TestFixedModulesFollowTheLivePatch(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.set(func() { w.host.Modules = []api.Module{{Name: "two", BuildID: idOf("shipped two")}} })
		w.offer(1, bring("one", "v1"), bring("two", "v1"))
		a, stop := w.start()
		soon()
		qt.Check(t, qt.HasLen(w.onDisk(), 0), qt.Commentf("not before the live patch is confirmed"))
		later()
		s := a.Status()
		qt.Assert(t, qt.Equals(s.Protection, api.Protected), qt.Commentf("%+v", s.Problems))
		qt.Check(t, qt.DeepEquals(states(s), map[string]api.ReplacementState{"one": api.OnDisk, "two": api.InUse}))
		qt.Check(t, qt.Equals(s.Applied.Coverage.Sentence(), "protected from 2 of 3; 1 of the rest is high"))
		qt.Check(t, qt.DeepEquals(s.Applied.CVEs, []string{"CVE-2026-1001", "CVE-2026-12345"}))
		f, err := a.Fixed()
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(f.Fixes, 2))
		qt.Check(t, qt.IsTrue(f.IsOpen("CVE-2026-1002")))
		qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"one.ko"}))
		w.mu.Lock()
		sent := w.checked[len(w.checked)-1].Replacements
		w.mu.Unlock()
		qt.Check(t, qt.DeepEquals(sent, []api.Replacement{{Module: "one", State: api.OnDisk}, {Module: "two", State: api.InUse}}))

		// What loads is the fixed build; what is unloaded gets out of the way.
		w.set(func() { w.modprobe("one"); w.unload("two") })
		a.Kick()
		soon()
		qt.Check(t, qt.DeepEquals(states(a.Status()), map[string]api.ReplacementState{"one": api.LoadedNow, "two": api.OnDisk}))
		qt.Check(t, qt.Equals(a.Status().Applied.Coverage.Sentence(), "protected from all 3"))

		// A newer one takes its place; what it does not bring goes.
		w.offer(2, bring("one", "v2"))
		later()
		qt.Check(t, qt.DeepEquals(states(a.Status()), map[string]api.ReplacementState{"one": api.InUse}))
		w.modulesAreThoseOf(2, "after version 2")

		// A revert takes them away at once.
		_, err = a.Revert(t.Context())
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(w.onDisk(), 0))
		stop()
	})
}

func TestFixedModulesEndWithTheirKernel(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		what func(w *world)
		left int
	}{
		"nothing happens": {func(*world) {}, 1},
		"a boot of another kernel, this one gone": {func(w *world) {
			w.host.Kernel = api.Kernel{Release: "6.1.0-56-amd64", BuildID: strings.Repeat("cd", 20)}
		}, 0},
		"another build of this release": {func(w *world) { w.host.Kernel.BuildID = strings.Repeat("cd", 20) }, 0},
		"tsugi=off":                     {func(w *world) { w.host.Off = true }, 0},
		"the package has another module": {func(w *world) {
			w.shipped["kernel/one.ko"] = ShippedModule{Digest: digest([]byte("new")), BuildID: idOf("new")}
		}, 0},
		"the agent has forgotten all":  {func(w *world) { w.files = map[string][]byte{} }, 0},
		"somebody takes the file away": {func(w *world) { delete(w.fixed, "one.ko") }, 1},
		"somebody puts a file there":   {func(w *world) { w.fixed["other.ko"] = []byte("x") }, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.install("shipped")
				w.offer(1, bring("one", "v1"))
				_, stop := w.start()
				later()
				stop()
				qt.Assert(t, qt.HasLen(w.onDisk(), 1))
				w.boot()
				w.set(func() { c.what(w); w.down = true })
				a, stop := w.start()
				later()
				stop()
				qt.Check(t, qt.HasLen(w.onDisk(), c.left), qt.Commentf("%+v", a.Status().Problems))
				_, found := w.fixedFiles()
				qt.Check(t, qt.HasLen(found, c.left))
			})
		})
	}
}

func TestAModuleThatIsNotInUseIsSwappedWhenThePolicySaysSo(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		policy, config bool
		users          string
		fails          error
		want           api.ReplacementState
	}{
		"the policy does not":      {want: api.InUse},
		"the policy does":          {policy: true, want: api.LoadedNow},
		"this machine's owner":     {config: true, want: api.LoadedNow},
		"it has users":             {policy: true, users: "driver of eth0", want: api.InUse},
		"the kernel does not load": {policy: true, fails: errors.New("modprobe: exit status 1"), want: api.NotHere},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.install("shipped")
				w.set(func() {
					w.modprobe("one")
					w.users["one"], w.noSwap = c.users, c.fails
				})
				w.publish(func(x *trust.Index) { x.SwapUnused = c.policy })
				w.offer(1, bring("one", "v1"))
				cfg := testConfig()
				cfg.Modules.SwapUnused = c.config
				a, stop := w.start(cfg)
				later()
				s := a.Status()
				stop()
				qt.Check(t, qt.Equals(states(s)["one"], c.want), qt.Commentf("%+v", s.Problems))
				_, loaded := loadedModule(&w.host, "one")
				qt.Check(t, qt.IsTrue(loaded), qt.Commentf("it is loaded in any case"))
				if c.want != api.LoadedNow {
					m, _ := loadedModule(&w.host, "one")
					qt.Check(t, qt.Equals(m.BuildID, idOf("shipped one")))
					qt.Check(t, qt.HasLen(w.onDisk(), 0))
				}
			})
		})
	}
}

// TestALivePatchNeverMeetsAFixedModule: one that changes a module in the kernel
// knows its shipped build.
func TestALivePatchNeverMeetsAFixedModule(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		loaded, swap bool
		atLoad       string // what is loaded when the newer one is
		refused      bool
	}{
		"not loaded":          {},
		"loaded":              {loaded: true, atLoad: "fixed", refused: true},
		"loaded, and swapped": {loaded: true, swap: true, atLoad: "shipped"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(t *testing.T, w *world) {
				w.install("shipped")
				w.offer(1, bring("one", "v1"), bring("two", "v1"))
				cfg := testConfig()
				cfg.Modules.SwapUnused = c.swap
				a, stop := w.start(cfg)
				defer stop()
				later()
				if c.loaded {
					w.set(func() { w.modprobe("one") })
				}
				at := ""
				w.set(func() {
					w.onPreflight = func(p *livepatch.Patch) {
						if m, is := loadedModule(&w.host, "one"); is && p.Manifest.Version == 2 {
							at = map[bool]string{true: "shipped", false: "fixed"}[m.BuildID == idOf("shipped one")]
						}
					}
				})
				w.offer(2, bring("two", "v1"), changes("one"))
				later()
				qt.Check(t, qt.Equals(at, c.atLoad))
				qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"two.ko"}))
				if c.refused {
					qt.Check(t, qt.Equals(a.Status().Applied.Version, 1))
					qt.Check(t, qt.IsTrue(slices.ContainsFunc(a.Status().Problems, func(p code.Problem) bool { return p.Code == "TS9214" })))
					w.set(func() { w.unload("one"); w.modprobe("one") }) // by somebody, or by a boot
					time.Sleep(15 * time.Minute)
					later()
				}
				qt.Check(t, qt.Equals(a.Status().Applied.Version, 2), qt.Commentf("%+v", a.Status().Problems))
				qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"two.ko"}))

				// It changes one, the next brings one again.
				w.offer(3, bring("one", "v3"), bring("two", "v1"))
				later()
				qt.Check(t, qt.Equals(a.Status().Applied.Version, 3))
				if !c.loaded {
					qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"one.ko", "two.ko"}))
				}
			})
		})
	}
}

// TestWhatThisMachineWouldNotLoadIsNotPutThere: with the modules that share a
// fix with it.
func TestWhatThisMachineWouldNotLoadIsNotPutThere(t *testing.T) {
	t.Parallel()
	in(t, func(t *testing.T, w *world) {
		w.install("shipped")
		w.offer(1, bring("one", "unsigned"), bring("three", "v1"), bring("two", "v1", "one"))
		a, stop := w.start()
		later()
		s := a.Status()
		stop()
		qt.Check(t, qt.DeepEquals(w.onDisk(), []string{"three.ko"}))
		qt.Check(t, qt.DeepEquals(states(s), map[string]api.ReplacementState{"one": api.NotHere, "two": api.NotYet, "three": api.OnDisk}))
		qt.Check(t, qt.IsTrue(slices.ContainsFunc(s.Problems, func(p code.Problem) bool { return p.Code == "TS9207" })))
		qt.Check(t, qt.Equals(s.Protection, api.Protected), qt.Commentf("the live patch is there all the same"))
	})
}
