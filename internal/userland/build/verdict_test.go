// SPDX-License-Identifier: Apache-2.0

package build

import (
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// edit is a fixture of one unit and what a fix makes of it.
type edit struct {
	name     string
	fixture  fixture
	was      string
	from, to string
	changed  string    // functions in the splice
	refused  code.Code // or the code of a refusal
}

var pic = []string{"-fPIC"}

var edits = []edit{
	{name: "a static function", was: counter, from: "return x + table", to: "if (x > 100) abort(); return x + table", changed: "step"},
	{name: "an exported function", was: counter, from: "return calls;", to: "return calls + 1;", changed: "total"},
	{
		name: "a new function", was: counter, from: "int total(void) { return calls; }",
		to: "__attribute__((noinline)) static int more(int x) { return x * 3 + calls; }\nint total(void) { return more(calls); }", changed: "total",
	},
	{name: "a new string", was: counter, from: "char *p =", to: "if (!strcmp(s, \"nothing of the kind\")) return 0; char *p =", changed: "copy"},
	{name: "only lines move", was: "#include <assert.h>\nint f(int x) { assert(x); return x; }\n", from: "int f", to: "#line 2\nint f", changed: ""},
	{name: "the initial value of a variable", was: "int level = 3;\nint f(void) { return level; }\n", from: "level = 3", to: "level = 4", refused: "TS4010"},
	{name: "the size of a variable", was: "int level[2] = {1, 2};\nint f(int i) { return level[i]; }\n", from: "level[2] = {1, 2", to: "level[3] = {1, 2, 3", refused: "TS4011"},
	{name: "a new thread-local variable", was: "int f(int x) { return x; }\n", from: "int f(int x) { return", to: "static __thread int n;\nint f(int x) { n++; return n +", refused: "TS4050"},
	{name: "a function with a thread-local variable", was: "static __thread int n;\nint f(int x) { n++; return n + x; }\n", from: "n + x", to: "n + x + 1", changed: "f"},
	{name: "a constructor", was: "int n;\n__attribute__((constructor)) static void first(void) { n = 1; }\nint f(void) { return n; }\n", from: "n = 1", to: "n = 2", refused: "TS4002"},
	{name: "a new constructor", was: "int n;\nint f(void) { return n; }\n", from: "int f", to: "__attribute__((constructor)) static void first(void) { n = 1; }\nint f", refused: "TS4013"},
	{name: "a new destructor", was: "int n;\nint f(void) { return n; }\n", from: "int f", to: "__attribute__((destructor)) static void last(void) { n = 1; }\nint f", refused: "TS4013"},
	{
		name: "a resolver", was: "int two(void) { return 2; }\nstatic int one(void) { return 1; }\nstatic void *choose(void) { return one; }\nint f(void) __attribute__((ifunc(\"choose\")));\n",
		from: "return one;", to: "return two;", refused: "TS4002",
	},
	{
		name: "what an indirect function may be", was: "__attribute__((noinline)) static int one(void) { return 1; }\nstatic void *choose(void) { return one; }\nint f(void) __attribute__((ifunc(\"choose\")));\n",
		from: "return 1;", to: "return 7;", changed: "one",
	},
	{name: "a struct that grows", was: "struct s { int a; int b; };\nint f(struct s *p) { return p->b; }\n", from: "int a;", to: "int a; int c;", refused: "TS4030"},
	{
		name: "a struct of C++ that grows", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was: "namespace n { struct s { int a; int b; }; }\nextern \"C\" int f(n::s *p) { return p->b; }\n", from: "int a;", to: "int a; int c;", refused: "TS4030",
	},
	{
		name: "a new virtual function", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was: "struct s { virtual int a(); virtual int b(); };\nextern \"C\" int f(s *p) { return p->b(); }\n", from: "virtual int a();", to: "virtual int a(); virtual int c();", refused: "TS4030",
	},
	{
		name: "a function of C++", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was: "namespace n { __attribute__((noinline)) int f(int x) { return x; } }\nint g(int x) { return n::f(x) + 1; }\n", from: "{ return x; }", to: "{ return x * 5; }", changed: "_ZN1n1fEi",
	},
	{
		name: "where an exception stops", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was: "void h(int);\nint f(int x) { try { h(x); } catch (int y) { return y; } return x; }\n", from: "return y;", to: "return y + 1;", refused: "TS4054",
	},
	{
		name: "which exception stops there", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was: "void h(int);\nint f(int x) { try { h(x); } catch (int) { return 0; } return x; }\n", from: "catch (int)", to: "catch (long)", refused: "TS4054",
	},
	{
		name: "what an exception passes", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was: "int h(int);\nint f(int x) { return h(x) + 1; }\n", from: "+ 1", to: "+ 2", refused: "TS4057",
	},
	{
		name: "a call through a pointer", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was: "int f(int x, int (*h)(int)) { return h(x) + 1; }\n", from: "+ 1", to: "+ 2", refused: "TS4057",
	},
	{
		name: "what no exception passes", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was:  "#include <string.h>\n__attribute__((noinline)) static int h(const char *s) { return s[0] + strlen(s); }\nint f(const char *s) { return h(s) + 1; }\n",
		from: "+ 1", to: "+ 2", changed: "_Z1fPKc",
	},
	{
		name: "an exception of a function that is left", fixture: fixture{lang: ".cc", flags: []string{"-fPIC", "-g", "-femit-class-debug-always"}},
		was: "int h(int);\nint f(int x) { return h(x + 1); }\n", from: "+ 1", to: "+ 2", changed: "_Z1fi",
	},
	{name: "nothing", was: counter, from: "static int calls;", to: "static int calls; /* how often */", changed: ""},
	{name: "in a program", fixture: fixture{program: true, flags: []string{"-fPIE"}, link: []string{"-pie"}}, was: counter + "int main(void) { return total(); }\n", from: "return x + table", to: "return 1 + x + table", changed: "step"},
	{name: "in a program of fixed addresses", fixture: fixture{program: true, flags: []string{"-fno-pie"}, link: []string{"-no-pie"}}, was: counter + "int main(void) { return total(); }\n", from: "return x + table", to: "return 1 + x + table", changed: "step"},
	{name: "behind endbr64", fixture: fixture{flags: []string{"-fPIC", "-fcf-protection=full"}}, was: counter, from: "return calls;", to: "return calls + 1;", changed: "total"},
}

func TestVerdicts(t *testing.T) {
	for _, e := range edits {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			f := e.fixture
			if f.flags == nil {
				f.flags = pic
			}
			f.strip = true
			qt.Assert(t, qt.Equals(strings.Count(e.was, e.from), 1))
			l, units := f.build(t, map[string]string{"a": e.was}, map[string]string{"a": strings.Replace(e.was, e.from, e.to, 1)})
			r, err := Splice(l, units, Options{})
			qt.Assert(t, qt.IsNil(err))
			if e.refused != "" {
				qt.Assert(t, qt.IsNil(r.Splice))
				qt.Assert(t, qt.IsTrue(len(r.Refusals) > 0))
				qt.Check(t, qt.Equals(r.Refusals[0].Code, e.refused), qt.Commentf("%v", r.Refusals[0]))
				return
			}
			qt.Assert(t, qt.HasLen(r.Refusals, 0), qt.Commentf("%v", r.Refusals))
			if e.changed == "" {
				qt.Assert(t, qt.IsNil(r.Splice))
				return
			}
			qt.Assert(t, qt.IsNotNil(r.Splice))
			qt.Check(t, qt.Equals(names(r.Splice), e.changed))
			qt.Check(t, qt.Equals(r.Splice.Functions[0].Skip, map[bool]uint32{true: 4}[e.name == "behind endbr64"]))
			encoded, err := r.Splice.Encode()
			qt.Assert(t, qt.IsNil(err))
			_, err = splice.Decode(encoded)
			qt.Check(t, qt.IsNil(err))
		})
	}
}

func TestStaticFunctionsOfOneNameAreToldApart(t *testing.T) {
	unit := func(n string) string {
		return "int hidden_" + n + ";\n__attribute__((noinline)) static int same(int x) { return x + 1; }\nint use_" + n + "(int x) { return same(x) * 3; }\n"
	}
	f := &fixture{flags: pic, strip: true}
	l, units := f.build(t, map[string]string{"a": unit("a"), "b": unit("b")}, map[string]string{"b": strings.Replace(unit("b"), "x + 1", "x + 2", 1)})
	want := uint64(0)
	for _, s := range l.Symbols {
		if s.Name == "same" && s.Source == "b.c" {
			want = s.Value
		}
	}
	qt.Assert(t, qt.Not(qt.Equals(want, 0)))
	r, err := Splice(l, units, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNotNil(r.Splice))
	qt.Check(t, qt.Equals(r.Splice.Functions[0].Old, want))
	// Without names of sources, what stands around tells them apart.
	for i := range l.Symbols {
		l.Symbols[i].Source = ""
	}
	r, err = Splice(l, units, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(r.Splice.Functions[0].Old, want))
}

func TestOtherCodeThanWasCompiledIsAnError(t *testing.T) {
	f := &fixture{flags: pic}
	l, units := f.build(t, map[string]string{"a": counter}, map[string]string{"a": strings.Replace(counter, "return calls;", "return calls + 1;", 1)})
	other := &fixture{flags: append([]string{"-O1"}, pic...)}
	_, wrong := other.build(t, map[string]string{"a": strings.Replace(counter, "return calls;", "return calls + 9;", 1)},
		map[string]string{"a": strings.Replace(counter, "return calls;", "return calls + 1;", 1)})
	_, err := Splice(l, wrong, Options{})
	qt.Check(t, qt.Equals(code.Of(err), "TS3511"), qt.Commentf("%v", err))
	l.Symbols = nil // of what is exported, dynamic symbols tell
	r, err := Splice(l, units, Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(names(r.Splice), "total"))
}
