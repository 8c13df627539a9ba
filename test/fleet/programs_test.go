// SPDX-License-Identifier: Apache-2.0

package fleet

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// work is the directory of what these tests build for themselves.
var work string

func TestMain(m *testing.M) { testenv.Main(m, &work) }

// compile makes a static program of a package, as it is shipped: never with
// the race detector of the tests around it.
func compile(name, pkg string) func() (string, error) {
	return sync.OnceValues(func() (string, error) {
		out := filepath.Join(work, name)
		cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			return "", fmt.Errorf("%s: %w\n%s", pkg, err, text)
		}
		return out, nil
	})
}

var (
	buildTsugi    = compile("tsugi", "../../cmd/tsugi")
	buildTsugictl = compile("tsugictl", "../../cmd/tsugictl")
	buildServer   = compile("tsugi-server", "../../cmd/tsugi-server")
	buildInit     = compile("machine", "./testdata/machine")
)

func program(t testing.TB, build func() (string, error)) string {
	t.Helper()
	bin, err := build()
	qt.Assert(t, qt.IsNil(err))
	return bin
}

// edit is one change of a source file: the first place with the words old,
// behind the first place with the words behind, becomes new.
type edit struct{ path, behind, old, new string }

// An artifact is a live patch that a test made.
type artifact struct{ file, name string }

// made keeps live patches for all tests of a run: each takes some seconds.
var made sync.Map

// livePatch builds a live patch of the demo's kernel with tsugictl.
func livePatch(t testing.TB, k *kernel.Target, name string, version int, edits ...edit) artifact {
	t.Helper()
	a := artifact{file: filepath.Join(work, fmt.Sprintf("%s-%d.tsugi", name, version)), name: fmt.Sprintf("tsugi_%s_%d", name, version)}
	once, _ := made.LoadOrStore(a.file, sync.OnceValue(func() error {
		var diff []byte
		for _, e := range edits {
			b, err := os.ReadFile(filepath.Join(k.Source, e.path))
			if err != nil {
				return err
			}
			text := string(b)
			at := strings.Index(text, e.behind) + len(e.behind)
			n := strings.Index(text[max(0, at):], e.old)
			if at < len(e.behind) || n < 0 {
				return fmt.Errorf("%s no longer has %q behind %q: choose another place", e.path, e.old, e.behind)
			}
			diff = append(diff, fix.Unified(e.path, b, []byte(text[:at+n]+e.new+text[at+n+len(e.old):]))...)
		}
		file := filepath.Join(work, name+".diff")
		if err := os.WriteFile(file, diff, 0o644); err != nil {
			return err
		}
		return buildPatch(t, k, file, a, version)
	}))
	qt.Assert(t, qt.IsNil(once.(func() error)()))
	return a
}

// realPatch is the live patch of the demo: a real fix of ext4.
func realPatch(t testing.TB, k *kernel.Target, version int) artifact {
	t.Helper()
	a := artifact{file: filepath.Join(work, fmt.Sprintf("ext4-%d.tsugi", version)), name: fmt.Sprintf("tsugi_ext4_%d", version)}
	once, _ := made.LoadOrStore(a.file, sync.OnceValue(func() error {
		p, store := testenv.Pinned(t, testenv.Demo), testenv.Store(t)
		if !store.HasSource(p.Fixed) && os.Getenv("TSUGI_TEST_KERNELS") == "" {
			t.Skipf("no source of %s in the store: tsugictl fix derive %s %s", p.Fixed, p.Target, p.Fixed)
		}
		dir, err := store.SourceTree(t.Context(), p.Fixed, progress.Discard)
		if err != nil {
			return err
		}
		diff, err := fix.Derive(os.DirFS(k.Source), os.DirFS(dir), []string{"fs/ext4/mballoc.c"})
		if err != nil {
			return err
		}
		file := filepath.Join(work, "ext4.diff")
		if err := os.WriteFile(file, diff, 0o644); err != nil {
			return err
		}
		return buildPatch(t, k, file, a, version)
	}))
	qt.Assert(t, qt.IsNil(once.(func() error)()))
	return a
}

func buildPatch(t testing.TB, k *kernel.Target, diff string, a artifact, version int) error {
	out, err := exec.CommandContext(t.Context(), program(t, buildTsugictl), "-q", "build", diff,
		"--target", k.Name, "--name", a.name, "--patch-version", fmt.Sprint(version), "-o", a.file).CombinedOutput()
	if err != nil {
		return fmt.Errorf("%s: %w\n%s", diff, err, out)
	}
	return nil
}
