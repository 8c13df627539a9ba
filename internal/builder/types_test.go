// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/layout"
	"github.com/tsugi-project/tsugi/internal/livepatch"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// withTypes compiles C and reads the object.
func withTypes(t *testing.T, text string) *elfobj.File {
	t.Helper()
	out := filepath.Join(t.TempDir(), "x.o")
	cmd := exec.Command(need.Program(t, "gcc"), "-c", "-gbtf", "-x", "c", "-o", out, "-")
	cmd.Stdin = strings.NewReader(text)
	if b, err := cmd.CombinedOutput(); err != nil {
		need.Allowed(t, "this gcc writes no BTF: ", err, string(b))
	}
	f, err := readObject(out)
	qt.Assert(t, qt.IsNil(err))
	return f
}

// TestTypesOfAPairAreComparedOnce for all builds that share a kernel; another
// pair is another question.
func TestTypesOfAPairAreComparedOnce(t *testing.T) {
	was := withTypes(t, "struct s { int a; } x;")
	is := withTypes(t, "struct s { int a; int b; } x;")
	k := &kernelTypes{modules: map[string]*layout.Types{}, changes: map[pairKey][]layout.Change{}, matches: map[pairKey]bool{}}
	p := kbuild.Pair{Object: kbuild.Object{Path: "x.o"}, Orig: "orig.o", Patched: "patched-1.o"}
	first, err := k.between(p, was, is, false)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(first, 1))
	qt.Check(t, qt.Equals(first[0].Type, "struct s"))
	again, err := k.between(p, was, was, false) // not even looked at
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(again, first))
	p.Patched = "patched-2.o"
	other, err := k.between(p, was, was, true)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(other, 0))
}

// What zeros are no harm for may be garbage in objects that nobody has zeroed:
// a number is told, a pointer needs to know. Numbers that objects hold do not
// change their meaning.
func TestWhatObjectsHoldDecidesAboutTypes(t *testing.T) {
	const old, text = "struct s {\n\tvoid *p;\n\tchar c;\n\tlong l __attribute__((aligned(32)));\n} x;\n", "struct s {\n\tvoid *p;\n\tchar c;\n\t%s;\n\tlong l __attribute__((aligned(32)));\n} x;\n"
	const states, between = "enum state { NEW, GOOD } y;\n", "enum state { NEW, SETUP, GOOD } y;\n"
	for name, tc := range map[string]struct {
		old, now string
		zeroed   bool
		refused  code.Code
		risk     code.Code
		before   string // a member of a live patch before, in the same padding
	}{
		"a number":                     {old, fmt.Sprintf(text, "int n"), false, "", "TS8008", ""},
		"one that was there before":    {old, fmt.Sprintf(text, "int n"), false, "", "TS8008", "n"},
		"where another one was":        {old, fmt.Sprintf(text, "int n"), true, "TS4030", "", "of_a_fix_that_is_excluded_now"},
		"a pointer":                    {old, fmt.Sprintf(text, "void *n"), false, "TS4030", "", ""},
		"a pointer in zeroed objects":  {old, fmt.Sprintf(text, "void *n"), true, "", "TS8008", ""},
		"a state in front of others":   {states, between, true, "TS4031", "", ""},
		"a state that does not matter": {states, states, true, "", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := &kernelTypes{modules: map[string]*layout.Types{}, changes: map[pairKey][]layout.Change{}, matches: map[pairKey]bool{}}
			b := &build{
				req: Request{Target: &kernel.Target{}}, types: k, fix: &fix.Fix{},
				sources: map[string]fix.Change{"x.c": {Old: []byte(tc.old), New: []byte(tc.now)}},
				objects: map[string]objects{"struct s": {zeroed: tc.zeroed}},
			}
			was, is := withTypes(t, tc.old), withTypes(t, tc.now)
			d, err := objdiff.Diff(was, is, objdiff.Options{})
			qt.Assert(t, qt.IsNil(err))
			if tc.before != "" {
				b.req.Members = []livepatch.Member{{Struct: "struct s", File: "x.c", Behind: "c", Name: tc.before}}
			}
			c := &compared{diff: d}
			p := kbuild.Pair{Object: kbuild.Object{Path: "x.o", Source: "x.c"}}
			qt.Assert(t, qt.IsNil(b.compareTypes(c, p, was, is)))
			codes := func(list []Refusal) (out code.Code) {
				for _, r := range list {
					out += r.Code
					qt.Check(t, qt.Equals(r.Source, "x.c:1"))
				}
				return out
			}
			qt.Check(t, qt.Equals(codes(c.layouts), tc.refused))
			qt.Check(t, qt.Equals(codes(c.padding), tc.risk))
			if tc.refused != "" && tc.before == "" {
				b.req.Accept = []string{string(tc.refused)}
				c = &compared{diff: d}
				qt.Assert(t, qt.IsNil(b.compareTypes(c, p, was, is)))
				qt.Check(t, qt.Equals(codes(c.layouts), ""))
				qt.Check(t, qt.Equals(codes(c.padding), tc.refused))
			}
		})
	}
}

// A new member belongs to the file that defines its struct, whichever object
// shows it: the next live patch may see it by another one.
func TestAMemberIsOfTheFileThatDefinesItsStruct(t *testing.T) {
	b := newBuild(t)
	b.fix = &fix.Fix{Files: []fix.FileDiff{{Path: "d/s.h"}, {Path: "d/a.c"}, {Path: "d/b.c"}}}
	b.sources = map[string]fix.Change{
		"d/s.h": {Path: "d/s.h", New: []byte("struct s *find(void);\n\n/* struct s { */\nstruct s\n{\n\tint n;\n\tchar more;\n};\n\ntypedef struct {\n\tint n;\n} u;\n")},
		"d/a.c": {Path: "d/a.c", New: []byte("#include \"s.h\"\n\nint f(struct s *x)\n{\n\treturn x->more;\n}\n")},
		"d/b.c": {Path: "d/b.c", New: []byte("#include \"s.h\"\n\nint g(struct s *x, u *y)\n{\n\treturn x->n;\n}\n\nstruct own {\n\tint n;\n};\n")},
	}
	for _, c := range []struct{ typ, object, file, line string }{
		{"struct s", "d/a", "d/s.h", "4"},
		{"struct s", "d/b", "d/s.h", "4"},
		{"struct u", "d/b", "d/s.h", "12"},
		{"struct own", "d/b", "d/b.c", "8"},
		{"struct made_by_a_macro", "d/b", "d/b.c", ""},
	} {
		o := kbuild.Object{Path: c.object + ".o", Source: c.object + ".c"}
		got := b.members(layout.Change{Type: c.typ, Added: []string{"more"}, Behind: []string{"n"}}, o)
		qt.Check(t, qt.DeepEquals(got, []livepatch.Member{{Struct: c.typ, File: c.file, Behind: "n", Name: "more"}}))
		if c.line != "" {
			qt.Check(t, qt.Equals(b.place(code.New("TS4030", c.typ, ""), o).Source, c.file+":"+c.line))
		}
	}
}
