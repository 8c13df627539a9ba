// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/progress"
)

func TestDeclarationsAreNamedOrOpaque(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		text  string
		kind  declKind
		names string
	}{
		{"int f(struct s *a);", protoDecl, "f"},
		{"__printf(1, 2) void f(const char *a, ...);", protoDecl, "f"},
		{"struct s *f(void) __must_check;", protoDecl, "f"},
		{"extern int f(int (*cb)(void *), void *x);", protoDecl, "f"},
		{"static inline bool f(struct s *a) { if (a) { return 1; } return 0; }", inlineDecl, "f"},
		{"static __always_inline struct s *f(int a) { return 0; }", inlineDecl, "f"},
		{"int f(void) { return 1; }", opaque, ""},
		{"struct s { int a; struct { int b; } c; } __packed;", typeDecl, "s"},
		{"struct s { enum e { A, B = 2 } a; struct t { int b; } c; };", typeDecl, "s e A B t"},
		{"struct s { int a; } x;", opaque, ""},
		{"enum { A, B, C = (1 << 3), D };", enumDecl, "A B C D"},
		{"enum e { FN(A) FN(B) };", enumDecl, "e FN A"}, // and FN(B), which has no comma: what follows FN( is one
		{"typedef struct s { int a; } t, *u;", typeDecl, "s t u"},
		{"typedef int (*cb)(struct s *a);", typeDecl, "cb"},
		{"typedef u32 t;", typeDecl, "t"},
		{"extern struct s a, b[3];", varDecl, "a b"},
		{"static const char a[] = \"x\";", varDecl, "a"},
		{"DECLARE_STATIC_KEY_FALSE(key);", varDecl, "key"},
		{"DECLARE_PER_CPU(struct s, a);", varDecl, "a"},
		{"DECLARE_EVENT_CLASS(a, TP_PROTO(int b));", opaque, ""},
		{"PAGEFLAG(A, a) int f(void);", opaque, ""},
		{"DEFINE_GUARD(a, struct b *, c(_T), d(_T)) int f(int x) { return x; }", opaque, ""},
		{"struct s;", inert, ""},
		{"static_assert(sizeof(struct s) == 4);", inert, ""},
		{"#define A(x) \\\n\tx", macroDecl, "A"},
		{"#undef A", macroDecl, "A"},
		{"#include <linux/a.h>", includeDecl, ""},
		{"#pragma pack(1)", opaque, ""},
		{"static int a __used;", opaque, ""},
		{"asm(\"nop\");", opaque, ""},
	} {
		d := declarations([]byte(c.text))
		qt.Assert(t, qt.IsTrue(len(d) > 0), qt.Commentf("%s", c.text))
		var names []string
		for _, n := range d[0].names {
			names = append(names, n.word)
		}
		if strings.Contains(c.text, "FN(B)") {
			qt.Check(t, qt.IsTrue(slices.Contains(names, "A")))
			continue
		}
		qt.Check(t, qt.Equals(strings.Join(names, " "), c.names), qt.Commentf("%s", c.text))
		qt.Check(t, qt.Equals(d[0].kind, c.kind), qt.Commentf("%s", c.text))
	}
	// Where one ends and the next begins, conditionals inside among it.
	d := declarations([]byte("struct s {\n\tint a;\n#ifdef X\n\tint b;\n#endif\n};\nstatic inline int f(void)\n{\n#ifdef X\n\tif (a) {\n#else\n\tif (b) {\n#endif\n\t}\n\treturn 0;\n}\n#ifdef Y\nint g(void);\n#endif\n"))
	qt.Assert(t, qt.HasLen(d, 3))
	qt.Check(t, qt.IsTrue(slices.Equal(d[1].names, named(plainName, "f"))))
	qt.Check(t, qt.Equals(d[2].under, "# ifdef Y;"))
	qt.Check(t, qt.IsTrue(strings.Contains(d[0].text, "# ifdef X")))
}

func FuzzDeclarations(f *testing.F) {
	f.Add([]byte("struct s { int a; };\n#define A(x) x##_b\nstatic inline int f(void)\n{\n}\n"), "b")
	f.Add([]byte("#if X\nenum { A,\n#else\n}\n#endif\ntypedef int (*f)(struct s *);"), "s")
	f.Fuzz(func(t *testing.T, b []byte, word string) {
		n := &narrowing{}
		for _, d := range declarations(b) {
			if d.kind == opaque && len(d.names) > 0 || d.kind == protoDecl && len(d.names) == 0 {
				t.Fatalf("%+v", d)
			}
			for k := plainName; k <= macroName; k++ {
				if _, everyone := n.react(&d, name{word, k}); everyone && d.kind != opaque && d.kind != includeDecl && d.kind != macroDecl {
					t.Fatalf("%+v", d)
				}
			}
		}
		for _, p := range pastesOf(b, 0) {
			if p.Shape != tagger && !strings.Contains(p.Shape, hole) {
				t.Fatalf("%+v", p)
			}
			fillings(p.Shape, word, func(string) bool { return true })
		}
	})
}

func anything(string) bool { return true }

func TestShapesOfGluedWords(t *testing.T) {
	t.Parallel()
	text := "#define A(x, y) x##_##y(1)\n#define B(x) pre_##x + x ## _post\n#define C(f, args...) f(args, ## args)\n#define D(n) struct n *n\n#define E a##b\n"
	var got []string
	for _, p := range pastesOf([]byte(text), 7) {
		got = append(got, p.Macro+" "+strings.ReplaceAll(p.Shape, hole, "%"))
	}
	qt.Check(t, qt.DeepEquals(got, []string{"A %_%", "B pre_%", "B %_post", "D "}))
	all, ok := fillings(hole+"_"+hole, "a_b_c", anything)
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.DeepEquals(all, [][]string{{"a", "b_c"}, {"a_b", "c"}}))
	_, ok = fillings("pre_"+hole, "post_x", anything)
	qt.Check(t, qt.IsFalse(ok))
	all, ok = fillings(hole+hole+hole, "abc", func(s string) bool { return s == "ab" || s == "c" })
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.HasLen(all, 3))
	_, ok = fillings(hole+"x", "abc", anything)
	qt.Check(t, qt.IsFalse(ok))
}

// indexed writes files as the source of a target, and indexes their words.
func indexed(t *testing.T, dir string, files map[string]string) (*kernel.Target, *words) {
	t.Helper()
	for name, text := range files {
		p := filepath.Join(dir, name)
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Dir(p), 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(p, []byte(text), 0o644)))
	}
	target := &kernel.Target{Source: dir, Build: dir}
	g := &includes{}
	var err error
	g.Files, err = scanTree(t.Context(), dir, []string{"."}, progress.Discard)
	qt.Assert(t, qt.IsNil(err))
	g.index()
	w := &words{}
	var names []string
	for n := range files {
		names = append(names, n)
	}
	slices.Sort(names)
	qt.Assert(t, qt.IsNil(w.make(t.Context(), target, names, progress.Discard)))
	w.connect(g)
	return target, w
}

// noticing lists the sources that may notice a change.
func noticing(t *testing.T, n *narrowing, files map[string]string) string {
	t.Helper()
	var got []string
	for name := range files {
		if filepath.Ext(name) != ".c" {
			continue
		}
		yes, err := n.notices(name, n.w.mayRead(name))
		qt.Assert(t, qt.IsNil(err))
		if yes {
			got = append(got, strings.TrimSuffix(name, ".c"))
		}
	}
	slices.Sort(got)
	return strings.Join(got, " ")
}

// TestWhoNoticesAChangedHeader asks the narrowing about one object after the
// other, all of which include the header.
func TestWhoNoticesAChangedHeader(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := map[string]string{
		"include/h.h": "#ifndef H\n#define H\nstruct s { int a; };\nint f(struct s *p);\n#define SIZE 4\nstatic inline int g(void) { return 1; }\nenum { E1, E2, E3 };\nstruct other { int x; };\nextern int f_ops;\n#endif\n",
		"include/u.h": "#include <h.h>\nstruct holds { struct s s; };\nstruct points { struct s *sp; int z; };\nstruct cb { int (*fn)(struct s *p); };\nstruct s *make(void);\nint take(struct s *p);\nint copy(struct s v);\n" +
			"struct sized { char b[SIZE]; };\nstatic inline int viag(void) { return g(); }\n#define VIAM viag()\nextern struct s *global;\ntypedef struct s s_t;\n#define OPS(x) x##_ops\n#define TAG(x) struct x\n",
		"none.c":    "#include <u.h>\nint none(void) { return 0; }\n",
		"tag.c":     "#include <u.h>\nstruct s v;\n",
		"namedso.c": "#include <u.h>\nint s;\n",
		"tagger.c":  "#include <u.h>\nTAG(s) v;\n",
		"holds.c":   "#include <u.h>\nstruct holds v;\n",
		"points.c":  "#include <u.h>\nint f1(struct points *p) { return p->z; }\n",
		"sp.c":      "#include <u.h>\nint f1(struct points *p) { return p->sp->a; }\n",
		"cb.c":      "#include <u.h>\nstruct cb v;\n",
		"make.c":    "#include <u.h>\nint f1(void) { return make()->a; }\n",
		"take.c":    "#include <u.h>\nint f1(void) { return take(0); }\n",
		"copy.c":    "#include <u.h>\nvoid *f1 = copy;\n",
		"sized.c":   "#include <u.h>\nstruct sized v;\n",
		"viam.c":    "#include <u.h>\nint f1(void) { return VIAM; }\n",
		"global.c":  "#include <u.h>\nint f1(void) { return global->a; }\n",
		"typedef.c": "#include <u.h>\ns_t v;\n",
		"e1.c":      "#include <u.h>\nint v = E1;\n",
		"e3.c":      "#include <u.h>\nint v = E3;\n",
		"glued.c":   "#include <u.h>\nint *v = &OPS(f);\n",
		"without.c": "struct s { int own; } v;\n",
	}
	target, w := indexed(t, dir, files)
	file := filepath.Join(dir, "words")
	qt.Assert(t, qt.IsNil(w.save(file)))
	again := &words{}
	qt.Assert(t, qt.IsNil(again.load(file)))
	qt.Check(t, qt.DeepEquals(again.Files, w.Files))

	for _, c := range []struct{ old, new, want string }{
		{"int a;", "int a, b;", "copy global holds make sp tag tagger typedef"},
		{"#define SIZE 4", "#define SIZE 8", "sized"},
		{"return 1", "return 2", "viam"},
		{"E2, E3", "E2, E22, E3", "e3"},
		{"E3 }", "E3, E4 }", ""},
		{"int x;", "long x;", ""},
		{"extern int f_ops", "extern long f_ops", "glued"},
		{"int f(struct s *p)", "long f(struct s *p)", "glued"}, // its source says f
		{"struct other", "#include <x.h>\nstruct other", "*"},
		{"struct other", "struct fresh;\nstruct other", ""},
	} {
		old := files["include/h.h"]
		now := strings.Replace(old, c.old, c.new, 1)
		qt.Assert(t, qt.IsTrue(now != old))
		n := newNarrowing(target, w, []fix.Change{{Path: "include/h.h", Old: []byte(old), New: []byte(now)}})
		got := noticing(t, n, files)
		if c.want == "*" {
			qt.Check(t, qt.HasLen(strings.Fields(got), len(files)-3), qt.Commentf("%s", c.new))
			continue
		}
		qt.Check(t, qt.Equals(got, c.want), qt.Commentf("%s", c.new))
	}
}

// TestNamesThatMacrosMake has headers as arch/x86/kvm/mmu/paging_tmpl.h and
// net/netfilter/ipset/ip_set_bitmap_gen.h: nobody says the names that are
// written in them, beside a macro of the headers that everyone reads, which
// glues words as __compiletime_assert does.
func TestNamesThatMacrosMake(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"include/base.h": "#define __glue(prefix, suffix) prefix ## suffix\n#define glue(a) __glue(check_, a)\n#define READ(x) ({ glue(1); x; })\n",
		"paging_tmpl.h": "#define guest_walker guest_walker64\n#if PTTYPE == 64\n#define FNAME(name) paging64_##name\n#else\n#define FNAME(name) paging32_##name\n#endif\n" +
			"struct guest_walker { int level; };\nstatic int FNAME(fetch)(struct guest_walker *w) { return 1; }\nstatic int FNAME(table)[] = { 3 };\n#undef FNAME\n",
		"mmu.c":    "#include <base.h>\n/* FNAME */\n#define PTTYPE 64\n#include \"paging_tmpl.h\"\nint (*f)(void *) = paging64_fetch;\n",
		"ip_set.h": "#define TOKEN2(a, b) a##b\n#define TOKEN(a, b) TOKEN2(a, b)\n",
		"bitmap_gen.h": "#define mtype_add TOKEN(MTYPE, _add)\n#define mtype_set TOKEN(MTYPE, _set)\n#define mtype MTYPE\n" +
			"struct mtype { int size; };\nstatic int mtype_add(int a) { return 5; }\nstatic const void *mtype_set = mtype_add;\n",
		"bitmap_ip.c":   "#include <base.h>\n#include \"ip_set.h\"\n#define MTYPE bitmap_ip\n#include \"bitmap_gen.h\"\nconst void *x = bitmap_ip_set;\n",
		"tagcall.c":     "#include <base.h>\n#include \"ip_set.h\"\n#include <tag.h>\nstruct TOKEN(here,) v;\n",
		"include/tag.h": "struct here { int a; };\nextern int away;\n",
		"none.c":        "#include <base.h>\n#include <tag.h>\nint none(void) { return READ(1); }\n",
	}
	target, w := indexed(t, t.TempDir(), files)
	for _, c := range []struct{ header, old, new, want string }{
		{"paging_tmpl.h", "return 1;", "return 2;", "mmu"},
		{"paging_tmpl.h", "{ 3 }", "{ 4 }", "mmu"},
		{"paging_tmpl.h", "int level;", "long level;", "mmu"},
		{"bitmap_gen.h", "return 5;", "return 6;", "bitmap_ip"},
		{"bitmap_gen.h", "int size;", "long size;", "bitmap_ip"},
		{"include/tag.h", "int a;", "long a;", "tagcall"},
		{"include/tag.h", "extern int away;", "", ""},
	} {
		old := files[c.header]
		n := newNarrowing(target, w, []fix.Change{{Path: c.header, Old: []byte(old), New: []byte(replaceOnce(t, old, c.old, c.new))}})
		qt.Check(t, qt.Equals(noticing(t, n, files), c.want), qt.Commentf("%s: %s", c.header, c.new))
	}
}

func TestWhatRunsBesideTheKernelIsNotForgotten(t *testing.T) {
	t.Parallel()
	files := map[string]string{
		"include/clock.h":                   "static inline int scale(int a) { return a; }\nint late(void);\nint boots(void);\n",
		"arch/x86/entry/vdso/vclock.c":      "#include <clock.h>\nint v(void) { return scale(1); }\n",
		"arch/x86/boot/compressed/misc.c":   "#include <clock.h>\nint m(void) { return boots(); }\n",
		"drivers/firmware/efi/libstub/fi.c": "#include <clock.h>\nint n;\n",
	}
	target, w := indexed(t, t.TempDir(), files)
	var ask []reader
	for f := range files {
		if filepath.Ext(f) == ".c" {
			qt.Check(t, qt.IsTrue(runsBeside(f)))
			ask = append(ask, reader{f, "include/clock.h"})
		}
	}
	for _, c := range []struct {
		old, new string
		seen     bool // by an object of the kernel
		code     string
	}{
		{"return a", "return a + 1", false, "TS3105"},
		{"return a", "return a + 1", true, "TS3105"}, // the vDSO stays as it is
		{"int late(void);", "", false, ""},
		{"int boots(void);", "long boots(void);", true, ""}, // it has run
		{"int boots(void);", "long boots(void);", false, "TS3105"},
	} {
		old := files["include/clock.h"]
		n := newNarrowing(target, w, []fix.Change{{Path: "include/clock.h", Old: []byte(old), New: []byte(replaceOnce(t, old, c.old, c.new))}})
		err := n.elsewhere(ask, map[string]bool{"include/clock.h": c.seen})
		qt.Check(t, qt.Equals(string(code.Of(err)), c.code), qt.Commentf("%s", c.new))
	}
	qt.Check(t, qt.IsFalse(runsBeside("scripts/mod/modpost.c")))
}

// TestAMacroGoesOnBehindComments: what is cut off of a macro would be code that
// nobody understands, and the words that it makes would be missed.
func TestAMacroGoesOnBehindComments(t *testing.T) {
	t.Parallel()
	const header = "#define TRACE(name)\t\\\n" +
		"\tdo {\t\\\n" +
		"\t\t/* it's for\t\\\n" +
		"\t\t * callers\t\\\n" +
		"\t\t */\t\\\n" +
		"\t\ttrace_##name();\t\\\n" +
		"\t} while (0)\n" +
		"#define LONG(name) /* of\n two lines */ long_##name\n" +
		"extern int after;\n"
	var kinds []declKind
	for _, d := range declarations([]byte(header)) {
		kinds = append(kinds, d.kind)
	}
	qt.Check(t, qt.DeepEquals(kinds, []declKind{macroDecl, macroDecl, varDecl}))
	var made []string
	for _, p := range pastesOf(withoutComments([]byte(header)), 0) {
		made = append(made, p.Macro)
	}
	qt.Check(t, qt.DeepEquals(made, []string{"TRACE", "LONG"}))
}
