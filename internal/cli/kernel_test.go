// SPDX-License-Identifier: Apache-2.0

package cli_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestKernelScripts runs the program as it is shipped, static, on the kernel
// of the demo: from edits of its source to verdicts, live patches and proofs.
func TestKernelScripts(t *testing.T) {
	k := testenv.Kernel(t, testenv.Demo)
	bin := t.TempDir()
	build := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-o", filepath.Join(bin, "tsugictl"), "../../cmd/tsugictl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	demo, err := filepath.Abs("../../demo")
	qt.Assert(t, qt.IsNil(err))
	pin := testenv.Pinned(t, testenv.Demo)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/kernel",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup: func(env *testscript.Env) error {
			env.Setenv("PATH", bin+string(os.PathListSeparator)+env.Getenv("PATH"))
			env.Setenv("TSUGI_HOME", testenv.Store(t).Home())
			env.Setenv("TARGET", k.Name)
			env.Setenv("SOURCE", k.Source)
			env.Setenv("FIXED", pin.Fixed)
			env.Setenv("DEMO", demo)
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits, "edit": edit, "under-way": underWay},
	})
}

// under-way REGEXP: waits until the program whose command line matches runs
// another one, and so is past its own beginning.
func underWay(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: under-way REGEXP")
	}
	want := regexp.MustCompile(args[0])
	for end := time.Now().Add(time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		lines, err := filepath.Glob("/proc/[0-9]*/cmdline")
		ts.Check(err)
		for _, file := range lines {
			b, _ := os.ReadFile(file) // those that have ended have none
			if !want.Match(bytes.ReplaceAll(b, []byte{0}, []byte{' '})) {
				continue
			}
			threads, _ := filepath.Glob(filepath.Join(filepath.Dir(file), "task/*/children"))
			for _, children := range threads {
				if b, _ := os.ReadFile(children); len(b) > 0 {
					return
				}
			}
		}
	}
	ts.Fatalf("nothing runs that matches %s", args[0])
}

// edit PATH SED-SCRIPT: puts a source file of the target into old/ and, edited
// by sed, into new/, so that fix derive makes a diff of it.
func edit(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: edit PATH SED-SCRIPT")
	}
	text, err := os.ReadFile(filepath.Join(ts.Getenv("SOURCE"), args[0]))
	ts.Check(err)
	for _, dir := range []string{"old", "new"} {
		file := ts.MkAbs(filepath.Join(dir, args[0]))
		ts.Check(os.MkdirAll(filepath.Dir(file), 0o755))
		ts.Check(os.WriteFile(file, text, 0o644))
	}
	ts.Check(ts.Exec("sed", "-i", args[1], filepath.Join("new", args[0])))
	edited, err := os.ReadFile(ts.MkAbs(filepath.Join("new", args[0])))
	ts.Check(err)
	if string(edited) == string(text) {
		ts.Fatalf("%s: the edit changed nothing", args[0])
	}
}
