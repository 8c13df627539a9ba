// SPDX-License-Identifier: Apache-2.0

package update

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"
)

func TestScan(t *testing.T) {
	t.Parallel()
	names := map[kind]string{
		other: "other", function: "function", prototype: "prototype", macro: "macro", aggregate: "aggregate",
		variable: "variable", include: "include", conditional: "conditional",
	}
	src := `/* SPDX
 * it's a "comment" { ( */
#include <linux/kernel.h>
#ifdef CONFIG_X
#define MAX(a, b) \
	((a) > (b) ? (a) : (b))
#endif
struct tag;
struct foo {
	int a; /* } */
	void (*fn)(int x);
} __packed;
typedef unsigned int u33;
enum { ONE, TWO = 2 };
extern int global;
static const char *names[] = { "}", "b{" };
static struct foo table[3] = {
	{ .a = '{' },
};
DEFINE_GUARD(thing, struct foo *, lock(_T), unlock(_T))

int proto(int a,
	  int b);
static inline int __must_check
twice(int a)
{
#if A
	if (a) {
#else
	if (!a) {
#endif
		return 1;
	}
	return 2 * a;
}
SYSCALL_DEFINE2(open, int, a, int, b)
{
	return 0;
}
EXPORT_SYMBOL(twice);
int (*handler)(int);
struct foo one, *two;
`
	var got strings.Builder
	for _, d := range scan(lines([]byte(src))) {
		if d.kind != conditional {
			fmt.Fprintf(&got, "%d-%d %s %s\n", d.from+1, d.to, names[d.kind], d.name)
		}
	}
	qt.Check(t, qt.Equals(got.String(), `3-3 include <linux/kernel.h>
5-6 macro MAX
8-8 other 
9-12 aggregate foo
13-13 aggregate u33
14-14 aggregate 
15-15 variable global
16-16 variable names
17-19 variable table
20-20 prototype thing
22-23 prototype proto
24-35 function twice
36-39 function open
40-40 other 
41-41 prototype handler
42-42 variable two
`))
}

func TestMembers(t *testing.T) {
	t.Parallel()
	for text, want := range map[string][]string{
		"struct a {\n\tint x, y;\n\tunsigned f:3;\n\tchar name[16]; /* int no; */\n};\n": {"y", "f", "name"},
		"struct a {\n\tint (*open)(int fd, int mode);\n\tDECLARE_BITMAP(bits, 9);\n};\n": {"open", "bits"},
		"enum a {\n\tONE,\n\tTWO = 5,\n\tTHREE\n};\n":                                    {"ONE", "TWO", "THREE"},
		"struct a {\n\tunion {\n\t\tint in;\n\t\tlong out;\n\t};\n};\n":                  {"in", "out"},
	} {
		ls := lines([]byte(text))
		got := members(ls, decl{from: 0, to: len(ls)})
		for _, w := range want {
			_, ok := got[w]
			qt.Check(t, qt.IsTrue(ok), qt.Commentf("%s in %q: %v", w, text, got))
		}
	}
}

// checkScan holds what every outcome of scan is: ranges in order, within the
// text, and not empty.
func checkScan(t interface{ Fatalf(string, ...any) }, text string) {
	ls := lines([]byte(text))
	at := 0
	for _, d := range scan(ls) {
		if d.from < at-1 || d.to <= d.from || d.to > len(ls) {
			t.Fatalf("declaration %q at [%d, %d) of %d lines, after %d", d.name, d.from, d.to, len(ls), at)
		}
		at = d.to
		_ = members(ls, d)
	}
}

func FuzzScan(f *testing.F) {
	f.Add("struct a {\n int b;\n};\nint f(void)\n{\n}\n#define X(a) \\\n a\n")
	f.Add("/* \" */ 'x' \"\\\"\" // {\nstatic int (*a)(void) = { 1 };")
	f.Fuzz(func(t *testing.T, text string) { checkScan(t, text) })
}

func TestScanOfAnything(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		parts := rapid.SliceOf(rapid.SampledFrom([]string{
			"{", "}", "(", ")", ";", "\n", "#if A\n", "#else\n", "#endif\n", "/*", "*/", "\"", "'", "\\\n", "struct x ", "int f", "=", "#define A", " ",
		})).Draw(rt, "parts")
		checkScan(rt, strings.Join(parts, ""))
	})
}
