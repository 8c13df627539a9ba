// SPDX-License-Identifier: Apache-2.0

package kernels

import (
	"bytes"
	"debug/elf"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/klp"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// TestObjectsDoNotDifferFromThemselves takes every object of net/ and fs/ that
// any test has compiled, plain and with one section per symbol.
func TestObjectsDoNotDifferFromThemselves(t *testing.T) {
	t.Parallel()
	for _, pin := range []string{testenv.Demo, testenv.Old, testenv.IBT} {
		t.Run(pin, func(t *testing.T) {
			t.Parallel()
			k := testenv.Kernel(t, pin)
			netfilter(t, k) // one is there in any case
			var files, functions int
			for _, top := range []string{"net", "fs"} {
				dirs, err := filepath.Glob(filepath.Join(k.Home(), "objects", k.Release+"-*", top))
				qt.Assert(t, qt.IsNil(err))
				for _, dir := range dirs {
					err := filepath.WalkDir(dir, func(path string, d os.DirEntry, err error) error {
						if err != nil || d.Name() != "orig.o" && d.Name() != "plain.o" {
							return err
						}
						files++
						functions += selfDiff(t, path, top)
						return nil
					})
					qt.Assert(t, qt.IsNil(err))
				}
			}
			t.Logf("%d objects with %d functions", files, functions)
			qt.Check(t, qt.IsTrue(functions > 200))
		})
	}
}

func selfDiff(t *testing.T, path, top string) (functions int) {
	t.Helper()
	b, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	// no memory is shared between the two sides
	one, err := elfobj.Read(bytes.Clone(b))
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", path))
	two, err := elfobj.Read(b)
	qt.Assert(t, qt.IsNil(err))
	for _, trace := range []objdiff.Trace{objdiff.TraceAuto, objdiff.TraceRequired} {
		r, err := objdiff.Diff(one, two, objdiff.Options{Trace: trace})
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", path))
		if !r.Same() || len(r.New)+len(r.Removed)+len(r.Data)+len(r.Special)+len(r.Risks) > 0 {
			t.Errorf("%s: changed %v, new %v, removed %v, data %v, entries %v, refused %v, risks %v",
				path, r.Changed, r.New, r.Removed, r.Data, r.Special, r.Refusals, r.Risks)
		}
	}
	for _, s := range one.Symbols {
		if s.Type == elf.STT_FUNC && s.Section != nil {
			functions++
		}
	}
	return functions
}

// TestEveryFunctionOfNetfilterIsTheRunningCode compares all functions of one
// large object with the module that the distribution ships.
func TestEveryFunctionOfNetfilterIsTheRunningCode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pin       string
		functions int // at least
	}{{testenv.Demo, 228}, {testenv.Old, 228}, {testenv.IBT, 218}} {
		t.Run(c.pin, func(t *testing.T) {
			t.Parallel()
			k := testenv.Kernel(t, c.pin)
			pair := netfilter(t, k)
			b, err := os.ReadFile(pair.Plain)
			qt.Assert(t, qt.IsNil(err))
			plain, err := elfobj.Read(b)
			qt.Assert(t, qt.IsNil(err))
			kt, err := klp.ForKernel(k)
			qt.Assert(t, qt.IsNil(err))
			p, err := klp.VerifyObject(kt, pair.Path, pair.Module, plain)
			qt.Assert(t, qt.IsNil(err))
			t.Logf("%+v", p)
			qt.Check(t, qt.IsTrue(p.Functions >= c.functions))
		})
	}
}

// netfilter compiles net/netfilter/nf_tables_api.o, by way of a comment.
func netfilter(t testing.TB, k *kernel.Target) kbuild.Pair {
	t.Helper()
	const source = "net/netfilter/nf_tables_api.c"
	text := readSource(t, k, source)
	f, err := fix.Parse("nothing.diff", fix.Unified(source, []byte(text), []byte(text+"/* nothing */\n")))
	qt.Assert(t, qt.IsNil(err))
	pairs, err := kbuild.Compile(t.Context(), k, f, []kbuild.Object{{
		Path: strings.TrimSuffix(source, ".c") + ".o", Source: source, Module: "nf_tables",
	}}, kbuild.Options{}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	return pairs[0]
}
