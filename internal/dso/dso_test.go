// SPDX-License-Identifier: Apache-2.0

package dso_test

import (
	"bufio"
	"bytes"
	"debug/elf"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

const libc = "/lib/x86_64-linux-gnu/libc.so.6"

// real are files of the system that differ in what they have.
var real = []string{
	libc, // versions defined and needed, IFUNC, static TLS, lazy binding
	"/usr/lib/x86_64-linux-gnu/libcrypto.so.3",
	"/usr/lib/x86_64-linux-gnu/libstdc++.so.6",
	"/usr/lib/postgresql/15/bin/postgres",
	"/lib64/ld-linux-x86-64.so.2",
	"/usr/bin/gdb", // with copies of variables
}

func open(t testing.TB, path string) *dso.File {
	t.Helper()
	need.File(t, path)
	r, err := os.Open(path)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { r.Close() })
	f, err := dso.Open(r)
	qt.Assert(t, qt.IsNil(err))
	return f
}

// readelf is the second opinion.
// standard is what Go's own package reads.
func standard(t *testing.T, path string) *elf.File {
	t.Helper()
	f, err := elf.Open(path)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { f.Close() })
	return f
}

func readelf(t *testing.T, path string, args ...string) *bufio.Scanner {
	t.Helper()
	need.Program(t, "readelf")
	cmd := exec.CommandContext(t.Context(), "readelf", append(append([]string{"-W"}, args...), path)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	out, err := cmd.Output()
	qt.Assert(t, qt.IsNil(err))
	s := bufio.NewScanner(bytes.NewReader(out))
	s.Buffer(nil, 1<<20)
	return s
}

// compile makes a library or program of C text.
func compile(t testing.TB, source string, args ...string) string {
	t.Helper()
	need.Program(t, "gcc")
	out := filepath.Join(t.TempDir(), "libx.so")
	cmd := exec.CommandContext(t.Context(), "gcc", append(append([]string{"-xc", "-"}, args...), "-o", out)...)
	cmd.Stdin = strings.NewReader(source)
	text, err := cmd.CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", text))
	return out
}

func TestReadsWhatReadelfReads(t *testing.T) {
	t.Parallel()
	for _, path := range real {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			f := open(t, path)
			t.Run("segments and build-id", func(t *testing.T) { headers(t, f, path) })
			t.Run("symbols", func(t *testing.T) { dynamicSymbols(t, f, path) })
			t.Run("slots", func(t *testing.T) { slots(t, f, path) })
			t.Run("what it needs", func(t *testing.T) { needed(t, f, path) })
			eh, err := f.EHFrame()
			qt.Assert(t, qt.IsNil(err))
			s := standard(t, path).Section(".eh_frame")
			qt.Check(t, qt.Equals(eh.Start, s.Addr))
			qt.Check(t, qt.IsTrue(eh.Size >= s.Size))
		})
	}
}

func headers(t *testing.T, f *dso.File, path string) {
	var want []string
	id := ""
	for s := readelf(t, path, "-l", "-n"); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) > 6 && w[0] == "LOAD" {
			flags := strings.Join(w[6:len(w)-1], "")
			want = append(want, strings.Join([]string{w[1], w[2], w[4], w[5], flags}, " "))
		}
		if _, said, ok := strings.Cut(s.Text(), "Build ID: "); ok {
			id = said
		}
	}
	var got []string
	for _, s := range f.Segments {
		flags := ""
		for i, c := range "RWE" {
			if s.Flags&[]uint32{4, 2, 1}[i] != 0 {
				flags += string(c)
			}
		}
		got = append(got, fmt.Sprintf("0x%06x 0x%016x 0x%06x 0x%06x %s", s.Offset, s.Vaddr, s.Filesz, s.Memsz, flags))
	}
	qt.Check(t, qt.DeepEquals(got, want))
	qt.Check(t, qt.Equals(f.BuildID, id))
}

func dynamicSymbols(t *testing.T, f *dso.File, path string) {
	list, err := f.DynamicSymbols()
	qt.Assert(t, qt.IsNil(err))
	n := 0
	for s := readelf(t, path, "--dyn-syms"); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) < 7 || w[0] == "Num:" || w[0] == "0:" || !strings.HasSuffix(w[0], ":") {
			continue
		}
		if n == len(list) {
			t.Fatalf("%d symbols and more", n)
		}
		got := list[n]
		n++
		name := ""
		if len(w) > 7 {
			name = w[7]
		}
		size := fmt.Sprint(got.Size)
		if strings.HasPrefix(w[2], "0x") {
			size = fmt.Sprintf("%#x", got.Size)
		}
		text := got.Name
		if got.Version != "" && got.Name != got.Version { // readelf leaves it out of the symbols that stand for versions
			sep := "@@"
			if got.Hidden || got.Library != "" {
				sep = "@"
			}
			text += sep + got.Version
		}
		if fmt.Sprintf("%016x", got.Value) != w[1] || size != w[2] || text != name && got.Name != name {
			t.Fatalf("symbol %d: %s %#x %d\nreadelf: %s", n, text, got.Value, got.Size, s.Text())
		}
		kind := strings.TrimPrefix(strings.TrimPrefix(got.Type.String(), "STT_"), "GNU_")
		if got.Type == elf.STT_GNU_IFUNC {
			kind = "IFUNC"
		}
		if kind != w[3] {
			t.Fatalf("symbol %d: %v, readelf: %s", n, got.Type, s.Text())
		}
	}
	qt.Check(t, qt.Equals(n, len(list)))
}

func slots(t *testing.T, f *dso.File, path string) {
	list, err := f.Slots()
	qt.Assert(t, qt.IsNil(err))
	kinds := map[dso.SlotKind]string{
		dso.GlobDat: "R_X86_64_GLOB_DAT", dso.JumpSlot: "R_X86_64_JUMP_SLOT", dso.Abs64: "R_X86_64_64", dso.Relative: "R_X86_64_RELATIVE",
		dso.IRelative: "R_X86_64_IRELATIVE", dso.Copy: "R_X86_64_COPY", dso.DTPMod: "R_X86_64_DTPMOD64", dso.DTPOff: "R_X86_64_DTPOFF64",
		dso.TPOff: "R_X86_64_TPOFF64", dso.TLSDesc: "R_X86_64_TLSDESC",
	}
	var packed []string // DT_RELR: addresses alone
	for s := readelf(t, path, "-r"); s.Scan(); {
		if len(s.Text()) == 16 && !strings.Contains(s.Text(), " ") {
			packed = append(packed, s.Text())
		}
	}
	for i, at := range packed {
		if fmt.Sprintf("%016x", list[i].Vaddr) != at || list[i].Kind != dso.Relative {
			t.Fatalf("slot %d: %s at %#x, readelf: %s", i, list[i].Kind, list[i].Vaddr, at)
		}
	}
	n := len(packed)
	for s := readelf(t, path, "-r"); s.Scan(); {
		w := strings.Fields(s.Text())
		if len(w) < 3 || !strings.HasPrefix(w[2], "R_X86_64_") {
			continue
		}
		if n == len(list) {
			t.Fatalf("%d slots and more", n)
		}
		got := list[n]
		n++
		if fmt.Sprintf("%016x", got.Vaddr) != w[0] || kinds[got.Kind] != w[2] {
			t.Fatalf("slot %d: %s at %#x, readelf: %s", n, got.Kind, got.Vaddr, s.Text())
		}
		name, addend := "", int64(0)
		if len(w) == 4 {
			fmt.Sscanf(w[3], "%x", &addend)
		} else {
			name, _, _ = strings.Cut(w[4], "@")
			fmt.Sscanf(w[6], "%x", &addend)
			if w[5] == "-" {
				addend = -addend
			}
		}
		if got.Addend != addend || (got.Symbol == nil) != (name == "") || got.Symbol != nil && got.Symbol.Name != name {
			t.Fatalf("slot %d: %v + %#x, readelf: %s", n, got.Symbol, got.Addend, s.Text())
		}
	}
	qt.Check(t, qt.Equals(n, len(list)))
}

func needed(t *testing.T, f *dso.File, path string) {
	var want []string
	for s := readelf(t, path, "-d"); s.Scan(); {
		if _, name, ok := strings.Cut(s.Text(), "Shared library: ["); ok {
			want = append(want, strings.TrimSuffix(name, "]"))
		}
		if _, name, ok := strings.Cut(s.Text(), "Library soname: ["); ok {
			qt.Check(t, qt.Equals(f.Soname, strings.TrimSuffix(name, "]")))
		}
	}
	qt.Check(t, qt.DeepEquals(f.Needed, want))
}

// TestLookupFindsWhatIsOffered: by hash, with and without a version, each
// symbol that others may use, and in a file without DT_GNU_HASH too.
func TestLookupFindsWhatIsOffered(t *testing.T) {
	t.Parallel()
	sysv := compile(t, "int a = 1; int b(void) { return a; }", "-shared", "-fPIC", "-Wl,--hash-style=sysv")
	for _, path := range append([]string{sysv}, real...) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			f := open(t, path)
			list, err := f.DynamicSymbols()
			qt.Assert(t, qt.IsNil(err))
			n := 0
			for _, s := range list {
				if !s.Defined() || s.Bind == elf.STB_LOCAL || s.Value == 0 {
					continue
				}
				got, ok, err := f.Lookup(s.Name, s.Version, dso.ForCall)
				qt.Assert(t, qt.IsNil(err))
				if !ok || got.Value != s.Value || got.Name != s.Name {
					t.Fatalf("%s@%s: %v, found %t", s.Name, s.Version, got, ok)
				}
				n++
			}
			qt.Check(t, qt.IsTrue(n > 1), qt.Commentf("%d symbols", n))
			_, ok, err := f.Lookup("no_such_symbol", "", dso.ForPointer)
			qt.Check(t, qt.IsNil(err))
			qt.Check(t, qt.IsFalse(ok))
		})
	}
}

// TestLookupFollowsTheLoadersRules of versions.
func TestLookupFollowsTheLoadersRules(t *testing.T) {
	t.Parallel()
	script := filepath.Join(t.TempDir(), "versions")
	qt.Assert(t, qt.IsNil(os.WriteFile(script, []byte("V1 { f; only; }; V2 { f; late; }; V3 { g; };"), 0o600)))
	path := compile(t, `
__asm__(".symver f1,f@V1"); __asm__(".symver f2,f@@V2"); __asm__(".symver g2,g@V2"); __asm__(".symver g3,g@V3");
int f1(void) { return 1; } int f2(void) { return 2; } int g2(void) { return 3; } int g3(void) { return 4; }
int only(void) { return 5; } int late(void) { return 6; }`, "-shared", "-fPIC", "-Wl,--version-script="+script)
	f := open(t, path)
	value := map[string]uint64{}
	list, err := standard(t, path).Symbols()
	qt.Assert(t, qt.IsNil(err))
	for _, s := range list {
		value[s.Name] = s.Value
	}
	for _, c := range []struct{ name, version, want string }{
		{"f", "V1", "f1"},
		{"f", "V2", "f2"},
		{"f", "V3", ""},
		{"f", "", "f1"}, // the first version of all
		{"only", "", "only@@V1"},
		{"late", "", "late@@V2"}, // the only one that is not hidden
		{"late", "V2", "late@@V2"},
		{"g", "", ""}, // hidden ones that are not the first
		{"g", "V2", "g2"},
		{"g", "V3", "g3"},
	} {
		got, ok, err := f.Lookup(c.name, c.version, dso.ForCall)
		qt.Assert(t, qt.IsNil(err))
		want := value[c.want]
		if want == 0 {
			want = value[strings.Split(c.want, "@")[0]]
		}
		qt.Check(t, qt.Equals(ok, c.want != ""), qt.Commentf("%s@%s: %v", c.name, c.version, got))
		qt.Check(t, qt.Equals(got.Value, want), qt.Commentf("%s@%s", c.name, c.version))
	}
}

// TestAProgramsEntryIsAFunctionsAddress: in a program of fixed addresses the
// PLT entry of an imported function is its address for all.
func TestAProgramsEntryIsAFunctionsAddress(t *testing.T) {
	t.Parallel()
	f := open(t, compile(t, `#include <stdlib.h>
int main(void) { int (*volatile f)(int) = abs; return f(0) + abs(1); }`, "-no-pie", "-fno-pie", "-fno-builtin"))
	qt.Check(t, qt.Equals(f.Type, elf.ET_EXEC))
	s, ok, err := f.Lookup("abs", "GLIBC_2.2.5", dso.ForPointer)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.IsTrue(f.Executable(s.Value)))
	qt.Check(t, qt.IsFalse(s.Defined()))
	_, ok, err = f.Lookup("abs", "GLIBC_2.2.5", dso.ForCall)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(ok))
}

// TestAFileOfDebugInformationHasItsBuildID: its segments have no bytes.
func TestAFileOfDebugInformationHasItsBuildID(t *testing.T) {
	t.Parallel()
	need.Program(t, "objcopy")
	path := compile(t, "int v;", "-shared", "-fPIC", "-nostdlib", "-g", "-Wl,--build-id=0x"+strings.Repeat("5a", 20))
	out, err := exec.CommandContext(t.Context(), "objcopy", "--only-keep-debug", path).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
	qt.Check(t, qt.Equals(open(t, path).BuildID, strings.Repeat("5a", 20)))
}
