// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"debug/elf"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// goodModule is a module for the town that the checker accepts.
func goodModule(t testing.TB) *linkedModule {
	m := newLinked()
	for i, s := range []string{"twice", "fs_count", "lib_call", "exported"} {
		refer(m.text, uint64(8+8*i), m.undefined(s))
	}
	_, err := finish(m.File, klpLinkage(inVmlinux, inFS, inLib), map[string]kernel.Export{"exported": {Module: Vmlinux}})
	qt.Assert(t, qt.IsNil(err))
	return m
}

func (m *linkedModule) symbol(t testing.TB, name string) *elfobj.Symbol {
	s := m.File.Symbol(name)
	qt.Assert(t, qt.IsNotNil(s), qt.Commentf("%s", name))
	return s
}

func TestTheCheckerFindsWhatTheKernelWouldRefuse(t *testing.T) {
	v := newTown(t)
	const twice, count = ".klp.sym.vmlinux.twice,1", ".klp.sym.fs.fs_count,1"
	rename := func(old, new string) func(*linkedModule) {
		return func(m *linkedModule) { m.symbol(t, old).Name = new }
	}
	info := func(s string) func(*linkedModule) {
		return func(m *linkedModule) { m.Section(".modinfo").Data = []byte(s) }
	}
	for name, c := range map[string]struct {
		damage func(*linkedModule)
		err    string
	}{
		"nothing is wrong":                        {func(*linkedModule) {}, ""},
		"a position that does not exist":          {rename(twice, ".klp.sym.vmlinux.twice,3"), ".*only 2 times.*"},
		"position 0 of a name that is not unique": {rename(twice, ".klp.sym.vmlinux.twice,0"), ".*has the name 2 times.*"},
		"a symbol that is not there":              {rename(count, ".klp.sym.fs.gone,0"), ".*no such symbol.*"},
		"an object that is not there":             {rename(count, ".klp.sym.ghost.fs_count,0"), ".*ghost.*"},
		"a name without a position":               {rename(count, ".klp.sym.fs.fs_count"), ".*no symbol in its name.*"},
		"a position that is no number":            {rename(count, ".klp.sym.fs.fs_count,x"), ".*no position.*"},
		"a name without an object":                {rename(count, ".klp.sym.fs_count,0"), ".*no object.*"},
		"a livepatch symbol that is undefined":    {func(m *linkedModule) { m.symbol(t, count).Index = elf.SHN_UNDEF }, ".*not marked.*"},
		"a symbol that nobody exports":            {rename("exported", "unheard_of"), ".*not exported.*"},
		"an import from a module":                 {rename("exported", "lib_call"), ".*import from module lib.*"},
		"a namespace that is not imported":        {rename("exported", "spaced"), ".*namespace SPACE.*"},
		"not a livepatch":                         {info("license=GPL\x00depends=\x00name=x\x00"), ".*livepatch is.*"},
		"a licence that is not GPL":               {info("livepatch=Y\x00license=MIT\x00depends=\x00name=x\x00"), ".*license.*"},
		"a dependency":                            {info("livepatch=Y\x00license=GPL\x00depends=lib\x00name=x\x00"), ".*depends on.*"},
		"a name that the kernel would cut":        {info("livepatch=Y\x00license=GPL\x00depends=\x00name=x-y\x00"), ".*name is.*"},
		"two sections of one name":                {func(m *linkedModule) { m.section(".modinfo", 1) }, ".*two of this name.*"},
		"debug information":                       {func(m *linkedModule) { m.section(".debug_info", 1) }, ".*should have been removed.*"},
		"a field that is not zero":                {func(m *linkedModule) { m.text.Data[8] = 1 }, ".*not zero.*"},
		"a relocation outside":                    {func(m *linkedModule) { m.text.Relocs[0].Off = 62 }, ".*lies outside.*"},
		"a type that the loader does not know":    {func(m *linkedModule) { m.text.Relocs[0].Type = uint32(elf.R_X86_64_GOTPCREL) }, ".*does not know.*"},
		"a livepatch symbol in an ordinary section": {func(m *linkedModule) {
			m.text.Relocs[0].Sym = m.symbol(t, count)
		}, ".*ordinary section.*"},
		"a kernel's symbol in a module's section": {func(m *linkedModule) {
			m.Section(".klp.rela.fs..text.patched_fs").Relocs[0].Sym = m.symbol(t, twice)
		}, ".*in a section of fs.*"},
		"a section named for another": {func(m *linkedModule) {
			m.Section(".klp.rela.fs..text.patched_fs").Name = ".klp.rela.fs..text.other"
		}, ".*not the name of a livepatch relocation section.*"},
		"livepatch relocations of init code": {func(m *linkedModule) {
			s := m.Section(".klp.rela.fs..text.patched_fs")
			s.Name, s.Target = ".klp.rela.fs..init.text", m.Section(".init.text")
		}, ".*init code.*"},
		"no init code": {func(m *linkedModule) { m.Section(".init.text").Name = ".text.init" }, ".*init.text is missing.*"},
	} {
		t.Run(name, func(t *testing.T) {
			m := goodModule(t)
			c.damage(m)
			raw, err := m.Bytes()
			qt.Assert(t, qt.IsNil(err))
			err = Check(v.Target, raw, nil)
			if c.err == "" {
				qt.Assert(t, qt.IsNil(err))
				return
			}
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5307")))
			qt.Assert(t, qt.ErrorMatches(err, c.err))
		})
	}
}

func TestTheCheckerComparesWithAShippedModule(t *testing.T) {
	v := newTown(t)
	raw, err := goodModule(t).Bytes()
	qt.Assert(t, qt.IsNil(err))
	for name, c := range map[string]struct {
		change func(*linkedModule)
		err    string
	}{
		"alike":                          {func(*linkedModule) {}, ""},
		"a larger struct module":         {func(m *linkedModule) { m.Section(".gnu.linkonce.this_module").Data = make([]byte, 192) }, ".*struct module has 128 bytes, in the target 192.*"},
		"another version magic":          {func(m *linkedModule) { m.Section(".modinfo").Data = []byte("vermagic=6.2 \x00") }, ".*vermagic.*"},
		"symbol versions in one of them": {func(m *linkedModule) { m.section("__versions", 64) }, ".*versions.*"},
	} {
		t.Run(name, func(t *testing.T) {
			m := newLinked()
			c.change(m)
			ref, err := m.Bytes()
			qt.Assert(t, qt.IsNil(err))
			err = Check(v.Target, raw, ref)
			if c.err == "" {
				qt.Assert(t, qt.IsNil(err))
				return
			}
			qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5306")))
			qt.Assert(t, qt.ErrorMatches(err, c.err))
		})
	}
}

func TestModuleNames(t *testing.T) {
	for name, ok := range map[string]bool{
		"tsugi_cve_2026_1": true, "a": true, "": false, "with-dash": false, "Upper": false, "a.b": false,
		"a23456789_123456789_123456789_123456789_123456789_12345":  true,
		"a23456789_123456789_123456789_123456789_123456789_123456": false,
	} {
		err := checkOptions(Options{Name: name})
		qt.Check(t, qt.Equals(err == nil, ok), qt.Commentf("%q", name))
	}
	qt.Assert(t, qt.Equals(code.Of(checkOptions(Options{Name: "a", Info: map[string]string{"a b": ""}})), code.Code("TS5301")))
}

// FuzzCheck reads modules that anyone may have made: a problem, or none.
func FuzzCheck(f *testing.F) {
	v := newTown(f)
	raw, err := goodModule(f).Bytes()
	qt.Assert(f, qt.IsNil(err))
	f.Add(raw, raw)
	f.Add(raw, []byte(nil))
	f.Fuzz(func(t *testing.T, ko, ref []byte) {
		err := Check(v.Target, ko, ref)
		if c := code.Of(err); err != nil && c != "TS5306" && c != "TS5307" {
			t.Fatalf("an error without its code: %v", err)
		}
	})
}
