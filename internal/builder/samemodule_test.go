// SPDX-License-Identifier: Apache-2.0

package builder

import (
	"debug/elf"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/elfobj"
)

// sample is a module of one function that calls another, with an export.
func sample() *elfobj.File {
	text := &elfobj.Section{Name: ".text", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Align: 16, Data: []byte("\xe8\x00\x00\x00\x00\xc3\xc3")}
	crc := &elfobj.Section{Name: "__kcrctab", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 4, Data: []byte{1, 2, 3, 4}}
	tab := &elfobj.Section{Name: "__ksymtab", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 4, Data: make([]byte, 12)}
	versions := &elfobj.Section{Name: "__versions", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 32, Data: []byte(strings.Repeat("a", 64) + strings.Repeat("b", 64))}
	info := &elfobj.Section{Name: ".modinfo", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC, Align: 1, Data: []byte("license=GPL\x00depends=one,two\x00name=x\x00vermagic=6.1 SMP\x00")}
	id := &elfobj.Section{Name: ".note.gnu.build-id", Type: elf.SHT_NOTE, Flags: elf.SHF_ALLOC, Align: 4, Data: make([]byte, 36)}
	btf := &elfobj.Section{Name: ".BTF", Type: elf.SHT_PROGBITS, Data: []byte("types")}
	local := &elfobj.Symbol{Name: "helper", Bind: elf.STB_LOCAL, Type: elf.STT_FUNC, Section: text, Value: 6, Size: 1}
	section := &elfobj.Symbol{Bind: elf.STB_LOCAL, Type: elf.STT_SECTION, Section: text}
	text.Relocs = []elfobj.Reloc{{Off: 1, Type: uint32(elf.R_X86_64_PLT32), Sym: local, Addend: -4}}
	return &elfobj.File{
		Machine: elf.EM_X86_64, Order: elf.ELFDATA2LSB,
		Sections: []*elfobj.Section{id, text, crc, tab, versions, info, btf},
		Symbols: []*elfobj.Symbol{
			section, local,
			{Name: "work", Bind: elf.STB_GLOBAL, Type: elf.STT_FUNC, Section: text, Size: 6},
			{Name: "__ksymtab_work", Bind: elf.STB_LOCAL, Section: tab},
			{Name: "__crc_work", Bind: elf.STB_LOCAL, Section: crc},
			{Name: "kfree", Bind: elf.STB_GLOBAL, Index: elf.SHN_UNDEF},
		},
	}
}

func TestSameModule(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(f *elfobj.File)
		want string
	}{
		"the same":         {func(*elfobj.File) {}, ""},
		"another build-id": {func(f *elfobj.File) { f.Sections[0].Data[20] = 1 }, ""},
		"other types":      {func(f *elfobj.File) { f.Sections[6].Data = []byte("others") }, ""},
		"versions in another order": {func(f *elfobj.File) {
			f.Sections[4].Data = []byte(strings.Repeat("b", 64) + strings.Repeat("a", 64))
		}, ""},
		"dependencies in another order": {func(f *elfobj.File) {
			f.Sections[5].Data = []byte("license=GPL\x00depends=two,one\x00name=x\x00vermagic=6.1 SMP\x00")
		}, ""},
		"a symbol's place by its section": {func(f *elfobj.File) {
			f.Sections[1].Relocs[0].Sym, f.Sections[1].Relocs[0].Addend = f.Symbols[0], 2
		}, ""},
		"another byte":       {func(f *elfobj.File) { f.Sections[1].Data[5] = 0x90 }, "section .text: byte 0x5 is 0x90, shipped 0xc3"},
		"a longer function":  {func(f *elfobj.File) { f.Sections[1].Data = append(f.Sections[1].Data, 0x90) }, "section .text: 8 bytes, shipped 7"},
		"another version":    {func(f *elfobj.File) { f.Sections[4].Data[3] = 'x' }, "section __versions: byte 0x3"},
		"another licence":    {func(f *elfobj.File) { f.Sections[5].Data[8] = 'X' }, "section .modinfo: byte 0x8"},
		"another callee":     {func(f *elfobj.File) { f.Sections[1].Relocs[0].Sym = f.Symbols[5] }, "section .text: relocation"},
		"another alignment":  {func(f *elfobj.File) { f.Sections[1].Align = 32 }, "section .text: another type"},
		"a section less":     {func(f *elfobj.File) { f.Sections[3].Flags = 0 }, "section __ksymtab is missing"},
		"a section more":     {func(f *elfobj.File) { f.Sections[6].Flags = elf.SHF_ALLOC }, "section .BTF is not in the shipped module"},
		"another symbol":     {func(f *elfobj.File) { f.Symbols[2].Name = "play" }, "symbol "},
		"a symbol elsewhere": {func(f *elfobj.File) { f.Symbols[1].Value = 5; f.Sections[1].Relocs[0].Addend = -3 }, "symbol helper"},
	} {
		f := sample()
		c.edit(f)
		n, got := sameModule(sample(), f)
		qt.Check(t, qt.Equals(got == "", c.want == ""), qt.Commentf("%s: %s", name, got))
		qt.Check(t, qt.StringContains(got, c.want), qt.Commentf("%s", name))
		qt.Check(t, qt.Equals(n > 0, got == ""), qt.Commentf("%s", name))
	}
}

func TestKeepsPromises(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(f *elfobj.File)
		want code.Code
	}{
		"as it was":                {func(*elfobj.File) {}, ""},
		"more code":                {func(f *elfobj.File) { f.Sections[1].Data = append(f.Sections[1].Data, 0xc3) }, ""},
		"another version":          {func(f *elfobj.File) { f.Sections[2].Data[0] = 9 }, "TS5404"},
		"an export less":           {func(f *elfobj.File) { f.Symbols = append(f.Symbols[:3:3], f.Symbols[5]) }, "TS5404"},
		"another kernel":           {func(f *elfobj.File) { f.Sections[5].Data = []byte("license=GPL\x00name=x\x00vermagic=6.2 SMP\x00") }, "TS5403"},
		"a version beyond its end": {func(f *elfobj.File) { f.Symbols[4].Value = 1<<64 - 2 }, "TS5404"},
	} {
		f := sample()
		c.edit(f)
		qt.Check(t, qt.Equals(code.Of(keepsPromises("x", sample(), f)), c.want), qt.Commentf("%s", name))
	}
}
