// SPDX-License-Identifier: Apache-2.0

package update

import (
	"testing"

	"github.com/go-quicktest/qt"
)

const oldLayout = `/* of old */
#define ADD(a, b) \
	((a) + (b))	/* sum */
#include  "x.h"   /* for x */
static int
work (int x, char *s)
{
    if (x)	/* why */
        {
          return ADD (x,
                      1);
        }
    s[0] = 'a'; s[1] = '\''; // one line
    return  0;
}
`

const newLayout = `#define ADD(a, b) ((a) + (b))
#include "x.h" // x

static int work(int x, char *s)
{
	if (x) {
		return ADD(x, 1);
	}
	s[0] = 'a';
	s[1] = '\'';
	return 0;
}
`

func TestRespell(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, old, new, want string }{
		{"formatted", oldLayout, newLayout, oldLayout},
		{"one statement", oldLayout, replaceOnce(newLayout, "s[0] = 'a'", "s[0] = 'b'"), replaceOnce(oldLayout, "\n    s[0] = 'a'", "\n\ts[0] = 'b'")},
		{"a string is no layout", "f(\"a  b\");\n", "f(\"a b\");\n", "f(\"a b\");\n"},
		{"tokens are not joined", "a = b - -c;\n", "a = b --c;\n", "a = b --c;\n"},
		{"a macro with parameters is not one without", "#define F(x) y\n", "#define F (x) y\n", "#define F (x) y\n"},
		{"a directive has a line of its own", "int a;\n", "int a;\n#if X\nint b;\n#endif\n", "int a;\n#if X\nint b;\n#endif\n"},
		{"its end may be in another line", "#if A /* one\n two */\nint a;\n#endif\n", "#if A\nint a;\n#endif\n", "#if A /* one\n two */\nint a;\n#endif\n"},
		{"a raw string", "x = R\"a(b  c)a\";\n", "x = R\"a(b c)a\";\n", "x = R\"a(b c)a\";\n"},
		{"nothing left", "int a;\n", "", ""},
		{"nothing before", "", "int a;\n", "int a;\n"},
	} {
		got := string(Respell("x.cc", []byte(c.old), []byte(c.new)))
		qt.Check(t, qt.Equals(got, c.want), qt.Commentf("%s", c.name))
	}
	qt.Check(t, qt.Equals(string(Respell("x.h.in", []byte("{- $a  // 1 -}\nint  a;\n"), []byte("{- $a // 1 -}\nint a;\n"))), "{- $a // 1 -}\nint  a;\n"))
	qt.Check(t, qt.Equals(string(Respell("x.py", []byte("if a:\n  b\n"), []byte("if a:\nb\n"))), "if a:\nb\n"))
	qt.Check(t, qt.IsNil(Respell("x.c", []byte("int a;\n"), nil)))
}

func replaceOnce(s, old, new string) string {
	for i := 0; i+len(old) <= len(s); i++ {
		if s[i:i+len(old)] == old {
			return s[:i] + new + s[i+len(old):]
		}
	}
	panic("nothing to replace")
}

// FuzzRespell: the outcome says what the new text says, token by token, and a
// text that says the same as before comes out as it was.
func FuzzRespell(f *testing.F) {
	f.Add(oldLayout, newLayout)
	f.Add("a\\\nb /* x", "#define a \\\n")
	f.Add("'", "\"\\")
	f.Add("#if 0\n'\n#endif", "#\n##")
	f.Add("R\"(x)\" {-", "1'000 .5e+3")
	f.Fuzz(func(t *testing.T, old, new string) {
		for _, name := range []string{"x.c", "x.h.in"} {
			got := string(Respell(name, []byte(old), []byte(new)))
			if !sameTokens(lex(name, got), lex(name, new)) {
				t.Fatalf("%q respelled as %q is %q", new, old, got)
			}
			if sameTokens(lex(name, old), lex(name, new)) && got != old {
				t.Fatalf("%q says what %q says, and became %q", new, old, got)
			}
		}
	})
}
