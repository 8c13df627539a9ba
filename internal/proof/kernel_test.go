// SPDX-License-Identifier: Apache-2.0

package proof_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
)

// initDir holds the guest program of all tests, and is made by TestMain.
var initDir string

var buildInit = testenv.Static(&initDir, "./testdata/init")

func TestMain(m *testing.M) { testenv.Main(m, &initDir) }

// modules are a target's own and those of testdata/modules.
type modules struct {
	vm.ModuleSource
	dir string
}

func (m modules) ModulePath(name string) (string, bool) {
	if p := filepath.Join(m.dir, name+".ko"); strings.HasPrefix(name, "tsugi_") {
		return p, true
	}
	return m.ModuleSource.ModulePath(name)
}

func (m modules) read(t testing.TB, name string) []byte {
	b, err := os.ReadFile(filepath.Join(m.dir, name+".ko"))
	qt.Assert(t, qt.IsNil(err))
	return b
}

// buildModules compiles testdata/modules for a target.
func buildModules(t testing.TB, k *kernel.Target) modules {
	t.Helper()
	dir := t.TempDir()
	qt.Assert(t, qt.IsNil(os.CopyFS(dir, os.DirFS("testdata/modules"))))
	out, err := k.Make(t.Context(), "M="+dir, "modules")
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	return modules{ModuleSource: k, dir: dir}
}

func request(t testing.TB, k *kernel.Target, m modules) proof.Request {
	bin, err := buildInit()
	qt.Assert(t, qt.IsNil(err))
	r := proof.Request{
		Target: proof.ForKernel(k), Patch: proof.PatchRef{Name: "tsugi_sample"}, Module: m.read(t, "tsugi_sample"),
		Functions:  []livepatch.Function{{Object: "ext4", Name: "ext4_rmdir"}, {Object: "vmlinux", Name: "cmdline_proc_show"}},
		Reproducer: "grep patched /proc/cmdline", Init: bin, Accel: vm.TCG,
	}
	r.Target.Modules = m
	r.Target.Kernel = k.Vmlinux // to unpack it takes most of a boot under emulation
	return r
}

func prove(t testing.TB, r proof.Request) *proof.Proof {
	t.Helper()
	start := time.Now()
	p, err := proof.Prove(t.Context(), r, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	for _, c := range p.Checks {
		t.Logf("%-12s %s %s", c.ID, c.Status, c.Detail)
	}
	t.Logf("new in the log %q, notes %q", p.Log.New, p.Log.Notes)
	t.Logf("boot %d ms, whole %v", p.After.BootMS, time.Since(start))
	return p
}

func codes(p *proof.Proof) string {
	var out []string
	for _, pr := range p.Problems {
		out = append(out, string(pr.Code))
	}
	return strings.Join(out, " ")
}

func TestALivePatchIsProvedOnRealKernels(t *testing.T) {
	for _, name := range []string{testenv.Demo, testenv.IBT} {
		t.Run(name, func(t *testing.T) {
			if name != testenv.Demo {
				testenv.Long(t, "test/kernels proves fixes of this kernel")
			}
			k := testenv.Kernel(t, name)
			m := buildModules(t, k)
			r := request(t, k, m)
			r.LateModules, r.Cycles, r.Probe = []string{"ext4"}, 3, "cat /proc/cmdline"
			r.Target.Kernel = k.Vmlinuz // as it is shipped, and moved by KASLR
			p := prove(t, r)
			qt.Assert(t, qt.Equals(codes(p), ""))
			qt.Check(t, qt.Equals(p.Verdict, proof.Proved))
			qt.Check(t, qt.Equals(p.Kernel.BuildID, k.BuildID))
			qt.Check(t, qt.Equals(p.Before.Reproducer.Kind, proof.EndExit))
			qt.Check(t, qt.Equals(p.Cycles.Count, 3))
			qt.Check(t, qt.IsTrue(p.Cycles.Runs > 0 && p.Cycles.Failed == 0))
			qt.Check(t, qt.SliceContains(p.Traced.Seen, "cmdline_proc_show"))
			qt.Check(t, qt.SliceContains(p.Traced.Traceable, "ext4_rmdir"))
			taint := "tsugi_sample: module verification failed: signature and/or required key missing - tainting kernel"
			qt.Check(t, qt.SliceContains(p.Log.Expected, taint))
		})
	}
}

func TestTheReproducerOfTheExt4BugCrashesTheUnpatchedKernel(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	script, err := os.ReadFile("../../demo/ext4-mballoc.sh")
	qt.Assert(t, qt.IsNil(err))
	r := request(t, k, buildModules(t, k))
	r.Reproducer = string(script)
	r.Disks = []vm.Disk{{Name: "scratch", Size: 2 << 30, FS: "ext4"}}
	p := prove(t, r)
	// The patch does something else, so the bug is still there with it.
	qt.Check(t, qt.Equals(codes(p), "TS6106 TS6108"))
	for _, run := range []*proof.Run{p.Before, p.After} {
		qt.Check(t, qt.Equals(run.End, vm.Panicked))
		qt.Check(t, qt.Equals(run.Reproducer.Kind, proof.EndOops))
		qt.Check(t, qt.Equals(run.Crash.Function, "ext4_mb_load_buddy_gfp"))
	}
}

func TestAStalledTransitionNamesWhoHoldsIt(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	m := buildModules(t, k)
	r := request(t, k, m)
	r.Patch.Name, r.Module = "tsugi_stall", m.read(t, "tsugi_stall")
	r.Functions = []livepatch.Function{{Object: "tsugi_sleeper", Name: "tsugi_sleep"}}
	r.Reproducer, r.TransitionLimit = "", 4*time.Second
	p := prove(t, r)
	qt.Assert(t, qt.Equals(codes(p), "TS6104"))
	qt.Assert(t, qt.HasLen(p.Load.Holders, 1))
	qt.Check(t, qt.Equals(p.Load.Holders[0].Comm, "tsugi_sleeper"))
	qt.Check(t, qt.StringContains(p.Load.Holders[0].Stack, "tsugi_sleep+0x"))
	qt.Check(t, qt.IsTrue(p.Load.Reversed))
}

func TestARefusedModuleIsToldWithTheKernelsWords(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	other := testenv.Kernel(t, testenv.IBT)
	m := buildModules(t, k)
	r := request(t, k, m)
	r.Module, r.Reproducer = buildModules(t, other).read(t, "tsugi_sample"), ""
	p := prove(t, r)
	qt.Check(t, qt.StringContains(codes(p), "TS6103"))
	c, _ := p.Check(proof.CheckLoad)
	qt.Check(t, qt.StringContains(c.Detail, "kernel: tsugi_sample: "))
}

func TestANewerLivePatchReplacesTheOlderOne(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	m := buildModules(t, k)
	r := request(t, k, m)
	r.Previous.Name, r.PreviousModule = "tsugi_older", m.read(t, "tsugi_older")
	r.Reproducer, r.Probe = "", `test -e /sys/kernel/livepatch/tsugi_older || test "$(cat /proc/cmdline)" != "an older answer"`
	p := prove(t, r)
	qt.Assert(t, qt.Equals(codes(p), ""))
	c, _ := p.Check(proof.CheckReplaced)
	qt.Check(t, qt.Equals(c.Status, proof.Pass))
	qt.Check(t, qt.SliceContains(p.Log.Expected, "livepatch: enabling patch 'tsugi_older'"))
}
