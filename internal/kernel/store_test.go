// SPDX-License-Identifier: Apache-2.0

package kernel

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/progress"
)

// fake puts a prepared target of a source version into a store.
func fake(t *testing.T, s *Store, name, version string) *Target {
	t.Helper()
	target := &Target{
		Format: targetFormat, Name: name, PackageVersion: version, SourceVersion: version,
		Source: s.sourceDir(version), Build: filepath.Join(s.targetDir(name), "build"),
	}
	target.ModuleRoot = filepath.Join(s.targetDir(name), "image")
	qt.Assert(t, qt.IsNil(s.startTarget(s.targetDir(name), target)))
	for path, text := range map[string]string{
		filepath.Join(target.Source, "Makefile"):                       "x",
		filepath.Join(target.Build, ".config"):                         "CONFIG_X86_64=y\n",
		filepath.Join(target.ModuleRoot, "kernel/fs/nls/nls-utf8.ko"):  "elf",
		filepath.Join(target.ModuleRoot, "kernel/fs/ext4/ext4.ko"):     "elf",
		filepath.Join(target.ModuleRoot, "kernel/fs/ext4/modules.txt"): "no module",
	} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(path), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(text), 0o644)))
	}
	qt.Assert(t, qt.IsNil(s.write(target)))
	got, err := s.Get(name)
	qt.Assert(t, qt.IsNil(err))
	return got
}

func open(t *testing.T) *Store {
	t.Helper()
	s, err := OpenStore(t.TempDir())
	qt.Assert(t, qt.IsNil(err))
	return s
}

func TestStoreGivesBackWhatWasAdded(t *testing.T) {
	s := open(t)
	a := fake(t, s, "debian:6.1.0-55-amd64", "6.1.192-1")
	fake(t, s, "debian:6.12.115+deb12-amd64", "6.12.115-2~deb12u1")
	list, err := s.List()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(list, 2))
	path, ok := a.ModulePath("nls_utf8")
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.IsTrue(strings.HasSuffix(path, "/nls-utf8.ko")))
	qt.Check(t, qt.HasLen(a.Modules(), 2))
	qt.Check(t, qt.IsTrue(a.HasConfig("CONFIG_X86_64")))
	_, ok = a.ModulePath("nls-utf8")
	qt.Check(t, qt.IsFalse(ok))
	z, err := s.Sizes(a)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(z.Source > 0 && z.Image > 0))

	_, err = s.Get("debian:9")
	qt.Check(t, qt.Equals(code.Of(err), "TS2302"))
	qt.Check(t, qt.ErrorMatches(err, ".*debian:6.1.0-55-amd64, debian:6.12.115.*"))
}

func TestRemoveKeepsASourceThatOthersUse(t *testing.T) {
	s := open(t)
	a := fake(t, s, "debian:6.1.0-55-amd64", "6.1.192-1")
	b := fake(t, s, "debian:6.1.0-55-rt-amd64", "6.1.192-1")
	qt.Assert(t, qt.IsNil(s.Remove(t.Context(), a.Name)))
	qt.Check(t, qt.IsTrue(s.HasSource("6.1.192-1")))
	_, err := s.Get(a.Name)
	qt.Check(t, qt.Equals(code.Of(err), "TS2302"))
	qt.Assert(t, qt.IsNil(s.Remove(t.Context(), b.Name)))
	qt.Check(t, qt.IsFalse(s.HasSource("6.1.192-1")))
	qt.Check(t, qt.Equals(code.Of(s.Remove(t.Context(), b.Name)), "TS2302"))
}

func TestRemoveKeepsASourceThatIsBeingPreparedFor(t *testing.T) {
	s := open(t)
	a := fake(t, s, "debian:6.1.0-55-amd64", "6.1.192-1")
	// Another target names the source before it is whole.
	half := &Target{Name: "debian:6.1.0-55-rt-amd64", Source: a.Source}
	qt.Assert(t, qt.IsNil(s.startTarget(s.targetDir(half.Name), half)))
	qt.Assert(t, qt.IsNil(s.Remove(t.Context(), a.Name)))
	qt.Check(t, qt.IsTrue(s.HasSource("6.1.192-1")))
	// What is half made can be removed too, and with it the source.
	qt.Assert(t, qt.IsNil(s.Remove(t.Context(), half.Name)))
	qt.Check(t, qt.IsFalse(s.HasSource("6.1.192-1")))
}

func TestRemoveOfATargetInUseIsRefused(t *testing.T) {
	s := open(t)
	a := fake(t, s, "debian:6.1.0-55-amd64", "6.1.192-1")
	unlock, err := s.lock(t.Context(), "target "+a.Name, false)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(code.Of(s.Remove(t.Context(), a.Name)), "TS2314"))
	unlock()
	qt.Check(t, qt.IsNil(s.Remove(t.Context(), a.Name)))
}

func TestADamagedTargetIsSaid(t *testing.T) {
	s := open(t)
	a := fake(t, s, "debian:6.1.0-55-amd64", "6.1.192-1")
	file := filepath.Join(s.targetDir(a.Name), "target.json")
	for _, text := range []string{"{", `{"Format":99}`, `{"Format":1,"Name":"other"}`} {
		qt.Assert(t, qt.IsNil(os.WriteFile(file, []byte(text), 0o644)))
		_, err := s.Get(a.Name)
		qt.Check(t, qt.Equals(code.Of(err), "TS2315"), qt.Commentf("%s", text))
	}
}

func TestAddRefusesNamesThatAreNone(t *testing.T) {
	s := open(t)
	for _, spec := range []string{"", "6.1.0-55-amd64", "debian:", "debian:../x", "debian:6.1 -o x", "debian:-x", "rpm:6.1", "tree:"} {
		_, err := s.Add(t.Context(), spec, AddOptions{}, progress.Discard)
		qt.Check(t, qt.Equals(code.Of(err), "TS2301"), qt.Commentf("%q", spec))
	}
}

func TestFileNamesDoNotCollide(t *testing.T) {
	seen := map[string]string{}
	for _, n := range []string{"a:b", "a_b", "a/b", "a%2fb", "..", ".", "tree:/x/y", "tree:/x_y", "tree:/x:y", "target x", "target_x"} {
		f := FileName(n)
		if n != "a_b" { // no kind of target has an underscore
			qt.Check(t, qt.Equals(seen[f], ""), qt.Commentf("%s and %s", n, seen[f]))
		}
		qt.Check(t, qt.IsTrue(filepath.IsLocal(f) && f != "." && !strings.Contains(f, "/")))
		seen[f] = n
	}
}

func TestLockWaitsAndEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	unlock, err := Lock(t.Context(), path, "x", false)
	qt.Assert(t, qt.IsNil(err))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = Lock(ctx, path, "x", true)
	qt.Check(t, qt.Equals(code.Of(err), "TS9102"))
	unlock()
	unlock, err = Lock(t.Context(), path, "x", true)
	qt.Assert(t, qt.IsNil(err))
	unlock()
}

func TestRunKillsTheWholeGroup(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	started := filepath.Join(dir, "started")
	go func() {
		for {
			if _, err := os.Stat(started); err == nil {
				cancel()
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}()
	// The grandchild ignores what its parent is told, and would live on.
	_, err := Command{Dir: dir, Name: "sh", Args: []string{"-c", `(trap "" TERM; touch started; sleep 60; touch survived) & wait`}}.Run(ctx)
	qt.Check(t, qt.Equals(code.Of(err), "TS9102"))
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
	_, err = os.Stat(filepath.Join(dir, "survived"))
	qt.Check(t, qt.ErrorIs(err, os.ErrNotExist))
}

func TestRunHidesTheCallersBuildVariables(t *testing.T) {
	t.Setenv("MAKEFLAGS", "-n")
	t.Setenv("KCFLAGS", "-O0")
	t.Setenv("CROSS_COMPILE", "x-")
	out, err := Command{Name: "sh", Args: []string{"-c", `echo "$MAKEFLAGS$KCFLAGS$CROSS_COMPILE$LC_ALL"`}}.Run(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(out), "C\n"))
	_, err = Command{Name: "no-such-program-here"}.Run(t.Context())
	qt.Check(t, qt.Equals(code.Of(err), "TS9101"))
	_, err = Command{Name: "sh", Args: []string{"-c", "echo out; echo err >&2; exit 3"}}.Run(t.Context())
	exit, ok := errors.AsType[*ExitError](err)
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(exit.Status, 3))
	qt.Check(t, qt.StringContains(string(exit.Output), "err\n"))
}
