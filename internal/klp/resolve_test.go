// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"debug/elf"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/google/go-cmp/cmp"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// A town is a kernel with three modules: fs depends on lib, net on nothing.
type town struct {
	*bench
	*Target
	files map[string]string // source name -> object file
}

var townSources = map[string]string{
	"core.c": `
extern int hidden_global(int);
int clear_relocate_add(int x) { return x; }
noinline int exported(int x) { return x; }
noinline int spaced(int x) { return x; }
static noinline int twice(int x) { return x * 2; }
int twice_user(int x) { return twice(x); }
static int counter;
int patched_core(int x) { return exported(x) + spaced(x) + twice(x) + hidden_global(x) + counter++; }
`,
	"split.c": `
extern void complain(int) __cold;
int split(int x)
{
	if (x == 42) {
		complain(x);
		complain(x + 1);
	}
	return x * 3;
}
`,
	"core2.c": `
void complain(int x) { }
int hidden_global(int x) { return x; }
static noinline int twice(int x) { return x * 22; }
int twice_user2(int x) { return twice(x); }
`,
	"fs.c": `
extern int exported(int), hidden_global(int), lib_call(int), fs_helper(int);
static int fs_count;
int patched_fs(int x) { return exported(x) + lib_call(x) + fs_helper(x) + fs_count++; }
`,
	"fs2.c":  "int fs_helper(int x) { return x; }\nextern int lib_call(int);\nint fs_other(int x) { return lib_call(x); }\n",
	"lib.c":  "int lib_call(int x) { return x; }\n",
	"net.c":  "int net_call(int x) { return x; }\n",
	"grow.c": "int grown(int x) { return x; }\n",
}

func newTown(t testing.TB) *town {
	b := newBench(t)
	v := &town{bench: b, files: map[string]string{}}
	for name, src := range townSources {
		v.files[name] = b.object(src)
	}
	info := func(depends string) string {
		return b.object("char this_module[128] __attribute__((section(\".gnu.linkonce.this_module\")));\n" +
			modinfoSource("license=GPL", "depends="+depends, "vermagic=test "))
	}
	modules := map[string]string{
		"fs":  b.module("fs", v.files["fs.c"], v.files["fs2.c"], info("lib")),
		"lib": b.module("lib", v.files["lib.c"], info("")),
		"net": b.module("net", v.files["net.c"], info("")),
	}
	exports := map[string]kernel.Export{
		"exported": {Module: Vmlinux}, "spaced": {Module: Vmlinux, Namespace: "SPACE"}, "__fentry__": {Module: Vmlinux},
		"lib_call": {Module: "lib"}, "net_call": {Module: "net"},
	}
	v.Target = b.target(modules, exports, v.files["core.c"], v.files["core2.c"], v.files["split.c"])
	return v
}

// input is a change of one function of a file: its new source.
func (v *town) input(file, module, source, function string) Input {
	plain := v.read(v.files[file])
	patched := v.read(v.object(source, "-ffunction-sections", "-fdata-sections"))
	x := extract(v.t, patched, plain, function)
	// What the original has is what the original says of it.
	for i := range x.Refs {
		orig := plain.Symbol(x.Refs[i].Symbol.Name)
		x.Refs[i].Orig = orig
	}
	return Input{Object: strings.TrimSuffix(file, ".c") + ".o", Module: module, Plain: plain, Extract: x}
}

// resolved describes what each undefined symbol of the pieces became.
func resolved(t *Target, inputs ...Input) (map[string]string, []*piece, error) {
	pieces, err := prepare(t, inputs, &Proof{})
	if err != nil {
		return nil, nil, err
	}
	out := map[string]string{}
	for _, p := range pieces {
		for _, s := range p.file.Symbols {
			if !s.Undefined() || s.Name == "__fentry__" {
				continue
			}
			what := "import"
			if k, ok := p.klp[s]; ok {
				what = klpName(k) + " by " + k.rela
			}
			out[s.Name] = what
		}
	}
	return out, pieces, nil
}

// Two drivers may be linked of one object: what a fix brings to it is each
// module's own.
func TestAnObjectOfTwoModules(t *testing.T) {
	v := newTown(t)
	const source = "__attribute__((section(\".text.fs_other\"))) noinline int shared_helper(int x) { return x + 1; }\nint fs_other(int x) { return shared_helper(x) + 7; }\n"
	plain := v.read(v.files["fs2.c"])
	modules := v.Module
	v.Module = func(name string) ([]byte, error) {
		if name == "fs_vf" { // a second module, of the same object
			name = "fs"
		}
		return modules(name)
	}
	input := func(module string) Input {
		patched := v.read(v.object(source, "-ffunction-sections", "-fdata-sections"))
		x := extract(v.t, patched, plain, "fs_other")
		return Input{Object: "fs2.o", Module: module, Plain: plain, Extract: x}
	}
	pieces, err := prepare(v.Target, []Input{input("fs"), input("fs_vf")}, &Proof{})
	qt.Assert(t, qt.IsNil(err))
	var helpers []string
	for _, p := range pieces {
		for _, s := range p.file.Symbols {
			if strings.HasSuffix(s.Name, "shared_helper") && s.Section != nil && s.Bind != elf.STB_LOCAL {
				helpers = append(helpers, p.object()+" "+s.Name)
			}
		}
	}
	qt.Assert(t, qt.DeepEquals(helpers, []string{"fs shared_helper", "fs_vf tsugi_new_1_shared_helper"}))

	_, err = prepare(v.Target, []Input{input("fs"), input("fs")}, &Proof{})
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5303")))
}

func klpName(k klpSym) string { return k.object + "." + k.name + "," + string(rune('0'+k.pos)) }

func TestWhatSymbolsBecome(t *testing.T) {
	v := newTown(t)
	core := v.input("core.c", "", townSources["core.c"], "patched_core")
	got, pieces, err := resolved(v.Target, core)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.CmpEquals(got, map[string]string{
		"exported":      "import",
		"spaced":        "import",
		"twice":         "vmlinux.twice,1 by vmlinux",
		"counter":       "vmlinux.counter,0 by vmlinux",
		"hidden_global": "vmlinux.hidden_global,0 by vmlinux",
	}, cmp.Options{}))
	qt.Assert(t, qt.DeepEquals(namespaces(pieces), []string{"SPACE"}))

	fs := v.input("fs.c", "fs", townSources["fs.c"], "patched_fs")
	got, _, err = resolved(v.Target, fs)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.CmpEquals(got, map[string]string{
		"exported":  "import",
		"lib_call":  "lib.lib_call,0 by fs",
		"fs_helper": "fs.fs_helper,0 by fs",
		"fs_count":  "fs.fs_count,0 by fs",
	}, cmp.Options{}))
}

func TestNewReferencesOfAFix(t *testing.T) {
	v := newTown(t)
	fs := func(call string) Input {
		src := strings.Replace(townSources["fs.c"], "exported(x) +", call+"(x) +", 1)
		return v.input("fs.c", "fs", "extern int "+call+"(int);\n"+src, "patched_fs")
	}
	core := func(call string) Input {
		src := strings.Replace(townSources["core.c"], "return exported(x) +", "return "+call+"(x) +", 1)
		return v.input("core.c", "", "extern int "+call+"(int);\n"+src, "patched_core")
	}
	grow := func(module string) Input {
		in := v.input("core2.c", "", townSources["core2.c"]+"int grown(int x) { return x + 1; }", "twice_user2")
		if module == "fs" {
			in = v.input("fs2.c", "fs", townSources["fs2.c"]+"int grown(int x) { return x + 1; }", "fs_other")
		}
		// The differ keeps new functions: put it back.
		f := v.read(v.object("int grown(int x) { return x + 1; }"))
		in.Extract.File.Sections = append(in.Extract.File.Sections, f.Section(".text"))
		in.Extract.File.Symbols = append(in.Extract.File.Symbols, f.Symbol("grown"), f.Symbol("__fentry__"))
		in.Extract.Refs = append(in.Extract.Refs, objdiff.Ref{Symbol: f.Symbol("__fentry__")})
		return in
	}
	second := func(in Input) Input {
		in.Object = "second.o"
		return in
	}
	for name, c := range map[string]struct {
		inputs []Input
		symbol string
		want   string
		code   code.Code
	}{
		"a module may use an unexported global of the kernel":    {[]Input{fs("hidden_global")}, "hidden_global", "vmlinux.hidden_global,0 by vmlinux", ""},
		"a static function of another file is not a global":      {[]Input{fs("twice")}, "", "", "TS5201"},
		"a module may not use one that it does not depend on":    {[]Input{fs("net_call")}, "", "", "TS5206"},
		"the kernel may not use a module":                        {[]Input{core("lib_call")}, "", "", "TS5207"},
		"nothing defines it":                                     {[]Input{core("nowhere")}, "", "", "TS5201"},
		"another file of the fix brings it":                      {[]Input{core("grown"), grow("")}, "grown", "import", ""},
		"a module may use what the kernel's part brings":         {[]Input{fs("grown"), grow("")}, "grown", "import", ""},
		"the kernel may not use what a module's part brings":     {[]Input{core("grown"), grow("fs")}, "", "", "TS5207"},
		"the same object twice":                                  {[]Input{core("exported"), core("exported")}, "", "", "TS5303"},
		"two files that bring the same global":                   {[]Input{grow("fs"), second(grow("fs"))}, "", "", "TS5303"},
		"the kernel and a module each bring one of a name":       {[]Input{grow(""), grow("fs"), fs("grown")}, "tsugi_new_1_grown", "import", ""},
		"the first example of a new reference, to be sure of it": {[]Input{core("spaced")}, "spaced", "import", ""},
	} {
		t.Run(name, func(t *testing.T) {
			got, _, err := resolved(v.Target, c.inputs...)
			qt.Assert(t, qt.Equals(code.Of(err), c.code), qt.Commentf("%v", err))
			if c.code == "" {
				qt.Assert(t, qt.Equals(got[c.symbol], c.want))
			}
		})
	}
}

// What one object of a fix brings, and another gives away, must not be unloaded
// either. Neither object alone shows it.
func TestAddressesOfAnotherPieceKeepTheModule(t *testing.T) {
	v := newTown(t)
	for pointer, want := range map[bool][]string{false: nil, true: {"core.o: grown"}} {
		user := v.input("core.c", "", "extern int grown(int);\n"+strings.Replace(townSources["core.c"], "exported(x) +", "grown(x) +", 1), "patched_core")
		for i := range user.Extract.Refs {
			user.Extract.Refs[i].Pointer = pointer && user.Extract.Refs[i].Symbol.Name == "grown"
		}
		f := v.read(v.object("int grown(int x) { return x + 1; }"))
		brings := v.input("core2.c", "", townSources["core2.c"], "twice_user2")
		brings.Extract.File.Sections = append(brings.Extract.File.Sections, f.Section(".text"))
		brings.Extract.File.Symbols = append(brings.Extract.File.Symbols, f.Symbol("grown"), f.Symbol("__fentry__"))
		brings.Extract.Refs = append(brings.Extract.Refs, objdiff.Ref{Symbol: f.Symbol("__fentry__")})
		_, pieces, err := resolved(v.Target, user, brings)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.DeepEquals(stays(pieces), want))
	}
}

func TestAWeakReferenceMayStayUndefined(t *testing.T) {
	v := newTown(t)
	src := strings.Replace(townSources["core.c"], "exported(x) +", "(maybe ? maybe(x) : 0) +", 1)
	in := v.input("core.c", "", "extern int maybe(int) __attribute__((weak));\n"+src, "patched_core")
	got, _, err := resolved(v.Target, in)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got["maybe"], "import"))
}

func TestASymbolOfWhichNothingIsSaid(t *testing.T) {
	v := newTown(t)
	in := v.input("core.c", "", townSources["core.c"], "patched_core")
	in.Extract.Refs = in.Extract.Refs[1:]
	_, _, err := resolved(v.Target, in)
	qt.Assert(t, qt.ErrorMatches(err, ".*nothing says what symbol .* stands for"))
}

func TestAnAmbiguousGlobalIsRefused(t *testing.T) {
	v := newTown(t)
	for _, s := range v.Symbols {
		if s.Name == "hidden_global" {
			s.Addr += 4
			v.Symbols = append(v.Symbols, s)
			break
		}
	}
	_, _, err := resolved(v.Target, v.input("core.c", "", townSources["core.c"], "patched_core"))
	// The object's own reference tells too: vmlinux has one definition only.
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5204")))
}

func TestAFunctionThatNoPointerMayLeadTo(t *testing.T) {
	v := newTown(t)
	o, err := v.owner("")
	qt.Assert(t, qt.IsNil(err))
	at := o.named("hidden_global")[0].at
	for name, c := range map[string]struct {
		tracked, sealed, newPointer bool
		want                        code.Code
	}{
		"a kernel without branch tracking":      {false, false, true, ""},
		"a call":                                {true, true, false, ""},
		"a new pointer to a sealed function":    {true, true, true, "TS5205"},
		"a new pointer to one without an ENDBR": {true, false, true, "TS5205"},
	} {
		t.Run(name, func(t *testing.T) {
			v.sealed = map[string]seals{"": {tracked: c.tracked, places: map[place]bool{at: c.sealed}}}
			in := v.input("core.c", "", townSources["core.c"], "patched_core")
			for i := range in.Extract.Refs {
				in.Extract.Refs[i].NewPointer = c.newPointer && in.Extract.Refs[i].Symbol.Name == "hidden_global"
			}
			_, _, err := resolved(v.Target, in)
			qt.Assert(t, qt.Equals(code.Of(err), c.want))
			if c.want != "" {
				qt.Assert(t, qt.ErrorMatches(err, ".*hidden_global.*patched_core.*ENDBR.*"))
			}
		})
	}
}

// A static function that a fix makes global is found by its place, also when
// its own object changes no more than that.
func TestWhatWasStaticAndBecomesGlobal(t *testing.T) {
	v := newTown(t)
	user := v.input("core2.c", "", strings.Replace(townSources["core2.c"], "static noinline int twice(int x) { return x * 22; }", "extern int opened(int);", 1)+
		"int twice(int x) { return opened(x); }", "twice")
	user.Extract.Replaced = nil
	for i := range user.Extract.Refs {
		user.Extract.Refs[i].Orig = nil
	}
	empty := Input{Object: "core.o", Plain: v.read(v.files["core.c"]), Extract: objdiff.Extract{File: &elfobj.File{Machine: elf.EM_X86_64, Order: elf.ELFDATA2LSB}}}
	_, _, err := resolved(v.Target, user, empty)
	qt.Assert(t, qt.Equals(code.Of(err), "TS5201"))
	empty.Extract.Opened = []objdiff.Opened{{Name: "opened", Orig: empty.Plain.Symbol("counter")}}
	got, pieces, err := resolved(v.Target, user, empty)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(got["opened"], "vmlinux.counter,0 by vmlinux"))
	qt.Check(t, qt.HasLen(pieces, 1), qt.Commentf("the other has nothing to bring"))
}

func TestAFunctionWithAnEndbrMayBePointedAt(t *testing.T) {
	b := newBench(t)
	file := b.object("int open(int x) { return x; }\n", "-fcf-protection=branch")
	tg := b.target(nil, nil, file)
	o, err := tg.owner("")
	qt.Assert(t, qt.IsNil(err))
	tg.sealed = map[string]seals{"": {tracked: true}}
	r := &resolver{target: tg}
	err = r.sealed(&piece{in: &Input{}, file: b.read(file)}, o, nil, o.named("open")[0], objdiff.Ref{NewPointer: true})
	qt.Assert(t, qt.IsNil(err))
}

// What an edited table leads to is called by a pointer, and keeps the module in
// memory.
func TestATableLeadsWhereAPointerMay(t *testing.T) {
	for flag, want := range map[string]code.Code{"-fcf-protection=branch": "", "-fcf-protection=none": "TS5205"} {
		b := newBench(t)
		file := b.object("int open(int x) { return x; }\n", flag)
		tg := b.target(nil, nil, file)
		o, err := tg.owner("")
		qt.Assert(t, qt.IsNil(err))
		f := b.read(file)
		table := &elfobj.Section{Data: make([]byte, objdiff.EditSize), Relocs: []elfobj.Reloc{
			{Off: 0, Type: uint32(elf.R_X86_64_64), Sym: &elfobj.Symbol{Name: "target"}},
			{Off: 16, Type: uint32(elf.R_X86_64_64), Sym: f.Symbol("open")},
		}}
		p := &piece{in: &Input{Object: "x.o"}, layout: &layout{owner: o}, file: f, edits: &elfobj.Symbol{Section: table, Size: objdiff.EditSize}}
		tg.sealed = map[string]seals{"": {tracked: true}}
		qt.Check(t, qt.Equals(code.Of(tg.landings(p)), want))
		tg.sealed = map[string]seals{"": {}}
		qt.Check(t, qt.IsNil(tg.landings(p)))
		qt.Check(t, qt.DeepEquals(stays([]*piece{p}), []string{"x.o: an edited table"}))
		table.Relocs[1].Sym = &elfobj.Symbol{Name: "target_function"}
		p.linked = map[*elfobj.Symbol]*elfobj.Symbol{table.Relocs[1].Sym: f.Symbol("open")} // another piece's
		tg.sealed = map[string]seals{"": {tracked: true}}
		qt.Check(t, qt.Equals(code.Of(tg.landings(p)), want))
		qt.Check(t, qt.DeepEquals(stays([]*piece{p}), []string{"x.o: an edited table"}))
		p.linked = nil
		qt.Check(t, qt.HasLen(stays([]*piece{p}), 0))
		p.in.Extract.Lent = []string{"a string in probe"}
		qt.Check(t, qt.DeepEquals(stays([]*piece{p}), []string{"x.o: a string in probe"}))
	}
}

func TestSealedFunctionsOfAModule(t *testing.T) {
	b := newBench(t)
	ko := b.module("mod", b.object(`
static noinline __used int sealed(int x) { return x; }
int open(int x) { return sealed(x); }
asm(".pushsection .ibt_endbr_seal, \"a\"\n.long sealed - .\n.popsection");
`))
	tg := b.target(map[string]string{"mod": ko}, nil, b.object("int core;"))
	o, err := tg.owner("mod")
	qt.Assert(t, qt.IsNil(err))
	s, err := tg.seals(o)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(len(s.places), 1))
	qt.Assert(t, qt.IsTrue(s.places[o.named("sealed")[0].at]))
}

func TestKeyOwners(t *testing.T) {
	v := newTown(t)
	undefined := func(name string) *elfobj.Symbol { return &elfobj.Symbol{Name: name} }
	defined := &elfobj.Symbol{Name: "fs_count", Section: &elfobj.Section{}}
	for _, c := range []struct {
		module string
		sym    *elfobj.Symbol
		want   objdiff.Owner
	}{
		{"", undefined("hidden_global"), objdiff.OwnerKernel},
		{"fs", undefined("hidden_global"), objdiff.OwnerKernel},
		{"fs", undefined("fs_helper"), objdiff.OwnerModule},
		{"fs", undefined("lib_call"), objdiff.OwnerModule},
		{"fs", defined, objdiff.OwnerModule},
		{"", defined, objdiff.OwnerKernel},
		{"fs", undefined("nowhere"), objdiff.OwnerUnknown},
	} {
		qt.Check(t, qt.Equals(v.KeyOwner(c.module)(c.sym), c.want), qt.Commentf("%q %s", c.module, c.sym.Name))
	}
}

func TestLinkNames(t *testing.T) {
	v := newTown(t)
	one := v.input("core.c", "", townSources["core.c"], "patched_core")
	two := v.input("core2.c", "", townSources["core2.c"], "twice_user2")
	pieces, err := prepare(v.Target, []Input{one, two}, &Proof{})
	qt.Assert(t, qt.IsNil(err))
	ln := name(v.Target, pieces, nil)
	// Both files have a static twice(), and so the link needs two names.
	var positions []int
	for n, k := range ln.klp {
		if k.name == "twice" {
			positions = append(positions, k.pos)
			qt.Check(t, qt.IsTrue(n == "twice" || strings.HasPrefix(n, "tsugi_sym_")), qt.Commentf("%s", n))
		}
	}
	slices.Sort(positions)
	qt.Assert(t, qt.DeepEquals(positions, []int{1, 2}))
	_, kept := ln.klp["hidden_global"]
	qt.Assert(t, qt.IsTrue(kept), qt.Commentf("a name that is free stays"))
}

func TestTables(t *testing.T) {
	v := newTown(t)
	core := v.input("core.c", "", townSources["core.c"], "patched_core")
	fs := v.input("fs.c", "fs", townSources["fs.c"], "patched_fs")
	hook := func(in *Input, kind objdiff.HookKind, name string) {
		for _, s := range in.Extract.File.Symbols {
			if s.Name == in.Extract.Replaced[0].New.Name && s.Section != nil {
				c := *s
				c.Name = name
				in.Extract.File.Symbols = append(in.Extract.File.Symbols, &c)
				in.Extract.Hooks = append(in.Extract.Hooks, objdiff.Hook{Kind: kind, Symbol: &c})
				return
			}
		}
	}
	state := func(in *Input, id uint64, version uint32) {
		data := binary.LittleEndian.AppendUint64(nil, id)
		data = binary.LittleEndian.AppendUint64(data, uint64(version))
		sec := &elfobj.Section{Name: ".rodata.state", Type: 1, Flags: 2, Align: 8, Data: append(data, make([]byte, 8)...)}
		sym := &elfobj.Symbol{Name: "state", Section: sec, Type: 1}
		in.Extract.File.Sections = append(in.Extract.File.Sections, sec)
		in.Extract.File.Symbols = append(in.Extract.File.Symbols, sym)
		in.Extract.Hooks = append(in.Extract.Hooks, objdiff.Hook{Kind: objdiff.HookState, Symbol: sym})
	}
	hook(&core, objdiff.HookPrePatch, "prepare_core")
	hook(&core, objdiff.HookPostUnpatch, "undo_core")
	state(&core, 7, 1)
	state(&fs, 7, 3)
	pieces, err := prepare(v.Target, []Input{fs, core}, &Proof{})
	qt.Assert(t, qt.IsNil(err))
	ln := name(v.Target, pieces, nil)
	got, err := writeTables(Options{Name: "x", Description: "a \"fix\" for ü\n", Info: map[string]string{"version": "2"}}, pieces, ln)
	qt.Assert(t, qt.IsNil(err))
	golden(t, "tables.c", got)
}
