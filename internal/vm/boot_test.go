// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/testenv"
	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// initDir holds the guest program of all tests, and is made by TestMain.
var initDir string

var buildInit = testenv.Static(&initDir, "./testdata/init")

func TestMain(m *testing.M) { testenv.Main(m, &initDir) }

// config boots the unpacked kernel: to unpack it takes most of a boot under
// emulation. TestTheAcceleratorIsTheOneThatBoots has it as it is shipped.
func config(t testing.TB, k *kernel.Target) vm.Config {
	bin, err := buildInit()
	qt.Assert(t, qt.IsNil(err))
	return vm.Config{Kernel: k.Vmlinux, ModuleSource: k, Init: bin, Accel: vm.TCG}
}

func each(t *testing.T, f func(t *testing.T, k *kernel.Target)) {
	for _, pin := range []string{testenv.Demo, testenv.IBT} {
		t.Run(pin, func(t *testing.T) {
			if pin != testenv.Demo {
				testenv.Long(t, "proofs boot this kernel")
			}
			f(t, testenv.Kernel(t, pin))
		})
	}
}

func result[T any](t testing.TB, o *vm.Outcome, id string) T {
	t.Helper()
	e, ok := o.Step(id)
	qt.Assert(t, qt.IsTrue(ok), qt.Commentf("step %s has no result; %s; console:\n%s", id, o.End, o.Console))
	qt.Assert(t, qt.Equals(e.Error, ""))
	var v T
	qt.Assert(t, qt.IsNil(json.Unmarshal(e.Data, &v)))
	return v
}

func TestAPlanRunsAndReportsEachStep(t *testing.T) {
	each(t, func(t *testing.T, k *kernel.Target) {
		cfg := config(t, k)
		cfg.Files = []vm.File{{Path: "/etc/motto", Data: []byte("sewn on")}}
		cfg.Disks = []vm.Disk{{Name: "scratch", Size: 64 << 20, FS: "ext4"}}
		cfg.Modules = []string{"ext4"}
		cfg.Programs = []string{"sha256sum"}
		cfg.Output = true
		out, err := vm.Run(t.Context(), cfg, &wire.Plan{LogLevel: 7, Steps: []wire.Step{
			wire.NewStep("hello", "script", guest.Script{Text: "cat /etc/motto; exit 3"}),
			// Nothing loads ext4 but the kernel's own request for fs-ext4.
			wire.NewStep("mount", "script", guest.Script{Text: "mount -t ext4 /dev/tsugi/scratch /mnt && df /mnt && echo x > /mnt/x && umount /mnt"}),
			wire.NewStep("sum", "script", guest.Script{Text: "sha256sum /etc/motto"}),
			{ID: "hang", Do: "script", Timeout: wire.Duration(500 * time.Millisecond), Args: wire.NewStep("", "", guest.Script{Text: "sleep 60 & sleep 60"}).Args},
			wire.NewStep("modules", "dump", guest.Dump{Path: "/proc/modules", Name: "modules"}),
			{ID: "nonsense", Do: "nonsense"},
			wire.NewStep("never", "script", guest.Script{Text: "true"}),
		}})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(out.End, vm.Finished), qt.Commentf("%s", out.Console))
		t.Logf("boot %v, whole %v", out.Boot, out.Elapsed)
		qt.Check(t, qt.Equals(out.Greeting.Release, k.Release))
		qt.Check(t, qt.Equals(out.Greeting.BuildID, k.BuildID))
		qt.Check(t, qt.Equals(out.Lost, 0))
		hello := result[guest.ScriptResult](t, out, "hello")
		qt.Check(t, qt.Equals(hello.Output, "sewn on"))
		qt.Check(t, qt.Equals(hello.Exit, 3))
		mount := result[guest.ScriptResult](t, out, "mount")
		qt.Check(t, qt.Equals(mount.Exit, 0), qt.Commentf("%s", mount.Output))
		qt.Check(t, qt.StringContains(result[guest.ScriptResult](t, out, "sum").Output, "etc/motto"))
		hang := result[guest.ScriptResult](t, out, "hang")
		qt.Check(t, qt.IsTrue(hang.TimedOut && !hang.Stuck))
		qt.Check(t, qt.StringContains(string(out.Dumps["modules"]), "ext4 "))
		e, _ := out.Step("nonsense")
		qt.Check(t, qt.Not(qt.Equals(e.Error, "")))
		qt.Check(t, qt.IsFalse(out.Began("never")))
		qt.Check(t, qt.IsTrue(len(out.Log) > 100))
		for _, s := range []string{"disks", "mount", "modules"} {
			e, _ := out.Step(s)
			t.Logf("%s done at %v", s, time.Duration(e.Time))
		}
	})
}

func TestACrashIsToldApartFromAHang(t *testing.T) {
	each(t, func(t *testing.T, k *kernel.Target) {
		out, err := vm.Run(t.Context(), config(t, k), &wire.Plan{Steps: []wire.Step{
			wire.NewStep("crash", "script", guest.Script{Text: "echo c > /proc/sysrq-trigger"}),
		}})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(out.End, vm.Panicked), qt.Commentf("%s", out.Console))
		qt.Check(t, qt.StringContains(out.Crash.Title, "sysrq"))
		qt.Check(t, qt.IsTrue(out.Began("crash")))

		cfg := config(t, k)
		cfg.Timeout = out.Boot + 10*time.Second
		out, err = vm.Run(t.Context(), cfg, &wire.Plan{Steps: []wire.Step{
			wire.NewStep("hang", "script", guest.Script{Text: "sleep 100"}),
		}})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(out.End, vm.TimedOut))
	})
}

// Where /dev/kvm is missing, aborts or hangs, this takes the emulator; where
// it works, the hypervisor. Either way the machine has to boot.
func TestTheAcceleratorIsTheOneThatBoots(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	cfg := config(t, k)
	cfg.Kernel, cfg.Accel, cfg.CacheDir = k.Vmlinuz, "", t.TempDir()
	out, err := vm.Run(t.Context(), cfg, &wire.Plan{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(out.End, vm.Finished), qt.Commentf("%s", out.Console))
	cfg.QEMU = "qemu-system-x86_64"
	again, err := vm.Probe(t.Context(), cfg)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(again, out.Accel))
	t.Logf("%s", again)
}

func TestACancelledRunLeavesNothing(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	ctx, cancel := context.WithCancel(t.Context())
	cfg := config(t, k)
	cfg.OnEvent = func(wire.Event) { cancel() }
	cfg.Disks = []vm.Disk{{Name: "scratch", Size: 1 << 30}}
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	_, err := vm.Run(ctx, cfg, &wire.Plan{Steps: []wire.Step{wire.NewStep("s", "script", guest.Script{Text: "sleep 100"})}})
	qt.Assert(t, qt.IsTrue(errors.Is(err, context.Canceled)), qt.Commentf("%v", err))
	left, _ := os.ReadDir(dir)
	qt.Check(t, qt.HasLen(left, 0))
	children, err := os.ReadFile(fmt.Sprintf("/proc/self/task/%d/children", os.Getpid()))
	qt.Check(t, qt.IsNil(err))
	for pid := range strings.FieldsSeq(string(children)) {
		comm, _ := os.ReadFile("/proc/" + pid + "/comm")
		qt.Check(t, qt.IsFalse(strings.HasPrefix(string(comm), "qemu")))
	}
}

// The names, types, order and addresses that kimage decodes from the image
// are those that the running kernel shows. A vmlinux boots by its PVH entry,
// where nothing moves it, so that the addresses are the same as well.
func TestKallsymsOfTheImageAreThoseOfTheRunningKernel(t *testing.T) {
	each(t, func(t *testing.T, k *kernel.Target) {
		want, err := k.Symbols()
		qt.Assert(t, qt.IsNil(err))
		for _, way := range []struct {
			name, kernel string
			disk         bool
		}{{"vmlinuz over the serial port", k.Vmlinuz, false}, {"vmlinux over a disk", k.Vmlinux, true}} {
			t.Run(way.name, func(t *testing.T) {
				cfg := config(t, k)
				cfg.Kernel, cfg.Output, cfg.Cmdline = way.kernel, way.disk, "nokaslr"
				out, err := vm.Run(t.Context(), cfg, &wire.Plan{Steps: []wire.Step{
					wire.NewStep("open", "write", guest.Write{Path: "/proc/sys/kernel/kptr_restrict", Text: "0"}),
					wire.NewStep("dump", "dump", guest.Dump{Path: "/proc/kallsyms", Name: "kallsyms"}),
				}})
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.Equals(out.End, vm.Finished), qt.Commentf("%s", out.Console))
				begin, done := at(out, wire.Begin, "dump"), at(out, wire.Done, "dump")
				t.Logf("boot %v, dump of %d bytes %v", out.Boot, len(out.Dumps["kallsyms"]), done-begin)
				n := 0
				for line := range strings.Lines(string(out.Dumps["kallsyms"])) {
					f := strings.Fields(line)
					if len(f) != 3 {
						continue // a module's symbol has the module's name behind it
					}
					addr, err := strconv.ParseUint(f[0], 16, 64)
					qt.Assert(t, qt.IsNil(err))
					if n < len(want) && (f[2] != want[n].Name || f[1] != string(want[n].Type) || addr != want[n].Addr) {
						t.Fatalf("symbol %d: the kernel shows %s, the image has %+v", n, strings.TrimSpace(line), want[n])
					}
					n++
				}
				qt.Assert(t, qt.Equals(n, len(want)))
			})
		}
	})
}

func at(o *vm.Outcome, kind wire.Kind, step string) time.Duration {
	for _, e := range o.Events {
		if e.Kind == kind && e.Step == step {
			return time.Duration(e.Time)
		}
	}
	return 0
}
