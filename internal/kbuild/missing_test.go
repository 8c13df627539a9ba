// SPDX-License-Identifier: Apache-2.0

package kbuild

import (
	"testing"

	"github.com/go-quicktest/qt"
)

func TestMissingReadsTheCompilersMessages(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		message string
		want    Missed
	}{
		{"net/a.c:3:9: error: implicit declaration of function 'foo_bar'; did you mean 'foo'? [-Werror=implicit-function-declaration]", Missed{MissedName, "foo_bar", "", "net/a.c", 3}},
		{"net/a.c:3:9: error: 'FOO' undeclared (first use in this function)", Missed{MissedName, "FOO", "", "net/a.c", 3}},
		{"net/a.c:3:9: error: 'struct tc_skb_cb' has no member named 'drop_reason'; did you mean 'x'?", Missed{MissedMember, "drop_reason", "struct tc_skb_cb", "net/a.c", 3}},
		{"net/a.c:3:9: error: 'foo_t' {aka 'struct foo'} has no member named 'b'", Missed{MissedMember, "b", "struct foo", "net/a.c", 3}},
		{"net/a.c:3:9: error: 'const struct foo' has no member named 'b'", Missed{MissedMember, "b", "struct foo", "net/a.c", 3}},
		{"net/a.c:3:10: error: 'struct ops' has no member named 'x'", Missed{MissedMember, "x", "struct ops", "net/a.c", 3}},
		{"net/a.c:3:10: fatal error: net/new.h: No such file or directory", Missed{MissedHeader, "net/new.h", "", "net/a.c", 3}},
		{"net/a.c:3:1: error: unknown type name 'u99'", Missed{MissedType, "u99", "", "net/a.c", 3}},
		{"net/a.c:3:1: error: invalid use of undefined type 'struct foo'", Missed{MissedType, "foo", "", "net/a.c", 3}},
		{"net/a.c:3:1: error: too many arguments to function 'f'", Missed{MissedSameness, "f", "", "net/a.c", 3}},
		{"include/x.h:7:1: error: conflicting types for 'f'; have 'int(int)'", Missed{MissedSameness, "f", "", "include/x.h", 7}},
		{"net/a.c:3:1: error: 'f' defined but not used [-Werror=unused-function]", Missed{MissedName, "f", "", "net/a.c", 3}},
		{"net/a.c:3:1: error: initialization of 'int (*)(int)' from incompatible pointer type 'foo' [-Werror=x]", Missed{"", "foo", "", "net/a.c", 3}},
		{"net/a.c:3:1: error: expected ';' before '}' token", Missed{"", "", "", "net/a.c", 3}},
	} {
		got := Missing("net/a.c: In function 'x':\n" + c.message + "\n    3 | f();\n")
		qt.Check(t, qt.DeepEquals(got, []Missed{c.want}), qt.Commentf("%s", c.message))
	}
	got := Missing("a.c:1:1: error: expected ';'\na.c:2:1: error: 'X' undeclared\na.c:2:1: error: 'X' undeclared\na.c:9: warning: x\n")
	qt.Check(t, qt.DeepEquals(got, []Missed{{MissedName, "X", "", "a.c", 2}, {"", "", "", "a.c", 1}}))
}

func FuzzMissing(f *testing.F) {
	f.Add("net/a.c:3:9: error: 'struct foo' has no member named 'bar'\n")
	f.Add("net/a.c:3: fatal error: x.h: No such file or directory")
	f.Fuzz(func(t *testing.T, s string) {
		for _, m := range Missing(s) {
			if m.File == "" || m.Line < 0 {
				t.Fatalf("%+v", m)
			}
		}
	})
}
