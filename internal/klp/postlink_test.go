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
	"github.com/tsugi-project/tsugi/internal/kernel"
)

// linked builds by hand what Kbuild would have linked.
type linkedModule struct {
	*elfobj.File
	text *elfobj.Section
	fn   *elfobj.Symbol
}

func newLinked() *linkedModule {
	progbits := func(name string, flags elf.SectionFlag, data []byte) *elfobj.Section {
		return &elfobj.Section{Name: name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | flags, Align: 8, Data: data}
	}
	m := &linkedModule{File: &elfobj.File{Machine: elf.EM_X86_64, Order: elf.ELFDATA2LSB}}
	m.text = progbits(".text.patched_fs", elf.SHF_EXECINSTR, make([]byte, 64))
	info := "license=GPL\x00livepatch=Y\x00depends=\x00name=tsugi_test\x00vermagic=6.1 \x00"
	m.Sections = []*elfobj.Section{
		m.text,
		progbits(".init.text", elf.SHF_EXECINSTR, make([]byte, 64)),
		progbits(".modinfo", 0, []byte(info)),
		progbits(".gnu.linkonce.this_module", elf.SHF_WRITE, make([]byte, 128)),
	}
	m.fn = m.define("patched_fs", m.text, 0)
	return m
}

func (m *linkedModule) section(name string, size int) *elfobj.Section {
	s := &elfobj.Section{Name: name, Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 1, Data: make([]byte, size)}
	m.Sections = append(m.Sections, s)
	return s
}

func (m *linkedModule) define(name string, sec *elfobj.Section, off uint64) *elfobj.Symbol {
	s := &elfobj.Symbol{Name: name, Section: sec, Value: off, Type: elf.STT_FUNC}
	m.Symbols = append(m.Symbols, s)
	return s
}

func (m *linkedModule) undefined(name string) *elfobj.Symbol {
	s := &elfobj.Symbol{Name: name, Bind: elf.STB_GLOBAL}
	m.Symbols = append(m.Symbols, s)
	return s
}

func refer(sec *elfobj.Section, off uint64, sym *elfobj.Symbol) {
	sec.Relocs = append(sec.Relocs, elfobj.Reloc{Off: off, Type: uint32(elf.R_X86_64_PC32), Sym: sym, Addend: -4})
}

var (
	inVmlinux = klpSym{rela: Vmlinux, object: Vmlinux, name: "twice", pos: 1}
	inFS      = klpSym{rela: "fs", object: "fs", name: "fs_count"}
	inLib     = klpSym{rela: "fs", object: "lib", name: "lib_call"}
)

func klpLinkage(syms ...klpSym) *linkage {
	ln := &linkage{klp: map[string]klpSym{}, locals: map[string]string{}, aliases: map[string]string{}}
	for _, k := range syms {
		ln.klp[k.name] = k
	}
	return ln
}

func TestRelocationsMoveToLivepatchSections(t *testing.T) {
	m := newLinked()
	m.text.Data[9], m.text.Data[20] = 0xff, 0xee // not what a linker leaves, but it must not matter
	for i, s := range []string{"twice", "fs_count", "lib_call", "exported"} {
		refer(m.text, uint64(8+8*i), m.undefined(s))
	}
	exports := map[string]kernel.Export{"exported": {Module: Vmlinux}}
	syms, err := finish(m.File, klpLinkage(inVmlinux, inFS, inLib), exports)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.DeepEquals(syms, []Symbol{{"fs", "fs_count", 0, 1}, {"lib", "lib_call", 0, 1}, {Vmlinux, "twice", 1, 1}}))

	var got []string
	for _, s := range m.Sections {
		for _, r := range s.Relocs {
			got = append(got, s.Name+" "+r.Sym.Name)
		}
	}
	qt.Assert(t, qt.DeepEquals(got, []string{
		".text.patched_fs exported",
		".klp.rela.fs..text.patched_fs .klp.sym.fs.fs_count,1",
		".klp.rela.fs..text.patched_fs .klp.sym.lib.lib_call,1",
		".klp.rela.vmlinux..text.patched_fs .klp.sym.vmlinux.twice,1",
	}))
	qt.Assert(t, qt.Equals(m.text.Data[9], 0))
	qt.Assert(t, qt.Equals(m.text.Data[20], 0xee), qt.Commentf("only fields are cleared"))

	v := newTown(t)
	raw, err := writeModule(m.File)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(Check(v.Target, raw, nil)))
}

func TestReferencesThatComeTooLateAreRefused(t *testing.T) {
	for name, c := range map[string]struct {
		sym     klpSym
		section string
		code    code.Code
	}{
		"a jump label on a module's key":         {inFS, "__jump_table", "TS5208"},
		"a jump label on the kernel's key":       {inVmlinux, "__jump_table", ""},
		"an alternative that calls a module":     {inLib, ".altinstr_replacement", "TS5208"},
		"an alternative that calls the kernel":   {inVmlinux, ".altinstr_replacement", ""},
		"init code that calls a module":          {inFS, ".init.text", "TS5209"},
		"init data that names a kernel's symbol": {inVmlinux, ".init.data", "TS5209"},
		"data that names a module's symbol":      {inFS, ".data.table", ""},
	} {
		t.Run(name, func(t *testing.T) {
			m := newLinked()
			s := m.Section(c.section)
			if s == nil {
				s = m.section(c.section, 16)
			}
			refer(s, 8, m.undefined(c.sym.name))
			_, err := finish(m.File, klpLinkage(c.sym), nil)
			qt.Assert(t, qt.Equals(code.Of(err), c.code), qt.Commentf("%v", err))
		})
	}
}

func TestAModulesSymbolInReplacedCodeIsRefused(t *testing.T) {
	for _, inside := range []bool{true, false} {
		m := newLinked()
		alt := m.section(".altinstructions", 28) // two entries of 14 bytes, as in 6.12
		for i := range uint64(2) {
			alt.Data[14*i+12] = 5 // length of the original
			site := elfobj.Reloc{Off: 14 * i, Type: uint32(elf.R_X86_64_PC32), Sym: m.fn, Addend: int64(16 + 16*i)}
			repl := elfobj.Reloc{Off: 14*i + 4, Type: uint32(elf.R_X86_64_PC32), Sym: m.fn, Addend: 60}
			alt.Relocs = append(alt.Relocs, site, repl)
		}
		off := uint64(33)
		if !inside {
			off = 40
		}
		refer(m.text, off, m.undefined("fs_count"))
		_, err := finish(m.File, klpLinkage(inFS), nil)
		want := code.Code("")
		if inside {
			want = "TS5208"
		}
		qt.Assert(t, qt.Equals(code.Of(err), want))
	}
}

func TestStaticCallsThatTheKernelCannotConnect(t *testing.T) {
	key := func(name string, rela string) klpSym { return klpSym{rela: rela, object: rela, name: name} }
	m := newLinked()
	exports := map[string]kernel.Export{
		"__SCT__with_map": {Module: Vmlinux}, "__SCT__both": {Module: Vmlinux}, "__SCK__both": {Module: Vmlinux},
	}
	keys := []struct {
		name string
		kept bool
	}{
		{"__SCK__kernel", true},
		{"__SCT__hidden", false},
		{"__SCK__module", false},
		{"__SCT__with_map", true},
		{"__SCT__both", false},
		{"__SCK__both", true},
	}
	s := m.section(".static_call_sites", 8*len(keys)+8)
	for i, k := range keys {
		refer(s, uint64(8*i), m.fn)
		refer(s, uint64(8*i+4), m.undefined(k.name))
	}
	refer(s, uint64(8*len(keys)), m.fn)
	refer(s, uint64(8*len(keys)+4), m.define("__SCK__new", m.text, 32))
	_, err := finish(m.File, klpLinkage(key("__SCK__kernel", Vmlinux), key("__SCT__hidden", Vmlinux), key("__SCK__module", "fs")), exports)
	qt.Assert(t, qt.IsNil(err))
	var got []string
	for _, sec := range m.Sections {
		if strings.Contains(sec.Name, "static_call_sites") {
			for _, r := range sec.Relocs {
				if r.Off%8 == 4 {
					got = append(got, r.Sym.Name)
				}
			}
		}
	}
	slices.Sort(got)
	qt.Assert(t, qt.DeepEquals(got, []string{".klp.sym.vmlinux.__SCK__kernel,1", "__SCK__both", "__SCK__new", "__SCT__with_map"}))
	qt.Assert(t, qt.HasLen(s.Data, 4*8))
}

func TestUndefinedSymbolsThatNobodyExpects(t *testing.T) {
	for _, c := range []struct {
		export kernel.Export
		code   code.Code
	}{{kernel.Export{}, "TS5304"}, {kernel.Export{Module: "fs"}, "TS5304"}, {kernel.Export{Module: Vmlinux}, ""}} {
		m := newLinked()
		refer(m.text, 8, m.undefined("surprise"))
		exports := map[string]kernel.Export{}
		if c.export.Module != "" {
			exports["surprise"] = c.export
		}
		_, err := finish(m.File, klpLinkage(), exports)
		qt.Assert(t, qt.Equals(code.Of(err), c.code))
	}
}

func TestNamesComeBack(t *testing.T) {
	m := newLinked()
	m.fn.Name = "tsugi_1_patched_fs"
	alias := m.define("tsugi_new_0", m.text, 0)
	alias.Bind = elf.STB_GLOBAL
	m.define("__pfx_tsugi_new_0", m.text, 0)
	m.define("__pfx_tsugi_1_patched_fs", m.text, 0)
	table := m.section(".data.table", 16)
	refer(table, 8, alias)
	ln := klpLinkage()
	ln.aliases["tsugi_new_0"] = "tsugi_1_patched_fs"
	ln.locals["tsugi_1_patched_fs"] = "patched_fs"
	_, err := finish(m.File, ln, nil)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(table.Relocs[0].Sym, m.fn))
	var names []string
	for _, s := range m.Symbols {
		names = append(names, s.Name)
	}
	qt.Assert(t, qt.DeepEquals(names, []string{"patched_fs", "__pfx_patched_fs"}))

	ln.aliases["tsugi_new_1"] = "lost"
	_, err = finish(newLinked().File, ln, nil)
	qt.Assert(t, qt.Equals(code.Of(err), code.Code("TS5304")))
}

func TestWarningsOfTheBuild(t *testing.T) {
	log := `  CC [M]  livepatch-tables.o
WARNING: modpost: "counter" [/tmp/x/x.ko] undefined!
WARNING: modpost: suppressed 17 unresolved symbol warnings because there were too many)
warning: the compiler differs from the one used to build the kernel
x.o: warning: objtool: tsugi_funcs_vmlinux+0xa0: data relocation to !ENDBR: tcp_ack+0x0
x.o: warning: objtool: tcp_ack+0x10: return with modified stack frame
WARNING: modpost: x: section mismatch in reference: f (section: .text.f) -> g (section: .init.text)
`
	qt.Assert(t, qt.DeepEquals(unexpected([]byte(log)), []string{
		"x.o: warning: objtool: tcp_ack+0x10: return with modified stack frame",
		"WARNING: modpost: x: section mismatch in reference: f (section: .text.f) -> g (section: .init.text)",
	}))
}
