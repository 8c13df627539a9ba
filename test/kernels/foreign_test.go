// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestSourceThatIsNotTheRunningCode prepares targets that lie: their source,
// configuration or compiler is not what built their kernel. The build has to
// see that in types or code and stop, naming the place.
func TestSourceThatIsNotTheRunningCode(t *testing.T) {
	t.Parallel()
	old, demo := testenv.Kernel(t, testenv.Old), testenv.Kernel(t, testenv.Demo)
	// aa_change_profile is one of the functions that the next version changes.
	f := editOf(t, old, "x", edit{"security/apparmor/domain.c", "\nint aa_change_profile(", "return -EINVAL;", "return -EPERM;"})
	check := func(t *testing.T, k *kernel.Target, want code.Code, message string) {
		t.Helper()
		_, err := builder.Build(t.Context(), builder.Request{Target: k, Fixes: []*fix.Fix{f}}, progress.Discard)
		t.Log(err)
		qt.Assert(t, qt.Equals(code.Of(err), want), qt.Commentf("%v", err))
		qt.Check(t, qt.StringContains(err.Error(), message))
	}
	t.Run("another version", func(t *testing.T) {
		// Nothing is compiled here that the honest target has not compiled.
		live(t, old, "", f)
		home := t.TempDir()
		for _, shared := range []string{"objects", "locks", "work"} {
			qt.Assert(t, qt.IsNil(os.Symlink(filepath.Join(old.Home(), shared), filepath.Join(home, shared))))
		}
		k := *old
		k.Vmlinux, k.Vmlinuz, k.ModuleRoot = demo.Vmlinux, demo.Vmlinuz, demo.ModuleRoot
		check(t, add(t, home, k), "TS5109", "struct aa_task_ctx")
	})
	home := t.TempDir()
	directory := filepath.Join(home, "build")
	out, err := exec.CommandContext(t.Context(), "cp", "-a", old.Build, directory).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	qt.Assert(t, qt.IsNil(os.Symlink(filepath.Join(old.Home(), "work"), filepath.Join(home, "work")))) // their source is the honest one's
	t.Run("another compiler", func(t *testing.T) {
		wrapper := filepath.Join(home, "e2e-gcc")
		script := "#!/bin/sh\nexec " + old.CC() + ` "$@" -fno-schedule-insns2` + "\n"
		qt.Assert(t, qt.IsNil(os.WriteFile(wrapper, []byte(script), 0o755)))
		k := *old
		k.Name, k.Build, k.Compiler = "debian:e2e-compiler", directory, wrapper+old.Compiler[len(old.CC()):]
		check(t, add(t, home, k), "TS5106", "aa_change_profile")
	})
	t.Run("another configuration", func(t *testing.T) {
		file := filepath.Join(directory, ".config")
		b, err := os.ReadFile(file)
		qt.Assert(t, qt.IsNil(err))
		option := regexp.MustCompile(`(?m)^CONFIG_RETHUNK=y$`)
		qt.Assert(t, qt.IsTrue(option.Match(b)))
		qt.Assert(t, qt.IsNil(os.WriteFile(file, option.ReplaceAll(b, []byte("# CONFIG_RETHUNK is not set")), 0o644)))
		k := *old
		k.Name, k.Build = "debian:e2e-configuration", directory
		check(t, add(t, home, k), "TS5109", "struct module")
	})
}

// add puts a target into a store.
func add(t *testing.T, home string, k kernel.Target) *kernel.Target {
	t.Helper()
	s, err := kernel.OpenStore(home)
	qt.Assert(t, qt.IsNil(err))
	dir := filepath.Join(home, "targets", strings.Replace(k.Name, ":", "_", 1))
	qt.Assert(t, qt.IsNil(os.MkdirAll(dir, 0o755)))
	b, err := json.Marshal(&k)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "target.json"), b, 0o644)))
	got, err := s.Get(k.Name)
	qt.Assert(t, qt.IsNil(err))
	return got
}
