// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
)

const cmdFile = `savedcmd_fs/ext4/mballoc.o := gcc-12 -Wp,-MMD,fs/ext4/.mballoc.o.d -nostdinc -I/src/arch/x86/include -I./include -include /src/include/linux/kconfig.h -fmacro-prefix-map=/src/= -g -DKBUILD_MODNAME='"ext4"' -DA="b \"c\"" -DB=$(pound)x -c -o fs/ext4/mballoc.o /src/fs/ext4/mballoc.c   ; ./tools/objtool/objtool --orc --module fs/ext4/mballoc.o

source_fs/ext4/mballoc.o := /src/fs/ext4/mballoc.c
deps_fs/ext4/mballoc.o := \
`

func TestParseCmd(t *testing.T) {
	for _, text := range []string{cmdFile, strings.TrimPrefix(cmdFile, "saved")} {
		r, err := parseCmd([]byte(text), "fs/ext4/mballoc.o")
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(r.Objtool, []string{"./tools/objtool/objtool", "--orc", "--module", "fs/ext4/mballoc.o"}))
		got := r.compiler(paths{
			object: "fs/ext4/mballoc.o", out: "/tmp/o", source: "/src", workspace: "/ws",
			extra: []string{"-g0"}, includes: []string{"/inc"},
		})
		qt.Check(t, qt.DeepEquals(got, []string{
			"gcc-12", "-nostdinc", "-I/ws/arch/x86/include", "-I./include", "-include", "/ws/include/linux/kconfig.h",
			"-fmacro-prefix-map=/ws/=", "-g", `-DKBUILD_MODNAME="ext4"`, `-DA=b "c"`, "-DB=#x", "-c", "-o", "/tmp/o",
			"-g0", "-I/inc", "/ws/fs/ext4/mballoc.c",
		}))
		qt.Check(t, qt.DeepEquals(r.objtool(paths{out: "/tmp/o"}), []string{"./tools/objtool/objtool", "--orc", "--module", "/tmp/o"}))
	}
}

func TestParseCmdRefusesWhatItCannotReplay(t *testing.T) {
	for _, c := range []string{
		"", "cmd_b.o := gcc -c -o b.o b.c", "cmd_a.o := ", "cmd_a.o := gcc -c -o a.o $(x) a.c", "cmd_a.o := gcc -c -o a.o a.c | tee x",
		"cmd_a.o := gcc -c -o a.o a.c ; rm -rf /", "cmd_a.o := gcc -c -o a.o 'a.c", "cmd_a.o := gcc -c -o a.o a.c &",
		"cmd_a.o := ld -r -o a.o b.o", "cmd_a.o := gcc -c -o a.o a.c > /etc/passwd", "cmd_a.o := gcc -c -o a.o `x` a.c", "cmd_a.o := gcc \"$$x\" -c -o a.o a.c",
	} {
		_, err := parseCmd([]byte(c), "a.o")
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%s", c))
	}
}

func TestMoveChangesOnlyThePrefix(t *testing.T) {
	p := paths{source: "/s/linux", workspace: "/w"}
	for arg, want := range map[string]string{
		"/s/linux/a.c": "/w/a.c", "-I/s/linux": "-I/w", "-I/s/linux-6/x": "-I/s/linux-6/x", "-DX=1": "-DX=1",
		"/x/s/linux/a.c": "/x/s/linux/a.c", "-fmacro-prefix-map=/s/linux/=": "-fmacro-prefix-map=/w/=", "-I./s/linux": "-I./s/linux",
	} {
		qt.Check(t, qt.Equals(p.move(arg), want))
	}
}

func TestParseListKnowsKbuildsKinds(t *testing.T) {
	var d directory
	qt.Assert(t, qt.IsNil(d.parse("fs/ext4", []byte(`some probe said this
y inline.o s
y combo.o c a.o b.o sub/c.o
y sub/built-in.a s
y empty.o c
m fs/ext4/ext4-x.o c balloc.o ../jbd2/j.o
m fs/ext4/single.o s
m fs/ext4/sub/modules.order s
m fs/ext4/mods/modules.order s
l fs/ext4/lib.o s
x fs/ext4/head.o s
x fs/ext4/vmlinux.lds s
`), []string{"lib/"})))
	qt.Check(t, qt.DeepEquals(d.Objects, []Object{
		{Path: "fs/ext4/inline.o"},
		{Path: "fs/ext4/a.o"},
		{Path: "fs/ext4/b.o"},
		{Path: "fs/ext4/sub/c.o"},
		{Path: "fs/ext4/balloc.o", Module: "ext4_x"},
		{Path: "fs/ext4/../jbd2/j.o", Module: "ext4_x"},
		{Path: "fs/ext4/single.o", Module: "single"},
		{Path: "fs/ext4/head.o"},
	}))
	qt.Check(t, qt.DeepEquals(d.Builtin, []string{"fs/ext4/sub"}))
	qt.Check(t, qt.DeepEquals(d.Modules, []string{"fs/ext4/sub", "fs/ext4/mods"}))

	var top directory
	qt.Assert(t, qt.IsNil(top.parse(".", []byte("y fs/built-in.a s\ny ./init.o s\nm lib/modules.order s\n"), nil)))
	qt.Check(t, qt.DeepEquals(top.Builtin, []string{"fs"}))
}

func TestScanIncludes(t *testing.T) {
	got := scanIncludes([]byte("#include <linux/a.h>\n # include \"b.h\" // x\n#include CONFIG_X\n/* include <c.h> */\n#include <linux/a.h>\n#include_next <d.h>\n#include <un\nclosed>\n"))
	qt.Check(t, qt.DeepEquals(got, []string{"<linux/a.h>", `"b.h"`}))
}

func TestIncludersFollowTheWayGccSearches(t *testing.T) {
	g := &includes{Files: map[string][]string{
		"include/linux/a.h":        {`<asm/b.h>`},
		"arch/x86/include/asm/b.h": nil,
		"include/asm/b.h":          nil, // hidden by that of the architecture
		"fs/x/own.h":               nil,
		"fs/y/own.h":               nil,
		"fs/x/one.c":               {`"own.h"`, `<linux/a.h>`},
		"fs/y/two.c":               {`"own.h"`},
		"fs/z/three.c":             {`<own.h>`}, // by some -I that only the makefile knows
		"kernel/four.c":            {`"../fs/x/own.h"`},
	}}
	qt.Check(t, qt.DeepEquals(g.includers([]string{"arch/x86/include/asm/b.h"}), []string{"fs/x/one.c", "include/linux/a.h"}))
	qt.Check(t, qt.HasLen(g.includers([]string{"include/asm/b.h"}), 0))
	qt.Check(t, qt.DeepEquals(g.includers([]string{"fs/x/own.h"}), []string{"fs/x/one.c", "fs/z/three.c", "kernel/four.c"}))
}

func TestDifferSeesOnlyWhatMatters(t *testing.T) {
	base := "# 1 \"a.c\"\nstruct s { int a; };\nstatic inline int f(int x) { return x; }\nstatic inline __attribute__((__unused__)) int g(void) { return f(1); }\nint h(int);\nint k(void) { return 2; }\n"
	for _, c := range []struct {
		name, a, b string
		want       bool
	}{
		{"equal text", base, base, false},
		{"line markers and blanks", base, strings.ReplaceAll(strings.Replace(base, "# 1", "# 7", 1), ";", " ;\n\n"), true}, // "x ;" is another text
		{"moved lines", base, "\n\n# 9 \"x.h\"\n" + base, false},
		{"a changed inline that nothing uses, through another", base, strings.Replace(base, "return x", "return x + 1", 1), false},
		{"a changed inline that is used", strings.Replace(base, "return 2", "return g()", 1), strings.Replace(strings.Replace(base, "return 2", "return g()", 1), "return x", "return x + 1", 1), true},
		{"a new inline", base, base + "static inline int n(void) { return 3; }\n", false},
		{"a new prototype", base, base + "extern int n(void);\n", false},
		{"a changed prototype of a function that is used", strings.Replace(base, "return 2", "return h(2)", 1), strings.Replace(strings.Replace(base, "return 2", "return h(2)", 1), "int h(int)", "int h(long)", 1), true},
		{"a changed struct", base, strings.Replace(base, "int a;", "long a;", 1), true},
		{"a changed function", base, strings.Replace(base, "return 2", "return 3", 1), true},
		{"a function that is not inline", base, base + "static int n(void) { return 3; }\n", true},
		{"another order", "int a;int b;", "int b;int a;", true},
		{"a word in assembly", base + "asm(\"call f\");", strings.Replace(base, "return x", "return 7", 1) + "asm(\"call f\");", true},
		{"a brace in a literal", `char *s = "}"; int a;`, `char *s = "}"; int b;`, true},
	} {
		t.Run(c.name, func(t *testing.T) { qt.Check(t, qt.Equals(differ([]byte(c.a), []byte(c.b)), c.want)) })
	}
}

func TestSortOut(t *testing.T) {
	hunk := func(lines ...string) []fix.Hunk {
		var h fix.Hunk
		for _, l := range lines {
			h.Lines = append(h.Lines, fix.Line{Op: l[0], Text: l[1:] + "\n"})
		}
		return []fix.Hunk{h}
	}
	code1 := hunk("+x")
	for _, c := range []struct {
		path   string
		hunks  []fix.Hunk
		ignore bool
		code   string
	}{
		{"fs/ext4/mballoc.c", code1, false, ""},
		{"include/linux/mm.h", code1, false, ""},
		{"arch/x86/kvm/x86.c", code1, false, ""},
		{"Documentation/x.rst", code1, true, ""},
		{"MAINTAINERS", code1, true, ""},
		{"localversion", code1, true, ""},
		{"arch/arm64/kernel/x.c", code1, true, ""},
		{"arch/arm64/boot/dts/x.dtsi", code1, true, ""},
		{"tools/testing/selftests/x.c", code1, true, ""},
		{"fs/ext4/Makefile", code1, false, "TS3103"},
		{"fs/ext4/Kconfig", code1, false, "TS3103"},
		{"fs/ext4/Makefile", hunk(" a", "-# old", "+# new", "+"), true, ""},
		{"fs/ext4/Makefile", hunk(" a \\", "-# old"), false, "TS3103"},
		{"Makefile", hunk(" VERSION = 6", "-SUBLEVEL = 190", "+SUBLEVEL = 192"), true, ""},
		{"Makefile", hunk("-SUBLEVEL = 190", "+CFLAGS = 192"), false, "TS3103"},
		{"arch/x86/entry/entry_64.S", code1, false, "TS3104"},
		{"arch/x86/boot/compressed/misc.c", code1, false, "TS3105"},
		{"arch/x86/entry/vdso/vma.c", code1, false, "TS3105"},
		{"arch/x86/purgatory/purgatory.c", code1, false, "TS3105"},
		{"drivers/firmware/efi/libstub/file.c", code1, false, "TS3105"},
		{"scripts/mod/modpost.c", code1, false, "TS3105"},
		{"tools/objtool/check.c", code1, false, "TS3105"},
		{"rust/kernel/lib.rs", code1, false, "TS3105"},
		{"drivers/x/firmware.bin", code1, false, "TS3105"},
	} {
		why, err := sortOut(nil, fix.FileDiff{Path: c.path, OldPath: c.path, Hunks: c.hunks})
		qt.Check(t, qt.Equals(why != "", c.ignore), qt.Commentf("%s: %s", c.path, why))
		qt.Check(t, qt.Equals(string(code.Of(err)), c.code), qt.Commentf("%s", c.path))
	}
}

func FuzzParseCmd(f *testing.F) {
	f.Add([]byte(cmdFile))
	f.Fuzz(func(t *testing.T, b []byte) {
		if r, err := parseCmd(b, "fs/ext4/mballoc.o"); (r == nil) == (err == nil) {
			t.Fatal("command xor error")
		}
	})
}

func FuzzItems(f *testing.F) {
	f.Add([]byte("# 1 \"a\"\nstruct s { int a; };\nint f(void);"), []byte("#define X(a) \\\n a\n/* c */ 'x' \"y"))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if differ(a, a) || differ(b, b) {
			t.Fatal("a text differs from itself")
		}
		if differ(a, b) != differ(b, a) {
			t.Fatal("not symmetric")
		}
		if !slices.Equal(headerItems(a), headerItems(a)) {
			t.Fatal("not the same each time")
		}
		scanIncludes(a)
	})
}

func FuzzParseList(f *testing.F) {
	f.Add([]byte("y combo.o c a.o\nm fs/ext4/x/modules.order s\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var d directory
		_ = d.parse("fs/ext4", b, nil)
	})
}
