// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// hostRoom is a room with this machine's /usr in it, and with the recorder in
// the place of its compiler.
func hostRoom(t *testing.T) room {
	t.Helper()
	for _, tool := range []string{"unshare", "gcc", "ar", "make", "dpkg-source", "dpkg-parsechangelog", "dpkg-buildflags"} {
		need.Program(t, tool)
	}
	dir := t.TempDir()
	root, scratch := filepath.Join(dir, "root"), filepath.Join(dir, "usr")
	for _, d := range []string{"usr", "etc", "proc", "dev", "tmp", "build", "tsugi"} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(root, d), 0o755)))
	}
	for _, d := range []string{"bin", "sbin", "lib", "lib64"} {
		qt.Assert(t, qt.IsNil(os.Symlink("usr/"+d, filepath.Join(root, d))))
	}
	bin := filepath.Join(scratch, "upper", "bin")
	qt.Assert(t, qt.IsNil(os.MkdirAll(bin, 0o755)))
	compilers, err := filepath.Glob("/usr/bin/x86_64-linux-gnu-gcc-[0-9]*")
	qt.Assert(t, qt.IsNil(err))
	if len(compilers) == 0 {
		need.Allowed(t, "no compiler of Debian's names is here")
	}
	for _, c := range append(compilers, "/usr/bin/x86_64-linux-gnu-ar") {
		copyFile(t, c, filepath.Join(bin, filepath.Base(c)))
	}
	qt.Assert(t, qt.IsNil(placeRecorder(bin)))
	rm := room{root: root, binds: []bind{{"/usr", "/usr", true}, {"/etc", "/etc", true}}, scratch: scratch, tree: "/usr"}
	rm.env = []string{"PATH=/usr/bin"}
	if out, err := rm.run(t.Context(), "/", []string{"gcc", "--version"}, nil, nil); err != nil {
		if code.Of(err) == "TS3538" {
			need.Allowed(t, "no build root can be entered here: ", err)
		}
		t.Fatalf("%v: %s", err, out)
	}
	return rm
}

// smallSource makes a source package of one library and one program.
func smallSource(t *testing.T, answer string) (dsc string) {
	t.Helper()
	dir := t.TempDir()
	src := filepath.Join(dir, "small-1.0")
	files := map[string]string{
		"lib.c":  "static int twice(int x) { return x + x; }\nint small_answer(int x) { return twice(x) + " + answer + "; }\n",
		"main.c": "int small_answer(int);\nint main(void) { return small_answer(20) != 42; }\n",
		"Makefile": "all: libsmall.so.1 small\n" +
			"libsmall.so.1: libsmall.a\n\tgcc $(CFLAGS) -shared -Wl,--build-id=sha1 -Wl,-soname,$@ -Wl,--whole-archive -o $@ libsmall.a -Wl,--no-whole-archive\n" +
			"libsmall.a: lib.o\n\tar cr $@ lib.o\nlib.o: lib.c\n\tcc $(CFLAGS) -fPIC -c -o $@ lib.c\n" +
			"small: main.c libsmall.so.1\n\tgcc -c main.c\n\tgcc -o $@ main.o ./libsmall.so.1\n",
		"debian/rules":         "#!/usr/bin/make -f\nexport DEB_BUILD_MAINT_OPTIONS = hardening=+all\nbuild-arch:\n\t$(MAKE) all\n",
		"debian/control":       "Source: small\nMaintainer: A B <a@example.org>\nStandards-Version: 4.6.2\nBuild-Depends: make\n\nPackage: small\nArchitecture: any\nDescription: small\n small\n",
		"debian/changelog":     "small (1.0) unstable; urgency=low\n\n  * First.\n\n -- A B <a@example.org>  Thu, 01 Jan 2026 00:00:00 +0000\n",
		"debian/source/format": "3.0 (native)\n",
	}
	for name, text := range files {
		path := filepath.Join(src, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(path), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(text), 0o755)))
	}
	cmd := exec.Command("dpkg-source", "-b", src)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	qt.Assert(t, qt.IsNil(os.RemoveAll(src)))
	return filepath.Join(dir, "small_1.0.dsc")
}

func smallBuild(t *testing.T, s *Store, rm room, dsc string, r recipe) (built, *Commands) {
	t.Helper()
	b, err := s.build(t.Context(), rm, dsc, "small", "1.0", r, 1, progress.Discard)
	if err != nil {
		log, _ := os.ReadFile(filepath.Join(s.buildDir("small", "1.0"), buildLog))
		t.Fatalf("%v\n%s", err, log)
	}
	c, err := readCommands(filepath.Join(b.dir, commandsFile))
	qt.Assert(t, qt.IsNil(err))
	return b, c
}

func openStore(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	return s
}

func TestASourcePackageIsBuiltAgainWithProof(t *testing.T) {
	rm := hostRoom(t)
	dsc := smallSource(t, "2")
	general := recipeOf("small")
	s := openStore(t)
	b, c := smallBuild(t, s, rm, dsc, general)
	in := buildParent + "/small-1.0"
	qt.Check(t, qt.Equals(b.inside, in))
	qt.Check(t, qt.IsFalse(strings.Contains(b.compiler, "tsugi")), qt.Commentf("%s", b.compiler))
	lib, ok := c.OfObject(in + "/lib.o")
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(lib.Source, in+"/lib.c"))
	qt.Check(t, qt.Equals(lib.Dir, in))
	qt.Check(t, qt.Equals(filepath.Base(lib.Argv[0]), "cc"))
	qt.Check(t, qt.DeepEquals(c.LinkedInto(in+"/libsmall.so.1"), []string{in + "/lib.o"}))
	qt.Check(t, qt.HasLen(c.OfSource(in+"/main.c"), 1))

	// What the "distribution" ships is another build of it, stripped.
	shipped := filepath.Join(t.TempDir(), "files-small")
	qt.Assert(t, qt.IsNil(os.MkdirAll(shipped, 0o755)))
	other, _ := smallBuild(t, openStore(t), rm, dsc, general)
	out, err := exec.Command("strip", "-o", filepath.Join(shipped, "libsmall.so.1"), filepath.Join(other.tree(), "libsmall.so.1")).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	files, err := findShipped(shipped)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(files, 1))
	qt.Assert(t, qt.IsNil(matchRebuilt(t.Context(), files, b, c)))
	qt.Check(t, qt.IsTrue(files[0].Identical), qt.Commentf("%s", files[0].Differs))

	changed, cc := smallBuild(t, openStore(t), rm, smallSource(t, "3"), general)
	qt.Assert(t, qt.IsNil(matchRebuilt(t.Context(), files, changed, cc)))
	qt.Check(t, qt.IsFalse(files[0].Identical))
	qt.Check(t, qt.Not(qt.Equals(files[0].Differs, "")))
}

func TestAStubBuildRecordsCommandsWithoutCompiling(t *testing.T) {
	rm := hostRoom(t)
	s := openStore(t)
	b, c := smallBuild(t, s, rm, smallSource(t, "2"), recipe{source: "small", configure: "true", script: "make -k all", stub: true})
	cmd, ok := c.OfObject(b.inside + "/lib.o")
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(cmd.Source, b.inside+"/lib.c"))
	st, err := os.Stat(filepath.Join(b.tree(), "lib.o"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(st.Size(), 0))
}

func TestABuildThatFailsSaysWhyAndGoesOnWhenItCan(t *testing.T) {
	rm := hostRoom(t)
	s, dsc := openStore(t), smallSource(t, "2")
	flag := filepath.Join(s.buildDir("small", "1.0"), treeDir, "go")
	r := recipe{source: "small", script: "make all\n[ -e ../go ] || { echo 'error: not yet'; exit 1; }"}
	_, err := s.build(t.Context(), rm, dsc, "small", "1.0", r, 1, progress.Discard)
	qt.Assert(t, qt.Equals(code.Of(err), "TS3536"))
	qt.Check(t, qt.StringContains(err.Error(), "not yet"))
	first, err := os.Stat(filepath.Join(s.buildDir("small", "1.0"), treeDir, "small-1.0", "lib.o"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(flag, nil, 0o644)))
	b, c := smallBuild(t, s, rm, dsc, r)
	second, err := os.Stat(filepath.Join(b.tree(), "lib.o"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(first.ModTime().Equal(second.ModTime())), qt.Commentf("lib.o was compiled again"))
	_, ok := c.OfObject(b.inside + "/lib.o")
	qt.Check(t, qt.IsTrue(ok), qt.Commentf("the command of the first run is lost"))
}

func TestAnInterruptedBuildLeavesNoProcessAndCanBeDoneAgain(t *testing.T) {
	rm := hostRoom(t)
	s, dsc := openStore(t), smallSource(t, "2")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	_, err := s.build(ctx, rm, dsc, "small", "1.0", recipe{source: "small", configure: "touch half; sleep 1000", script: "make all"}, 1, progress.Discard)
	qt.Assert(t, qt.Equals(code.Of(err), "TS9102"))
	b, _ := smallBuild(t, s, rm, dsc, recipe{source: "small", configure: "[ ! -e half ]", script: "make all"})
	_, err = os.Stat(filepath.Join(b.tree(), "libsmall.so.1"))
	qt.Check(t, qt.IsNil(err))
}

func TestATargetIsRunWithoutBeingChanged(t *testing.T) {
	rm := hostRoom(t)
	s := openStore(t)
	b, c := smallBuild(t, s, rm, smallSource(t, "2"), recipeOf("small"))
	tg := Target{Root: rm.root, Build: b.tree(), BuildPath: b.inside, Env: b.env, commands: c, binds: rm.binds}
	lib, ok := c.OfObject(b.inside + "/lib.o")
	qt.Assert(t, qt.IsTrue(ok))
	before, err := os.ReadFile(filepath.Join(b.tree(), "lib.o"))
	qt.Assert(t, qt.IsNil(err))
	scratch := filepath.Join(t.TempDir(), "scratch")
	upper := filepath.Join(scratch, "upper")
	qt.Assert(t, qt.IsNil(os.MkdirAll(upper, 0o755)))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(upper, "lib.c"), []byte("int small_answer(int x) { return 7; }\n"), 0o644)))
	out, err := tg.Run(t.Context(), Run{Argv: lib.Argv, Dir: lib.Dir, Scratch: scratch})
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	after, err := os.ReadFile(filepath.Join(b.tree(), "lib.o"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(after, before))
	made, err := os.ReadFile(filepath.Join(upper, "lib.o"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.DeepEquals(made, before)))

	_, err = tg.Run(t.Context(), Run{Argv: []string{"sh", "-c", "echo x >lib.c"}})
	qt.Check(t, qt.IsNotNil(err), qt.Commentf("the pristine tree can be written to"))
	out, err = tg.Run(t.Context(), Run{Argv: []string{"sh", "-c", "cat; ls /sys/class/net 2>&1; exit 0"}, Stdin: strings.NewReader("given\n")})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.StringContains(string(out), "given\n"))
}
