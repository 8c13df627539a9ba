// SPDX-License-Identifier: Apache-2.0

package objdiff_test

import (
	"debug/elf"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

const exitBase = `
#define __exit __attribute__((section(".exit.text"), cold, no_instrument_function))
extern void unregister(int);
int running(int x) { return x + 1; }
static __attribute__((noinline)) void __exit part(int n) { unregister(n); unregister(n + 1); }
static void __exit thing_exit(void) { part(1); /*EXIT*/ unregister(2); }
void cleanup_module(void) __attribute__((alias("thing_exit")));
static void * __attribute__((used, section(".exit.data"))) __UNIQUE_ID___addressable_cleanup_module7 = (void *)&cleanup_module;
struct s { int a; } typed;
`

func TestTheExitFunctionOfAModule(t *testing.T) {
	t.Parallel()
	flags := append(slices.Clone(kernelish), "-gbtf")
	orig := build(t, exitBase, flags...)
	for name, edit := range map[string][2]string{
		"itself":       {"/*EXIT*/", "unregister(7);"},
		"a part of it": {"unregister(n + 1)", "unregister(n + 2)"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			patched := build(t, strings.Replace(exitBase, edit[0], edit[1], 1), flags...)
			opt := editable(t, patched)
			r, err := objdiff.Diff(orig, patched, opt)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.HasLen(r.Refusals, 0), qt.Commentf("%v", r.Refusals))
			qt.Check(t, qt.SliceContains(risks(r), "TS8015 cleanup_module"))
			qt.Check(t, qt.DeepEquals(names(r.Changed), []string{"running"}), qt.Commentf("the kernel has to wait for tasks in it"))
			e := checkExtract(t, r)
			sec := e.Edits.Section
			at := func(off uint64) int {
				return slices.IndexFunc(sec.Relocs, func(r elfobj.Reloc) bool { return r.Off == off })
			}
			qt.Check(t, qt.Equals(at(0), -1), qt.Commentf("only the module knows where"))
			qt.Assert(t, qt.IsTrue(at(8) >= 0 && at(16) >= 0))
			qt.Check(t, qt.IsTrue(sec.Relocs[at(8)].Sym.Undefined()))
			now := sec.Relocs[at(16)].Sym
			qt.Check(t, qt.Equals(now.Name, "tsugi_exit"))
			qt.Check(t, qt.Equals(now.Bind, elf.STB_LOCAL))
			qt.Check(t, qt.IsFalse(strings.HasPrefix(now.Section.Name, ".exit")))

			opt.BuiltIn = true // no such code is in the kernel
			r, err = objdiff.Diff(orig, patched, opt)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.HasLen(r.Edits, 0))
		})
	}
}

func TestStaticOnesThatBecomeGlobal(t *testing.T) {
	t.Parallel()
	const src = "STATIC __attribute__((noinline)) int helper(int x) { return x * 3; }\nint user(int x) { return helper(x) + helper(x + 1); }\n"
	flags := append(slices.Clone(kernelish), "-fno-ipa-ra")
	r, err := objdiff.Diff(build(t, src, append(flags, "-DSTATIC=static")...), build(t, src, append(flags, "-DSTATIC=")...), objdiff.Options{})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(r.Refusals, 0), qt.Commentf("%v", r.Refusals))
	qt.Check(t, qt.DeepEquals(r.Opened, []string{"helper"}))
	e, err := r.Extract()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(e.Opened, 1))
	qt.Check(t, qt.Equals(e.Opened[0].Orig.Bind, elf.STB_LOCAL))
}
