// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"pgregory.net/rapid"

	"github.com/tsugi-project/tsugi/internal/layout"
)

// What old code may do with a member that new code leaves alone.
func TestOldCodeStandsAMemberThatIsNotUsed(t *testing.T) {
	for name, tc := range map[string]struct {
		what   layout.Sort
		old    string
		zeroed bool
		ok     bool
	}{
		"a number that is set and read":     {layout.Number, "void f(struct s *x)\n{\n\tx->m = 1;\n\tif (x->m > 3)\n\t\tg(x->m);\n}\n", false, true},
		"another of that name":              {layout.Number, "int m; void f(void)\n{\n\tif (--m == 0)\n\t\tkfree(p);\n}\n", false, true},
		"a count of users":                  {layout.Number, "void f(struct s *x)\n{\n\tif (--x->m == 0)\n\t\tkfree(x);\n}\n", false, false},
		"a count of users, behind":          {layout.Number, "void f(struct s *x)\n{\n\tx->m--;\n}\n", false, false},
		"a count of users, indexed":         {layout.Number, "void f(struct s *x)\n{\n\t--x->tab[3].m;\n}\n", false, false},
		"a count, by calculation":           {layout.Number, "void f(struct s *x)\n{\n\tx->m -= 1;\n}\n", false, false},
		"a sequence":                        {layout.Counter, "u64 f(struct s *x)\n{\n\tatomic64_set(&x->m, 0);\n\treturn atomic64_inc_return(&x->m);\n}\n", false, true},
		"a reference count":                 {layout.Counter, "void f(struct s *x)\n{\n\tif (atomic_dec_and_test(&x->m))\n\t\tkfree(x);\n}\n", false, false},
		"one that is asked for":             {layout.Counter, "void f(struct s *x)\n{\n\tif (atomic_inc_not_zero(&x->m))\n\t\tg(x);\n}\n", false, false},
		"a pointer, freed":                  {layout.Pointer, "void f(struct s *x)\n{\n\tkfree(x->m);\n\tx->m = NULL;\n}\n", true, true},
		"a pointer, freed, of garbage":      {layout.Pointer, "void f(struct s *x)\n{\n\tkfree(x->m);\n}\n", false, false},
		"a pointer, set and followed":       {layout.Pointer, "void f(struct s *x)\n{\n\tx->m = kmalloc(sizeof(*x->m), 1);\n\tif (!x->m)\n\t\treturn;\n\twhile (n) {\n\t\tx->m[n] = NULL;\n\t}\n}\n", true, true},
		"a pointer, followed":               {layout.Pointer, "void f(struct s *x)\n{\n\tx->m[1] = NULL;\n}\n", true, false},
		"a pointer, asked":                  {layout.Pointer, "int f(struct s *x)\n{\n\treturn x && x->m && 1;\n}\n", true, true},
		"a pointer, given away":             {layout.Pointer, "void f(struct s *x)\n{\n\tusb_kill_urb(x->m);\n}\n", true, false},
		"a pointer of what nobody names":    {layout.Pointer, "void f(struct s *x)\n{\n\tg(x)->m = h();\n\tkfree(g(x)->m);\n}\n", true, false},
		"a pointer, set on one way":         {layout.Pointer, "void f(struct s *x)\n{\n\tif (a) {\n\t\tx->m = h();\n\t}\n\tx->m->n = 1;\n}\n", true, false},
		"a pointer, set if":                 {layout.Pointer, "void f(struct s *x)\n{\n\tif (a)\n\t\tx->m = h();\n\tx->m->n = 1;\n}\n", true, false},
		"a pointer, set for another case":   {layout.Pointer, "void f(struct s *x)\n{\n\tswitch (a) {\n\tcase 1:\n\t\tx->m = h();\n\t\tbreak;\n\tcase 2:\n\t\tx->m->n = 1;\n\t}\n}\n", true, false},
		"a pointer, set and passed by":      {layout.Pointer, "void f(struct s *x)\n{\n\tgoto out;\n\tx->m = h();\nout:\n\tx->m->n = 1;\n}\n", true, false},
		"a pointer, set by another":         {layout.Pointer, "void f(struct s *x)\n{\n\tx->m = h();\n}\nvoid g(struct s *x)\n{\n\tx->m->n = 1;\n}\n", true, false},
		"a pointer, of another object":      {layout.Pointer, "void f(struct s *x, struct s *y)\n{\n\ty->m = h();\n\tx->m->n = 1;\n}\n", true, false},
		"a pointer whose place is kept":     {layout.Pointer, "void f(struct s *x)\n{\n\tx->m = h();\n\tg(&x->m);\n}\n", true, false},
		"a pointer, in a comment":           {layout.Pointer, "/* x->m->n */ void f(struct s *x)\n{\n}\n", true, true},
		"a pointer set in a list of values": {layout.Pointer, "struct s x = { .m = &y };\n", true, false},
	} {
		got := standsUnused([]string{"int z;\n", tc.old}, layout.Move{Member: "m", What: tc.what, Kept: true}, tc.zeroed)
		qt.Check(t, qt.Equals(got, tc.ok), qt.Commentf("%s", name))
	}
}

// A combined build changes files that know nothing of the struct.
func TestMembersOfOthersAreNoUses(t *testing.T) {
	const own, other, common = "\tx->m->n = 1;\n", "\ty->m->n = 1;\n", "\tz->m--;\n"
	qt.Check(t, qt.DeepEquals(uses("m", []string{own + common, other + common}, []string{common, common + other}), []string{own + common}))
	qt.Check(t, qt.HasLen(uses("m", []string{"\tx->more = 1;\n"}, []string{""}), 0))
	qt.Check(t, qt.HasLen(uses("m", []string{other}, []string{"\t" + other}), 0))
}

func TestWhatSetsUpALockIsKept(t *testing.T) {
	const old = "int f(struct s *x)\n{\n\tx->n = 1;\n\n\tmutex_init(&x->m);\n\tINIT_WORK(&x->w, g);\n\n\treturn 0;\n}\n\nint g(struct s *x)\n{\n\tmutex_lock(&x->m);\n\th(x);\n\tmutex_unlock(&x->m);\n}\n"
	without := func(s string) string {
		for _, l := range []string{"\tmutex_init(&x->m);\n", "\tmutex_lock(&x->m);\n", "\tmutex_unlock(&x->m);\n"} {
			s = strings.Replace(s, l, "", 1)
		}
		return s
	}
	for name, tc := range map[string]struct {
		new, want string
		kept      int
		ok        bool
	}{
		"as it was":                   {without(old), strings.Replace(without(old), "n = 1;\n\n", "n = 1;\n\n\tmutex_init(&x->m);\n", 1), 1, true},
		"with more behind":            {strings.Replace(without(old), "n = 1;\n\n", "n = 1;\n\n\tx->q = 2;\n", 1), strings.Replace(without(old), "n = 1;\n\n", "n = 1;\n\n\tmutex_init(&x->m);\n\tx->q = 2;\n", 1), 1, true},
		"what was before is gone":     {strings.Replace(without(old), "\tx->n = 1;\n\n", "", 1), strings.Replace(without(old), "\tx->n = 1;\n\n", "\tmutex_init(&x->m);\n", 1), 1, true},
		"a line of before is another": {strings.Replace(without(old), "x->n = 1;", "if (x->n)", 1), "", 0, false},
		"what was before is an if":    {strings.Replace(without(old), "\tx->n = 1;\n\n", "\tif (x)\n\n", 1), "", 0, false},
		"still there":                 {old, old, 0, true},
		"the function is gone":        {"int h;\n", "", 0, false},
	} {
		text, kept, ok := keepInits([]byte(old), []byte(tc.new), "m")
		qt.Check(t, qt.Equals(ok, tc.ok), qt.Commentf("%s", name))
		qt.Check(t, qt.Equals(kept, tc.kept), qt.Commentf("%s", name))
		if ok {
			qt.Check(t, qt.Equals(string(text), tc.want), qt.Commentf("%s", name))
		}
	}
}

func TestObjectsThatAreAlwaysZeroed(t *testing.T) {
	const make = "static struct s *new(void)\n{\n\tstruct s *x = kzalloc(sizeof(*x), GFP_KERNEL);\n\treturn x;\n}\n"
	for name, tc := range map[string]struct {
		src string
		ok  bool
	}{
		"one":                         {make, true},
		"none is made":                {"void f(struct s *x);\n", false},
		"by its name":                 {"p = devm_kzalloc(dev, sizeof(struct s), GFP_KERNEL);\n", true},
		"in the middle of an if":      {"struct s *x; if (!(x = *p = kzalloc(sizeof(*x), GFP_KERNEL)))\n", true},
		"behind a subsystem's":        {"struct s *x; hw = ieee802154_alloc_hw(sizeof(*x), &ops);\n", true},
		"with an array":               {"struct s *x; x = kzalloc(struct_size(x, tab, n), GFP_KERNEL);\n", true},
		"many":                        {"struct s *x; x = kcalloc(n + (2), sizeof(*x), GFP_KERNEL);\n", true},
		"a size that is a sum":        {"struct s *x; x = kzalloc((sizeof(*x) + n), GFP_KERNEL);\n", true},
		"not zeroed":                  {make + "struct s *y = kmalloc(sizeof(*y), GFP_KERNEL);\n", false},
		"not zeroed, by a member":     {make + "struct t { struct s *y; }; t->y = kmalloc(sizeof(*t->y), GFP_KERNEL);\n", false},
		"not zeroed, an element":      {make + "struct s *y; q = kmalloc(sizeof(y[0]), GFP_KERNEL);\n", false},
		"not zeroed, without a paren": {make + "struct s *y; q = kmalloc(sizeof *y, GFP_KERNEL);\n", false},
		"copied":                      {make + "struct s *y; q = kmemdup(y, sizeof(*y), GFP_KERNEL);\n", false},
		"of a cache":                  {make + "c = kmem_cache_create(\"s\", sizeof(struct s), 0, 0, NULL);\n", false},
		"of a cache, by a macro":      {make + "c = KMEM_CACHE(s, 0);\n", false},
		"a size that is kept":         {make + "size_t n = sizeof(struct s);\n", false},
		"on a stack":                  {make + "void f(void) { struct s x; g(&x); }\n", false},
		"inside of another":           {make + "struct t { int n; struct s x; };\n", false},
		"of another type":             {make + "struct t *y; y = kmalloc(sizeof(*y), GFP_KERNEL);\n", true},
		"cleared":                     {make + "struct s *y; memset(y, 0, sizeof(*y));\n", true},
		"set":                         {make + "struct s *y; memset(y, 0xff, sizeof(*y));\n", false},
		"not zeroed, of a type":       {make + "p = kmalloc(struct_size_t(struct s, tab, n), GFP_KERNEL);\n", false},
		"with an array, of a type":    {make + "p = kzalloc(struct_size_t(struct s, tab, n), GFP_KERNEL);\n", true},
		"of each processor":           {make + "struct s { int n; };\nstatic DEFINE_PER_CPU(struct s, x);\n", false},
		"of each, defined elsewhere":  {make + "static DEFINE_PER_CPU(struct s, x);\n", false},
		"in a queue":                  {make + "struct t {\n\tDECLARE_KFIFO(q, struct s, 4);\n};\nstruct s {\n\tint n;\n};\n", false},
		"a value of the type":         {make + "struct s { int n; };\nvoid f(struct s *x)\n{\n\t*x = (struct s){ .n = 1 };\n}\n", false},
		"found by its member":         {make + "struct s { int n; };\n#define to_s(p) container_of(p, struct s, n)\n", true},
		"found in a list":             {make + "struct s { int n; };\nvoid f(void)\n{\n\tg(list_first_entry_or_null(&head, struct s, list));\n}\n", true},
		"in a comment":                {make + "/* struct s x; */\n", true},
	} {
		qt.Check(t, qt.Equals(alwaysZeroed([]string{"int a;\n", tc.src}, "struct s"), tc.ok), qt.Commentf("%s", name))
	}
	const typedef = "typedef struct {\n\tint n;\n} changer;\nvoid f(changer *y)\n{\n\tchanger *ch;\n\tch = kzalloc(sizeof(*ch), GFP_KERNEL);\n}\n"
	qt.Check(t, qt.IsTrue(alwaysZeroed([]string{typedef}, "struct changer")))
	qt.Check(t, qt.IsFalse(alwaysZeroed([]string{typedef, "void g(void) { changer c; h(&c); }\n"}, "struct changer")))
	qt.Check(t, qt.IsFalse(alwaysZeroed([]string{typedef, "p = kmalloc(sizeof(changer), 0);\n"}, "struct changer")))
}

// Whatever the source is like, it is read to its end.
func TestSourcesThatAreNoC(t *testing.T) {
	piece := rapid.SampledFrom([]string{
		"struct s", "s", "*", "x", "->", ".", "m", "=", ";", "{", "}", "(", ")", "[", "]", ",", "\n", "\n{", "\n}", "&", "!", "--", " ",
		"sizeof", "struct_size", "kzalloc(", "devm_kzalloc(", "kfree(", "mutex_init(&x->m);", "cb->ctx", "(void *)", "/*", "\"", "'", "\\", "if (", "case", "1",
	})
	rapid.Check(t, func(t *rapid.T) {
		src := strings.Join(rapid.SliceOfN(piece, 0, 40).Draw(t, "source"), "")
		other := strings.Join(rapid.SliceOfN(piece, 0, 40).Draw(t, "other"), "")
		for _, what := range []layout.Sort{layout.Number, layout.Counter, layout.Pointer, layout.Lock} {
			standsUnused(uses("m", []string{src}, []string{other}), layout.Move{Member: "m", What: what}, true)
		}
		if made, ok := allocations([]string{src}, "struct s"); !ok && made != nil {
			t.Fatalf("%q: allocations that may be others", src)
		}
		if room := roomOf([]string{src}, "struct s", 100, 40); room != 0 && room < 100 {
			t.Fatalf("%q: %d bytes", src, room)
		}
		onlyDumpContext(src, "struct s")
		if text, kept, ok := keepInits([]byte(src), []byte(other), "m"); ok && strings.Count(string(text), "mutex_init(&x->m);") < kept {
			t.Fatalf("%q and %q: %d kept in %q", src, other, kept, text)
		}
	})
}
