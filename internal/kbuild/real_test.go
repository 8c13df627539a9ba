// SPDX-License-Identifier: Apache-2.0

package kbuild_test

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// edit makes a fix of changed files of a target's source.
func edit(t *testing.T, target *kernel.Target, edits map[string]func(string) string) *fix.Fix {
	t.Helper()
	var diff bytes.Buffer
	for path, change := range edits {
		old, err := os.ReadFile(filepath.Join(target.Source, path))
		qt.Assert(t, qt.IsNil(err))
		new := change(string(old))
		qt.Assert(t, qt.IsTrue(new != string(old)), qt.Commentf("%s has not what the test edits", path))
		diff.Write(fix.Unified(path, old, []byte(new)))
	}
	f, err := fix.Parse(t.Name(), diff.Bytes())
	qt.Assert(t, qt.IsNil(err))
	return f
}

func replace(old, new string) func(string) string {
	return func(s string) string { return strings.Replace(s, old, new, 1) }
}

// derive makes the fix between two source versions, limited to paths.
func derive(t *testing.T, target *kernel.Target, version string, paths ...string) *fix.Fix {
	t.Helper()
	s := testenv.Store(t)
	if !s.HasSource(version) && os.Getenv("TSUGI_TEST_KERNELS") == "" {
		t.Skipf("source %s is not in the store: set TSUGI_TEST_KERNELS=1 to get it", version)
	}
	dir, err := s.SourceTree(t.Context(), version, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	diff, err := fix.Derive(os.DirFS(target.Source), os.DirFS(dir), paths)
	qt.Assert(t, qt.IsNil(err))
	f, err := fix.Parse(version, diff)
	qt.Assert(t, qt.IsNil(err))
	return f
}

func build(t *testing.T, target *kernel.Target, f *fix.Fix) []kbuild.Pair {
	t.Helper()
	r, err := kbuild.Reach(t.Context(), target, f, kbuild.ReachOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	pairs, err := kbuild.Compile(t.Context(), target, f, r.Objects, kbuild.Options{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	return pairs
}

// clean fails when something half written stays beside a pair's files. What goes
// is of another process: tests of other packages compile in the same store.
func clean(t *testing.T, target *kernel.Target, object string) {
	t.Helper()
	for _, pattern := range []string{"objects/*/" + object + "/.*", "work/*.partial"} {
		left, err := filepath.Glob(filepath.Join(target.Home(), pattern))
		qt.Assert(t, qt.IsNil(err))
		for range 60 {
			left = slices.DeleteFunc(left, func(path string) bool {
				_, err := os.Lstat(path)
				return errors.Is(err, os.ErrNotExist)
			})
			if len(left) == 0 {
				break
			}
			time.Sleep(time.Second)
		}
		qt.Check(t, qt.HasLen(left, 0))
	}
	// A journal may be of another process; that it is not of this one shows
	// when the next compilation gives what it should.
}

func sections(t *testing.T, path string) map[string]uint64 {
	t.Helper()
	f, err := elf.Open(path)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	m := make(map[string]uint64)
	for _, s := range f.Sections {
		m[s.Name] = s.Size
	}
	return m
}

func TestTheFixOfTheDemoReachesOneObjectOfAModule(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	f := derive(t, target, testenv.Pinned(t, testenv.Demo).Fixed, "fs/ext4")
	before, err := os.ReadFile(filepath.Join(target.Source, "fs/ext4/mballoc.c"))
	qt.Assert(t, qt.IsNil(err))
	pairs := build(t, target, f)
	qt.Assert(t, qt.HasLen(pairs, 1))
	p := pairs[0]
	qt.Check(t, qt.Equals(p.Object, kbuild.Object{Path: "fs/ext4/mballoc.o", Source: "fs/ext4/mballoc.c", Module: "ext4"}))
	qt.Check(t, qt.IsFalse(p.Identical))

	plain, orig, patched := sections(t, p.Plain), sections(t, p.Orig), sections(t, p.Patched)
	qt.Check(t, qt.IsTrue(plain[".text"] > 10000))
	qt.Check(t, qt.Equals(orig[".text"], 0))
	qt.Check(t, qt.IsTrue(orig[".text.ext4_mb_load_buddy_gfp"] != patched[".text.ext4_mb_load_buddy_gfp"]))
	qt.Check(t, qt.Equals(orig[".text.ext4_mb_init"], patched[".text.ext4_mb_init"]))
	for _, s := range []map[string]uint64{plain, orig, patched} { // objtool saw all three
		qt.Check(t, qt.IsTrue(s[".orc_unwind"] > 0))
	}

	after, err := os.ReadFile(filepath.Join(target.Source, "fs/ext4/mballoc.c"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(bytes.Equal(before, after)), qt.Commentf("the pristine source changed"))
	clean(t, target, p.Path)

	// The second time nothing is compiled.
	again, err := kbuild.Compile(t.Context(), target, f, []kbuild.Object{p.Object}, kbuild.Options{}, idle{t})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again, pairs))
}

// idle fails the test when work is started.
type idle struct{ t *testing.T }

func (i idle) Start(stage string, _ int64, _ progress.Unit) progress.Task {
	i.t.Errorf("%s was started", stage)
	return progress.Discard.Start(stage, 0, progress.Steps)
}

func TestPlainObjectsAreTheRunningCode(t *testing.T) {
	// A module of one object shows it without any relocation of functions: the
	// sizes of all its functions must be those in the .ko.
	target := testenv.Kernel(t, testenv.Demo)
	f := edit(t, target, map[string]func(string) string{"fs/nls/nls_utf8.c": replace("static int uni2char", "\nstatic int uni2char")})
	pairs := build(t, target, f)
	qt.Assert(t, qt.HasLen(pairs, 1))
	qt.Check(t, qt.Equals(pairs[0].Module, "nls_utf8"))
	ko, ok := target.ModulePath("nls_utf8")
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.DeepEquals(functions(t, pairs[0].Plain), functions(t, ko)))
	qt.Check(t, qt.IsTrue(pairs[0].Identical), qt.Commentf("an empty line is no change"))
}

// functions lists names and sizes of the functions of the .text section.
func functions(t *testing.T, path string) map[string]uint64 {
	t.Helper()
	f, err := elf.Open(path)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	syms, err := f.Symbols()
	qt.Assert(t, qt.IsNil(err))
	m := make(map[string]uint64)
	for _, s := range syms {
		if elf.ST_TYPE(s.Info) == elf.STT_FUNC && int(s.Section) < len(f.Sections) && f.Sections[s.Section].Name == ".text" {
			m[s.Name] = s.Size
		}
	}
	qt.Assert(t, qt.IsTrue(len(m) > 0))
	return m
}

func TestLinesOnTopChangeNothing(t *testing.T) {
	for _, k := range []string{testenv.Demo, testenv.IBT} {
		t.Run(k, func(t *testing.T) {
			target := testenv.Kernel(t, k)
			f := edit(t, target, map[string]func(string) string{"net/ipv4/tcp_cong.c": func(s string) string { return "\n\n\n" + s }})
			pairs := build(t, target, f)
			qt.Assert(t, qt.HasLen(pairs, 1))
			qt.Check(t, qt.IsTrue(pairs[0].Identical))
			_, orc := sections(t, pairs[0].Orig)[".orc_unwind"]
			qt.Check(t, qt.Equals(orc, k == testenv.Demo), qt.Commentf("with IBT objtool runs on linked objects only"))
		})
	}
}

func TestAChangedHeaderReachesWhoSeesADifference(t *testing.T) {
	target := testenv.Kernel(t, testenv.Old)
	f := derive(t, target, testenv.Pinned(t, testenv.Old).Fixed, "security/apparmor/include/label.h")
	r, err := kbuild.Reach(t.Context(), target, f, kbuild.ReachOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	var paths []string
	for _, o := range r.Objects {
		qt.Check(t, qt.Equals(o.Module, ""))
		paths = append(paths, o.Path)
	}
	// Those that use the macros which the fix changes; the others only include them.
	qt.Check(t, qt.DeepEquals(paths, []string{"security/apparmor/domain.o", "security/apparmor/label.o", "security/apparmor/mount.o"}))
	qt.Check(t, qt.IsTrue(r.Files[0].Pruned > 5))

	_, err = kbuild.Reach(t.Context(), target, f, kbuild.ReachOptions{MaxObjects: 2}, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS3106"))
}

func TestReachSaysWhatAFileMeansForTheTarget(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	comment := func(s string) string { return "/* a comment */\n" + s }
	for _, c := range []struct {
		path    string
		outcome kbuild.Outcome
		objects []kbuild.Object
	}{
		{"drivers/mmc/host/bcm2835.c", kbuild.NotBuilt, nil},
		{"include/linux/list.h", kbuild.NoEffect, nil},
		{"virt/kvm/eventfd.c", kbuild.Built, []kbuild.Object{{Path: "arch/x86/kvm/../../../virt/kvm/eventfd.o", Source: "virt/kvm/eventfd.c", Module: "kvm"}}},
		{"drivers/gpu/drm/amd/amdkfd/kfd_chardev.c", kbuild.Built, []kbuild.Object{{Path: "drivers/gpu/drm/amd/amdgpu/../amdkfd/kfd_chardev.o", Source: "drivers/gpu/drm/amd/amdkfd/kfd_chardev.c", Module: "amdgpu"}}},
		{"kernel/sched/core.c", kbuild.Built, []kbuild.Object{{Path: "kernel/sched/core.o", Source: "kernel/sched/core.c"}}},
		{"lib/string.c", kbuild.Built, []kbuild.Object{{Path: "lib/string.o", Source: "lib/string.c"}}},
		{"arch/x86/kernel/head64.c", kbuild.Built, []kbuild.Object{{Path: "arch/x86/kernel/head64.o", Source: "arch/x86/kernel/head64.c"}}},
	} {
		t.Run(c.path, func(t *testing.T) {
			r, err := kbuild.Reach(t.Context(), target, edit(t, target, map[string]func(string) string{c.path: comment}), kbuild.ReachOptions{}, progress.Discard)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(r.Files, 1))
			qt.Check(t, qt.Equals(r.Files[0].Outcome, c.outcome), qt.Commentf("%+v", r.Files[0]))
			qt.Check(t, qt.DeepEquals(r.Objects, c.objects))
			qt.Check(t, qt.Equals(r.NoObjects() != nil, len(c.objects) == 0))
		})
	}
}

func TestAssemblyThatSeesAChangedHeaderIsRefused(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	f := edit(t, target, map[string]func(string) string{"arch/x86/entry/calling.h": replace(".macro POP_REGS", "\tnop\n.macro POP_REGS")})
	_, err := kbuild.Reach(t.Context(), target, f, kbuild.ReachOptions{}, progress.Discard)
	qt.Check(t, qt.Equals(code.Of(err), "TS3104"), qt.Commentf("%v", err))
}

func TestWhatIsNoCodeDoesNotMatter(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	code := edit(t, target, map[string]func(string) string{"fs/nls/nls_utf8.c": func(s string) string { return "/* a comment */\n" + s }})
	diff := append([]byte("--- a/Documentation/x.rst\n+++ b/Documentation/x.rst\n@@ -1 +1 @@\n-a\n+b\n--- a/arch/arm64/kernel/entry.S\n+++ b/arch/arm64/kernel/entry.S\n@@ -1 +1 @@\n-a\n+b\n"), code.Raw...)
	f, err := fix.Parse("mixed", diff)
	qt.Assert(t, qt.IsNil(err))
	r, err := kbuild.Reach(t.Context(), target, f, kbuild.ReachOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.Files[0].Outcome, kbuild.Ignored))
	qt.Check(t, qt.Equals(r.Files[1].Outcome, kbuild.Ignored))
	qt.Check(t, qt.Equals(r.Files[2].Outcome, kbuild.Built))
	pairs, err := kbuild.Compile(t.Context(), target, f, r.Objects, kbuild.Options{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(pairs[0].Identical))
}

func TestAFileThatIsIncludedIsCompiledWhereItIs(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	// kernel/sched/build_policy.c includes rt.c, which is no object itself.
	f := edit(t, target, map[string]func(string) string{"kernel/sched/rt.c": func(s string) string { return s + "\nint tsugi_probe(void) { return 1; }\n" }})
	r, err := kbuild.Reach(t.Context(), target, f, kbuild.ReachOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(r.Objects, []kbuild.Object{{Path: "kernel/sched/build_policy.o", Source: "kernel/sched/build_policy.c"}}))
}

func TestCompilerMessagesHaveTheAuthorsPathsAndLines(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	f := edit(t, target, map[string]func(string) string{"fs/nls/nls_utf8.c": func(s string) string {
		return "\n\n\n" + strings.Replace(s, "static int uni2char", "int broken = no_such_thing;\nstatic int uni2char", 1)
	}})
	at := 4 + strings.Count(strings.SplitN(readFile(t, target, "fs/nls/nls_utf8.c"), "static int uni2char", 2)[0], "\n")
	r, err := kbuild.Reach(t.Context(), target, f, kbuild.ReachOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	_, err = kbuild.Compile(t.Context(), target, f, r.Objects, kbuild.Options{}, progress.Discard)
	qt.Assert(t, qt.Equals(code.Of(err), "TS3101"))
	want := "fs/nls/nls_utf8.c:" + itoa(at) + ":"
	qt.Check(t, qt.StringContains(err.Error(), want))
	qt.Check(t, qt.StringContains(err.Error(), "no_such_thing"))
	qt.Check(t, qt.IsFalse(strings.Contains(err.Error(), target.Home())), qt.Commentf("%v", err))
	clean(t, target, "fs/nls/nls_utf8.o")
}

func readFile(t *testing.T, target *kernel.Target, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(target.Source, path))
	qt.Assert(t, qt.IsNil(err))
	return string(b)
}

func itoa(n int) string {
	var b []byte
	for ; n > 0; n /= 10 {
		b = append(b, byte('0'+n%10))
	}
	slices.Reverse(b)
	return string(b)
}

func TestAnInterruptLeavesNothingHalfWritten(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	f := edit(t, target, map[string]func(string) string{"fs/nls/nls_koi8-u.c": func(s string) string {
		return strings.Replace(s, "static int uni2char", "int tsugi_"+itoa(int(time.Now().UnixNano()))+";\nstatic int uni2char", 1)
	}})
	r, err := kbuild.Reach(t.Context(), target, f, kbuild.ReachOptions{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	for _, stage := range []string{"compile originals", "compile pairs"} {
		ctx, cancel := context.WithCancel(t.Context())
		_, err = kbuild.Compile(ctx, target, f, r.Objects, kbuild.Options{}, stopAt{stage, cancel})
		if err != nil { // the originals may be cached from another run
			qt.Check(t, qt.Equals(code.Of(err), "TS9102"), qt.Commentf("%v", err))
		}
		cancel()
		clean(t, target, "fs/nls/nls_koi8-u.o")
	}
	pairs, err := kbuild.Compile(t.Context(), target, f, r.Objects, kbuild.Options{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(pairs[0].Identical))
}

// stopAt interrupts when a stage says what it is at.
type stopAt struct {
	stage string
	stop  context.CancelFunc
}

func (s stopAt) Start(stage string, _ int64, _ progress.Unit) progress.Task {
	if stage != s.stage {
		return progress.Discard.Start(stage, 0, progress.Steps)
	}
	return stopper{s.stop}
}

type stopper struct{ stop context.CancelFunc }

func (s stopper) Add(int64)   {}
func (s stopper) Note(string) { s.stop() }
func (s stopper) Done(error)  {}

func TestModulesAreReproducible(t *testing.T) {
	for _, k := range []string{testenv.Demo, testenv.IBT} {
		t.Run(k, func(t *testing.T) {
			if k != testenv.Demo {
				testenv.Long(t, "modules of this kernel are compiled the same way")
			}
			target := testenv.Kernel(t, k)
			var made [][]byte
			for _, sub := range []string{"a", "deeper/b"} {
				dir := filepath.Join(t.TempDir(), sub)
				qt.Assert(t, qt.IsNil(os.MkdirAll(dir, 0o755)))
				src := "#include <linux/module.h>\nint frob(void);\nstatic int __init start(void) { pr_info(\"%s\", __FILE__); return frob(); }\nmodule_init(start);\nMODULE_LICENSE(\"GPL\");\n"
				qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "hello.c"), []byte(src), 0o644)))
				qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "Kbuild"), []byte("obj-m := hello.o\n"), 0o644)))
				m, err := kbuild.Module(t.Context(), target, dir)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.StringContains(m.Output, `"frob"`), qt.Commentf("modpost warns of what it does not find"))
				b, err := os.ReadFile(m.Path)
				qt.Assert(t, qt.IsNil(err))
				made = append(made, b)
			}
			qt.Check(t, qt.IsTrue(bytes.Equal(made[0], made[1])))
			qt.Check(t, qt.IsTrue(bytes.Contains(made[0], []byte("vermagic="+target.Release+" "))))

			dir := t.TempDir()
			qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "hello.c"), []byte("int x = y;\n"), 0o644)))
			qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, "Kbuild"), []byte("obj-m := hello.o\n"), 0o644)))
			_, err := kbuild.Module(t.Context(), target, dir)
			qt.Check(t, qt.Equals(code.Of(err), "TS3110"))
			qt.Check(t, qt.ErrorMatches(err, `(?s).*hello.c:1:9: error: .*`))
		})
	}
}

// TestAnotherSelectionCompilesOnlyWhatItSeesOtherwise: an object is there
// already when the changes that make the difference are not of its files.
func TestAnotherSelectionCompilesOnlyWhatItSeesOtherwise(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	ascii, utf8 := "fs/nls/nls_ascii.c", "fs/nls/nls_utf8.c"
	edits := map[string]func(string) string{
		ascii: replace("return -ENAMETOOLONG", "return -E2BIG"),
		utf8:  replace("return -ENAMETOOLONG", "return -E2BIG"),
	}
	objs := []kbuild.Object{
		{Path: "fs/nls/nls_ascii.o", Source: ascii, Module: "nls_ascii"},
		{Path: "fs/nls/nls_utf8.o", Source: utf8, Module: "nls_utf8"},
	}
	both, err := kbuild.Compile(t.Context(), target, edit(t, target, edits), objs, kbuild.Options{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(both[0].Identical || both[1].Identical))
	delete(edits, utf8)
	one, err := kbuild.Compile(t.Context(), target, edit(t, target, edits), objs, kbuild.Options{}, idle{t})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(one[0], both[0]))
	qt.Check(t, qt.IsTrue(one[1].Identical))
	qt.Check(t, qt.Equals(one[1].Patched, one[1].Orig))

	// What nobody used for a long time goes, and is made again.
	long := time.Now().AddDate(-30, 0, 0)
	qt.Assert(t, qt.IsNil(os.Chtimes(both[1].Patched, long, long)))
	before, err := kbuild.Cached(t.Context(), target)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(before.Objects >= 2 && before.Patched > 0 && before.Total() > before.Patched))
	files, _, err := kbuild.Clean(t.Context(), target, 20*365*24*time.Hour)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(files, 1))
	for path, want := range map[string]bool{both[0].Patched: true, both[1].Patched: false, both[1].Orig: true} {
		_, err := os.Stat(path)
		qt.Check(t, qt.Equals(err == nil, want), qt.Commentf("%s", path))
	}
	edits[utf8] = replace("return -ENAMETOOLONG", "return -E2BIG")
	again, err := kbuild.Compile(t.Context(), target, edit(t, target, edits), objs, kbuild.Options{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again, both))
}

// TestOneObjectThatDoesNotCompileLeavesTheOthers tells what is missing, and of
// which object.
func TestOneObjectThatDoesNotCompileLeavesTheOthers(t *testing.T) {
	target := testenv.Kernel(t, testenv.Demo)
	ascii, utf8 := "fs/nls/nls_ascii.c", "fs/nls/nls_utf8.c"
	f := edit(t, target, map[string]func(string) string{
		ascii: replace("return -ENAMETOOLONG", "return -tsugi_missing"),
		utf8:  replace("return -ENAMETOOLONG", "return -E2BIG"),
	})
	objs := []kbuild.Object{
		{Path: "fs/nls/nls_ascii.o", Source: ascii, Module: "nls_ascii"},
		{Path: "fs/nls/nls_utf8.o", Source: utf8, Module: "nls_utf8"},
	}
	pairs, err := kbuild.Compile(t.Context(), target, f, objs, kbuild.Options{KeepGoing: true}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(pairs[1].Err))
	qt.Check(t, qt.IsFalse(pairs[1].Identical))
	p, ok := errors.AsType[*code.Problem](pairs[0].Err)
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(p.Code, "TS3101"))
	qt.Check(t, qt.Equals(pairs[0].Patched, ""))
	missing := kbuild.Missing(p.Why)
	qt.Assert(t, qt.HasLen(missing, 1))
	qt.Check(t, qt.Equals(missing[0].Kind, kbuild.MissedName))
	qt.Check(t, qt.Equals(missing[0].Name, "tsugi_missing"))
	qt.Check(t, qt.Equals(missing[0].File, ascii))
}
