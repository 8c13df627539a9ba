// SPDX-License-Identifier: Apache-2.0

package layout

import (
	"fmt"
	"testing"

	"github.com/go-quicktest/qt"
)

func TestNewMembersFindRoomInPadding(t *testing.T) {
	const src = "struct kref { int refs; }; typedef struct { int counter; } atomic_t; struct mutex { void *owner; }; " +
		"typedef struct qspinlock { union { atomic_t val; char locked; }; } arch_spinlock_t; typedef struct raw_spinlock { arch_spinlock_t raw_lock; } raw_spinlock_t; " +
		"typedef struct spinlock { union { struct raw_spinlock rlock; }; } spinlock_t; typedef struct { int cnts; } rwlock_t; " +
		"struct in { char c; long l; }; struct s { %[1]s }; typedef struct { %[1]s } s_t; typedef struct s named_t; named_t the_s; s_t the_t; int use(struct s *p) { return sizeof(*p); }"
	// a hole of 3 bytes behind valid, one of 4 behind count
	const before = "void *p; int n; char valid; void *q; int count;"
	for name, tc := range map[string]struct {
		before, after string
		moves         []Move
	}{
		"a byte before the hole":              {before, "void *p; char fresh; int n; char valid; void *q; int count;", []Move{{Member: "fresh", After: "valid"}}},
		"an int goes to the larger hole":      {before, "void *p; int fresh; int n; char valid; void *q; int count;", []Move{{Member: "fresh", After: "count"}}},
		"two share one":                       {before, "void *p; char a; short b; int n; char valid; void *q; int count;", []Move{{Member: "a", After: "valid"}, {Member: "b", After: "a"}}},
		"in the order of the fix":             {before, "void *p; short b; char a; int n; char valid; void *q; int count;", []Move{{Member: "b", After: "valid"}, {Member: "a", After: "count"}}},
		"too large":                           {before, "void *p; long fresh; int n; char valid; void *q; int count;", nil},
		"an old one that changes":             {before, "void *p; char fresh; int n; short valid; void *q; int count;", nil},
		"a number that goes stays":            {before, "void *p; int n; void *q; int count;", []Move{{Member: "valid", After: "n", Kept: true}}},
		"the first one that goes":             {"int n; void *q; int count;", "void *q; int count;", []Move{{Member: "n", Kept: true}}},
		"one comes and one goes":              {before, "void *p; char fresh; char valid; void *q; int count;", []Move{{Member: "n", After: "p", Kept: true}, {Member: "fresh", After: "valid"}}},
		"a pointer that goes":                 {before, "void *p; int n; char valid; int count;", []Move{{Member: "q", After: "valid", Kept: true, What: Pointer}}},
		"a lock that goes":                    {"void *p; struct mutex m; int n;", "void *p; int n;", []Move{{Member: "m", After: "p", Kept: true, What: Lock}}},
		"a counter that goes":                 {"void *p; atomic_t m; long n;", "void *p; long n;", []Move{{Member: "m", After: "p", Kept: true, What: Counter}}},
		"numbers that go":                     {"void *p; struct { int a; char b[3]; } m; long n;", "void *p; long n;", []Move{{Member: "m", After: "p", Kept: true}}},
		"a reference count that goes":         {"void *p; struct kref m; long n;", "void *p; long n;", nil},
		"a list that goes":                    {"void *p; struct { void *next, *prev; } m; long n;", "void *p; long n;", nil},
		"a bit that goes":                     {"void *p; int a:1; int b:1; long n;", "void *p; int b:1; long n;", nil},
		"a lock that comes":                   {"void *p; int n; void *q;", "void *p; spinlock_t m; int n; void *q;", []Move{{Member: "m", After: "n", What: Lock}}},
		"a large lock that comes":             {"void *p; int n; void *q;", "void *p; struct mutex m; int n; void *q;", nil},
		"another lock that comes":             {"void *p; int n; void *q;", "void *p; rwlock_t m; int n; void *q;", nil},
		"old ones that change places":         {before, "void *p; char fresh; char valid; int n; void *q; int count;", nil},
		"a bit":                               {before, "void *p; int n; unsigned fresh:1; char valid; void *q; int count;", nil},
		"no name":                             {before, "void *p; union { char x; }; int n; char valid; void *q; int count;", nil},
		"what zero is no state of":            {before, "void *p; struct { int refs; } fresh; int n; char valid; void *q; int count;", nil},
		"none is new":                         {before, before, nil},
		"nothing but numbers may be a format": {"int n; char valid; int m;", "int n; char fresh; char valid; int m;", nil},
		"a struct with room at its end":       {"struct in i; void *p; int n;", "struct in i; int fresh; void *p; int n;", []Move{{Member: "fresh", After: "n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orig, err := Parse(rawBTF(t, fmt.Sprintf(src, tc.before)))
			qt.Assert(t, qt.IsNil(err))
			patched, err := Parse(rawBTF(t, fmt.Sprintf(src, tc.after)))
			qt.Assert(t, qt.IsNil(err))
			moves, ok := Fit(orig, patched, "struct s")
			qt.Assert(t, qt.Equals(ok, tc.moves != nil), qt.Commentf("%v", moves))
			if ok {
				qt.Assert(t, qt.DeepEquals(moves, tc.moves))
			}
			// by a typedef, it is the same
			again, ok := Fit(orig, patched, "struct s_t")
			qt.Assert(t, qt.Equals(ok, tc.moves != nil))
			qt.Assert(t, qt.DeepEquals(again, moves))
			_, ok = Fit(orig, patched, "struct named_t") // which has a tag
			qt.Assert(t, qt.IsFalse(ok))
		})
	}
}
