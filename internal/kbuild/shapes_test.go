// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// text shows a pattern: % for what a user brings, # for digits, * for whatever.
func (p pattern) text() string {
	var b strings.Builder
	for _, x := range p {
		b.WriteString([]string{x.Text, "%", "#", "*"}[x.Kind])
	}
	return b.String()
}

func TestShapesOfMacrosThatCallOthers(t *testing.T) {
	t.Parallel()
	header := `#define ___PASTE(a,b) a##b
#define __PASTE(a,b) ___PASTE(a,b)
#define __UNIQUE_ID(prefix) __PASTE(__PASTE(__UNIQUE_ID_, prefix), __COUNTER__)
#define KEY_PREFIX __SCK__
#define KEY(name) __PASTE(KEY_PREFIX, name)
#define call(name) (KEY(name).f)
#define tp(name) call(tp_func_##name)
#define cond_resched_now() call(cond)
#define EITHER(x) __PASTE(CHOICE, x)
#define CHOICE one
#define CHOICE two
#define deep(a, b) __PASTE(a + 1, b)
#define MAPPER(FN) FN(x) FN(y)
#define __ENUM_FN(x) FUNC_ ## x,
#define USES MAPPER(__ENUM_FN)
#define many(fmt, args...) __PASTE(pr_, args)
#define mtype_add TOKEN(MTYPE, _add)
#define TOKEN(a, b) __PASTE(a, b)
#define NUMBER 3
`
	source := "#define MTYPE bitmap_ip\n"
	all, macros, anything := shapesOf([]string{"a.h", "b.c"}, [][]macroDef{definitions([]byte(header)), definitions([]byte(source))})
	qt.Assert(t, qt.IsFalse(anything))
	got := make(map[string][]string)
	for _, x := range all {
		got[x.Macro] = append(got[x.Macro], x.Pat.text())
	}
	for macro, want := range map[string]string{
		"___PASTE": "%%", "__PASTE": "%%", "__UNIQUE_ID": "__UNIQUE_ID_%#", "KEY": "__SCK__%", "call": "__SCK__%", "tp": "__SCK__tp_func_% tp_func_%",
		"cond_resched_now": "__SCK__cond", "EITHER": "*%", "deep": "*%", "__ENUM_FN": "FUNC_%", "USES": "FUNC_*", "many": "pr_*",
		"TOKEN": "%%", "mtype_add": "*_add", "MAPPER": "", "NUMBER": "",
	} {
		list := slices.Compact(slices.Sorted(slices.Values(got[macro])))
		// What is passed to a macro that makes words with it is written in full as well.
		list = slices.DeleteFunc(list, func(s string) bool { return macro == "__UNIQUE_ID" && s != "__UNIQUE_ID_%#" })
		qt.Check(t, qt.Equals(strings.Join(list, " "), want), qt.Commentf("%s", macro))
	}
	qt.Check(t, qt.IsTrue(slices.Contains(macros, hashWord("MTYPE"))))
	qt.Check(t, qt.IsFalse(slices.Contains(macros, hashWord("NUMBER"))))
}

func TestPatternsAreFilled(t *testing.T) {
	t.Parallel()
	p := pattern{{Kind: literal, Text: "a_"}, {Kind: param}, {Kind: digits}}
	for word, want := range map[string]bool{"a_b1": true, "a_b12": true, "a_b": false, "b_b1": false, "a_1": true, "a_": false} {
		_, ok := p.fill(word, anyWord)
		qt.Check(t, qt.Equals(ok, want), qt.Commentf("%s", word))
	}
	all, ok := pattern{{Kind: param}, {Kind: param}}.fill("ab", func(w string) bool { return w != "b" })
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.DeepEquals(all, [][]string{{"ab"}, {"ab"}})) // one of the two empty
	_, ok = pattern{{Kind: whatever}, {Kind: literal, Text: "_x"}}.fill("any_x", anyWord)
	qt.Check(t, qt.IsTrue(ok))
}

func FuzzShapes(f *testing.F) {
	f.Add([]byte("#define A(x) x##_b\n#define B(y, z...) A(y##z) A\n#define C B(A(1), C)\n"), "q_b")
	f.Add([]byte("#define a(b b##c\n#define d(e) f(e\n#define f(g) g##\n"), "")
	f.Fuzz(func(t *testing.T, b []byte, word string) {
		defs := definitions(b)
		all, _, anything := shapesOf([]string{"a.h"}, [][]macroDef{defs})
		if anything && len(all) > 0 {
			t.Fatal("shapes and anything")
		}
		for _, x := range all {
			if len(x.Pat) == 0 || len(x.Pat) > maxPieces {
				t.Fatalf("%+v", x)
			}
			x.Pat.fill(word, anyWord)
		}
	})
}
