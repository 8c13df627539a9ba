// SPDX-License-Identifier: Apache-2.0

package userland

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

func record(words ...string) []byte { return []byte(strings.Join(words, "\x00") + "\x00") }

func TestRecordsAreReadAsTheyWereWritten(t *testing.T) {
	v, err := parseRecord(record("/build/x", "/usr/bin/gcc", "-DA=\"a b\"", "", "-c", "two\nlines.c"))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(v.dir, "/build/x"))
	qt.Check(t, qt.DeepEquals(v.argv, []string{"/usr/bin/gcc", "-DA=\"a b\"", "", "-c", "two\nlines.c"}))
	for _, bad := range []string{"", "/d", "/d\x00", "d\x00gcc\x00", "/d\x00gcc", "/d\x00\x00-c\x00"} {
		_, err := parseRecord([]byte(bad))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%q", bad))
	}
}

func TestCompilesAreTakenApart(t *testing.T) {
	for _, test := range []struct {
		name, line, source, object string
	}{
		{"openssl", "gcc -I. -Iinclude -DL_ENDIAN -MMD -MF a.d.tmp -MT a.o -c -o crypto/libcrypto-shlib-mem.o ../crypto/mem.c", "/b/crypto/mem.c", "/b/build/crypto/libcrypto-shlib-mem.o"},
		{"the object beside the option", "gcc -c -oa.o a.c", "/b/build/a.c", "/b/build/a.o"},
		{"no object named", "g++ -c sub/dir/a.cc", "/b/build/sub/dir/a.cc", "/b/build/a.o"},
		{"an absolute source, as CMake has it", "c++ -o x.dir/a.cc.o -c /b/sql/a.cc", "/b/sql/a.cc", "/b/build/x.dir/a.cc.o"},
		{"a source that is the argument of an option", "gcc -include config.c -c a.c", "/b/build/a.c", "/b/build/a.o"},
		{"a language", "gcc -x c -c file.txt -o f.o", "/b/build/file.txt", "/b/build/f.o"},
		{"from standard input", "gcc -c -x assembler-with-cpp -o exit.os -", "", "/b/build/exit.os"},
		{"assembly", "gcc -c start.S -o start.os", "/b/build/start.S", "/b/build/start.os"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c, ok := compileOf(invocation{"/b/build", strings.Fields(test.line)})
			qt.Assert(t, qt.IsTrue(ok))
			qt.Check(t, qt.Equals(c.Source, test.source))
			qt.Check(t, qt.Equals(c.Object, test.object))
			qt.Check(t, qt.Equals(c.Dir, "/b/build"))
		})
	}
}

func TestOtherRunsOfTheCompilerAreNoCompiles(t *testing.T) {
	for _, line := range []string{
		"gcc", "gcc --version", "gcc -E a.c", "gcc -S a.c -o a.s", "gcc -c -E a.c", "gcc -M -c a.c", "gcc a.o b.o -o prog",
		"gcc -c a.c b.c", "gcc -c a.o", "gcc -c", "gcc -c -o", "gcc -c -", "gcc a.c -o a",
	} {
		_, ok := compileOf(invocation{"/b", strings.Fields(line)})
		qt.Check(t, qt.IsFalse(ok), qt.Commentf("%s", line))
	}
}

func TestLinksAndArchivesTellWhatTheyAreMadeOf(t *testing.T) {
	for _, test := range []struct {
		name, line, output string
		inputs             []string
	}{
		{"a shared library", "gcc -shared -Wl,-soname=liba.so.1 -o liba.so.1 a.o sub/b.o libc.a -ldl -lm", "/b/liba.so.1", []string{"/b/a.o", "/b/sub/b.o", "/b/libc.a"}},
		{"glibc's", "gcc -shared -o libc.so -T shlib.lds -Wl,--whole-archive libc_pic.a interp.os", "/b/libc.so", []string{"/b/libc_pic.a", "/b/interp.os"}},
		{"ar", "ar crD liba.a a.o b.o", "/b/liba.a", []string{"/b/a.o", "/b/b.o"}},
		{"ar with a dash and a path", "/usr/bin/x86_64-linux-gnu-ar -qc liba.a a.o", "/b/liba.a", []string{"/b/a.o"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			l, ok := linkOf(invocation{"/b", strings.Fields(test.line)})
			qt.Assert(t, qt.IsTrue(ok))
			qt.Check(t, qt.Equals(l.Output, test.output))
			qt.Check(t, qt.DeepEquals(l.Inputs, test.inputs))
		})
	}
	for _, line := range []string{"gcc -c a.c -o a.o", "gcc -o a a.c", "ar t liba.a a.o", "ar x liba.a a.o", "ar", "gcc -E -o x a.o"} {
		_, ok := linkOf(invocation{"/b", strings.Fields(line)})
		qt.Check(t, qt.IsFalse(ok), qt.Commentf("%s", line))
	}
}

func TestObjectsAreFoundThroughArchives(t *testing.T) {
	c := Commands{
		Compiles: []Command{{Source: "/s/a.c", Object: "/b/a.o"}, {Source: "/s/a.c", Object: "/b/a.os"}, {Source: "/s/a.c", Object: "/b/a.o", Dir: "/again"}},
		Links: []Link{
			{Output: "/b/x.a", Inputs: []string{"/b/a.o"}},
			{Output: "/b/x.a", Inputs: []string{"/b/b.o"}},
			{Output: "/b/x.so", Inputs: []string{"/b/m.o", "/b/x.a", "/b/x.a"}},
			{Output: "/b/loop.a", Inputs: []string{"/b/loop.a"}},
		},
	}
	qt.Check(t, qt.DeepEquals(c.LinkedInto("/b/x.so"), []string{"/b/m.o", "/b/a.o", "/b/b.o"}))
	qt.Check(t, qt.HasLen(c.LinkedInto("/b/none"), 0))
	qt.Check(t, qt.HasLen(c.LinkedInto("/b/loop.a"), 0))
	qt.Check(t, qt.HasLen(c.OfSource("/s/a.c"), 3))
	last, ok := c.OfObject("/b/a.o")
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(last.Dir, "/again"))
}

func TestCompilationDatabases(t *testing.T) {
	got, err := parseDatabase([]byte(`[
		{"directory": "/b/sql", "file": "/s/sql/a.cc", "command": "/usr/bin/c++ -DV=\\\"10.11\\\" '-DW=a b' -DX=\"c d\" -o CMakeFiles/a.cc.o -c /s/sql/a.cc"},
		{"directory": "/b", "file": "x.c", "arguments": ["gcc", "-c", "x.c"]},
		{"directory": "/b", "file": "x.c", "command": "gcc -E x.c"}
	]`))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(got, 2))
	qt.Check(t, qt.DeepEquals(got[0].Argv, []string{"/usr/bin/c++", `-DV="10.11"`, "-DW=a b", "-DX=c d", "-o", "CMakeFiles/a.cc.o", "-c", "/s/sql/a.cc"}))
	qt.Check(t, qt.Equals(got[0].Object, "/b/sql/CMakeFiles/a.cc.o"))
	qt.Check(t, qt.Equals(got[1].Object, "/b/x.o"))
	for _, bad := range []string{"", "{}", `[{"directory":"rel","command":"gcc -c a.c"}]`, `[{"directory":"/b","command":""}]`, `[{"directory":"/b","command":"gcc $(x) -c a.c"}]`, `[{"directory":"/b","command":"gcc 'a"}]`} {
		_, err := parseDatabase([]byte(bad))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", bad))
	}
}

func FuzzRecords(f *testing.F) {
	f.Add(record("/b", "gcc", "-c", "a.c", "-o", "a.o"))
	f.Add(record("/b", "ar", "cr", "a.a", "a.o"))
	f.Add(record("/b", "gcc", "-o"))
	f.Fuzz(func(t *testing.T, b []byte) {
		v, err := parseRecord(b)
		if err != nil {
			return
		}
		if c, ok := compileOf(v); ok && (!strings.HasPrefix(c.Object, "/") || c.Source != "" && !strings.HasPrefix(c.Source, "/")) {
			t.Fatalf("%q: %+v", b, c)
		}
		if l, ok := linkOf(v); ok && (len(l.Inputs) == 0 || !strings.HasPrefix(l.Output, "/")) {
			t.Fatalf("%q: %+v", b, l)
		}
	})
}

func FuzzSplitShell(f *testing.F) {
	f.Add(`gcc '-DA=a b' "c\"d" e\ f`)
	f.Fuzz(func(t *testing.T, s string) {
		words, err := splitShell(s)
		if err != nil && words != nil {
			t.Fatalf("%q: words and an error", s)
		}
	})
}
