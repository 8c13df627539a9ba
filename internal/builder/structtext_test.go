// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"maps"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/layout"
)

const structSource = `struct other; /* struct s { int x; } */
struct s {
	void *p;		/* what; it is */
	bool fresh;
	char name[IFNAMSIZ], *alias;
	int (*call)(struct s *s, int n);
	struct { int a; int b; } pair;
	u8 valid:1;
	struct list_head list __aligned(8);
	bool last; // the last
};
struct s the_s = { .fresh = true };
`

func TestMembersMove(t *testing.T) {
	moved := func(src string, pairs ...string) string {
		var moves []layout.Move
		for i := 0; i < len(pairs); i += 2 {
			moves = append(moves, layout.Move{Member: pairs[i], After: pairs[i+1]})
		}
		out, ok := moveMembers(src, src, "struct s", moves)
		qt.Assert(t, qt.Equals(ok, out != ""))
		return out
	}
	for after, line := range map[string]string{
		"last": "\tbool last;", "pair": "pair;", "call": "int n);", "list": "__aligned(8);", "alias": "*alias;", "name": "*alias;",
	} {
		got := moved(structSource, "fresh", after)
		qt.Check(t, qt.Equals(strings.Count(got, "bool fresh;"), 1))
		at := strings.Index(got, line) + len(line)
		rest := strings.TrimSpace(blankComments(got)[at:])
		qt.Check(t, qt.IsTrue(strings.HasPrefix(rest, "bool fresh;")), qt.Commentf("after %s:\n%s", after, got))
	}

	// two at a time, one behind the other
	two := strings.Replace(structSource, "\tbool fresh;\n", "\tbool fresh;\n\tbool more;\n", 1)
	got := blankComments(moved(two, "fresh", "last", "more", "fresh"))
	qt.Check(t, qt.IsTrue(strings.Index(got, "last;") < strings.Index(got, "fresh;") && strings.Index(got, "fresh;") < strings.Index(got, "more;")))

	// one that is gone comes back where it was
	gone := strings.Replace(structSource, "\tint (*call)(struct s *s, int n);\n", "", 1)
	back, ok := moveMembers(structSource, gone, "struct s", []layout.Move{{Member: "call", After: "alias", Kept: true}})
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(back, structSource))
	first, ok := moveMembers("struct s { int n; int m; };", "struct s { int m; };", "struct s", []layout.Move{{Member: "n", Kept: true}})
	qt.Assert(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(first, "struct s { int n; int m; };"))
	_, ok = moveMembers("struct t { int n; };", gone, "struct s", []layout.Move{{Member: "n", After: "alias", Kept: true}})
	qt.Check(t, qt.IsFalse(ok))

	// macros between members stay where they are
	defines := strings.Replace(structSource, "\tu8 valid:1;\n", "\tu8 valid:1;\n#define VALID \\\n\t1;\n", 1)
	got = moved(defines, "fresh", "last")
	qt.Check(t, qt.IsTrue(strings.Contains(got, "u8 valid:1;\n#define VALID \\\n\t1;\n")))
	qt.Check(t, qt.IsTrue(strings.Index(got, "bool last;") < strings.Index(got, "bool fresh;")), qt.Commentf("%s", got))

	// by a typedef
	const typedef = "typedef struct {\n\tint a;\n} other;\ntypedef struct {\n\tint fresh;\n\tint last;\n} s;\n"
	qt.Check(t, qt.Equals(moved(typedef, "fresh", "last"), "typedef struct {\n\tint a;\n} other;\ntypedef struct {\n\tint last;\n\tint fresh;\n} s;\n"))

	for name, src := range map[string]string{
		"a macro before it": strings.Replace(structSource, "\tbool fresh;\n", "#define X 1\n\tbool fresh;\n", 1),
		"no such struct":    strings.ReplaceAll(structSource, "struct s {", "struct t {"),
		"a condition":       strings.Replace(structSource, "\tbool fresh;\n", "#ifdef X\n\tbool fresh;\n#endif\n", 1),
		"several in one":    strings.Replace(structSource, "bool fresh;", "bool fresh, more;", 1),
		"no end":            structSource[:60],
		"no such member":    strings.Replace(structSource, "bool fresh;", "bool refresh;", 1),
		"inside of a part":  strings.Replace(structSource, "bool fresh;", "struct { bool fresh; } in;", 1),
	} {
		qt.Check(t, qt.Equals(moved(src, "fresh", "last"), ""), qt.Commentf("%s", name))
	}
}

// Whatever is moved, nothing is lost and nothing outside changes.
func TestMovingKeepsEveryByte(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		src := rapid.StringMatching(`(struct s \{[ a-f;,{}()\n\t/*"\\#']{0,40}\};?){0,2}`).Draw(t, "source")
		m := layout.Move{Member: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "member"), After: rapid.SampledFrom([]string{"d", "e", "b"}).Draw(t, "after")}
		out, ok := moveMembers(src, src, "struct s", []layout.Move{m})
		if !ok {
			return
		}
		count := func(s string) map[rune]int {
			n := map[rune]int{}
			for _, r := range s {
				n[r]++
			}
			return n
		}
		if !maps.Equal(count(out), count(src)) {
			t.Fatalf("%q became %q", src, out)
		}
	})
}
