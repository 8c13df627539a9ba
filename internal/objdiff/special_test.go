// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/layout"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// specialBase uses the kernel's special sections the way its headers do, in
// own words: a jump label, a static call, an alternative, a bug, an exception
// table entry.
const specialBase = `
extern int printk(const char *, ...);
extern char boot_key[16];
char own_key[16] = { 1 };
char __tracepoint_thing[32];
extern int __SCT__callee(int);
extern char __SCK__callee[16];
#define JUMP(key) asm volatile goto("1: .byte 0x0f,0x1f,0x44,0,0\n" \
  ".pushsection __jump_table,\"aw\"\n.balign 8\n.long 1b - ., %l[yes] - .\n.quad " key " - .\n.popsection" :::: yes)
#define BUG(line) asm volatile("1: ud2\n.pushsection __bug_table,\"aw\"\n.long 1b - .\n.long file - .\n.word " line "\n.word 0\n.popsection")
#define ALT(feature) asm volatile("661: call other\n662:\n.pushsection .altinstructions,\"a\"\n.long 661b - .\n.long 663f - .\n.word " feature "\n.byte 662b-661b\n.byte 664f-663f\n.popsection\n" \
  ".pushsection .altinstr_replacement,\"ax\"\n663: call better\n664:\n.popsection")
#define EX(type) asm volatile("1: movl (%%rdi),%%eax\n2:\n.pushsection __ex_table,\"a\"\n.balign 4\n.long 1b - .\n.long 2b - .\n.long " type "\n.popsection" ::: "eax")
asm(".pushsection .rodata.file,\"a\"\nfile: .string \"in.c\"\n.popsection");
int labelled(int x) { JUMP("boot_key"); return x; yes: return printk("on"); }
int self_labelled(int x) { JUMP("own_key"); return x; yes: return printk("on"); }
int traced(int x) { JUMP("__tracepoint_thing"); return x; yes: return printk("trace"); }
int buggy(int x) { if (x) BUG("11"); return x; }
int alternative(int x) { ALT("5"); return x; }
int guarded(int *x) { EX("1"); return 0; }
int calls(int x) { return __SCT__callee(x) + 1; }
asm(".pushsection .static_call_sites,\"aw\"\n.long calls + 5 - .\n.long __SCK__callee - .\n.popsection");
`

func TestSpecialEntriesBelongToFunctions(t *testing.T) {
	flags := append([]string{"-std=gnu11"}, kernelish...)
	for name, tc := range map[string]struct {
		old, new string
		changed  []string
		kept     map[string]int
	}{
		"another static key is a change":         {`JUMP("boot_key"); return x; yes: return printk("on")`, `JUMP("boot_key+8"); return x; yes: return printk("on")`, []string{"labelled"}, map[string]int{"__jump_table": 1}},
		"a line in the bug table is none":        {`BUG("11")`, `BUG("12")`, nil, nil},
		"another CPU feature is a change":        {`ALT("5")`, `ALT("6")`, []string{"alternative"}, map[string]int{".altinstructions": 1}},
		"another replacement is a change":        {`call better`, `call best`, []string{"alternative"}, map[string]int{".altinstructions": 1}},
		"another fixup type is a change":         {`EX("1")`, `EX("3")`, []string{"guarded"}, map[string]int{"__ex_table": 1}},
		"a function brings only its own entries": {`if (x) BUG("11"); return x`, `if (x) BUG("11"); return x + 1`, []string{"buggy"}, map[string]int{"__bug_table": 1}},
		"a static call site goes along":          {`__SCT__callee(x) + 1`, `__SCT__callee(x) + 2`, []string{"calls"}, map[string]int{".static_call_sites": 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			src := strings.Replace(specialBase, tc.old, tc.new, 1)
			qt.Assert(t, qt.Not(qt.Equals(src, specialBase)))
			r, err := objdiff.Diff(build(t, specialBase, flags...), build(t, src, flags...), objdiff.Options{})
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.DeepEquals(names(r.Changed), tc.changed), qt.Commentf("%+v", r.Changed))
			if tc.changed == nil {
				return
			}
			e := checkExtract(t, r)
			for _, s := range []string{"__jump_table", "__bug_table", ".altinstructions", "__ex_table", ".static_call_sites"} {
				sec, n := e.File.Section(s), 0
				if sec != nil {
					n = len(sec.Data) / map[string]int{"__jump_table": 16, "__bug_table": 12, ".altinstructions": 12, "__ex_table": 12, ".static_call_sites": 8}[s]
				}
				qt.Check(t, qt.Equals(n, tc.kept[s]), qt.Commentf("%s", s))
			}
		})
	}
}

func TestStaticKeysOfAModule(t *testing.T) {
	flags := append([]string{"-std=gnu11"}, kernelish...)
	inModule := objdiff.Options{KeyOwner: func(s *elfobj.Symbol) objdiff.Owner {
		if s.Defined() || s.Name == "__SCK__callee" {
			return objdiff.OwnerModule
		}
		return objdiff.OwnerKernel
	}}
	diff := func(t *testing.T, fn string) *objdiff.Result {
		i := strings.Index(specialBase, "int "+fn+"(int x)")
		src := specialBase[:i] + strings.Replace(specialBase[i:], "return x", "return x + 9", 1)
		src = strings.Replace(src, "(x) + 1;", "(x) + 1 + 0;", 1)
		r, err := objdiff.Diff(build(t, specialBase, flags...), build(t, src, flags...), inModule)
		qt.Assert(t, qt.IsNil(err))
		return r
	}
	t.Run("a key of the kernel stays", func(t *testing.T) {
		r := diff(t, "labelled")
		qt.Assert(t, qt.HasLen(r.Refusals, 0))
		qt.Assert(t, qt.IsNotNil(checkExtract(t, r).File.Section("__jump_table")))
	})
	t.Run("the module's own key is tested in place", func(t *testing.T) {
		r := diff(t, "self_labelled")
		qt.Assert(t, qt.DeepEquals(risks(r), []string{"TS8020 self_labelled"}))
		qt.Assert(t, qt.IsNil(checkExtract(t, r).File.Section("__jump_table")))
	})
	t.Run("and refused with the rewrite where the function can't be laid out anew", func(t *testing.T) {
		src := strings.Replace(specialBase, `int self_labelled(int x) { JUMP("own_key"); return x;`,
			`int self_labelled(int x) { JUMP("own_key"); return x;`, 1) +
			`asm(".pushsection .data.inside,\"aw\"\n.globl pointing\n.type pointing,@object\n.size pointing,8\npointing: .quad self_labelled+5\n.popsection");`
		r, err := objdiff.Diff(build(t, src, flags...), build(t, strings.Replace(src, `JUMP("own_key"); return x`, `JUMP("own_key"); return x + 9`, 1), flags...), inModule)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.DeepEquals(codes(r), []string{"TS4020 self_labelled"}))
		qt.Assert(t, qt.StringContains(r.Refusals[0].Fix, "static_key_enabled"))
		_, err = r.Extract()
		qt.Assert(t, qt.ErrorIs(err, objdiff.ErrRefused))
	})
	t.Run("so is a tracepoint of the module", func(t *testing.T) {
		r := diff(t, "traced")
		qt.Assert(t, qt.DeepEquals(risks(r), []string{"TS8020 traced"}))
	})
	t.Run("a static call of a module goes through its trampoline", func(t *testing.T) {
		src := strings.Replace(specialBase, "(x) + 1;", "(x) + 3;", 1)
		r, err := objdiff.Diff(build(t, specialBase, flags...), build(t, src, flags...), inModule)
		qt.Assert(t, qt.IsNil(err))
		e := checkExtract(t, r)
		qt.Assert(t, qt.IsNil(e.File.Section(".static_call_sites")))
		qt.Assert(t, qt.DeepEquals(r.Special, []objdiff.Kept{
			{Section: ".static_call_sites", Function: "calls", Dropped: 1},
			{Section: "__mcount_loc", Function: "calls", Entries: 1},
		}))
	})
}

func TestAcceptedRefusalsBecomeRisks(t *testing.T) {
	src := edit(t, "sysctl_max = 100", "sysctl_max = 200", "calls += x;", "calls += x + 1;")
	r, err := objdiff.Diff(build(t, base, kernelish...), build(t, src, kernelish...), objdiff.Options{
		Accept: func(p *code.Problem) bool { return p.Code == "TS4010" && p.Where == "sysctl_max" },
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsFalse(r.Refused()))
	qt.Assert(t, qt.DeepEquals(risks(r), []string{"TS4010 sysctl_max"}))
	e := checkExtract(t, r)
	qt.Assert(t, qt.HasLen(e.Replaced, 1))
}

func TestPointersToReplacedFunctionsMeanTheOriginal(t *testing.T) {
	src := `extern void take(int (*)(int)); extern int ext(int);
__attribute__((noinline)) int target(int x) { return ext(x) + %d; }
int caller(int x) { take(target); return target(x) + %d; }
`
	r, err := objdiff.Diff(build(t, fmt.Sprintf(src, 1, 1), kernelish...), build(t, fmt.Sprintf(src, 2, 2), kernelish...), objdiff.Options{})
	qt.Assert(t, qt.IsNil(err))
	e := checkExtract(t, r)
	qt.Assert(t, qt.HasLen(e.Replaced, 2))
	pointers := 0
	for _, ref := range e.Refs {
		if ref.Symbol.Name == "target" {
			qt.Assert(t, qt.IsTrue(ref.Pointer && !ref.NewPointer))
			qt.Assert(t, qt.Equals(ref.Orig.Name, "target"))
			pointers++
		}
	}
	qt.Assert(t, qt.Equals(pointers, 1))
	calls := 0
	for _, rel := range e.File.Section(".text.caller").Relocs {
		if rel.Sym.Name == "target" && rel.Sym.Defined() {
			calls++
		}
	}
	qt.Assert(t, qt.Equals(calls, 1), qt.Commentf("the call goes to the new code"))
}

func TestLoadTimeCodeIsRefused(t *testing.T) {
	src := `extern int now(void); static int state;
__attribute__((constructor)) static void setup(void) { state = now() + %d; }
static int impl(void) { return state; }
static int (*resolve(void))(void) { return now() + %d ? impl : 0; }
int indirect(void) __attribute__((ifunc("resolve")));
`
	flags := []string{"-O2", "-fPIC", "-ffunction-sections"}
	orig := build(t, fmt.Sprintf(src, 1, 1), flags...)
	r, err := objdiff.Diff(orig, build(t, fmt.Sprintf(src, 2, 1), flags...), objdiff.Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(codes(r), []string{"TS4002 setup"}))
	r, err = objdiff.Diff(orig, build(t, fmt.Sprintf(src, 1, 2), flags...), objdiff.Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(r.Refusals, 1), qt.Commentf("%+v", r.Changed))
	qt.Assert(t, qt.Equals(r.Refusals[0].Code, code.Code("TS4002")))
}

func TestEmptyObjectsKeepAnAddress(t *testing.T) {
	src := `struct key {}; extern void init(void *, const char *, struct key *, int);
void start(void *p) { static struct key __key; init(p, "lock", &__key, %d); }
`
	r, err := objdiff.Diff(build(t, fmt.Sprintf(src, 1), kernelish...), build(t, fmt.Sprintf(src, 2), kernelish...), objdiff.Options{})
	qt.Assert(t, qt.IsNil(err))
	e := checkExtract(t, r)
	for _, rel := range e.File.Section(".text.start").Relocs {
		if s := rel.Sym.Section; s != nil {
			qt.Check(t, qt.Not(qt.Equals(s.Size(), 0)), qt.Commentf("%s", s.Name))
		}
	}
}

func TestDiffRefusesObjectsOfDifferentMachines(t *testing.T) {
	a := build(t, "int x;")
	b := build(t, "int x;")
	b.Flags = 7
	_, err := objdiff.Diff(a, b, objdiff.Options{})
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS1002")))
}

func TestDiffRefusesObjectsWithoutCode(t *testing.T) {
	a := build(t, "int f(int x) { return x; }", "-O2", "-flto")
	_, err := objdiff.Diff(a, a, objdiff.Options{})
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS1003")))
}

// FuzzDiff feeds damaged objects: no panic, and error or result.
func FuzzDiff(f *testing.F) {
	bytesOf := func(src string, more ...string) []byte {
		data, err := build(f, src, append(slices.Clone(kernelish), more...)...).Bytes()
		qt.Assert(f, qt.IsNil(err))
		return data
	}
	small := `extern int e(int); static int n; int a(int x) { return e(x) + n++; } int b(int x) { return a(x); }`
	f.Add(bytesOf(small), bytesOf(strings.Replace(small, "n++", "n--", 1)))
	f.Add(bytesOf(specialBase), bytesOf(specialBase))
	f.Add(bytesOf(strings.ReplaceAll(labelsSource, "EDIT", "1")), bytesOf(strings.ReplaceAll(labelsSource, "EDIT", "2")))
	f.Add(bytesOf(editBase, "-gbtf"), bytesOf(strings.Replace(editBase, ".close = second", ".close = other", 1), "-gbtf"))
	f.Add(bytesOf(exitBase, "-gbtf"), bytesOf(strings.Replace(exitBase, "/*EXIT*/", "unregister(7);", 1), "-gbtf"))
	if extra, err := os.ReadFile(os.Getenv("TSUGI_FUZZ_OBJECT")); err == nil {
		f.Add(extra, extra)
	}
	f.Fuzz(func(t *testing.T, x, y []byte) {
		a, err := elfobj.Read(x)
		if err != nil {
			return
		}
		b, err := elfobj.Read(y)
		if err != nil {
			return
		}
		opt := objdiff.Options{KeyOwner: func(*elfobj.Symbol) objdiff.Owner { return objdiff.OwnerModule }}
		if s := b.Section(".BTF"); s != nil {
			if types, err := layout.Parse(s.Data); err == nil {
				opt.Field = types.Field
			}
		}
		r, err := objdiff.Diff(a, b, opt)
		if (r == nil) == (err == nil) {
			t.Fatal("a result and an error exclude each other")
		}
		if err != nil || r.Refused() {
			return
		}
		if e, err := r.Extract(); err == nil {
			if _, err := e.File.Bytes(); err != nil {
				t.Fatalf("an extract can't be written: %v", err)
			}
		}
	})
}
