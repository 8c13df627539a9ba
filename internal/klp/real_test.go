// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/include"
	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/fix"
	"github.com/tsugi-project/tsugi/internal/kbuild"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/progress"
	"github.com/tsugi-project/tsugi/internal/testenv"
)

// Real kernels, from the store of targets. Objects are compiled once and kept
// there; the first run of these tests takes minutes.

const (
	target61  = testenv.Demo
	target612 = testenv.IBT
)

type real struct {
	*Target
	t      testing.TB
	kernel *kernel.Target
}

func realTarget(t testing.TB, name string) *real {
	t.Helper()
	k := testenv.Kernel(t, name)
	tg, err := ForKernel(k)
	qt.Assert(t, qt.IsNil(err))
	return &real{tg, t, k}
}

// compile gives the plain and the split compile of an object, by way of a fix
// that changes nothing.
func (r *real) compile(object, module string) (plain, split *elfobj.File) {
	r.t.Helper()
	source := strings.TrimSuffix(object, ".o") + ".c"
	old, err := os.ReadFile(filepath.Join(r.kernel.Source, source))
	qt.Assert(r.t, qt.IsNil(err))
	f, err := fix.Parse("nothing", fix.Unified(source, old, append(old[:len(old):len(old)], "/* nothing */\n"...)))
	qt.Assert(r.t, qt.IsNil(err))
	pairs, err := kbuild.Compile(r.t.Context(), r.kernel, f,
		[]kbuild.Object{{Path: object, Source: source, Module: module}}, kbuild.Options{}, progress.Discard)
	qt.Assert(r.t, qt.IsNil(err))
	read := func(path string) *elfobj.File {
		raw, err := os.ReadFile(path)
		qt.Assert(r.t, qt.IsNil(err))
		o, err := elfobj.Read(raw)
		qt.Assert(r.t, qt.IsNil(err))
		return o
	}
	return read(pairs[0].Plain), read(pairs[0].Orig)
}

// input is an object with some functions "changed" to what they are.
func (r *real) input(object, module string, functions ...string) Input {
	plain, split := r.compile(object, module)
	return Input{Object: object, Module: module, Plain: plain, Extract: extract(r.t, split, plain, functions...)}
}

func TestRealFunctionsAreTheRunningCode(t *testing.T) {
	for _, c := range []struct {
		target, object, module string
		functions              int // at least
	}{
		{target61, "net/netfilter/nf_tables_api.o", "nf_tables", 228},
		{target61, "fs/ext4/mballoc.o", "ext4", 70},
		{target61, "kernel/fork.o", "", 60},
		{target61, "security/apparmor/label.o", "", 45},
		{target612, "net/netfilter/nf_tables_api.o", "nf_tables", 218},
		{target612, "net/ipv4/tcp_input.o", "", 85},
	} {
		t.Run(c.target+" "+c.object, func(t *testing.T) {
			r := realTarget(t, c.target)
			plain, _ := r.compile(c.object, c.module)
			p, err := VerifyObject(r.Target, c.object, c.module, plain)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsTrue(p.Functions >= c.functions), qt.Commentf("%+v", p))
			qt.Assert(t, qt.IsTrue(p.Masked*20 <= p.Exact), qt.Commentf("nearly every reference is compared: %+v", p))
		})
	}
}

func TestRealSourceOfAnotherVersionIsFound(t *testing.T) {
	r := realTarget(t, target61)
	plain, _ := r.compile("fs/ext4/mballoc.o", "ext4")
	s := plain.Symbol("ext4_mb_load_buddy_gfp")
	s.Section.Data = bytes.Clone(s.Section.Data)
	s.Section.Data[s.Value+s.Size-1] ^= 1
	_, err := VerifyObject(r.Target, "fs/ext4/mballoc.o", "ext4", plain)
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5106")))
	qt.Assert(t, qt.ErrorMatches(err, ".*ext4_mb_load_buddy_gfp.*offset 0x.*"))
}

func TestRealModules(t *testing.T) {
	for name, c := range map[string]struct {
		target string
		inputs func(r *real) []Input
		size   int // at most
	}{
		"6.1 one function of vmlinux": {target61, func(r *real) []Input {
			return []Input{r.input("kernel/fork.o", "", "mm_access")}
		}, 20 << 10},
		"6.1 vmlinux and two modules": {target61, func(r *real) []Input {
			return []Input{
				r.input("net/netfilter/nf_tables_api.o", "nf_tables", "nf_tables_abort", "nft_request_module", "nf_tables_dump_rules"),
				r.input("kernel/fork.o", "", "mm_access", "set_mm_exe_file", "ksys_unshare"),
				r.input("fs/ext4/mballoc.o", "ext4", "ext4_mb_init", "ext4_mb_load_buddy_gfp"),
			}
		}, 100 << 10},
		"6.12 TCP": {target612, func(r *real) []Input {
			return []Input{r.input("net/ipv4/tcp_input.o", "", "tcp_rcv_established", "tcp_ack", "tcp_data_queue")}
		}, 100 << 10},
		"6.12 a module": {target612, func(r *real) []Input {
			return []Input{r.input("net/netfilter/nf_tables_api.o", "nf_tables", "nf_tables_abort", "nft_request_module", "nf_tables_newrule")}
		}, 100 << 10},
	} {
		t.Run(name, func(t *testing.T) {
			r := realTarget(t, c.target)
			inputs := c.inputs(r)
			opts := Options{Name: "tsugi_test", Description: "a test", Info: map[string]string{"version": "1"}}
			m, err := Build(t.Context(), r.Target, opts, inputs)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsTrue(len(m.KO) <= c.size), qt.Commentf("%d bytes", len(m.KO)))
			qt.Assert(t, qt.HasLen(m.Warnings, 0))
			if dir := os.Getenv("TSUGI_KEEP_MODULES"); dir != "" {
				file := strings.NewReplacer(" ", "_", ":", "").Replace(name) + ".ko"
				qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, file), m.KO, 0o644)))
			}
			again, err := Build(t.Context(), r.Target, opts, inputs)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.IsTrue(bytes.Equal(again.KO, m.KO)), qt.Commentf("the same inputs give the same bytes"))
		})
	}
}

func TestRealSealedFunctions(t *testing.T) {
	r := realTarget(t, target612)
	for _, module := range []string{"", "nf_tables"} {
		o, err := r.owner(module)
		qt.Assert(t, qt.IsNil(err))
		s, err := r.seals(o)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(s.tracked))
		qt.Assert(t, qt.IsTrue(len(s.places) > 10), qt.Commentf("%s: %d", o, len(s.places)))
		for at := range s.places {
			qt.Assert(t, qt.IsTrue(len(o.at(at)) > 0), qt.Commentf("%s: no symbol at %s", o, at))
			b, _, err := o.bytes(at, 4)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.DeepEquals(b, endbr64))
		}
	}
	o, err := realTarget(t, target61).owner("")
	qt.Assert(t, qt.IsNil(err))
	s, err := realTarget(t, target61).seals(o)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsFalse(s.tracked))
}

func BenchmarkVerifyObject(b *testing.B) {
	r := realTarget(b, target61)
	plain, _ := r.compile("net/netfilter/nf_tables_api.o", "nf_tables")
	for b.Loop() {
		if _, err := VerifyObject(r.Target, "net/netfilter/nf_tables_api.o", "nf_tables", plain); err != nil {
			b.Fatal(err)
		}
	}
}

func TestRealAuthorHeader(t *testing.T) {
	const source = `
#include <linux/module.h>
#include <tsugi/livepatch.h>

static int changed;

static int before(struct klp_object *obj)
{
	changed = !klp_shadow_get_or_alloc(&changed, 1, sizeof(int), GFP_KERNEL, NULL, NULL);
	return 0;
}

static void after(struct klp_object *obj)
{
	klp_shadow_free_all(1, NULL);
}

TSUGI_PRE_PATCH(before)
TSUGI_POST_PATCH(after)
TSUGI_PRE_UNPATCH(after)
TSUGI_POST_UNPATCH(after)
TSUGI_STATE(0x5453, 2)
TSUGI_STATE(0x5454, 1)

MODULE_LICENSE("GPL");
MODULE_DESCRIPTION("every macro");
`
	header, err := include.Files.ReadFile("tsugi/livepatch.h")
	qt.Assert(t, qt.IsNil(err))
	for _, name := range []string{target61, target612} {
		r := realTarget(t, name)
		dir := filepath.Join(t.TempDir(), "author")
		qt.Assert(t, qt.IsNil(os.MkdirAll(filepath.Join(dir, "tsugi"), 0o755)))
		for file, text := range map[string]string{
			"author.c": source, "tsugi/livepatch.h": string(header),
			"Kbuild": "obj-m := author.o\nccflags-y := -I$(src) -I" + dir + " -Wall -Werror\n",
		} {
			qt.Assert(t, qt.IsNil(os.WriteFile(filepath.Join(dir, file), []byte(text), 0o644)))
		}
		log, err := r.Link(t.Context(), dir)
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.HasLen(unexpected(log), 0))
		raw, err := os.ReadFile(filepath.Join(dir, "author.o"))
		qt.Assert(t, qt.IsNil(err))
		f, err := elfobj.Read(raw)
		qt.Assert(t, qt.IsNil(err))
		for kind, n := range map[objdiff.HookKind]int{
			objdiff.HookPrePatch: 1, objdiff.HookPostPatch: 1, objdiff.HookPreUnpatch: 1, objdiff.HookPostUnpatch: 1, objdiff.HookState: 2,
		} {
			s := f.Section(".tsugi." + string(kind))
			qt.Assert(t, qt.IsNotNil(s), qt.Commentf("%s", kind))
			qt.Assert(t, qt.HasLen(s.Relocs, n), qt.Commentf("%s", kind))
		}
	}
}
