// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

const comparedSource = `
extern int callee(int), other(int);
extern int shared;
static int table[4] = { 1, 2, 3, 4 };
static const char *const names[] = { "one", "two" };
int compared(int x)
{
	const char *s = "a string of this function";
	for (; *s; s++)
		x += callee(*s) + table[x & 3] + names[x & 1][0];
	return x + shared;
}
int second(int x) { return other(x) + table[1]; }
`

const comparedRest = "int callee(int x) { return x; }\nint other(int x) { return x; }\nint shared;\n"

// Every bit of every function matters: whatever is changed in the object, the
// target is no longer the same.
func TestEveryChangedByteIsFound(t *testing.T) {
	b := newBench(t)
	file := b.object(comparedSource)
	rest := b.object(comparedRest)
	ko := b.module("mod", file, rest)
	tg := b.target(map[string]string{"mod": ko}, nil, file, rest)
	for _, module := range []string{"", "mod"} {
		good := b.read(file)
		p, err := VerifyObject(tg, file, module, good)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(p.Functions, 2))
		qt.Assert(t, qt.IsTrue(p.Exact > 5), qt.Commentf("%+v", p))

		text := good.Section(".text")
		inField := func(off uint64) bool {
			return slices.ContainsFunc(text.Relocs, func(r elfobj.Reloc) bool { return off >= r.Off && off < r.Off+fieldSize(r.Type) })
		}
		for _, fn := range []*elfobj.Symbol{good.Symbol("compared"), good.Symbol("second")} {
			for off := fn.Value; off < fn.Value+fn.Size; off++ {
				if inField(off) {
					continue
				}
				bad := b.read(file)
				bad.Section(".text").Data[off] ^= 0x10
				_, err := VerifyObject(tg, file, module, bad)
				qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5106")), qt.Commentf("%q: %s+%#x", module, fn.Name, off-fn.Value))
			}
		}
		for i, r := range text.Relocs {
			if r.Sym.Name == "__fentry__" {
				continue // nothing defines it in the fixture
			}
			bad := b.read(file)
			bad.Section(".text").Relocs[i].Addend += 8
			if r.Sym.Section != nil && r.Sym.Section.Flags&elf.SHF_STRINGS != 0 {
				bad.Section(".text").Relocs[i].Addend -= 7
			}
			_, err := VerifyObject(tg, file, module, bad)
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5106")), qt.Commentf("%q: relocation %d to %s", module, i, r.Sym.Name))
		}
	}
}

func TestAnotherCalleeIsFound(t *testing.T) {
	b := newBench(t)
	file := b.object(comparedSource)
	rest := b.object(comparedRest)
	tg := b.target(map[string]string{"mod": b.module("mod", file, rest)}, nil, file, rest)
	for _, module := range []string{"", "mod"} {
		bad := b.read(file)
		callee, other := bad.Symbol("callee"), bad.Symbol("other")
		callee.Name, other.Name = other.Name, callee.Name
		_, err := VerifyObject(tg, file, module, bad)
		qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5106")))
		qt.Assert(t, qt.ErrorMatches(err, ".*(compared|second).*(callee|other).*"))
	}
}

func TestAJumpLabelMayBeAJumpOrANop(t *testing.T) {
	const label = `
extern void slow(void);
extern int key;
int labelled(int x)
{
	asm goto("1:\tINSN\n\t"
		".pushsection __jump_table, \"aw\"\n\t.long 1b - ., %l[yes] - .\n\t.quad %c0 - .\n\t.popsection"
		: : "i" (&key) : : yes);
	return x;
yes:
	slow();
	return x + 1;
}
asm(".pushsection .text.unlikely\nfar:\nfarther:\n\tnop\n\t.popsection");
`
	b := newBench(t)
	object := func(insn string) string { return b.object(strings.Replace(label, "INSN", insn, 1)) }
	rest := b.object("void slow(void) { }\nint key;\n")
	const nop, jump, other = ".byte 0x0f,0x1f,0x44,0,0", ".byte 0xe9,1,0,0,0", ".byte 0xe9,2,0,0,0"
	const short, cold, colder = ".byte 0xeb,0,0x90,0x90,0x90", ".byte 0xe9; .long far - . - 4", ".byte 0xe9; .long farther - . - 3"
	for _, c := range []struct {
		target, source string
		want           code.Code
	}{
		{nop, nop, ""},
		{nop, jump, ""},
		{jump, nop, ""},
		{nop, cold, ""}, // with a relocation that the target does not have
		{cold, nop, ""},
		{cold, cold, ""},
		{nop, short, "TS5106"}, // another length
		{jump, other, "TS5106"},
		{cold, colder, "TS5106"},
	} {
		built, file := object(c.target), object(c.source)
		tg := b.target(map[string]string{"mod": b.module("mod", built, rest)}, nil, built, rest)
		for _, module := range []string{"", "mod"} {
			_, err := VerifyObject(tg, file, module, b.read(file))
			qt.Check(t, qt.Equals(code.Of(err), c.want), qt.Commentf("%q: source %s, target %s: %v", module, c.source, c.target, err))
			if c.target == c.source || c.want != "" {
				continue
			}
			// Where the table has no entry the same difference is one.
			plain := b.read(file)
			plain.Section("__jump_table").Relocs = nil
			_, err = VerifyObject(tg, file, module, plain)
			qt.Check(t, qt.Equals(code.Of(err), code.Code("TS5106")), qt.Commentf("%q: source %s, target %s", module, c.source, c.target))
		}
	}
}

func TestFunctionsThatFtraceCannotRedirect(t *testing.T) {
	b := newBench(t)
	file := b.object("int traced(int x) { return x; }\n__attribute__((no_instrument_function)) int hidden(int x) { return x; }\n")
	tg := b.target(nil, nil, file)
	o, _ := tg.owner("")
	plain := b.read(file)
	l := newLayout(file, o, plain)
	qt.Assert(t, qt.IsNil(l.proveFunction(plain.Symbol("traced"), &Proof{})))
	err := l.proveFunction(plain.Symbol("hidden"), &Proof{})
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5107")))
}

// FuzzVerify changes an object and a module at will: comparing ends with an answer.
func FuzzVerify(f *testing.F) {
	b := newBench(f)
	file := b.object(comparedSource)
	rest := b.object(comparedRest)
	tg := b.target(nil, nil, file, rest)
	f.Add(b.bytes(file), b.bytes(b.module("mod", file, rest)))
	f.Fuzz(func(t *testing.T, raw, ko []byte) {
		plain, err := elfobj.Read(raw)
		if err != nil {
			return
		}
		target := &Target{
			Name: "test", Image: tg.Image, Symbols: tg.Symbols,
			Module: func(string) ([]byte, error) { return ko, nil },
		}
		for _, module := range []string{"", "mod"} {
			p, err := VerifyObject(target, "x.o", module, plain)
			if err == nil && p.Bytes < 0 {
				t.Fatal("neither an error nor a proof")
			}
		}
	})
}

// FuzzPrepare makes pieces of extracts that a differ would not write.
func FuzzPrepare(f *testing.F) {
	v := newTown(f)
	in := v.input("fs.c", "fs", townSources["fs.c"], "patched_fs")
	raw, err := in.Extract.File.Bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(raw)
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := elfobj.Read(raw)
		if err != nil {
			return
		}
		x := objdiff.Extract{File: file}
		for _, s := range file.Symbols {
			switch orig := in.Plain.Symbol(s.Name); {
			case s.Undefined():
				x.Refs = append(x.Refs, objdiff.Ref{Symbol: s, Orig: orig, NewPointer: true})
			case orig != nil && s.Type == elf.STT_FUNC:
				x.Replaced = append(x.Replaced, objdiff.Replacement{Orig: orig, New: s})
			default:
				x.Hooks = append(x.Hooks, objdiff.Hook{Kind: objdiff.HookState, Symbol: s})
			}
		}
		pieces, err := prepare(v.Target, []Input{{Object: "fs.o", Module: "fs", Plain: in.Plain, Extract: x}}, &Proof{})
		if err != nil || len(pieces) == 0 {
			return
		}
		ln := name(v.Target, pieces, nil)
		if err := pieces[0].joinCold(ln); err != nil {
			return
		}
		pieces[0].joinReached(ln)
		if _, err := writeTables(Options{Name: "x"}, pieces, ln); err != nil {
			return
		}
		_, _ = pieces[0].file.Bytes()
	})
}
