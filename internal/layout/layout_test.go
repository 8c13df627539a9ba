// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"debug/elf"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/go-quicktest/qt"
)

// rawBTF compiles C with gcc -gbtf and returns the .BTF section.
func rawBTF(tb testing.TB, src string) []byte {
	tb.Helper()
	dir := tb.TempDir()
	in, out := filepath.Join(dir, "in.c"), filepath.Join(dir, "out.o")
	qt.Assert(tb, qt.IsNil(os.WriteFile(in, []byte(src), 0o644)))
	msg, err := exec.Command("gcc", "-O2", "-gbtf", "-c", "-o", out, in).CombinedOutput()
	qt.Assert(tb, qt.IsNil(err), qt.Commentf("%s", msg))
	f, err := elf.Open(out)
	qt.Assert(tb, qt.IsNil(err))
	defer f.Close()
	data, err := f.Section(".BTF").Data()
	qt.Assert(tb, qt.IsNil(err))
	return data
}

func TestCompareReportsLayoutsThatDiffer(t *testing.T) {
	const before = `struct t { long l; int i; }; struct t the_t; struct gap { char c; char d __attribute__((aligned(32))); } the_gap; struct inner { int a; }; struct s { long x; int y; struct inner in; unsigned f:3; union { int u; char c; }; struct s *next; };
struct s the_s; int use(struct s *p) { return p->y; }`
	for name, tc := range map[string]struct {
		src     string
		changes []Change
	}{
		"the same": {src: before},
		"another member at the end": {
			src:     `struct inner { int a; }; struct s { long x; int y; struct inner in; unsigned f:3; union { int u; char c; }; struct s *next; long more; }; struct s the_s; int use(struct s *p) { return p->y; }`,
			changes: []Change{{Type: "struct s", Detail: "its size goes from 32 to 40 bytes; new: more", Grown: 40, Added: []string{"more"}, Behind: []string{"next"}}},
		},
		"a bit in the padding": {
			src:     `struct inner { int a; }; struct s { long x; int y; struct inner in; unsigned f:3; unsigned g:1; union { int u; char c; }; struct s *next; }; struct s the_s; int use(struct s *p) { return p->y; }`,
			changes: []Change{{Type: "struct s", Detail: "new: g", Padding: true, Added: []string{"g"}, Behind: []string{"f"}}},
		},
		"a pointer in the padding": {
			src:     `struct t { long l; int i; }; struct inner { int a; }; struct s { long x; int y; struct inner in; unsigned f:3; union { int u; char c; }; struct s *next; }; struct gap { char c; void *p[2]; char d __attribute__((aligned(32))); } the_gap; struct s the_s; struct t the_t; int use(struct s *p) { return p->y; }`,
			changes: []Change{{Type: "struct gap", Detail: "new: p", Pointers: []string{"p"}, Added: []string{"p"}, Behind: []string{"c"}}},
		},
		"a lock in the padding, which is no lock yet": {
			src:     `struct inner { int a; }; struct lock { unsigned char n; }; struct s { long x; int y; struct inner in; unsigned f:3; struct lock held; union { int u; char c; }; struct s *next; }; struct s the_s; int use(struct s *p) { return p->y; }`,
			changes: []Change{{Type: "struct s", Detail: "new: held, which nothing has set up in objects that exist"}},
		},
		"a spinlock in the padding, which is one where objects are zero": {
			src:     `typedef struct qspinlock { union { int val; char locked; }; } arch_spinlock_t; typedef struct spinlock { arch_spinlock_t raw_lock; } spinlock_t; struct inner { int a; }; struct s { long x; int y; struct inner in; unsigned f:3; union { int u; char c; }; struct s *next; }; struct t { long l; int i; spinlock_t held; }; struct s the_s; struct t the_t; int use(struct s *p) { return p->y; }`,
			changes: []Change{{Type: "struct t", Detail: "new: held, which nothing has set up in objects that exist", Locks: []string{"held"}, Added: []string{"held"}, Behind: []string{"i"}}},
		},
		"what is configured away": {
			src:     `struct none {}; struct inner { int a; }; struct s { long x; int y; struct inner in; unsigned f:3; union { int u; char c; }; struct none track; struct s *next; }; struct t { long l; int i; }; struct s the_s; struct t the_t; int use(struct s *p) { return p->y; }`,
			changes: []Change{{Type: "struct s", Detail: "new: track", Padding: true, Added: []string{"track"}, Behind: []string{"c"}}},
		},
		"what has to be set up, in the padding": {
			src:     `struct kref { int refs; }; struct inner { int a; }; struct s { long x; int y; struct inner in; unsigned f:3; union { int u; char c; }; struct s *next; }; struct t { long l; int i; struct kref ref; }; struct s the_s; struct t the_t; int use(struct s *p) { return p->y; }`,
			changes: []Change{{Type: "struct t", Detail: "new: ref, which nothing has set up in objects that exist"}},
		},
		"an embedded struct that grows": {
			src: `struct inner { int a; int b; }; struct s { long x; int y; struct inner in; unsigned f:3; union { int u; char c; }; struct s *next; }; struct s the_s; int use(struct s *p) { return p->y; }`,
			changes: []Change{
				{Type: "struct inner", Detail: "its size goes from 4 to 8 bytes; new: b", Grown: 8, Added: []string{"b"}, Behind: []string{"a"}},
				{Type: "struct s", Detail: "its size goes from 32 to 40 bytes; moved or changed: in, f, u, c, next"},
			},
		},
		"a wrapper of one member is that member": {
			src: `struct inner { int a; }; struct wrap { union { struct inner w; }; }; struct s { long x; int y; struct wrap in; unsigned f:3; union { int u; char c; }; struct s *next; }; struct s the_s; int use(struct s *p) { return p->y; }`,
		},
		"a new type is no change": {
			src: before + `struct fresh { int q; }; struct fresh the_fresh;`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			orig, err := Parse(rawBTF(t, before))
			qt.Assert(t, qt.IsNil(err))
			patched, err := Parse(rawBTF(t, tc.src))
			qt.Assert(t, qt.IsNil(err))
			got := Compare(orig, patched)
			qt.Check(t, qt.DeepEquals(got, tc.changes))
			size, ok := orig.Size("s")
			qt.Check(t, qt.IsTrue(ok && size == 32), qt.Commentf("%d", size))
		})
	}
}

func TestStructsWithoutATagAreCompared(t *testing.T) {
	// drivers/scsi/ch.c of 6.1.192 takes a member out of such a struct.
	const before = `typedef struct { int minor; void **dt; unsigned first; } changer; static struct { long a; int b; } state[4];
struct stats { int n; }; static struct { long c; int d; } stats;
int use(changer *c, int i, struct stats *s) { return c->first + c->minor + state[i].b++ + s->n + stats.d++; }`
	orig, err := Parse(rawBTF(t, before))
	qt.Assert(t, qt.IsNil(err))
	for name, tc := range map[string]struct {
		old, now string
		changes  []Change
	}{
		"the same":                        {"", "", nil},
		"a typedef":                       {"void **dt; ", "", []Change{{Type: "struct changer", Detail: "its size goes from 24 to 8 bytes; moved or changed: first; gone: dt"}}},
		"a variable":                      {"long a; int b;", "int b; long a;", []Change{{Type: "struct state", Detail: "moved or changed: b, a"}}},
		"a variable of the name of a tag": {"long c; int d;", "int d; long c;", []Change{{Type: "struct stats", Detail: "moved or changed: d, c"}}},
	} {
		patched, err := Parse(rawBTF(t, strings.ReplaceAll(before, tc.old, tc.now)))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(Compare(orig, patched), tc.changes), qt.Commentf(name))
	}
	qt.Check(t, qt.HasLen(Mismatches(orig, orig), 0))
}

// What only a pointer leads to has no name of its own, and code that follows
// the pointer depends on it.
func TestWhatPointersLeadToIsCompared(t *testing.T) {
	const before = `struct away; struct other; struct s { int n; struct away *away; struct { int a; int b; } *p; struct { struct { char c; short d; } **q[2]; } in; }; struct s the_s;
static struct { int e; long f; } *global; typedef struct { int g; short h; } *handle; handle the_handle;
int use(struct s *s) { return s->p->a + global->e + the_handle->g; }`
	orig, err := Parse(rawBTF(t, before))
	qt.Assert(t, qt.IsNil(err))
	for name, tc := range map[string]struct {
		old, now string
		changes  []Change
	}{
		"the same":          {"", "", nil},
		"a member":          {"int a; int b;", "int b; int a;", []Change{{Type: "struct s", Detail: "what they point to is another or lies otherwise: p"}}},
		"beside a new one":  {"int a; int b; } *p;", "int b; int a; } *p; long l;", []Change{{Type: "struct s", Detail: "its size goes from 40 to 48 bytes; new: l; moved or changed: in; what they point to is another or lies otherwise: p"}}},
		"arrays, two stars": {"char c; short d;", "char c; char more; short d;", []Change{{Type: "struct s", Detail: "what they point to is another or lies otherwise: in.q"}}},
		"another struct":    {"struct away *away;", "struct other *away;", []Change{{Type: "struct s", Detail: "what they point to is another or lies otherwise: away"}}},
		"what is not known": {"struct away *away;", "void *away;", nil},
		"a variable":        {"int e; long f;", "int e; int more; long f;", []Change{{Type: "struct global", Detail: "new: more", Padding: true, Added: []string{"more"}, Behind: []string{"e"}}}},
		"a typedef":         {"int g; short h;", "short h; int g;", []Change{{Type: "struct handle", Detail: "moved or changed: h, g"}}},
	} {
		patched, err := Parse(rawBTF(t, strings.ReplaceAll(before, tc.old, tc.now)))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(Compare(orig, patched), tc.changes), qt.Commentf(name))
	}
	qt.Check(t, qt.HasLen(Mismatches(orig, orig), 0))
}

// Types of one kernel and of its modules are used by several compilers at once.
func TestModulesOfOneKernelAreIndependent(t *testing.T) {
	raw := rawBTF(t, `struct s { int a; struct s *n; }; struct s x; int use(struct s *p) { return p->a; }`)
	kernel, err := Parse(raw)
	qt.Assert(t, qt.IsNil(err))
	object, err := Parse(raw)
	qt.Assert(t, qt.IsNil(err))
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if m := Mismatches(kernel, object); len(m) != 0 {
				t.Errorf("%v", m)
			}
		})
	}
	wg.Wait()
}

func TestNoTypesIsSaidPlainly(t *testing.T) {
	_, err := Parse(nil)
	qt.Assert(t, qt.IsTrue(errors.Is(err, ErrNoTypes)))
}

func TestFieldsOfVariables(t *testing.T) {
	types, err := Parse(rawBTF(t, `
struct inner { short s; int (*call)(int); };
struct plain { char c; int n; };
struct ops { int (*open)(void *); const char *name; _Bool on; unsigned bit:1; struct plain p; union { long a; char *b; }; enum { A } e; };
struct ops table[2]; struct plain alone; int number; int *pointer; struct inner deep;
static const struct ops hidden = { .on = 1 }; const struct ops *use(void) { return &hidden; }`))
	qt.Assert(t, qt.IsNil(err))
	for _, tc := range []struct {
		variable string
		off      uint64
		want     Field
	}{
		{"table", 0, Field{Off: 0, Size: 8, Kind: FieldFunction, Of: "ops", Name: "[0].open", Operations: true}},
		{"table", 11, Field{Off: 8, Size: 8, Kind: FieldPointer, Of: "ops", Name: "[0].name", Operations: true}},
		{"table", 48 + 16, Field{Off: 64, Size: 1, Kind: FieldBool, Of: "ops", Name: "[1].on", Operations: true}},
		{"table", 24, Field{Off: 24, Size: 4, Kind: FieldNumber, Of: "plain", Name: "[0].p.n", Operations: true}},
		{"table", 32, Field{Off: 32, Size: 8, Of: "ops", Name: "[0]", Operations: true}},
		{"table", 40, Field{Off: 40, Size: 4, Kind: FieldNumber, Of: "ops", Name: "[0].e", Operations: true}},
		{"hidden", 16, Field{Off: 16, Size: 1, Kind: FieldBool, Of: "ops", Name: ".on", Operations: true}},
		{"alone", 5, Field{Off: 4, Size: 4, Kind: FieldNumber, Of: "plain", Name: ".n"}},
		{"deep", 8, Field{Off: 8, Size: 8, Kind: FieldFunction, Of: "inner", Name: ".call", Operations: true}},
		{"number", 2, Field{Size: 4, Kind: FieldNumber}},
		{"pointer", 0, Field{Size: 8, Kind: FieldPointer}},
	} {
		got, ok := types.Field(tc.variable, tc.off)
		qt.Check(t, qt.IsTrue(ok), qt.Commentf("%s+%d", tc.variable, tc.off))
		qt.Check(t, qt.Equals(got, tc.want), qt.Commentf("%s+%d", tc.variable, tc.off))
	}
	for _, none := range []struct {
		variable string
		off      uint64
	}{{"table", 17}, {"table", 96}, {"alone", 2}, {"number", 4}, {"nothing", 0}, {"use", 0}} {
		_, ok := types.Field(none.variable, none.off)
		qt.Check(t, qt.IsFalse(ok), qt.Commentf("%s+%d", none.variable, none.off))
	}
}

func FuzzParse(f *testing.F) {
	f.Add(rawBTF(f, `struct s { int a; struct s *n; } x; int use(struct s *p) { return p->a; }`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		types, err := Parse(raw)
		if (types == nil) == (err == nil) {
			t.Fatal("a result and an error exclude each other")
		}
		if err == nil {
			Compare(types, types)
			for off := range uint64(64) {
				if f, ok := types.Field("x", off); ok && (f.Off > off || f.Off+f.Size <= off) {
					t.Fatalf("%+v does not cover +%#x", f, off)
				}
			}
		}
	})
}
