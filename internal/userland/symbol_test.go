// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"bytes"
	"compress/gzip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

func TestSymbolListsAreReadAsNmPrintsThem(t *testing.T) {
	const list = "0000000000733420 t _ZL10mysql_initv\n0000000000733500 T main\n0000000000a00000 W operator new(unsigned long)\n" +
		"0000000000b00000 i memcpy\n0000000001000000 d static_data\n0000000001000008 B global\n0000000001000010 V vtable\n0000000000000008 A absolute\n"
	got, err := parseList(strings.NewReader(list))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(got, []Symbol{
		{Name: "_ZL10mysql_initv", Addr: 0x733420, Func: true, Local: true},
		{Name: "main", Addr: 0x733500, Func: true},
		{Name: "operator new(unsigned long)", Addr: 0xa00000, Func: true},
		{Name: "memcpy", Addr: 0xb00000, Func: true, IFunc: true},
		{Name: "static_data", Addr: 0x1000000, Local: true},
		{Name: "global", Addr: 0x1000008},
		{Name: "vtable", Addr: 0x1000010},
	}))
	for _, bad := range []string{"x", "12 T", "zz T name", "12 TT name", "11112222333344445 T n"} {
		_, err := parseList(strings.NewReader(bad))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", bad))
	}
}

func FuzzSymbolList(f *testing.F) {
	f.Add([]byte("0000000000733420 t f\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		syms, err := parseList(bytes.NewReader(b))
		for _, s := range syms {
			if err == nil && s.Name == "" {
				t.Fatalf("%q: a symbol without a name", b)
			}
		}
	})
}

const librarySource = `
static int twice(int x) { return x + x; }
__thread int per_thread = 1;
int answer = 21;
int (*volatile indirect)(int) = twice;
int get(void) { return indirect(answer) + per_thread; }
`

// library compiles a shared library with symbols, and copies it stripped.
func library(t *testing.T, dir, source string) (full, stripped string) {
	t.Helper()
	gcc := need.Program(t, "gcc")
	c := filepath.Join(dir, "lib.c")
	full, stripped = filepath.Join(dir, "full.so"), filepath.Join(dir, "stripped.so")
	qt.Assert(t, qt.IsNil(os.WriteFile(c, []byte(source), 0o644)))
	for _, argv := range [][]string{
		{gcc, "-O1", "-g", "-fPIC", "-shared", "-Wl,--build-id=sha1", "-Wl,-soname,libx.so.1", "-o", full, c},
		{"strip", "-o", stripped, full},
	} {
		out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	}
	return full, stripped
}

func TestAStrippedFileIsFoundToBeTheSame(t *testing.T) {
	dir := t.TempDir()
	full, stripped := library(t, dir, librarySource)
	why, err := compareLoaded(stripped, full)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(why, ""))
	other := t.TempDir()
	full2, _ := library(t, other, strings.Replace(librarySource, "x + x", "x * 3", 1))
	why, err = compareLoaded(stripped, full2)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.Equals(why, "")))
}

func TestShippedFilesAreMatchedAndTheirSymbolsRead(t *testing.T) {
	dir := t.TempDir()
	full, stripped := library(t, dir, librarySource)
	ship := filepath.Join(dir, "ship", "usr", "lib")
	tree := filepath.Join(dir, "b", treeDir, "x-1")
	for _, d := range []string{ship, tree} {
		qt.Assert(t, qt.IsNil(os.MkdirAll(d, 0o755)))
	}
	copyFile(t, stripped, filepath.Join(ship, "libx.so.1.0"))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(ship, "text"), []byte("\x7fELF but not really"), 0o644)))
	copyFile(t, full, filepath.Join(tree, "libx.so"))

	files, err := findShipped(filepath.Join(dir, "ship"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(files, 1))
	qt.Check(t, qt.Equals(files[0].Path, "/usr/lib/libx.so.1.0"))
	qt.Check(t, qt.Equals(files[0].Name, "libx.so.1"))
	b := built{dir: filepath.Join(dir, "b"), inside: buildParent + "/x-1"}
	c := &Commands{Links: []Link{{Output: b.inside + "/libx.so", Inputs: []string{b.inside + "/x.o"}}, {Output: b.inside + "/gone", Inputs: []string{"/y.o"}}}}
	qt.Assert(t, qt.IsNil(matchRebuilt(t.Context(), files, b, c)))
	qt.Check(t, qt.IsTrue(files[0].Identical), qt.Commentf("%s", files[0].Differs))
	qt.Check(t, qt.Equals(files[0].RebuiltInside, b.inside+"/libx.so"))
	qt.Assert(t, qt.IsNil(chooseSymbols(dir, files, recipe{})))
	qt.Check(t, qt.Equals(files[0].SymbolsFrom, SymbolsRebuilt))

	syms, err := files[0].Symbols()
	qt.Assert(t, qt.IsNil(err))
	found := make(map[string]Symbol)
	for _, s := range syms {
		found[s.Name] = s
	}
	qt.Check(t, qt.IsTrue(found["twice"].Local && found["twice"].Func && found["twice"].File == "lib.c"), qt.Commentf("%+v", found["twice"]))
	qt.Check(t, qt.IsTrue(found["per_thread"].TLS))
	qt.Check(t, qt.IsTrue(found["get"].Func && !found["get"].Local && found["get"].Size > 0))

	// Without what was built again only what the file exports is known, unless a list tells more.
	files[0].Identical = false
	qt.Assert(t, qt.IsNil(chooseSymbols(dir, files, recipe{})))
	qt.Check(t, qt.Equals(files[0].SymbolsFrom, SymbolsDynamic))
	lists := filepath.Join(dir, "files-x", "doc")
	qt.Assert(t, qt.IsNil(os.MkdirAll(lists, 0o755)))
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	_, err = w.Write([]byte("0000000000001139 t twice\n"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(w.Close()))
	qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(lists, "x.sym.gz"), z.Bytes(), 0o644)))
	qt.Assert(t, qt.IsNil(chooseSymbols(dir, files, recipe{lists: map[string]string{files[0].Path: "/doc/x.sym.gz"}})))
	qt.Check(t, qt.Equals(files[0].SymbolsFrom, SymbolsList))
	syms, err = files[0].Symbols()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(syms, []Symbol{{Name: "twice", Addr: 0x1139, Func: true, Local: true}}))
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(to, b, 0o755)))
}
