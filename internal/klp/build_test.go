// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/kimage"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

// kbuild does what Kbuild does to a module's directory, with headers that hold
// just what the module's own part needs.
func (v *town) kbuild(ctx context.Context, dir string) ([]byte, error) {
	here, err := os.Getwd()
	if err != nil {
		return nil, err
	}
	mod := "#include <linux/module.h>\nstruct module __this_module __attribute__((section(\".gnu.linkonce.this_module\")));\n" +
		modinfoSource("depends=", "name="+filepath.Base(dir), "vermagic=test ")
	if err := os.WriteFile(filepath.Join(dir, "mod.c"), []byte(prelude+mod), 0o600); err != nil {
		return nil, err
	}
	objects := []string{"-r", "-o", filepath.Base(dir) + ".ko"}
	b := &bench{t: v.t, dir: dir}
	for _, c := range []string{"livepatch-tables", "mod"} {
		b.run("gcc", "-c", "-O2", "-mcmodel=kernel", "-fno-pic", "-fcf-protection=none", "-ffreestanding", "-fno-asynchronous-unwind-tables",
			"-I", filepath.Join(here, "testdata/include"), "-o", c+".o", c+".c")
		objects = append(objects, c+".o")
	}
	shipped, err := filepath.Glob(filepath.Join(dir, "*.o_shipped"))
	if err != nil {
		return nil, err
	}
	b.run("ld", append(objects, shipped...)...)
	return nil, nil
}

func (v *town) inputs() []Input {
	for _, name := range []string{
		"klp_enable_patch", "klp_get_prev_state", "vmap", "vunmap", "vmalloc_to_page", "virt_to_page", "stop_machine",
		"_printk",
	} {
		v.Exports[name] = kernel.Export{Module: Vmlinux, GPL: true}
	}
	v.Link = v.kbuild
	return []Input{
		v.input("fs.c", "fs", strings.Replace(townSources["fs.c"], "fs_count++", "fs_count--", 1), "patched_fs"),
		v.input("core2.c", "", strings.Replace(townSources["core2.c"], "return twice(x)", "return 1 + twice(x)", 1), "twice_user2"),
		v.input("core.c", "", strings.Replace(townSources["core.c"], "counter++", "counter--", 1), "patched_core"),
	}
}

func TestBuild(t *testing.T) {
	v := newTown(t)
	inputs := v.inputs()
	t.Setenv("TMPDIR", t.TempDir())
	m, err := Build(t.Context(), v.Target, Options{Name: "tsugi_test", Description: "test"}, inputs)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(m.Warnings, 0))

	var functions, symbols []string
	for _, f := range m.Functions {
		functions = append(functions, fmt.Sprintf("%s:%s %s,%d", f.Object, f.File, f.Name, f.SymPos))
	}
	for _, s := range m.Symbols {
		symbols = append(symbols, fmt.Sprintf("%s.%s,%d", s.Object, s.Name, s.SymPos))
	}
	qt.Assert(t, qt.DeepEquals(functions, []string{
		"fs:fs.o patched_fs,0", "vmlinux:core2.o twice_user2,0", "vmlinux:core.o patched_core,0",
	}))
	qt.Assert(t, qt.DeepEquals(symbols, []string{
		"fs.fs_count,0", "fs.fs_helper,0", "lib.lib_call,0",
		"vmlinux.counter,0", "vmlinux.hidden_global,0", "vmlinux.twice,1", "vmlinux.twice,2",
	}))
	qt.Assert(t, qt.Equals(m.Proof.Functions, 3))

	// The tables point at the new functions and name the old ones.
	f, err := elfobj.Read(m.KO)
	qt.Assert(t, qt.IsNil(err))
	var table []string
	for _, r := range f.Section(".data").Relocs {
		if r.Sym.Section != nil && r.Sym.Section.Exec() && r.Sym.Type != elf.STT_SECTION { // callbacks are the module's own
			table = append(table, r.Sym.Name)
		}
	}
	slices.Sort(table)
	qt.Assert(t, qt.DeepEquals(table, []string{"patched_core", "patched_fs", "twice_user2"}))
	for _, s := range f.Symbols {
		qt.Check(t, qt.IsFalse(strings.HasPrefix(s.Name, "tsugi_new_") || strings.HasPrefix(s.Name, "tsugi_sym_")), qt.Commentf("%s", s.Name))
	}

	again, err := Build(t.Context(), v.Target, Options{Name: "tsugi_test", Description: "test"}, inputs)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(bytes.Equal(m.KO, again.KO)), qt.Commentf("the same inputs, the same bytes"))

	signed, err := Build(t.Context(), v.Target, Options{Name: "tsugi_test", Description: "test", Sign: func(ko []byte) ([]byte, error) {
		return append(ko, "signature"...), nil
	}}, inputs)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(string(signed.KO), string(m.KO)+"signature"))
	leftovers(t)
}

func leftovers(t *testing.T) {
	t.Helper()
	left, err := os.ReadDir(os.Getenv("TMPDIR"))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(left, 0))
}

func TestBuildsThatFail(t *testing.T) {
	failed := errors.New("the signer is away")
	for name, c := range map[string]struct {
		change func(v *town, opts *Options, in []Input) []Input
		code   code.Code
		is     error
	}{
		"a name that the kernel does not take": {func(_ *town, o *Options, in []Input) []Input { o.Name = "a-b"; return in }, "TS5301", nil},
		"nothing to replace": {func(_ *town, _ *Options, in []Input) []Input {
			in[0].Extract.Replaced = nil
			return in[:1]
		}, "TS5302", nil},
		"the link fails": {func(v *town, _ *Options, in []Input) []Input {
			v.Link = func(context.Context, string) ([]byte, error) { return nil, code.New("TS5304", "", "") }
			return in
		}, "TS5304", nil},
		"the link makes nothing": {func(v *town, _ *Options, in []Input) []Input {
			v.Link = func(context.Context, string) ([]byte, error) { return nil, nil }
			return in
		}, "TS5304", os.ErrNotExist},
		"the link makes something else": {func(v *town, _ *Options, in []Input) []Input {
			v.Link = func(_ context.Context, dir string) ([]byte, error) {
				return nil, os.WriteFile(filepath.Join(dir, filepath.Base(dir)+".ko"), []byte("?"), 0o600)
			}
			return in
		}, "TS5304", nil},
		"modpost warns": {func(v *town, _ *Options, in []Input) []Input {
			v.Link = func(ctx context.Context, dir string) ([]byte, error) {
				_, err := v.kbuild(ctx, dir)
				return []byte("WARNING: modpost: x: section mismatch\n"), err
			}
			return in
		}, "TS5305", nil},
		"no module can be signed": {func(_ *town, o *Options, in []Input) []Input {
			o.Sign = func([]byte) ([]byte, error) { return nil, failed }
			return in
		}, "", failed},
		"the running code is another": {func(_ *town, _ *Options, in []Input) []Input {
			s := in[0].Plain.Symbol("patched_fs")
			s.Section.Data[s.Value+s.Size-1] ^= 1
			return in
		}, "TS5106", nil},
		"init code": {func(_ *town, _ *Options, in []Input) []Input {
			in[0].Extract.File.Sections[0].Name = ".init.text"
			return in
		}, "TS5209", nil},
	} {
		t.Run(name, func(t *testing.T) {
			v := newTown(t)
			opts := Options{Name: "tsugi_test"}
			inputs := v.inputs()
			t.Setenv("TMPDIR", t.TempDir())
			inputs = c.change(v, &opts, inputs)
			m, err := Build(t.Context(), v.Target, opts, inputs)
			qt.Assert(t, qt.IsNotNil(err))
			qt.Assert(t, qt.IsNil(m))
			qt.Assert(t, qt.Equals(code.Of(err), c.code), qt.Commentf("%v", err))
			if c.is != nil {
				qt.Assert(t, qt.ErrorIs(err, c.is))
			}
			leftovers(t)
		})
	}
}

func TestAnInterruptedLinkLeavesNothing(t *testing.T) {
	v := newTown(t)
	inputs := v.inputs()
	t.Setenv("TMPDIR", t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	kbuild := KbuildLinker([]string{"-f", "Kbuild"})
	v.Link = func(ctx context.Context, dir string) ([]byte, error) {
		cancel()
		return kbuild(ctx, dir)
	}
	_, err := Build(ctx, v.Target, Options{Name: "tsugi_test"}, inputs)
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS9102")))
	leftovers(t)
}

func TestKernelsThatLeaveAddressesBehind(t *testing.T) {
	v := newTown(t)
	v.Symbols = slices.DeleteFunc(v.Symbols, func(s kimage.Symbol) bool { return s.Name == "clear_relocate_add" })
	_, err := Build(t.Context(), v.Target, Options{Name: "tsugi_test"}, v.inputs())
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5201")))

	v = newTown(t)
	v.Symbols = slices.DeleteFunc(v.Symbols, func(s kimage.Symbol) bool { return s.Name == "clear_relocate_add" })
	v.Symbols = append(v.Symbols, kimage.Symbol{Name: "text_poke", Type: 'T', Addr: 1 << 63}, kimage.Symbol{Name: "text_mutex", Type: 'D', Addr: 1<<63 + 8})
	for _, c := range []struct {
		inputs []Input
		want   bool
	}{{v.inputs(), true}, {v.inputs()[1:], false}} {
		pieces, err := prepare(v.Target, c.inputs, &Proof{})
		qt.Assert(t, qt.IsNil(err))
		own, err := v.ownSymbols(pieces)
		qt.Assert(t, qt.IsNil(err))
		ln := name(v.Target, pieces, own)
		source, err := writeTables(Options{Name: "x"}, pieces, ln)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(strings.Contains(source, ".callbacks.post_unpatch = tsugi_post_unpatch_fs"), c.want))
		qt.Assert(t, qt.Equals(strings.Contains(source, "\ttsugi_clear_relocs(obj);\n"), c.want))
		qt.Assert(t, qt.IsFalse(strings.Contains(source, "tsugi_post_unpatch_vmlinux")))
		_, named := ln.klp["text_poke"]
		qt.Assert(t, qt.Equals(named, c.want))

		// A callback that refuses the module must not leave its addresses:
		// the kernel would refuse it for good.
		for _, p := range pieces {
			p.hooks = append(p.hooks, hook{objdiff.HookPrePatch, p.funcs[0].new})
		}
		source, err = writeTables(Options{Name: "x"}, pieces, ln)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.Equals(strings.Contains(source, "\tif (ret) {\n\t\ttsugi_clear_relocs(obj);\n\t\treturn ret;\n"), c.want))
	}
}

func TestTwoReplacedFunctionsOfOneName(t *testing.T) {
	v := newTown(t)
	v.inputs() // for what they set up
	pair := []Input{
		v.input("core2.c", "", strings.Replace(townSources["core2.c"], "x * 22", "x * 23", 1), "twice"),
		v.input("core.c", "", strings.Replace(townSources["core.c"], "x * 2;", "x * 3;", 1), "twice"),
	}
	m, err := Build(t.Context(), v.Target, Options{Name: "tsugi_test"}, pair)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals([]int{m.Functions[0].SymPos, m.Functions[1].SymPos}, []int{2, 1}))
	qt.Assert(t, qt.DeepEquals([]string{m.Functions[0].Name, m.Functions[1].Name}, []string{"twice", "twice"}))

	// Each entry of the table leads to its own code.
	f, err := elfobj.Read(m.KO)
	qt.Assert(t, qt.IsNil(err))
	var code []string
	for _, r := range f.Section(".data").Relocs {
		if s := r.Sym; s.Name == "twice" {
			code = append(code, fmt.Sprintf("% x", s.Section.Data[s.Value:s.Value+s.Size]))
		}
	}
	qt.Assert(t, qt.HasLen(code, 2))
	qt.Assert(t, qt.IsTrue(strings.Contains(code[0], "6b c7 17")), qt.Commentf("imul $23: %s", code[0]))
	qt.Assert(t, qt.IsTrue(strings.Contains(code[1], "8d 04 7f")), qt.Commentf("lea (rdi,rdi,2): %s", code[1]))
}

func TestColdPartsBelongToTheirFunction(t *testing.T) {
	v := newTown(t)
	v.inputs() // for what they set up
	in := v.input("split.c", "", strings.Replace(townSources["split.c"], "x * 3", "x * 5", 1), "split")
	cold := in.Extract.File.Symbol("split.cold")
	qt.Assert(t, qt.IsNotNil(cold), qt.Commentf("the compiler splits it"))
	qt.Assert(t, qt.Not(qt.Equals(cold.Section, in.Extract.File.Symbol("split").Section)))
	m, err := Build(t.Context(), v.Target, Options{Name: "tsugi_test"}, []Input{in})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(m.Proof.Bytes > int(in.Plain.Symbol("split").Size)), qt.Commentf("the original's cold part is proven too"))

	f, err := elfobj.Read(m.KO)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(f.Symbol("split.cold")))
	qt.Assert(t, qt.IsNil(f.Section(".text.unlikely.split")))
	text := f.Section(".text.split")
	var jumps, calls []uint64
	for _, s := range f.Sections {
		for _, r := range s.Relocs {
			switch {
			case s == text && r.Sym.Section == text:
				jumps = append(jumps, r.Sym.Value+uint64(r.Addend)+4)
			case s.Target == text && r.Sym.Name == ".klp.sym.vmlinux.complain,1":
				calls = append(calls, r.Off)
			}
		}
	}
	fn := f.Symbol("split")
	qt.Assert(t, qt.HasLen(calls, 2))
	for _, at := range calls {
		qt.Assert(t, qt.IsTrue(at >= fn.Value+fn.Size), qt.Commentf("%#x lies behind the function's warm part", at))
	}
	// Into the cold part and back again.
	qt.Assert(t, qt.HasLen(jumps, 2))
	qt.Assert(t, qt.IsTrue(max(jumps[0], jumps[1]) >= fn.Value+fn.Size && min(jumps[0], jumps[1]) < fn.Value+fn.Size))
	qt.Assert(t, qt.IsTrue(max(jumps[0], jumps[1]) <= calls[0]))
}

func TestNewFunctionsThatNoCallerShows(t *testing.T) {
	v := newTown(t)
	v.inputs() // for what they set up
	source := `
extern int hidden_global(int);
static noinline int called(int x) { return hidden_global(x) + 1; }
static noinline int jumped_to(int x) { return hidden_global(x) * 3; }
static noinline int pointed_at(int x) { return hidden_global(x) * 7; }
int (*hook)(int) = pointed_at;
int exported(int x);
int patched_core(int x) { x += called(x); return jumped_to(x + (hook ? 1 : 0)); }
`
	plain := v.read(v.files["core.c"])
	patched := v.read(v.object(source, "-ffunction-sections", "-fdata-sections"))
	x := extract(t, patched, plain, "patched_core")
	// The differ keeps what is new; take the whole file.
	x.File, x.Refs = patched, nil
	for _, s := range patched.Symbols {
		if s.Undefined() {
			x.Refs = append(x.Refs, objdiff.Ref{Symbol: s, Orig: plain.Symbol(s.Name)})
		}
	}
	patched.Symbol("patched_core").Bind = elf.STB_LOCAL
	x.Replaced[0].New = patched.Symbol("patched_core")
	patched.Sections = slices.DeleteFunc(patched.Sections, func(s *elfobj.Section) bool { return s.Flags&elf.SHF_ALLOC == 0 })
	patched.RemoveSymbols(func(s *elfobj.Symbol) bool {
		return s.Section != nil && !slices.Contains(patched.Sections, s.Section)
	})
	m, err := Build(t.Context(), v.Target, Options{Name: "tsugi_test"}, []Input{{Object: "core.o", Plain: plain, Extract: x}})
	qt.Assert(t, qt.IsNil(err))
	f, err := elfobj.Read(m.KO)
	qt.Assert(t, qt.IsNil(err))
	for name, separate := range map[string]bool{"called": true, "jumped_to": false, "pointed_at": false} {
		qt.Check(t, qt.Equals(f.Symbol(name) != nil, separate), qt.Commentf("%s", name))
		qt.Check(t, qt.Equals(f.Section(".text."+name) != nil, separate), qt.Commentf("%s", name))
	}
	// The pointer leads to where the function is now.
	text, host := f.Section(".text.patched_core"), f.Symbol("patched_core")
	hook := f.Symbol("hook")
	for _, r := range hook.Section.Relocs {
		if r.Off == hook.Value {
			to := r.Sym.Value + uint64(r.Addend)
			qt.Check(t, qt.Equals(r.Sym.Section, text))
			qt.Check(t, qt.IsTrue(to >= host.Value+host.Size && to%16 == 0), qt.Commentf("%#x", to))
		}
	}
}
