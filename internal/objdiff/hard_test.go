// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// hardBase has what compilers make names and places of: jump tables, parts
// split off, clones, floating-point constants, aliases, merged strings.
const hardBase = `
extern int ext(int), ext2(int), ext3(int), ext4(int), ext5(int), ext6(int);
extern void fail(const char *, ...) __attribute__((cold, noreturn));
#define noinline __attribute__((noinline))
static noinline int clone(int mode, int x) { if (mode == 1) return ext(x) * 3 + ext2(x); return ext3(x) - ext4(x + mode); }
static noinline int split(int *p, int unused) { return *p * ext(*p); }
int dispatch(int op, int x) {
  switch (op) {
  case 0: return ext(x); case 1: return ext2(x); case 2: return ext3(x); case 3: return ext4(x);
  case 4: return ext5(x); case 5: return ext6(x) + 1; case 6: return ext(x) + 7; default: return x;
  }
}
int machine(int op, int x) {
  switch (op) {
  case 10: return ext6(x); case 11: return ext5(x); case 12: return ext4(x); case 13: return ext3(x);
  case 14: return ext2(x); case 15: return ext(x) + 1; case 16: return ext(x) + 9; default: return x;
  }
}
int careful(int x) { if (x > 100) fail("too big: %d", x); if (x < -100) fail("too small: %d", x); return ext(x) + ext2(x); }
int one(int x) { return clone(1, x) + clone(1, x + 1); }
int two(int x) { return clone(2, x) + clone(2, x * 2); }
int three(int *p) { return split(p, 3) + split(p + 1, 4); }
double scale(double v) { return v * 3.25 + 1.5; }
float scalef(float v) { return v * 0.75f; }
int (*const table[])(int) = { one, two };
int tabled(int i, int x) { return table[i & 1](x); }
int aliased(int x) { return ext(x) ^ 5; }
int other_name(int x) __attribute__((alias("aliased")));
static int a_first(void) { static int state; return ++state + ext(1); }
static int b_second(void) { static int state; return ++state + ext(2); }
static int c_third(void) { static int state; return ++state + ext(3); }
int states(void) { return a_first() * 3 + b_second() * 5 + c_third() * 7; }
int weak_one(int x) __attribute__((weak));
int weak_one(int x) { return ext(x) + 77; }
`

func TestDiffOfHardCases(t *testing.T) {
	cases := map[string]struct {
		edits   []string
		changed []string
		// absent must not be among the changed, whatever the compiler does
		absent []string
	}{
		"nothing": {absent: []string{"dispatch", "machine", "careful"}},
		"one jump table target": {
			edits: []string{"case 12: return ext4(x)", "case 12: return ext2(x)"}, changed: []string{"machine"},
			absent: []string{"dispatch", "careful", "one"},
		},
		"a function that grows moves all others": {
			edits:   []string{"return ext(x) * 3 + ext2(x);", "return ext(x) * 3 + ext2(x) + ext5(x) * ext6(x) + ext(x + 4) * ext2(x + 9);"},
			absent:  []string{"dispatch", "machine", "careful", "scale", "three", "tabled"},
			changed: []string{"clone"},
		},
		"only the cold part": {
			edits: []string{"too big", "too large"}, changed: []string{"careful"}, absent: []string{"dispatch", "one"},
		},
		"a clone more renumbers the rest": {
			edits:   []string{"int two(int x) {", "int zero(int x) { return clone(9, x) * clone(9, x + 3); }\nint two(int x) {"},
			absent:  []string{"dispatch", "machine", "careful", "states", "three"},
			changed: nil,
		},
		"a floating-point constant": {
			edits: []string{"3.25", "3.5"}, changed: []string{"scale"}, absent: []string{"scalef", "dispatch"},
		},
		"a short floating-point constant": {
			edits: []string{"0.75f", "0.5f"}, changed: []string{"scalef"}, absent: []string{"scale"},
		},
		"the function behind an alias": {
			edits: []string{"^ 5", "^ 6"}, changed: []string{"aliased"}, absent: []string{"tabled"},
		},
		"a static variable less keeps the others": {
			edits:  []string{"static int state; return ++state + ext(1)", "return ext(1)"},
			absent: []string{"dispatch", "machine"},
		},
		"functions in another order": {
			edits: []string{
				"double scale(double v) { return v * 3.25 + 1.5; }\nfloat scalef(float v) { return v * 0.75f; }",
				"float scalef(float v) { return v * 0.75f; }\ndouble scale(double v) { return v * 3.25 + 1.5; }",
			},
			absent: []string{"scale", "scalef", "dispatch", "states"},
		},
		"a weak function": {edits: []string{"+ 77", "+ 78"}, changed: []string{"weak_one"}},
	}
	for variant, flags := range map[string][]string{
		"sections":          {"-O2", "-ffunction-sections", "-fdata-sections", "-fno-pic", "-mcmodel=kernel", "-mno-red-zone", "-fcf-protection=none"},
		"one text":          {"-O2", "-fno-pic"},
		"position free":     {"-O2", "-fPIC", "-ffunction-sections"},
		"unoptimised":       {"-O0"},
		"for size":          {"-Os", "-fdata-sections"},
		"with debug":        {"-O2", "-g", "-ffunction-sections"},
		"aggressive":        {"-O3", "-funroll-loops"},
		"with unwind table": {"-O2", "-fasynchronous-unwind-tables", "-fstack-protector-strong"},
	} {
		orig := build(t, hardBase, append([]string{"-w"}, flags...)...)
		for name, tc := range cases {
			t.Run(variant+"/"+name, func(t *testing.T) {
				t.Parallel()
				src := hardBase
				for i := 0; i < len(tc.edits); i += 2 {
					qt.Assert(t, qt.IsTrue(strings.Contains(src, tc.edits[i])), qt.Commentf("%s", tc.edits[i]))
					src = strings.Replace(src, tc.edits[i], tc.edits[i+1], 1)
				}
				r, err := objdiff.Diff(orig, build(t, src, append([]string{"-w"}, flags...)...), objdiff.Options{})
				qt.Assert(t, qt.IsNil(err))
				got := names(r.Changed)
				for _, want := range tc.changed {
					// clones and parts count as the function
					found := slices.ContainsFunc(got, func(n string) bool { return n == want || strings.HasPrefix(n, want+".") })
					if !found && (variant == "aggressive" || want == "clone") {
						continue // inlined into its callers there
					}
					qt.Check(t, qt.IsTrue(found), qt.Commentf("%s is not in %v", want, got))
				}
				for _, not := range tc.absent {
					if variant == "aggressive" {
						continue
					}
					qt.Check(t, qt.IsFalse(slices.Contains(got, not)), qt.Commentf("%+v", r.Changed))
				}
				if len(tc.edits) == 0 {
					qt.Check(t, qt.IsTrue(r.Same()), qt.Commentf("%+v", r))
				}
				qt.Check(t, qt.HasLen(r.Refusals, 0), qt.Commentf("%v", codes(r)))
				if !r.Refused() && !r.Same() {
					checkExtract(t, r)
				}
			})
		}
	}
}
