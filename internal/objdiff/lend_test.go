// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/objdiff"
)

const lendBase = `
extern int _printk(const char *, ...);
extern int strcmp(const char *, const char *);
extern int request_irq(unsigned int, int (*)(void *), const char *, void *);
extern void call_rcu(void *, int (*)(void *));
extern void *bsearch(const void *, const void *, unsigned long, unsigned long, int (*)(const void *, const void *));
extern void *memcpy(void *, const void *, unsigned long);
extern void *kmem_cache_create(const char *, unsigned, unsigned, unsigned, int (*)(void *));
extern void sort(void *, unsigned long, unsigned long, int (*)(const void *, const void *), void *);
extern int other(void *);
struct device { const char *name; int (*release)(void *); const int *table; };
/*NEW*/
static int old(void *p) { return other(p) + 1; }
int probe(struct device *d, const char *s, int n)
{
	other(d);
	/*HERE*/
	return other(d);
}
void *taken(void) { return old; }
`

// TestAddressesThatAreGivenAway: what somebody may keep when no task runs in
// the live patch any more keeps its module in memory.
func TestAddressesThatAreGivenAway(t *testing.T) {
	t.Parallel()
	const function = "static __attribute__((noinline)) int fresh(void *p) { return other(p) + 2; }"
	const number = "static const int numbers[] = { 1, 2, 3, 4, 5, 6, 7, 8 };"
	orig := build(t, lendBase, kernelish...)
	for name, tc := range map[string]struct {
		add, here string
		want      []string
	}{
		"nothing":                    {here: "d->name = s;"},
		"what is printed":            {here: `_printk("%s\n", s);`},
		"what is compared":           {here: `if (!strcmp(s, "x")) return 0;`},
		"what is compared in place":  {here: `if (!__builtin_memcmp(s, "a name of some length", 21)) return 0;`},
		"a lock":                     {add: "struct mutex { int x; }; extern void mutex_lock(struct mutex *); static struct mutex lock;", here: "mutex_lock(&lock); lock.x = n;"},
		"a call":                     {add: function, here: "n += fresh(d); d->table = (void *)(long)n;"},
		"what the target has":        {here: "d->release = other;"},
		"a function of the object":   {here: "d->release = old;"},
		"a function that is stored":  {add: function, here: "d->release = fresh;", want: []string{"fresh in probe"}},
		"one that is called later":   {add: function, here: "call_rcu(d, fresh);", want: []string{"fresh to call_rcu in probe"}},
		"one that is called at once": {add: "static int cmp(const void *a, const void *b) { return *(char *)a - *(char *)b; }", here: "sort(d, 1, n, cmp, 0);"},
		"a name":                     {here: `request_irq(n, other, "tsugi", d);`, want: []string{`"tsugi" to request_irq in probe`}},
		"a name and a message":       {here: `const char *x = "tsugi"; _printk(x); d->name = x;`, want: []string{`"tsugi" in probe`}},
		"a name first":               {here: `const char *x = "tsugi"; d->name = x; _printk(x);`, want: []string{`"tsugi" in probe`}},
		"either of two":              {here: `_printk(n ? "on" : "off");`, want: []string{`"off" in probe`, `"on" in probe`}}, // a conditional move
		"on one way":                 {here: `const char *x = "tsugi"; if (n) d->name = x; else _printk(x);`, want: []string{`"tsugi" in probe`}},
		"one of two callees":         {here: `const char *x = "tsugi"; if (n) request_irq(n, other, x, d); else _printk("%d%d%s", n, n, x);`, want: []string{`"tsugi" to request_irq in probe`}},
		"what is returned":           {add: `static __attribute__((noinline)) const char *which(int n) { return n ? "on" : "off"; }`, here: `d->name = which(n);`, want: []string{`"off" in which`, `"on" in which`}},
		"a table that is read":       {add: number, here: "n = numbers[n & 7]; _printk(s, n);"},
		"a table that is kept":       {add: number, here: "d->table = numbers;", want: []string{"numbers in probe"}},
		"a table of functions":       {add: function + "static int (*const calls[])(void *) = { fresh, other };", here: "n += calls[n & 1](d); _printk(s, n);", want: []string{"fresh in calls"}},
		"what a search finds":        {add: number, here: "d->table = bsearch(s, numbers, 8, 4, 0);", want: []string{"numbers to bsearch in probe"}},
		"what is searched for":       {add: number, here: "d->table = bsearch(numbers, s, 8, 4, 0);"},
		"what is copied from":        {add: number, here: "memcpy(d, numbers, n);"},
		"what is copied to":          {add: "static int copy[8];", here: "d->table = memcpy(copy, s, n);", want: []string{"copy to memcpy in probe"}},
		"the name of a cache":        {here: `d->table = kmem_cache_create("tsugi", n, 0, 0, 0);`},
		"a constructor":              {add: function, here: `d->table = kmem_cache_create(s, n, 0, 0, fresh);`, want: []string{"fresh to kmem_cache_create in probe"}},
		"past a warning":             {add: function, here: `void *f = fresh; asm volatile("ud2" : "+D"(f)); call_rcu(f, 0);`, want: []string{"fresh to call_rcu in probe"}},
		"another one of a name":      {add: "const char *kept; static __attribute__((noipa)) void up(const char *x) { kept = x; }", here: `up("tsugi");`, want: []string{`"tsugi" to up in probe`}},
		"a comparison":               {add: function, here: "if (d->release == fresh) n = fresh(d); _printk(s, n);"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := strings.NewReplacer("/*NEW*/", tc.add, "/*HERE*/", tc.here).Replace(lendBase)
			r, err := objdiff.Diff(orig, build(t, src, kernelish...), objdiff.Options{})
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(r.Refusals, 0), qt.Commentf("%v", r.Refusals))
			qt.Assert(t, qt.IsTrue(slices.Contains(names(r.Changed), "probe")))
			e, err := r.Extract()
			qt.Assert(t, qt.IsNil(err))
			slices.Sort(e.Lent)
			qt.Check(t, qt.DeepEquals(e.Lent, tc.want))
		})
	}
}
