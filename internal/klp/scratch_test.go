// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"os"
	"testing"
	"strings"
	"time"
	"path/filepath"
	"fmt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/kimage"
	"github.com/tsugi-project/tsugi/internal/objdiff"
)

func scratchTarget(t *testing.T, rel string) *Target {
	dirs := map[string]string{"6.1.0-55-amd64": "/tmp/tsg/klp/linux-image-6.1.0-55", "6.12.115+deb12-amd64": "/tmp/tsg/klp/linux-image-6.12.115+deb12"}
	hd := map[string]string{"6.1.0-55-amd64": "/tmp/tsg/klp/H61", "6.12.115+deb12-amd64": "/tmp/tsg/klp/H612"}
	d := dirs[rel]
	z, err := os.ReadFile(d + "/boot/vmlinuz-" + rel)
	if err != nil { t.Fatal(err) }
	b, _, err := kimage.Unpack(z)
	if err != nil { t.Fatal(err) }
	img, err := kimage.Open(b)
	if err != nil { t.Fatal(err) }
	syms, err := img.Kallsyms()
	if err != nil { t.Fatal(err) }
	sv, err := os.ReadFile(hd[rel] + "/usr/src/linux-headers-" + rel + "/Module.symvers")
	if err != nil { t.Fatal(err) }
	ex, err := kernel.ParseSymvers(sv)
	if err != nil { t.Fatal(err) }
	mods := map[string]string{}
	filepath.Walk(d+"/lib/modules", func(p string, fi os.FileInfo, err error) error {
		if strings.HasSuffix(p, ".ko") { mods[kernel.ModuleName(p)] = p }
		return nil
	})
	return &Target{AnyModule: "veth", Link: KbuildLinker([]string{"-C", "/tmp/tsg/klp/src61", "O=/tmp/tsg/klp/B61", "CC=gcc-12", "HOSTCC=gcc-12", "ARCH=x86", "KERNELRELEASE=6.1.0-55-amd64"}), Name: rel, Image: img, Symbols: syms, Exports: ex, Module: func(n string) ([]byte, error) {
		p, ok := mods[n]
		if !ok { return nil, fmt.Errorf("%s: %w", n, os.ErrNotExist) }
		return os.ReadFile(p)
	}}
}

func TestScratch(t *testing.T) {
	tg := scratchTarget(t, "6.1.0-55-amd64")
	for _, o := range [][2]string{{"net/netfilter/nf_tables_api.o", "nf_tables"}, {"fs/ext4/mballoc.o", "ext4"}, {"net/ipv4/tcp_input.o", ""}, {"fs/proc/cmdline.o", ""}} {
		b, err := os.ReadFile("/tmp/tsg/klp/B61/" + o[0])
		if err != nil { t.Fatal(err) }
		f, err := elfobj.Read(b)
		if err != nil { t.Fatal(err) }
		t0 := time.Now()
		p, err := VerifyObject(tg, o[0], o[1], f)
		fmt.Println(o[0], p, err, time.Since(t0))
	}
}

func readObj(t *testing.T, p string) *elfobj.File {
		b, err := os.ReadFile(p)
		if err != nil { t.Fatal(err) }
		f, err := elfobj.Read(b)
		if err != nil { t.Fatal(err) }
		return f
}

func TestScratchBuild(t *testing.T) {
	tg := scratchTarget(t, "6.1.0-55-amd64")
	a := readObj(t, "/tmp/tsg/klp/B61/fs/proc/cmdline.o")
	b := readObj(t, "/tmp/tsg/klp/B61/fs/ext4/mballoc.o")
	in := []Input{
		{"fs/proc/cmdline.o", "", a, extract(t, readObj(t, "/tmp/tsg/klp/fsec/cmdline.o"), a, "cmdline_proc_show")},
		{"fs/ext4/mballoc.o", "ext4", b, extract(t, readObj(t, "/tmp/tsg/klp/fsec/mballoc.o"), b, "ext4_mb_load_buddy_gfp", "ext4_mb_init", "ext4_mb_seq_groups_show")},
	}
	t0 := time.Now()
	m, err := Build(t.Context(), tg, Options{Name: "tsugi_test", Description: "test \"x\"", Info: map[string]string{"version": "1"}}, in)
	if err != nil { t.Fatal(err) }
	fmt.Println(time.Since(t0), len(m.KO), m.Warnings, m.Proof)
	for _, f := range m.Functions { fmt.Printf("%+v\n", f) }
	for _, f := range m.Symbols { fmt.Printf("%+v\n", f) }
	os.WriteFile("/tmp/tsg/klp/out.ko", m.KO, 0o644)
}

func storeTarget(t *testing.T, name string) (*Target, *kernel.Target) {
	home, err := kernel.Home()
	if err != nil { t.Fatal(err) }
	s, err := kernel.OpenStore(home)
	if err != nil { t.Fatal(err) }
	k, err := s.Get(name)
	if err != nil { t.Fatal(err) }
	tg, err := ForKernel(k)
	if err != nil { t.Fatal(err) }
	return tg, k
}

func TestScratchVerify(t *testing.T) {
	for _, o := range [][3]string{{"debian:6.1.0-55-amd64", "fs/ext4/mballoc.o", "ext4"}, {"debian:6.1.0-54-amd64", "security/apparmor/label.o", ""}, {"debian:6.12.115+deb12-amd64", "net/ipv4/tcp_input.o", ""}} {
		tg, k := storeTarget(t, o[0])
		m, _ := filepath.Glob("/root/.cache/tsugi/objects/" + k.Release + "*/" + o[1] + "/plain.o")
		f := readObj(t, m[0])
		t0 := time.Now()
		p, err := VerifyObject(tg, o[1], o[2], f)
		fmt.Println(o, p, err, time.Since(t0))
	}
}

func TestScratch612(t *testing.T) {
	tg, k := storeTarget(t, "debian:6.12.115+deb12-amd64")
	m, _ := filepath.Glob("/root/.cache/tsugi/objects/" + k.Release + "*/net/ipv4/tcp_input.o/plain.o")
	plain := readObj(t, m[0])
	orig := readObj(t, strings.Replace(m[0], "plain.o", "orig.o", 1))
	for _, fns := range [][]string{{"tcp_parse_options"}, {"tcp_rcv_state_process"}, {"tcp_rcv_established", "tcp_ack", "tcp_parse_options", "tcp_data_queue","tcp_rcv_state_process"}} {
		in := []Input{{"net/ipv4/tcp_input.o", "", plain, extract(t, orig, plain, fns...)}}
		t0 := time.Now()
		m, err := Build(t.Context(), tg, Options{Name: "tsugi_test", Description: "test"}, in)
		if err != nil { t.Error(err); continue }
		fmt.Println(time.Since(t0), len(m.KO), m.Proof)
		for _, w := range m.Warnings { fmt.Println(w) }
		for _, f := range m.Functions { fmt.Printf("%+v\n", f) }
		for _, f := range m.Symbols { fmt.Printf("%+v\n", f) }
		os.WriteFile("/tmp/tsg/klp/out612.ko", m.KO, 0o644)
	}
}

func TestScratchDiff(t *testing.T) {
	for _, o := range [][3]string{{"debian:6.1.0-55-amd64", "fs/ext4/mballoc.o", "ext4"}, {"debian:6.1.0-54-amd64", "security/apparmor/label.o", ""}, {"debian:6.12.115+deb12-amd64", "net/ipv4/tcp_input.o", ""}} {
		tg, k := storeTarget(t, o[0])
		m, _ := filepath.Glob("/root/.cache/tsugi/objects/" + k.Release + "*/" + o[1] + "/plain.o")
		d := filepath.Dir(m[0])
		pp, _ := filepath.Glob(d+"/patched-*.o")
		sz := map[string]int{"bug_entry": 12, "alt_instr": 12, "exception_table_entry": 12, "jump_entry": 16, "static_call_site": 8, "orc_entry": 6, "paravirt_patch_site":16}
		if strings.HasPrefix(k.Release, "6.12") { sz["alt_instr"] = 14 }
		for _, p := range pp {
			r, err := objdiff.Diff(readObj(t, d+"/orig.o"), readObj(t, p), objdiff.Options{EntrySize: func(n string) (int, bool) { v, ok := sz[n]; return v, ok }, BuiltIn: o[2] == "", KeyOwner: tg.KeyOwner(o[2])})
			if err != nil { t.Error(err); continue }
			fmt.Println(o, r.Changed, r.Refusals)
			x, err := r.Extract()
			if err != nil { t.Error(err); continue }
			t0 := time.Now()
			mod, err := Build(t.Context(), tg, Options{Name: "tsugi_test", Description: "test"}, []Input{{o[1], o[2], readObj(t, m[0]), *x}})
			if err != nil { t.Error(err); continue }
			fmt.Println(time.Since(t0), len(mod.KO), mod.Proof, mod.Warnings)
			for _, f := range mod.Functions { fmt.Printf("%+v\n", f) }
			for _, f := range mod.Symbols { fmt.Printf("%+v\n", f) }
			os.WriteFile("/tmp/tsg/klp/diff-"+k.Release+".ko", mod.KO, 0o644)
		}
	}
}
