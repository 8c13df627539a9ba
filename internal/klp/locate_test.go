// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// Two files of one module, each with a static dup(); the second is cold and so
// in a section of its own, at the same offset 0 as the first. An engine that
// goes by offsets alone gives both the same position.
const (
	dupWarm = `
int warm_calls;
static noinline int dup(int x) { warm_calls++; return x * 3; }
int use_warm(int x) { return dup(x) + 1; }
`
	dupCold = `
int cold_calls;
extern void complain(const char *);
static noinline __cold int dup(int x) { cold_calls++; complain("cold"); return x * 5; }
int use_cold(int x) { return dup(x) + 2; }
`
)

func TestTwoFunctionsOfOneNameInAModuleOneCold(t *testing.T) {
	for _, order := range [][2]string{{dupWarm, dupCold}, {dupCold, dupWarm}} {
		b := newBench(t)
		first, second := b.object(order[0]), b.object(order[1])
		ko := b.module("mod", first, second)
		o := newModuleOwner("mod", b.read(ko))

		for i, file := range []string{first, second} {
			plain := b.read(file)
			l := newLayout(file, o, plain)
			dup := plain.Symbol("dup")
			entry, err := l.find(dup)
			qt.Assert(t, qt.IsNil(err))
			pos, err := o.position(entry)
			qt.Assert(t, qt.IsNil(err))
			// ld -r keeps the order of the files in the symbol table.
			qt.Assert(t, qt.Equals(pos, i+1))
			qt.Assert(t, qt.Equals(entry.at.sec.Name, dup.Section.Name))
			qt.Assert(t, qt.IsNil(l.proveFunction(dup, &Proof{})))

			caller, err := l.find(plain.Symbol(map[bool]string{true: "use_warm", false: "use_cold"}[order[i] == dupWarm]))
			qt.Assert(t, qt.IsNil(err))
			pos, err = o.position(caller)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(pos, 0))
		}
	}
}

func TestFunctionsThatOnlyTheirOrderTellsApart(t *testing.T) {
	// Same names, same bytes, nothing else in the section: the sequence of the
	// object's symbols in the module's table decides.
	const twin = "static noinline __used __cold int twin(int x) { return x; }\n"
	b := newBench(t)
	first := b.object(twin + "int only_first;")
	second := b.object(twin + "static int __used marker;")
	o := newModuleOwner("mod", b.read(b.module("mod", first, second)))
	plain := b.read(second)
	l := newLayout(second, o, plain)
	entry, err := l.find(plain.Symbol("twin"))
	qt.Assert(t, qt.IsNil(err))
	pos, err := o.position(entry)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(pos, 2))

	// Without a marker nothing does, and nothing is guessed.
	o = newModuleOwner("mod", b.read(b.module("mod", first, b.object(twin))))
	plain = b.read(first)
	l = newLayout(first, o, plain)
	_, err = l.find(plain.Symbol("twin"))
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5103")))
}

func TestSectionsOfVmlinuxWithoutAnUniqueName(t *testing.T) {
	// Both names occur twice, the pair at its distance only once.
	const (
		one = "static noinline __used int alpha(int x) { return x + 1; }\nstatic noinline __used int beta(int x) { return x + 2; }\n"
		two = "static noinline __used int beta(int x) { return x + 3; }\nstatic noinline __used int alpha(int x) { return x + 4; }\n"
	)
	b := newBench(t)
	first, second := b.object(one), b.object(two)
	tg := b.target(nil, nil, first, second)
	o, err := tg.owner("")
	qt.Assert(t, qt.IsNil(err))
	for i, file := range []string{first, second} {
		plain := b.read(file)
		l := newLayout(file, o, plain)
		for _, name := range []string{"alpha", "beta"} {
			entry, err := l.find(plain.Symbol(name))
			qt.Assert(t, qt.IsNil(err))
			pos, err := o.position(entry)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(pos, i+1), qt.Commentf("%s of %s", name, file))
		}
	}
}

func TestEqualNamesInVmlinuxAreToldApartByContent(t *testing.T) {
	b := newBench(t)
	first := b.object("static noinline __used int gamma(int x) { return x + 1; }\n")
	second := b.object("static noinline __used int gamma(int x) { return x + 2; }\n")
	tg := b.target(nil, nil, first, second)
	p, err := VerifyObject(tg, second, "", b.read(second))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(p.Functions, 1))
	o, _ := tg.owner("")
	plain := b.read(second)
	entry, err := newLayout(second, o, plain).find(plain.Symbol("gamma"))
	qt.Assert(t, qt.IsNil(err))
	pos, err := o.position(entry)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(pos, 2))
}

func TestEqualVariablesOfVmlinuxAreToldApartByTheCodeThatUsesThem(t *testing.T) {
	const source = "static int count = 1;\nint get_%[1]s(void) { return count; }\nvoid set_%[1]s(int x) { count = x; }\n"
	b := newBench(t)
	first, second := b.object(fmt.Sprintf(source, "one")), b.object(fmt.Sprintf(source, "two"))
	tg := b.target(nil, nil, first, second)
	o, err := tg.owner("")
	qt.Assert(t, qt.IsNil(err))
	for i, file := range []string{first, second} {
		plain := b.read(file)
		entry, err := newLayout(file, o, plain).find(plain.Symbol("count"))
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(entry, o.named("count")[i]), qt.Commentf("%s", file))
	}

	// Code that is not the object's proves nothing.
	other := b.object(strings.Replace(fmt.Sprintf(source, "one"), "return count", "return ++count", 1))
	plain := b.read(other)
	_, err = newLayout(other, o, plain).find(plain.Symbol("count"))
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5103")))
}

func TestAnchorsThatDisagreeAreAnError(t *testing.T) {
	b := newBench(t)
	const a, c = "int anchor_a(int x) { return x + 1; }\n", "int anchor_b(int x) { return x * 7; }\n"
	tg := b.target(nil, nil, b.object(a), b.object("int between(int x) { return x ^ 5; }"), b.object(c))
	joined := b.object(a + c)
	_, err := VerifyObject(tg, joined, "", b.read(joined))
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5104")))
	qt.Assert(t, qt.ErrorMatches(err, ".*anchor_a.*anchor_b.*"))
}

func TestAnObjectThatIsNotInTheTarget(t *testing.T) {
	b := newBench(t)
	tg := b.target(nil, nil, b.object("int here;"))
	stranger := b.object("static noinline __used int stranger(int x) { return x; }")
	_, err := VerifyObject(tg, stranger, "", b.read(stranger))
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5102")))
	_, err = VerifyObject(tg, stranger, "absent", b.read(stranger))
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5101")))
}

func TestWeakDefinitionsThatLostAreNotAnchors(t *testing.T) {
	b := newBench(t)
	weak := b.object("__attribute__((weak)) int choice(int x) { return x; }\nint user(int x) { return choice(x) + 1; }\n")
	strong := b.object("int choice(int x) { return x * 9; }\n")
	tg := b.target(nil, nil, weak, strong)
	p, err := VerifyObject(tg, weak, "", b.read(weak))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(p.Functions, 1), qt.Commentf("the weak one is not in the kernel"))
	qt.Assert(t, qt.Equals(p.Masked, 1), qt.Commentf("__fentry__ is undefined in the fixture"))
}

func TestPositionsCountAsTheKernelDoes(t *testing.T) {
	text := &elfobj.Section{Name: ".text", Flags: 6, Data: make([]byte, 64)}
	init := &elfobj.Section{Name: ".init.text", Flags: 6, Data: make([]byte, 64)}
	debug := &elfobj.Section{Name: ".debug", Data: make([]byte, 64)}
	sym := func(sec *elfobj.Section, off uint64) *elfobj.Symbol {
		return &elfobj.Symbol{Name: "f", Section: sec, Value: off}
	}
	type want struct {
		pos  int
		code code.Code
	}
	for name, c := range map[string]struct {
		syms []*elfobj.Symbol
		of   int
		want want
	}{
		"a unique name has position 0":                     {[]*elfobj.Symbol{sym(text, 0)}, 0, want{0, ""}},
		"undefined symbols do not count":                   {[]*elfobj.Symbol{{Name: "f"}, sym(text, 0)}, 1, want{0, ""}},
		"two core symbols count in order":                  {[]*elfobj.Symbol{sym(text, 32), sym(text, 0)}, 1, want{2, ""}},
		"an init symbol behind changes nothing":            {[]*elfobj.Symbol{sym(text, 0), sym(init, 0)}, 0, want{1, ""}},
		"an init symbol before shifts the position":        {[]*elfobj.Symbol{sym(init, 0), sym(text, 0)}, 1, want{0, "TS5203"}},
		"an absolute symbol before shifts it as well":      {[]*elfobj.Symbol{{Name: "f", Index: 0xfff1}, sym(text, 0)}, 1, want{0, "TS5203"}},
		"a symbol of a section that is not loaded as well": {[]*elfobj.Symbol{sym(debug, 0), sym(text, 0)}, 1, want{0, "TS5203"}},
		"an init symbol itself is gone later":              {[]*elfobj.Symbol{sym(init, 0)}, 0, want{0, "TS5202"}},
	} {
		t.Run(name, func(t *testing.T) {
			o := newModuleOwner("mod", &elfobj.File{Sections: []*elfobj.Section{text, init, debug}, Symbols: c.syms})
			s := c.syms[c.of]
			pos, err := o.position(o.at(place{s.Section, s.Value})[0])
			qt.Assert(t, qt.Equals(code.Of(err), c.want.code))
			qt.Assert(t, qt.Equals(pos, c.want.pos))
		})
	}
}

func TestInitMemoryOfTheKernelIsGone(t *testing.T) {
	b := newBench(t)
	tg := b.target(nil, nil, b.object("int before = 1, __init_begin = 1, gone = 1, __init_end = 1, after = 1;"))
	o, err := tg.owner("")
	qt.Assert(t, qt.IsNil(err))
	for name, want := range map[string]code.Code{"before": "", "gone": "TS5202", "after": ""} {
		_, err := o.position(o.named(name)[0])
		qt.Check(t, qt.Equals(code.Of(err), want), qt.Commentf("%s", name))
	}
}
