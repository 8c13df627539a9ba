// SPDX-License-Identifier: Apache-2.0

package vm_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/vm"
	"github.com/tsugi-project/tsugi/internal/vm/guest"
	"github.com/tsugi-project/tsugi/internal/vm/wire"
)

// tree is an unpacked linux-image package.
type tree string

func (t tree) one(pattern string) string {
	m, _ := filepath.Glob(filepath.Join(string(t), pattern))
	if len(m) == 0 {
		return ""
	}
	return m[0]
}

func (t tree) kernel() string { return t.one("boot/vmlinuz-*") }

var moduleFiles sync.Map // tree → map[string]string

func (t tree) ModulePath(name string) (string, bool) {
	v, ok := moduleFiles.Load(t)
	if !ok {
		files := map[string]string{}
		_ = filepath.WalkDir(filepath.Join(string(t), "lib/modules"), func(p string, d os.DirEntry, err error) error {
			base, _, isKo := strings.Cut(filepath.Base(p), ".ko")
			if err == nil && isKo && d.Type().IsRegular() {
				files[strings.ReplaceAll(base, "-", "_")] = p
			}
			return nil
		})
		v, _ = moduleFiles.LoadOrStore(t, files)
	}
	p, ok := v.(map[string]string)[name]
	return p, ok
}

// kernels returns the unpacked kernels that TSUGI_TEST_KERNELS names, a list
// of directories separated by colons.
func kernels(t testing.TB) []tree {
	v := os.Getenv("TSUGI_TEST_KERNELS")
	if v == "" {
		t.Skip("no kernel to boot: set TSUGI_TEST_KERNELS to directories with unpacked linux-image packages")
	}
	var out []tree
	for d := range strings.SplitSeq(v, ":") {
		tr := tree(d)
		qt.Assert(t, qt.Not(qt.Equals(tr.kernel(), "")), qt.Commentf("%s has no boot/vmlinuz-*", d))
		out = append(out, tr)
	}
	return out
}

var buildInit = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "tsugi-init-*")
	if err != nil {
		return "", err
	}
	bin := filepath.Join(dir, "init")
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", bin, "./testdata/init")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w", out, err)
	}
	return bin, nil
})

func TestMain(m *testing.M) {
	code := m.Run()
	if bin, err := buildInit(); err == nil {
		os.RemoveAll(filepath.Dir(bin))
	}
	os.Exit(code)
}

func config(t testing.TB, k tree) vm.Config {
	bin, err := buildInit()
	qt.Assert(t, qt.IsNil(err))
	return vm.Config{Kernel: k.kernel(), ModuleSource: k, Init: bin, Accel: vm.TCG}
}

func each(t *testing.T, f func(t *testing.T, k tree)) {
	for _, k := range kernels(t) {
		t.Run(filepath.Base(k.kernel()), func(t *testing.T) { f(t, k) })
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
	each(t, func(t *testing.T, k tree) {
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
			wire.NewStep("kallsyms", "dump", guest.Dump{Path: "/proc/kallsyms", Name: "kallsyms"}),
			{ID: "nonsense", Do: "nonsense"},
			wire.NewStep("never", "script", guest.Script{Text: "true"}),
		}})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(out.End, vm.Finished), qt.Commentf("%s", out.Console))
		t.Logf("boot %v, whole %v", out.Boot, out.Elapsed)
		qt.Check(t, qt.Equals("vmlinuz-"+out.Greeting.Release, filepath.Base(k.kernel())))
		qt.Check(t, qt.Equals(len(out.Greeting.BuildID), 40))
		qt.Check(t, qt.Equals(out.Lost, 0))
		hello := result[guest.ScriptResult](t, out, "hello")
		qt.Check(t, qt.Equals(hello.Output, "sewn on"))
		qt.Check(t, qt.Equals(hello.Exit, 3))
		mount := result[guest.ScriptResult](t, out, "mount")
		qt.Check(t, qt.Equals(mount.Exit, 0), qt.Commentf("%s", mount.Output))
		qt.Check(t, qt.StringContains(result[guest.ScriptResult](t, out, "sum").Output, "etc/motto"))
		hang := result[guest.ScriptResult](t, out, "hang")
		qt.Check(t, qt.IsTrue(hang.TimedOut && !hang.Stuck))
		qt.Check(t, qt.IsTrue(strings.Contains(string(out.Dumps["kallsyms"]), " do_exit\n")))
		e, _ := out.Step("nonsense")
		qt.Check(t, qt.Not(qt.Equals(e.Error, "")))
		qt.Check(t, qt.IsFalse(out.Began("never")))
		qt.Check(t, qt.IsTrue(len(out.Log) > 100))
		for _, s := range []string{"disks", "mount", "kallsyms"} {
			e, _ := out.Step(s)
			t.Logf("%s done at %v", s, time.Duration(e.Time))
		}
	})
}

func TestACrashIsToldApartFromAHang(t *testing.T) {
	each(t, func(t *testing.T, k tree) {
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

func TestACancelledRunLeavesNothing(t *testing.T) {
	k := kernels(t)[0]
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
