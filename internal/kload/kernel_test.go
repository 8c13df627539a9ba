// SPDX-License-Identifier: Apache-2.0

package kload_test

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/hostinfo"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/kload"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/modsig"
	"github.com/tsugi-project/tsugi/internal/preflight"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	vmguest "github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// initDir holds the guest program of all tests, and is made by TestMain.
var initDir string

var buildInit = testenv.Static(&initDir, "./testdata/init")

func TestMain(m *testing.M) { testenv.Main(m, &initDir) }

// result is that of testdata/init's verbs.
type result struct {
	Code       code.Code            `json:"code"`
	Error      string               `json:"error"`
	Transition *kload.Transition    `json:"transition"`
	Ticks      int                  `json:"ticks"`
	Loaded     []hostinfo.Livepatch `json:"loaded"`
	Host       *hostinfo.Host       `json:"host"`
	Findings   []preflight.Finding  `json:"findings"`
	Trouble    []kload.Trouble      `json:"trouble"`
}

func (r result) finding(t testing.TB, id string) preflight.Finding {
	t.Helper()
	for _, f := range r.Findings {
		if f.ID == id {
			return f
		}
	}
	t.Fatalf("no finding %s", id)
	return preflight.Finding{}
}

// machine collects the steps of one boot.
type machine struct {
	t     testing.TB
	k     *kernel.Target
	dir   string // of the modules of testdata
	steps []wire.Step
	files map[string]vm.File
	out   *vm.Outcome
}

// args are the arguments of the verbs.
type args map[string]any

func newMachine(t testing.TB, k *kernel.Target) *machine {
	m := &machine{t: t, k: k, files: map[string]vm.File{}}
	m.dir = t.TempDir()
	qt.Assert(t, qt.IsNil(os.CopyFS(m.dir, os.DirFS("testdata/modules"))))
	out, err := k.Make(t.Context(), "M="+m.dir, "modules")
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	return m
}

// step adds a step, which goes on when it fails: what came of it is asked
// with get.
func (m *machine) step(id, verb string, a any) {
	s := wire.NewStep(id, verb, a)
	s.KeepGoing = true
	m.steps = append(m.steps, s)
}

func (m *machine) sh(id, text string) { m.step(id, "script", vmguest.Script{Text: text}) }

// module makes one of testdata's modules a file of the guest.
func (m *machine) module(name string) string {
	path := "/tsugi/" + name + ".ko"
	m.files[path] = vm.File{Path: path, From: filepath.Join(m.dir, name+".ko")}
	return path
}

func (m *machine) artifact(r *builder.Report) string {
	b, err := r.Artifact.Bytes()
	qt.Assert(m.t, qt.IsNil(err))
	path := "/tsugi/" + r.Name + ".tsugi"
	m.files[path] = vm.File{Path: path, Data: b}
	return path
}

// patch makes an artifact that says the same with another module or other
// builds of the modules that it changes.
func (m *machine) patch(name string, r *builder.Report, ko []byte, builds ...livepatch.ModuleRef) string {
	man := r.Artifact.Manifest
	diffs := map[string][]byte{}
	for _, f := range man.Fixes {
		diffs[f.ID], _ = r.Artifact.Payload(f.Diff)
	}
	if builds != nil {
		man.Modules = builds
	}
	p, err := livepatch.New(man, man.Name+".ko", ko, diffs)
	qt.Assert(m.t, qt.IsNil(err))
	b, err := p.Bytes()
	qt.Assert(m.t, qt.IsNil(err))
	path := "/tsugi/" + name + ".tsugi"
	m.files[path] = vm.File{Path: path, Data: b}
	return path
}

// stranger signs a module with a key that no kernel knows.
func stranger(t testing.TB, ko []byte) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	qt.Assert(t, qt.IsNil(err))
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(7), Subject: pkix.Name{CommonName: "a stranger's key"}, NotAfter: time.Unix(1<<32, 0)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	qt.Assert(t, qt.IsNil(err))
	cert, err := x509.ParseCertificate(der)
	qt.Assert(t, qt.IsNil(err))
	out, err := modsig.Sign(ko, key, cert, modsig.Options{})
	qt.Assert(t, qt.IsNil(err))
	return out
}

func (m *machine) run() {
	m.t.Helper()
	bin, err := buildInit()
	qt.Assert(m.t, qt.IsNil(err))
	cfg := vm.Config{
		// unpacked, which takes most of a boot under emulation
		Kernel: m.k.Vmlinux, Init: bin, ModuleSource: m.k, Memory: 768, CacheDir: m.k.Home(),
		Files: slices.Collect(maps.Values(m.files)), Modules: []string{"em_text"},
	}
	m.out, err = vm.Run(m.t.Context(), cfg, &wire.Plan{Format: wire.Format, LogLevel: 6, Steps: m.steps})
	qt.Assert(m.t, qt.IsNil(err))
	m.t.Logf("boot %v, whole %v, %s", m.out.Boot, m.out.Elapsed, m.out.Accel)
	if m.t.Failed() || m.out.End != vm.Finished {
		m.t.Logf("%s", m.out.Console[max(0, len(m.out.Console)-4000):])
	}
	qt.Assert(m.t, qt.Equals(m.out.End, vm.Finished))
}

// get returns what came of a step.
func (m *machine) get(id string) result {
	m.t.Helper()
	e, ok := m.out.Step(id)
	qt.Assert(m.t, qt.IsTrue(ok), qt.Commentf("step %s did not end", id))
	qt.Assert(m.t, qt.Equals(e.Error, ""), qt.Commentf("step %s", id))
	var r result
	qt.Assert(m.t, qt.IsNil(json.Unmarshal(e.Data, &r)), qt.Commentf("step %s", id))
	return r
}

// fine asserts that a step ended with no error.
func (m *machine) fine(id string) result {
	m.t.Helper()
	r := m.get(id)
	qt.Check(m.t, qt.Equals(r.Error, ""), qt.Commentf("step %s", id))
	return r
}

// refused asserts the code that a step ended with.
func (m *machine) refused(id string, want code.Code) result {
	m.t.Helper()
	r := m.get(id)
	m.t.Logf("%s: %s", id, r.Error)
	qt.Check(m.t, qt.Equals(r.Code, want), qt.Commentf("step %s: %s", id, r.Error))
	return r
}

// says asserts what a script printed.
func (m *machine) says(id, want string) {
	m.t.Helper()
	e, _ := m.out.Step(id)
	var r vmguest.ScriptResult
	qt.Assert(m.t, qt.IsNil(json.Unmarshal(e.Data, &r)), qt.Commentf("step %s", id))
	qt.Check(m.t, qt.StringContains(r.Output, want), qt.Commentf("step %s", id))
}

// edited makes a live patch of a source file in which text is put before a
// place.
func edited(t testing.TB, k *kernel.Target, name, path, place, text string) *builder.Report {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(k.Source, path))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(strings.Contains(string(b), place)), qt.Commentf("%s has no %q: choose another place", path, place))
	f, err := fix.Parse(name+".diff", fix.Unified(path, b, []byte(strings.Replace(string(b), place, text+place, 1))))
	qt.Assert(t, qt.IsNil(err))
	r, err := builder.Build(t.Context(), builder.Request{Target: k, Fixes: []*fix.Fix{f}, Name: name, Builder: "tsugi test"}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(r.Verdict, builder.Live), qt.Commentf("%v", r.Refusals))
	return r
}

// cmdline makes a live patch of cmdline_proc_show, a function of vmlinux.
func cmdline(t testing.TB, k *kernel.Target, name, text string) *builder.Report {
	return edited(t, k, name, "fs/proc/cmdline.c", "\tseq_puts(m, saved_command_line);\n", text)
}

// TestLivePatchesOnARealKernel boots one machine and does with it what an
// agent does: applying, replacing, reverting, and all that can go wrong.
func TestLivePatchesOnARealKernel(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	m := newMachine(t, k)
	v1 := cmdline(t, k, "tsugi_v1", "\tseq_puts(m, \"tsugi one \");\n")
	v2 := cmdline(t, k, "tsugi_v2", "\tseq_puts(m, \"tsugi two \");\n")
	one, two := m.artifact(v1), m.artifact(v2)
	hold, unhold := m.module("tsugi_hold"), m.module("tsugi_unhold")
	probe := m.module("tsugi_probe")
	// em_text is a small module that needs no other
	text := edited(t, k, "tsugi_text", "net/sched/em_text.c", "\tconf.pad = 0;\n", "\tpr_info_once(\"tsugi\\n\");\n")
	module, moduleOther := m.artifact(text), m.patch("other", text, text.Artifact.Module(), livepatch.ModuleRef{Name: "em_text", BuildID: strings.Repeat("ab", 20)})
	strange := m.patch("strange", v1, stranger(t, v1.Artifact.Module()))
	magic := bytes.Replace(v1.Artifact.Module(), []byte(" mod_unload "), []byte(" mod_xxload "), 1)
	wrong := m.patch("wrong", v1, magic)
	settle := func(id, name string) { // an apply that goes well
		m.step(id+"-load", "load", args{"name": name, "path": map[string]string{"tsugi_v1": one, "tsugi_v2": two, "tsugi_unhold": unhold}[name]})
		m.step(id+"-watch", "watch", args{"name": name, "want": kload.Patched})
	}

	// an apply, a cumulative replace, a revert
	m.step("mount", "mount", nil)
	m.step("able", "preflight", args{"path": one})
	settle("one", "tsugi_v1")
	m.sh("one-shown", "cat /proc/cmdline")
	m.step("one-again", "load", args{"name": "tsugi_v1", "path": one})
	m.step("one-preflight", "preflight", args{"path": one})
	m.step("two-preflight", "preflight", args{"path": two})
	settle("two", "tsugi_v2")
	m.step("one-left", "watch", args{"name": "tsugi_v1", "want": kload.Unpatched})
	m.step("one-removed", "remove", args{"name": "tsugi_v1"})
	m.sh("two-shown", "cat /proc/cmdline")
	m.step("two-alone", "loaded", nil)
	m.step("two-reverted", "revert", args{"name": "tsugi_v2"})
	m.sh("none-shown", "cat /proc/cmdline; lsmod")
	m.step("two-reverted-again", "revert", args{"name": "tsugi_v2"})

	// tasks that hold a transition: one that no signal reaches, and a kernel
	// thread, whose waits do not end
	m.step("hold", "insmod", vmguest.Insert{Path: hold, Params: "kthread=1"})
	m.step("deep", "background", args{"text": "exec cat /proc/tsugi_hold_deep"})
	m.sh("sleep", "sleep 1")
	m.step("stuck-load", "load", args{"name": "tsugi_unhold", "path": unhold})
	m.step("stuck", "watch", args{"name": "tsugi_unhold", "want": kload.Patched, "limit_ms": 4000, "slow_ms": 2500})
	m.step("busy-preflight", "preflight", args{"path": one})
	m.step("busy", "load", args{"name": "tsugi_v1", "path": one})
	m.step("turned", "reverse", args{"name": "tsugi_unhold"})
	m.step("turned-wait", "watch", args{"name": "tsugi_unhold", "want": kload.Unpatched})
	m.step("turned-removed", "remove", args{"name": "tsugi_unhold"})
	m.step("nothing-to-turn", "reverse", args{"name": "tsugi_unhold"})
	m.sh("let-go", "echo 1 > /proc/tsugi_hold; sleep 0.3; rmmod tsugi_hold 2>&1; true")
	settle("later", "tsugi_unhold")
	m.step("later-reverted", "revert", args{"name": "tsugi_unhold"})

	// somebody else has the function
	m.step("probe", "insmod", vmguest.Insert{Path: probe})
	m.step("probe-preflight", "preflight", args{"path": one})
	m.step("probe-load", "load", args{"name": "tsugi_v1", "path": one})
	m.step("probe-away", "rmmod", "tsugi_probe")
	m.sh("trace-probe", "echo 'p:inside cmdline_proc_show+5' > /sys/kernel/tracing/kprobe_events; echo 1 > /sys/kernel/tracing/events/kprobes/inside/enable")
	m.step("trace-probe-preflight", "preflight", args{"path": one})
	m.sh("trace-probe-away", "echo 0 > /sys/kernel/tracing/events/kprobes/inside/enable; echo > /sys/kernel/tracing/kprobe_events")

	// the tracer is off
	m.sh("ftrace-off", "echo 0 > /proc/sys/kernel/ftrace_enabled")
	m.step("ftrace-off-preflight", "preflight", args{"path": one})
	m.step("ftrace-off-load", "load", args{"name": "tsugi_v1", "path": one})
	m.sh("ftrace-on", "echo 1 > /proc/sys/kernel/ftrace_enabled")
	settle("after", "tsugi_v1")
	m.step("after-reverted", "revert", args{"name": "tsugi_v1"})

	// a module that is not there yet, and then is of this build or of another
	m.step("absent-preflight", "preflight", args{"path": module})
	m.sh("modprobe", "modprobe em_text")
	m.step("target-preflight", "preflight", args{"path": module})
	m.step("other-preflight", "preflight", args{"path": moduleOther})
	m.step("module-load", "load", args{"name": "tsugi_text", "path": module})
	m.step("module-watch", "watch", args{"name": "tsugi_text", "want": kload.Patched})
	m.step("module-loaded", "loaded", nil)
	m.step("module-reverted", "revert", args{"name": "tsugi_text"})
	m.step("wrong-load", "load", args{"name": "tsugi_v1", "path": wrong})

	// a kernel that demands signatures
	m.step("strange-preflight", "preflight", args{"path": strange})
	m.sh("lock", "echo integrity > /sys/kernel/security/lockdown")
	m.step("locked-preflight", "preflight", args{"path": one})
	m.step("locked-load", "load", args{"name": "tsugi_v1", "path": one})
	m.sh("enforce", "echo Y > /sys/module/module/parameters/sig_enforce")
	m.step("enforced-preflight", "preflight", args{"path": one})
	m.step("enforced-load", "load", args{"name": "tsugi_v1", "path": one})
	m.step("enforced-strange-preflight", "preflight", args{"path": strange})
	m.step("enforced-strange-load", "load", args{"name": "tsugi_v1", "path": strange})
	m.sh("disable", "echo 1 > /proc/sys/kernel/modules_disabled")
	m.step("disabled-preflight", "preflight", args{"path": one})
	m.step("disabled-load", "load", args{"name": "tsugi_v1", "path": one})
	m.run()

	t.Run("preflight knows this machine", func(t *testing.T) {
		r := m.fine("able")
		for _, f := range r.Findings {
			t.Logf("%-14s %v %s %v", f.ID, f.OK, f.Detail, f.Problem)
		}
		t.Logf("%+v", r.Host.Unread)
		qt.Check(t, qt.HasLen(preflight.Problems(r.Findings), 0))
		qt.Check(t, qt.Equals(r.Host.BuildID, k.BuildID))
		qt.Check(t, qt.Equals(r.Host.Lockdown, "none"))
		qt.Check(t, qt.IsTrue(len(r.Host.Keys) > 0))
	})
	t.Run("a live patch is applied, replaced and reverted", func(t *testing.T) {
		m.t = t
		m.fine("one-load")
		qt.Check(t, qt.IsTrue(m.fine("one-watch").Transition.Done))
		m.says("one-shown", "tsugi one ")
		m.refused("one-again", "TS9306")
		qt.Check(t, qt.Equals(m.get("one-preflight").finding(t, preflight.Loaded).Problem.Code, "TS9220"))
		qt.Check(t, qt.HasLen(preflight.Problems(m.get("two-preflight").Findings), 0))
		m.fine("two-load")
		m.fine("two-watch")
		m.fine("one-left")
		m.fine("one-removed")
		m.says("two-shown", "tsugi two ")
		l := m.fine("two-alone").Loaded
		qt.Assert(t, qt.HasLen(l, 1))
		qt.Check(t, qt.Equals(l[0].Name, "tsugi_v2"))
		qt.Check(t, qt.IsTrue(m.fine("two-reverted").Transition.Done))
		m.says("none-shown", "Module")
		m.refused("two-reverted-again", "TS9310")
	})
	t.Run("tasks that hold a transition are named", func(t *testing.T) {
		m.t = t
		m.fine("stuck-load")
		r := m.refused("stuck", "TS9309")
		qt.Check(t, qt.Equals(r.Ticks, 1))
		var who []string
		qt.Assert(t, qt.IsTrue(len(r.Transition.Holders) >= 2))
		for _, h := range r.Transition.Holders {
			t.Log(h)
			who = append(who, fmt.Sprintf("%s %s kernel=%v in %s", h.Comm, h.State, h.Kernel, h.Function))
		}
		// On a host that is busy others may not have had their turn; who is in the
		// function comes first.
		slices.Sort(who[:2])
		qt.Check(t, qt.DeepEquals(who[:2], []string{"cat D kernel=false in tsugi_wait", "tsugi_holder S kernel=true in tsugi_wait"}))
		qt.Check(t, qt.IsTrue(r.Transition.Waiting >= 2))
		qt.Check(t, qt.Equals(m.get("busy-preflight").finding(t, preflight.Transition).Problem.Code, "TS9211"))
		qt.Check(t, qt.StringContains(m.refused("busy", "TS9304").Error, "tsugi_unhold"))
		m.fine("turned")
		m.fine("turned-wait")
		m.fine("turned-removed")
		m.refused("nothing-to-turn", "TS9310")
		m.fine("later-load")
		qt.Check(t, qt.IsTrue(m.fine("later-watch").Transition.Done))
		m.fine("later-reverted")
	})
	t.Run("somebody else who redirects the function", func(t *testing.T) {
		m.t = t
		r := m.get("probe-preflight")
		t.Logf("%+v %+v", r.Host.FtraceUsers, r.Host.Kprobes)
		qt.Check(t, qt.Equals(r.finding(t, preflight.Functions).Problem.Code, "TS9215"))
		m.refused("probe-load", "TS9305")
		r = m.get("trace-probe-preflight")
		f := r.finding(t, preflight.Probes)
		qt.Check(t, qt.IsTrue(f.OK))
		qt.Assert(t, qt.IsNotNil(f.Problem), qt.Commentf("%+v", r.Host.Kprobes))
		qt.Check(t, qt.Equals(f.Problem.Code, "TS9240"))
	})
	t.Run("the tracer is off", func(t *testing.T) {
		m.t = t
		qt.Check(t, qt.Equals(m.get("ftrace-off-preflight").finding(t, preflight.Ftrace).Problem.Code, "TS9206"))
		qt.Check(t, qt.StringContains(m.refused("ftrace-off-load", "TS9206").Error, "ftrace_enabled is 0"))
		m.fine("after-load")
		m.fine("after-watch")
		m.fine("after-reverted")
	})
	t.Run("modules that the live patch changes", func(t *testing.T) {
		m.t = t
		id, err := k.ModuleBuildID("em_text")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(text.Artifact.Manifest.Modules, []livepatch.ModuleRef{{Name: "em_text", BuildID: id}}))
		qt.Check(t, qt.StringContains(m.get("absent-preflight").finding(t, preflight.Targets).Detail, "patched on arrival"))
		r := m.get("target-preflight")
		qt.Check(t, qt.Equals(r.finding(t, preflight.Targets).Detail, "em_text as built for"))
		loaded, _ := r.Host.Module("em_text")
		qt.Check(t, qt.Equals(loaded.BuildID, id))
		f := m.get("other-preflight").finding(t, preflight.Targets)
		qt.Assert(t, qt.IsFalse(f.OK))
		qt.Check(t, qt.Equals(f.Problem.Code, "TS9214"))
		m.fine("module-load")
		m.fine("module-watch")
		l := m.fine("module-loaded").Loaded
		qt.Assert(t, qt.HasLen(l, 1))
		qt.Check(t, qt.Equals(l[0].Objects[0].Name, "em_text"))
		qt.Check(t, qt.IsTrue(*l[0].Objects[0].Patched))
		m.fine("module-reverted")
		qt.Check(t, qt.StringContains(m.refused("wrong-load", "TS9303").Error, "version magic"))
	})
	t.Run("signatures", func(t *testing.T) {
		m.t = t
		qt.Check(t, qt.IsTrue(m.get("strange-preflight").finding(t, preflight.Signature).OK))
		f := m.get("enforced-strange-preflight").finding(t, preflight.Signature)
		t.Log(f.Problem)
		qt.Check(t, qt.Equals(f.Problem.Code, "TS9208"))
		qt.Check(t, qt.StringContains(m.refused("enforced-strange-load", "TS9302").Error, "in none of the kernel's keyrings"))
		f = m.get("locked-preflight").finding(t, preflight.Signature)
		t.Log(f.Problem)
		qt.Check(t, qt.Equals(f.Problem.Code, "TS9207"))
		m.refused("locked-load", "TS9302")
		f = m.get("enforced-preflight").finding(t, preflight.Signature)
		qt.Check(t, qt.Equals(f.Problem.Code, "TS9207"))
		m.refused("enforced-load", "TS9302")
		qt.Check(t, qt.Equals(m.get("disabled-preflight").finding(t, preflight.Modules).Problem.Code, "TS9204"))
		m.refused("disabled-load", "TS9204")
	})
}

// TestTheKernelComplains boots one machine in which a live patch warns and
// crashes, and someone else warns beside it.
func TestTheKernelComplains(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	m := newMachine(t, k)
	bad := m.artifact(cmdline(t, k, "tsugi_bad", "\tWARN(current->comm[0] == 'w', \"tsugi: a warning\\n\");\n\tBUG_ON(current->comm[0] == 'o');\n"))
	hold, unhold, warn := m.module("tsugi_hold"), m.module("tsugi_unhold"), m.module("tsugi_warn")
	as := func(name string) string {
		return "sh -c 'echo " + name + " > /proc/self/comm; read -r x < /proc/cmdline'; true"
	}

	m.step("load", "load", args{"name": "tsugi_bad", "path": bad})
	m.step("watch", "watch", args{"name": "tsugi_bad", "want": kload.Patched})
	m.step("healthy-watch", "watch-log", nil)
	m.sh("healthy", as("fine"))
	m.step("healthy-trouble", "trouble", nil)
	m.step("foreign-watch", "watch-log", nil)
	m.step("foreign", "insmod", vmguest.Insert{Path: warn})
	m.step("foreign-trouble", "trouble", nil)
	m.step("warned-watch", "watch-log", nil)
	m.sh("warned", as("warner"))
	m.step("warned-trouble", "trouble", nil)
	m.step("warned-preflight", "preflight", args{"path": bad})
	m.step("reverted", "revert", args{"name": "tsugi_bad"})

	// A process that sleeps in the function is woken by the kernel itself after
	// 15 seconds: nobody has to do anything.
	m.step("hold", "insmod", vmguest.Insert{Path: hold})
	m.step("reader", "background", args{"text": "exec cat /proc/tsugi_hold"})
	m.sh("sleep", "sleep 1")
	m.step("woken-load", "load", args{"name": "tsugi_unhold", "path": unhold})
	m.step("woken", "watch", args{"name": "tsugi_unhold", "want": kload.Patched})
	m.step("woken-reverted", "revert", args{"name": "tsugi_unhold"})

	m.step("survive", "write", vmguest.Write{Path: "/proc/sys/kernel/panic_on_oops", Text: "0"})
	m.step("crash-load", "load", args{"name": "tsugi_bad", "path": bad})
	m.step("crash-watch", "watch", args{"name": "tsugi_bad", "want": kload.Patched})
	m.step("crashed-watch", "watch-log", nil)
	m.sh("crashed", as("oopser"))
	m.step("crashed-trouble", "trouble", nil)
	m.step("crashed-preflight", "preflight", args{"path": bad})
	m.run()

	show := func(t *testing.T, r result) {
		for _, x := range r.Trouble {
			t.Logf("%s %q: function %q at=%v, %d lines", x.Kind, x.Text, x.Function, x.At, len(x.Lines))
			if testing.Verbose() {
				t.Logf("%s", strings.Join(x.Lines, "\n"))
			}
		}
	}
	t.Run("a healthy live patch makes no trouble", func(t *testing.T) {
		m.t = t
		m.fine("load")
		m.fine("watch")
		qt.Check(t, qt.HasLen(m.fine("healthy-trouble").Trouble, 0))
	})
	t.Run("a warning of someone else is told apart", func(t *testing.T) {
		m.t = t
		r := m.fine("foreign-trouble")
		show(t, r)
		qt.Assert(t, qt.HasLen(r.Trouble, 1))
		qt.Check(t, qt.Equals(r.Trouble[0].Kind, kload.Warning))
		qt.Check(t, qt.IsFalse(r.Trouble[0].Ours()))
	})
	t.Run("a warning in a patched function is named", func(t *testing.T) {
		m.t = t
		r := m.fine("warned-trouble")
		show(t, r)
		qt.Assert(t, qt.HasLen(r.Trouble, 1))
		qt.Check(t, qt.Equals(r.Trouble[0].Kind, kload.Warning))
		qt.Check(t, qt.Equals(r.Trouble[0].Function, "cmdline_proc_show"))
		qt.Check(t, qt.IsTrue(r.Trouble[0].At))
		f := m.get("warned-preflight").finding(t, preflight.Taints)
		qt.Check(t, qt.IsTrue(f.OK))
		qt.Check(t, qt.Equals(f.Problem.Code, "TS9242"))
		m.fine("reverted")
	})
	t.Run("the kernel wakes a sleeping process by itself", func(t *testing.T) {
		m.t = t
		m.fine("woken-load")
		r := m.fine("woken")
		t.Logf("%+v", r.Transition)
		qt.Check(t, qt.IsTrue(r.Transition.Done))
		qt.Assert(t, qt.IsTrue(len(r.Transition.Slow) >= 1))
		qt.Check(t, qt.Equals(r.Transition.Slow[0].Comm, "cat"))
		qt.Check(t, qt.Equals(r.Transition.Slow[0].State, "S"))
		qt.Check(t, qt.Equals(r.Transition.Slow[0].Function, "tsugi_wait"))
		qt.Check(t, qt.IsTrue(r.Ticks > 1))
		m.fine("woken-reverted")
	})
	t.Run("a crash in a patched function is named", func(t *testing.T) {
		m.t = t
		r := m.fine("crashed-trouble")
		show(t, r)
		qt.Assert(t, qt.HasLen(r.Trouble, 1))
		qt.Check(t, qt.Equals(r.Trouble[0].Kind, kload.Oops))
		qt.Check(t, qt.Equals(r.Trouble[0].Function, "cmdline_proc_show"))
		qt.Check(t, qt.IsTrue(r.Trouble[0].At))
		f := m.get("crashed-preflight").finding(t, preflight.Taints)
		qt.Check(t, qt.Equals(f.Problem.Code, "TS9210"))
	})
}

// TestALivePatchOnAKernelWithBranchTracking shows that what was learnt from
// one kernel holds on another: other lists, other offsets, other flags.
func TestALivePatchOnAKernelWithBranchTracking(t *testing.T) {
	testenv.Long(t, "test/kernels proves fixes of this kernel")
	k := testenv.Kernel(t, testenv.IBT)
	m := newMachine(t, k)
	one := m.artifact(cmdline(t, k, "tsugi_v1", "\tseq_puts(m, \"tsugi one \");\n"))
	probe := m.module("tsugi_probe")
	m.step("mount", "mount", nil)
	m.step("able", "preflight", args{"path": one})
	m.step("probe", "insmod", vmguest.Insert{Path: probe})
	m.step("probed", "preflight", args{"path": one})
	m.step("probe-away", "rmmod", "tsugi_probe")
	m.step("load", "load", args{"name": "tsugi_v1", "path": one})
	m.step("watch", "watch", args{"name": "tsugi_v1", "want": kload.Patched})
	m.step("host", "host", nil)
	m.step("log", "wait", nil)
	m.step("revert", "revert", args{"name": "tsugi_v1"})
	m.run()

	able := m.fine("able")
	qt.Check(t, qt.HasLen(preflight.Problems(able.Findings), 0))
	qt.Check(t, qt.Equals(able.Host.BuildID, k.BuildID))
	qt.Check(t, qt.IsTrue(len(able.Host.Keys) > 0))
	probed := m.fine("probed")
	qt.Check(t, qt.Equals(probed.finding(t, preflight.Functions).Problem.Code, "TS9215"))
	qt.Assert(t, qt.HasLen(probed.Host.Kprobes, 1))
	qt.Check(t, qt.DeepEquals(probed.Host.Kprobes[0], hostinfo.Kprobe{Symbol: "cmdline_proc_show", Offset: 4, Ftrace: true}))
	m.fine("load")
	qt.Check(t, qt.IsTrue(m.fine("watch").Transition.Done))
	m.fine("log")
	h := m.fine("host").Host
	qt.Check(t, qt.HasLen(h.Unread, 0))
	qt.Assert(t, qt.HasLen(h.Livepatches, 1))
	qt.Check(t, qt.IsTrue(*h.Livepatches[0].Replace))
	qt.Check(t, qt.Equals(h.Livepatches[0].Objects[0].Functions[0].Name, "cmdline_proc_show"))
	m.fine("revert")
}
