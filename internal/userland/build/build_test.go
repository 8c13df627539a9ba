// SPDX-License-Identifier: Apache-2.0

package build

import (
	"bytes"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/userland"
)

// fixture is a small library or program of some sources, compiled and linked.
type fixture struct {
	dir     string
	lang    string   // ".c" or ".cc"
	flags   []string // of the compiler
	link    []string // of the linker
	strip   bool
	program bool
}

func run(t testing.TB, dir, name string, args ...string) {
	t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	out, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s %v: %s", name, args, out))
}

func (f *fixture) compiler() string {
	if f.lang == ".cc" {
		return "g++"
	}
	return "gcc"
}

// object compiles a source; more flags may split it into sections.
func (f *fixture) object(t testing.TB, name, text string, more ...string) *elfobj.File {
	t.Helper()
	src, out := filepath.Join(f.dir, name+f.lang), filepath.Join(f.dir, name+".o")
	qt.Assert(t, qt.IsNil(os.WriteFile(src, []byte(text), 0o644)))
	args := append(append([]string{"-c", "-O2", "-g0"}, f.flags...), more...)
	run(t, f.dir, f.compiler(), append(args, "-o", out, name+f.lang)...)
	data, err := os.ReadFile(out)
	qt.Assert(t, qt.IsNil(err))
	o, err := elfobj.Read(data)
	qt.Assert(t, qt.IsNil(err))
	return o
}

// build compiles the sources and links them, then compiles each pair.
func (f *fixture) build(t testing.TB, was, is map[string]string) (*Linked, []Unit) {
	t.Helper()
	f.dir = t.TempDir()
	if f.lang == "" {
		f.lang = ".c"
	}
	var units []Unit
	var objects []string
	for _, name := range sorted(was) {
		u := Unit{Source: name + f.lang, Plain: f.object(t, name, was[name])}
		kept := filepath.Join(f.dir, "kept-"+name+".o")
		qt.Assert(t, qt.IsNil(os.Rename(filepath.Join(f.dir, name+".o"), kept)))
		objects = append(objects, kept)
		split := []string{"-ffunction-sections", "-fdata-sections"}
		if f.lang == ".c" {
			split = append(split, "-gbtf")
		}
		u.Orig = f.object(t, name, was[name], split...)
		next, changed := is[name]
		if !changed {
			continue
		}
		u.Patched = f.object(t, name, next, split...)
		units = append(units, u)
	}
	out := filepath.Join(f.dir, "libx.so")
	args := []string{"-shared"}
	if f.program {
		args = nil
	}
	args = append(append(append(args, "-Wl,--build-id", "-o", out), f.link...), objects...)
	run(t, f.dir, f.compiler(), args...)
	symbols := symbolsOf(t, out)
	if f.strip {
		run(t, f.dir, "strip", out)
	}
	return &Linked{File: openDSO(t, out), Symbols: symbols, Name: "libx.so", Path: "/usr/lib/libx.so"}, units
}

func sorted(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

func openDSO(t testing.TB, path string) *dso.File {
	t.Helper()
	data, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	f, err := dso.Open(bytes.NewReader(data))
	qt.Assert(t, qt.IsNil(err))
	return f
}

func symbolsOf(t testing.TB, path string) []dso.Symbol {
	t.Helper()
	l, err := Open(&userland.Shipped{File: path, BuildID: openDSO(t, path).BuildID, SymbolsFrom: userland.SymbolsRebuilt, SymbolFile: path})
	qt.Assert(t, qt.IsNil(err))
	return l.Symbols
}

func names(f *splice.File) string {
	var out []string
	for _, x := range f.Functions {
		out = append(out, x.Name)
	}
	return strings.Join(out, " ")
}

const counter = `
#include <string.h>
#include <stdlib.h>
static int calls;
const char *label = "label";
static const int table[] = {1, 2, 3, 5, 8, 13, 21, 34};
__attribute__((noinline)) static int step(int x) { calls++; return x + table[x & 7]; }
int count(const char *s) { return step(strlen(s)) + calls; }
char *copy(const char *s) { char *p = malloc(strlen(s) + 1); strcpy(p, s); return p; }
int total(void) { return calls; }
`

func TestOneFunctionOfALibrary(t *testing.T) {
	f := &fixture{flags: []string{"-fPIC"}, strip: true}
	l, units := f.build(t, map[string]string{"a": counter}, map[string]string{
		"a": strings.Replace(counter, "return x + table", "if (x > 100) abort(); return x + table", 1),
	})
	r, err := Splice(l, units, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(r.Refusals, 0))
	qt.Assert(t, qt.IsNotNil(r.Splice))
	qt.Check(t, qt.Equals(names(r.Splice), "step"))
	qt.Check(t, qt.IsTrue(r.Proven.Functions > 0))
}

// glibc's flags: names that assertions hold are strings that linkers merge, and
// would be constants of their own where each symbol has a section.
func TestNamedStringsThatAreMerged(t *testing.T) {
	const text = `
void fail(const char *where, int line);
static const char where[] = "in this function";
int check(int x) { if (x < 0) fail(where, 7); return x + 1; }
`
	f := &fixture{flags: []string{"-fPIC", "-fmerge-all-constants"}, strip: true}
	l, units := f.build(t, map[string]string{"a": text}, map[string]string{"a": strings.Replace(text, "x < 0", "x < 3", 1)})
	r, err := Splice(l, units, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(r.Refusals, 0))
	qt.Assert(t, qt.IsNotNil(r.Splice))
	qt.Check(t, qt.Equals(names(r.Splice), "check"))
	qt.Check(t, qt.IsTrue(bytes.Contains(r.Splice.ROData, []byte("in this function\x00"))))
}
