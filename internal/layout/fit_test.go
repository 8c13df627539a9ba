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
	one := func(string) string { return "" }
	for name, tc := range map[string]struct {
		before, after string
		moves         []Move
		room          int
	}{
		"a byte before the hole":              {before: before, after: "void *p; char fresh; int n; char valid; void *q; int count;", moves: []Move{{Member: "fresh", After: "valid"}}},
		"an int goes to the larger hole":      {before: before, after: "void *p; int fresh; int n; char valid; void *q; int count;", moves: []Move{{Member: "fresh", After: "count"}}},
		"two share one":                       {before: before, after: "void *p; char a; short b; int n; char valid; void *q; int count;", moves: []Move{{Member: "a", After: "valid"}, {Member: "b", After: "a"}}},
		"in the order of the fix":             {before: before, after: "void *p; short b; char a; int n; char valid; void *q; int count;", moves: []Move{{Member: "b", After: "valid"}, {Member: "a", After: "count"}}},
		"too large":                           {before: before, after: "void *p; long fresh; int n; char valid; void *q; int count;", moves: nil},
		"an old one that changes":             {before: before, after: "void *p; char fresh; int n; short valid; void *q; int count;", moves: nil},
		"a number that goes stays":            {before: before, after: "void *p; int n; void *q; int count;", moves: []Move{{Member: "valid", After: "n", Kept: true}}},
		"the first one that goes":             {before: "int n; void *q; int count;", after: "void *q; int count;", moves: []Move{{Member: "n", Kept: true}}},
		"one comes and one goes":              {before: before, after: "void *p; char fresh; char valid; void *q; int count;", moves: []Move{{Member: "n", After: "p", Kept: true}, {Member: "fresh", After: "valid"}}},
		"a pointer that goes":                 {before: before, after: "void *p; int n; char valid; int count;", moves: []Move{{Member: "q", After: "valid", Kept: true, What: Pointer}}},
		"a lock that goes":                    {before: "void *p; struct mutex m; int n;", after: "void *p; int n;", moves: []Move{{Member: "m", After: "p", Kept: true, What: Lock}}},
		"a counter that goes":                 {before: "void *p; atomic_t m; long n;", after: "void *p; long n;", moves: []Move{{Member: "m", After: "p", Kept: true, What: Counter}}},
		"numbers that go":                     {before: "void *p; struct { int a; char b[3]; } m; long n;", after: "void *p; long n;", moves: []Move{{Member: "m", After: "p", Kept: true}}},
		"a bit that goes":                     {before: "void *p; int a:1; int b:1; long n;", after: "void *p; int b:1; long n;", moves: []Move{{Member: "a", After: "p", Kept: true}}},
		"counters that go":                    {before: "atomic_t a, b[2], c;", after: "atomic_t a, c;", moves: []Move{{Member: "b", After: "a", Kept: true, What: Counter}}},
		"what is configured away":             {before: "void *p; int n; void *q;", after: "void *p; struct {} none; int m; int n; void *q;", moves: []Move{{Member: "m", After: "n"}}},
		"room behind":                         {before: "void *p; void *q;", after: "void *p; long l; void *q; int n;", room: 32, moves: []Move{{Member: "l", After: "q"}, {Member: "n", After: "l"}}},
		"room behind a bit":                   {before: "void *p; int n; unsigned a:1, b:1;", after: "void *p; void *q; char c; int n; unsigned a:1, b:1;", room: 32, moves: []Move{{Member: "q", After: "b", What: Pointer}, {Member: "c", After: "q"}}},
		"too little room behind":              {before: "void *p; void *q;", after: "void *p; long l; void *q; int n;", room: 27},
		"room behind what has no end":         {before: "void *p; char q[];", after: "void *p; long l; char q[];", room: 64},
		"padding before room":                 {before: before, after: "void *p; int n; char valid; void *q; int count; short s; long l;", room: 40, moves: []Move{{Member: "s", After: "valid"}, {Member: "l", After: "count"}}},
		"a reference count that goes":         {before: "void *p; struct kref m; long n;", after: "void *p; long n;", moves: nil},
		"a list that goes":                    {before: "void *p; struct { void *next, *prev; } m; long n;", after: "void *p; long n;", moves: nil},
		"a lock that comes":                   {before: "void *p; int n; void *q;", after: "void *p; spinlock_t m; int n; void *q;", moves: []Move{{Member: "m", After: "n", What: Lock}}},
		"a large lock that comes":             {before: "void *p; int n; void *q;", after: "void *p; struct mutex m; int n; void *q;", moves: nil},
		"another lock that comes":             {before: "void *p; int n; void *q;", after: "void *p; rwlock_t m; int n; void *q;", moves: nil},
		"old ones that change places":         {before: before, after: "void *p; char fresh; char valid; int n; void *q; int count;", moves: nil},
		"a bit":                               {before: before, after: "void *p; int n; unsigned fresh:1; char valid; void *q; int count;", moves: nil},
		"no name":                             {before: before, after: "void *p; union { char x; }; int n; char valid; void *q; int count;", moves: nil},
		"what zero is no state of":            {before: before, after: "void *p; struct { int refs; } fresh; int n; char valid; void *q; int count;", moves: nil},
		"none is new":                         {before: before, after: before, moves: nil},
		"nothing but numbers may be a format": {before: "int n; char valid; int m;", after: "int n; char fresh; char valid; int m;", moves: nil},
		"a struct with room at its end":       {before: "struct in i; void *p; int n;", after: "struct in i; int fresh; void *p; int n;", moves: []Move{{Member: "fresh", After: "n"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orig, err := Parse(rawBTF(t, fmt.Sprintf(src, tc.before)))
			qt.Assert(t, qt.IsNil(err))
			patched, err := Parse(rawBTF(t, fmt.Sprintf(src, tc.after)))
			qt.Assert(t, qt.IsNil(err))
			moves, ok := Fit(orig, patched, "struct s", tc.room, one)
			qt.Assert(t, qt.Equals(ok, tc.moves != nil), qt.Commentf("%v", moves))
			if ok {
				qt.Assert(t, qt.DeepEquals(moves, tc.moves))
			}
			// by a typedef, it is the same
			again, ok := Fit(orig, patched, "struct s_t", tc.room, one)
			qt.Assert(t, qt.Equals(ok, tc.moves != nil))
			qt.Assert(t, qt.DeepEquals(again, moves))
			_, ok = Fit(orig, patched, "struct named_t", 0, one) // which has a tag
			qt.Assert(t, qt.IsFalse(ok))
		})
	}
}

// Where a member goes does not depend on what other fixes add.
func TestMembersOfEachFixHaveOnePlace(t *testing.T) {
	const src = "struct s { %s }; struct s the_s; int use(struct s *p) { return sizeof(*p); }"
	const before = "void *p; int n; void *q; int count; void *r; char last;" // 4, 4 and 7 bytes
	owner := func(member string) string { return member[:1] }
	for name, tc := range map[string]struct {
		after string
		moves []Move
	}{
		"one":                        {"void *p; int a1; int n; void *q; int count; void *r; char last;", []Move{{Member: "a1", After: "n"}}},
		"another":                    {"void *p; int n; void *q; char b1; int count; void *r; char last;", []Move{{Member: "b1", After: "n"}}},
		"both, in one hole":          {"void *p; int a1; int n; void *q; char b1; int count; void *r; char last;", nil},
		"two of one fix, in one":     {"void *p; char a1; int n; void *q; char a2; int count; void *r; char last;", []Move{{Member: "a1", After: "n"}, {Member: "a2", After: "a1"}}},
		"one moves where one stays":  {"void *p; char a1; int n; char c1; void *q; int count; void *r; char last;", nil},
		"one where the fix has it":   {"void *p; int n; void *q; int count; void *r; char last; int c1;", []Move{}},
		"one stays, one moves":       {"void *p; int a1; int n; void *q; int count; void *r; char last; int c1;", []Move{{Member: "a1", After: "n"}}},
		"all of a fix move, or none": {"void *p; int a1; int n; void *q; int count; void *r; char last; short a2;", []Move{{Member: "a1", After: "n"}, {Member: "a2", After: "count"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			orig, err := Parse(rawBTF(t, fmt.Sprintf(src, before)))
			qt.Assert(t, qt.IsNil(err))
			patched, err := Parse(rawBTF(t, fmt.Sprintf(src, tc.after)))
			qt.Assert(t, qt.IsNil(err))
			moves, ok := Fit(orig, patched, "struct s", 0, owner)
			qt.Assert(t, qt.Equals(ok, tc.moves != nil))
			if ok {
				qt.Check(t, qt.DeepEquals(append([]Move{}, moves...), tc.moves))
			}
		})
	}
}
