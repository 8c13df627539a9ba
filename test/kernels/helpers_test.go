// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/builder"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/proof"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// programs is the directory of what these tests compile for themselves.
var programs string

func TestMain(m *testing.M) {
	var err error
	if programs, err = os.MkdirTemp("", "tsugi-kernels-*"); err != nil {
		panic(err)
	}
	status := m.Run()
	os.RemoveAll(programs)
	os.Exit(status)
}

// compileGo makes a static program of a package of this module.
func compileGo(name, pkg string) (string, error) {
	out := filepath.Join(programs, name)
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags=-s -w", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("%s: %w\n%s", pkg, err, text)
	}
	return out, nil
}

var (
	buildTsugictl     = sync.OnceValues(func() (string, error) { return compileGo("tsugictl", "../../cmd/tsugictl") })
	buildReproducer   = sync.OnceValues(func() (string, error) { return compileGo("reproduce", "./testdata/reproduce") })
	buildReproducer61 = sync.OnceValues(func() (string, error) { return compileGo("reproduce61", "./testdata/reproduce61") })
)

// tsugictl is the program as it is shipped. It also is process 1 of machines:
// a test program built with -race cannot be that.
func tsugictl(t testing.TB) string {
	t.Helper()
	bin, err := buildTsugictl()
	qt.Assert(t, qt.IsNil(err))
	return bin
}

// fixOf derives what the next source version changes in some files.
func fixOf(t testing.TB, pin, name string, paths ...string) *fix.Fix {
	t.Helper()
	k, p, store := testenv.Kernel(t, pin), testenv.Pinned(t, pin), testenv.Store(t)
	if !store.HasSource(p.Fixed) && os.Getenv("TSUGI_TEST_KERNELS") == "" {
		t.Skipf("no source of %s in the store: tsugictl fix derive %s %s", p.Fixed, p.Target, p.Fixed)
	}
	dir, err := store.SourceTree(t.Context(), p.Fixed, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	diff, err := fix.Derive(os.DirFS(k.Source), os.DirFS(dir), paths)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(len(diff) > 0), qt.Commentf("%s does not change %v", p.Fixed, paths))
	f, err := fix.Parse(name+".diff", diff)
	qt.Assert(t, qt.IsNil(err))
	return f
}

// edit is one change of a source file: the first place with the words old,
// behind the first place with the words behind, becomes new.
type edit struct{ path, behind, old, new string }

// editOf makes a fix of edits, which may touch a file more than once.
func editOf(t testing.TB, k *kernel.Target, name string, edits ...edit) *fix.Fix {
	t.Helper()
	texts := map[string]string{}
	var paths []string
	for _, e := range edits {
		text, ok := texts[e.path]
		if !ok {
			paths = append(paths, e.path)
			text = readSource(t, k, e.path)
		}
		at := strings.Index(text, e.behind)
		qt.Assert(t, qt.IsTrue(at >= 0), qt.Commentf("%s: %s no longer has %q: choose another place", k.Name, e.path, e.behind))
		at += len(e.behind)
		n := strings.Index(text[at:], e.old)
		qt.Assert(t, qt.IsTrue(n >= 0), qt.Commentf("%s: %s no longer has %q behind %q: choose another place", k.Name, e.path, e.old, e.behind))
		texts[e.path] = text[:at+n] + e.new + text[at+n+len(e.old):]
	}
	var diff []byte
	slices.Sort(paths)
	for _, p := range paths {
		diff = append(diff, fix.Unified(p, []byte(readSource(t, k, p)), []byte(texts[p]))...)
	}
	f, err := fix.Parse(name+".diff", diff)
	qt.Assert(t, qt.IsNil(err))
	return f
}

func readSource(t testing.TB, k *kernel.Target, path string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(k.Source, path))
	qt.Assert(t, qt.IsNil(err))
	return string(b)
}

// build runs the pipeline and logs what it took.
func build(t testing.TB, k *kernel.Target, name string, fixes ...*fix.Fix) *builder.Report {
	t.Helper()
	start := time.Now()
	r, err := builder.Build(t.Context(), builder.Request{Target: k, Fixes: fixes, Name: name, Builder: "tsugi test"}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	size := 0
	if r.Module != nil {
		size = r.Module.Size
	}
	t.Logf("%s: %s in %.1f s, %d objects, module of %d bytes; stages %v", r.Name, r.Verdict, time.Since(start).Seconds(), len(r.Objects), size, r.Stages)
	for _, f := range r.Functions[:min(len(r.Functions), 16)] {
		t.Logf("  %s %s,%d: %s", f.Object, f.Name, f.SymPos, f.Change)
	}
	for _, p := range r.Refusals {
		t.Logf("  refused: %v at %s (%s)", p.Problem, p.Source, p.Fix)
	}
	for _, p := range r.Risks[:min(len(r.Risks), 8)] {
		t.Logf("  risk: %v", p.Problem)
	}
	return r
}

// live is a build that has to end in a live patch.
func live(t testing.TB, k *kernel.Target, name string, fixes ...*fix.Fix) *builder.Report {
	t.Helper()
	r := build(t, k, name, fixes...)
	qt.Assert(t, qt.Equals(r.Verdict, builder.Live), qt.Commentf("%v", codes(r.Refusals)))
	qt.Assert(t, qt.IsNotNil(r.Artifact))
	qt.Check(t, qt.IsTrue(r.Proven.Functions >= len(r.Functions)), qt.Commentf("every replaced function is compared with the running code: %+v", r.Proven))
	return r
}

// replaced lists the functions of a report as "object name".
func replaced(r *builder.Report) []string {
	var out []string
	for _, f := range r.Functions {
		out = append(out, f.Object+" "+f.Name)
	}
	return out
}

func codes(rs []builder.Refusal) []string {
	var out []string
	for _, r := range rs {
		if c := string(r.Code); !slices.Contains(out, c) {
			out = append(out, c)
		}
	}
	return out
}

// prove boots the kernel with a live patch and logs what it took. The proof
// has to hold: the kernel takes the module, shows the functions of the
// manifest as patched and no others, the patch leaves, and the kernel says
// nothing new.
func prove(t testing.TB, k *kernel.Target, r *builder.Report, change func(*proof.Request)) *proof.Proof {
	t.Helper()
	p := tryProof(t, k, r, change)
	qt.Assert(t, qt.HasLen(p.Problems, 0))
	qt.Check(t, qt.Equals(p.Verdict, proof.Proved))
	for _, id := range []string{proof.CheckKernel, proof.CheckLoad, proof.CheckFunctions, proof.CheckRevert, proof.CheckLog} {
		c, _ := p.Check(id)
		qt.Check(t, qt.Equals(c.Status, proof.Pass), qt.Commentf("%s: %s", id, c.Detail))
	}
	return p
}

func tryProof(t testing.TB, k *kernel.Target, r *builder.Report, change func(*proof.Request)) *proof.Proof {
	t.Helper()
	req, err := proof.FromPatch(r.Artifact, proof.ForKernel(k))
	qt.Assert(t, qt.IsNil(err))
	req.Init, req.CacheDir = tsugictl(t), k.Home()
	// To unpack it takes most of a boot under emulation.
	req.Target.Kernel = k.Vmlinux
	if change != nil {
		change(&req)
	}
	start := time.Now()
	p, err := proof.Prove(t.Context(), req, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	for _, c := range p.Checks {
		t.Logf("  %-12s %s %s", c.ID, c.Status, c.Detail)
	}
	for _, l := range slices.Concat(p.Log.New, p.Log.Notes) {
		t.Logf("  log: %s", l)
	}
	for _, run := range []*proof.Run{p.Before, p.After} {
		if run != nil && run.Reproducer != nil {
			t.Logf("  reproducer: %s %q", run.Reproducer.Kind, run.Reproducer.Output)
		}
	}
	t.Logf("  proof in %.1f s, boot %d ms, %s", time.Since(start).Seconds(), p.After.BootMS, p.Machine.Accelerator)
	return p
}

// ran tells whether the kernel's tracer saw a function of the patch run.
func ran(p *proof.Proof, name string) bool {
	return p.Traced != nil && slices.ContainsFunc(p.Traced.Seen, func(s string) bool {
		return s == name || strings.HasPrefix(s, name+".")
	})
}
