// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"debug/elf"
	"io"
	"os"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/unwind"
	"github.com/tsugi-project/tsugi/internal/userland/pack"
)

// shipped is a library whose bytes are known.
const shipped = `
	.globl f, g, loop, tight, crossed, crosser, outside, early, again, table, absolute, alone, switched
	.type f, @function
	.type loop, @function
	.p2align 4
f:	mov $1, %eax
	add $2, %eax
	ret
	.size f, . - f
	.p2align 4
loop:	dec %edi
	jnz loop
	mov %edi, %eax
	ret
	.size loop, . - loop
	.p2align 4
tight:	ret			# what follows is no padding
outside: mov $1, %eax
	ret
	.p2align 4
crossed: xor %eax, %eax
	xor %edx, %edx
	xor %ecx, %ecx
	ret
	.p2align 4
crosser: .byte 0xe9		# jmp crossed + 2
	.long crossed + 2 - . - 4
	.p2align 4
early:	push %rbx		# what it calls returns to its fourth byte
	call *(%rdi)
	mov $1, %eax
	pop %rbx
	ret
	.p2align 4
again:	push %rbx		# a loop with a call leads to its second byte
	mov %rdi, %rbx
	call f
	test %eax, %eax
	jnz again + 1
	pop %rbx
	ret
	.p2align 4
alone:	mov %rdi, %rax		# a loop to its fourth byte, and no call
	dec %rdi
	jnz alone + 3
	ret
	.p2align 4
table:
.Lt:	mov %edi, %eax
	nop
	nop
	call f
	lea 1f(%rip), %rdx
	movslq (%rdx,%rax,4), %rax
	add %rdx, %rax
	jmp *%rax
2:	ret
	.p2align 4
switched:
.Ls:	mov %edi, %eax		# the same, and nothing leads to its first bytes
	nop
	nop
	call f
	lea 3f(%rip), %rdx
	movslq (%rdx,%rax,4), %rax
	add %rdx, %rax
	jmp *%rax
4:	ret
	.section .rodata
	.p2align 2
1:	.long 2b - 1b, .Lt + 2 - 1b, 0
3:	.long 4b - 3b, .Ls + 9 - 3b, 0
	.text
	.p2align 4
g:	call puts@PLT
	mov puts@GOTPCREL(%rip), %rax
	mov v@GOTPCREL(%rip), %rax
	mov t@GOTTPOFF(%rip), %rax
	ret
	.section .tdata, "awT", @progbits
	.globl t
	.type t, @object
	.size t, 4
t:	.long 5
	.data
	.globl v
	.type v, @object
	.size v, 4
v:	.long 3
`

// object is a library and an extract that replaces f in it, to be spoiled.
type object struct {
	file  *dso.File
	value map[string]uint64
	in    pack.Input
	part  *pack.Part
	text  *elfobj.Section
	fn    *elfobj.Symbol
}

var library = func() func(t *testing.T) string {
	var raw []byte
	return func(t *testing.T) string {
		dir := t.TempDir()
		out := dir + "/libx.so"
		if raw == nil {
			qt.Assert(t, qt.IsNil(os.WriteFile(dir+"/x.s", []byte(shipped), 0o600)))
			compiler(t, "x.s", "-shared", "-nostdlib", "-Wl,-z,lazy", dir+"/x.s", "-o", out)
			var err error
			raw, err = os.ReadFile(out)
			qt.Assert(t, qt.IsNil(err))
		}
		qt.Assert(t, qt.IsNil(os.WriteFile(out, raw, 0o600)))
		return out
	}
}()

// symtab reads .symtab.
func symtab(t *testing.T, r io.ReaderAt) []elf.Symbol {
	t.Helper()
	f, err := elf.NewFile(r)
	qt.Assert(t, qt.IsNil(err))
	list, err := f.Symbols()
	qt.Assert(t, qt.IsNil(err))
	return list
}

func newObject(t *testing.T) *object {
	t.Helper()
	r, err := os.Open(library(t))
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { r.Close() })
	o := &object{value: map[string]uint64{}}
	o.file, err = dso.Open(r)
	qt.Assert(t, qt.IsNil(err))
	for _, s := range symtab(t, r) {
		o.value[s.Name] = s.Value
	}
	o.text = &elfobj.Section{Name: ".text.f", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Align: 16, Data: []byte{0x90, 0xe8, 0, 0, 0, 0, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0x90, 0xc3}}
	o.fn = &elfobj.Symbol{Name: "f", Type: elf.STT_FUNC, Section: o.text, Size: 16}
	e := &objdiff.Extract{
		File:     &elfobj.File{Machine: elf.EM_X86_64, Order: elf.ELFDATA2LSB, Sections: []*elfobj.Section{o.text}, Symbols: []*elfobj.Symbol{o.fn}},
		Replaced: []objdiff.Replacement{{Orig: &elfobj.Symbol{Name: "f"}, New: o.fn}},
	}
	o.in = pack.Input{File: o.file, Name: "libx.so", Parts: []pack.Part{{
		Source: "x.c", Extract: e, Resolve: map[*elfobj.Symbol]pack.Target{},
		Functions: map[*elfobj.Symbol]splice.Function{o.fn: {Old: o.value["f"], Size: 9, Room: 16, Policy: splice.Quiescent}},
	}}}
	o.part = &o.in.Parts[0]
	return o
}

// replace makes another function of the library the one that is replaced.
func (o *object) replace(name string, size, room uint32) {
	o.part.Functions[o.fn] = splice.Function{Old: o.value[name], Size: size, Room: room, Policy: splice.Quiescent}
}

func (o *object) undefined(name string) *elfobj.Symbol {
	s := &elfobj.Symbol{Name: name, Bind: elf.STB_GLOBAL, Index: elf.SHN_UNDEF}
	e := o.part.Extract
	e.File.Symbols = append(e.File.Symbols, s)
	e.Refs = append(e.Refs, objdiff.Ref{Symbol: s})
	return s
}

func (o *object) reloc(off uint64, typ elf.R_X86_64, s *elfobj.Symbol, addend int64) {
	o.text.Relocs = append(o.text.Relocs, elfobj.Reloc{Off: off, Type: uint32(typ), Sym: s, Addend: addend})
}

func (o *object) slot(t *testing.T, name string, kind dso.SlotKind) uint64 {
	t.Helper()
	list, err := o.file.Slots()
	qt.Assert(t, qt.IsNil(err))
	for _, s := range list {
		if s.Symbol != nil && s.Symbol.Name == name && s.Kind == kind {
			return s.Vaddr
		}
	}
	t.Fatalf("no %s of %s", kind, name)
	return 0
}

func (o *object) section(name string, typ elf.SectionType, flags elf.SectionFlag, align uint64) *elfobj.Section {
	s := &elfobj.Section{Name: name, Type: typ, Flags: flags, Align: align, Data: make([]byte, 16)}
	o.part.Extract.File.Sections = append(o.part.Extract.File.Sections, s)
	return s
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	const rw = elf.SHF_ALLOC | elf.SHF_WRITE
	for name, c := range map[string]struct {
		want  code.Code
		spoil func(t *testing.T, o *object)
	}{
		"a new thread-local variable":    {"TS3505", func(t *testing.T, o *object) { o.section(".tdata.x", elf.SHT_PROGBITS, rw|elf.SHF_TLS, 4) }},
		"new thread-local zeros":         {"TS3505", func(t *testing.T, o *object) { o.section(".tbss.x", elf.SHT_NOBITS, rw|elf.SHF_TLS, 4) }},
		"a constructor":                  {"TS3503", func(t *testing.T, o *object) { o.section(".init_array", elf.SHT_INIT_ARRAY, rw, 8) }},
		"data on a page of its own":      {"TS3503", func(t *testing.T, o *object) { o.section(".data.x", elf.SHT_PROGBITS, rw, 4096) }},
		"zeros on a page of their own":   {"TS3503", func(t *testing.T, o *object) { o.section(".bss.x", elf.SHT_NOBITS, rw, 4096) }},
		"code that is written to":        {"TS3503", func(t *testing.T, o *object) { o.text.Flags |= elf.SHF_WRITE }},
		"a kernel's callback":            {"TS3503", func(t *testing.T, o *object) { o.part.Extract.Hooks = []objdiff.Hook{{}} }},
		"a symbol that is nowhere":       {"TS3504", func(t *testing.T, o *object) { o.reloc(2, elf.R_X86_64_PLT32, o.undefined("nowhere"), -4) }},
		"a relocation nobody knows":      {"TS3503", func(t *testing.T, o *object) { o.reloc(2, elf.R_X86_64_PC16, o.fn, -2) }},
		"a relocation over the end":      {"TS3503", func(t *testing.T, o *object) { o.reloc(13, elf.R_X86_64_PC32, o.fn, -4) }},
		"a relocation that wraps":        {"TS3503", func(t *testing.T, o *object) { o.reloc(1<<64-2, elf.R_X86_64_PC32, o.fn, -4) }},
		"4 bytes for an address":         {"TS3503", func(t *testing.T, o *object) { o.reloc(2, elf.R_X86_64_32S, o.fn, 0) }},
		"a GOT of the large model":       {"TS3503", func(t *testing.T, o *object) { o.reloc(2, elf.R_X86_64_GOTOFF64, o.fn, 0) }},
		"a TLS relocation to a function": {"TS3503", func(t *testing.T, o *object) { o.reloc(2, elf.R_X86_64_GOTTPOFF, o.fn, -4) }},
		"a symbol in a section left out": {"TS3503", func(t *testing.T, o *object) {
			o.reloc(2, elf.R_X86_64_PC32, &elfobj.Symbol{Name: "x", Section: o.section(".debug", elf.SHT_PROGBITS, 0, 1)}, 0)
		}},
		"a common symbol": {"TS3503", func(t *testing.T, o *object) {
			o.reloc(2, elf.R_X86_64_PC32, &elfobj.Symbol{Name: "x", Index: elf.SHN_COMMON}, 0)
		}},
		"a function without its place": {"TS3507", func(t *testing.T, o *object) { clear(o.part.Functions) }},
		"a function out of the file": {"TS3507", func(t *testing.T, o *object) {
			o.part.Functions[o.fn] = splice.Function{Old: 1 << 40, Size: 9, Room: 9}
		}},
		"other bytes than expected": {"TS3507", func(t *testing.T, o *object) {
			f := o.part.Functions[o.fn]
			f.SHA256 = strings.Repeat("0", 64)
			o.part.Functions[o.fn] = f
		}},
		"no room":                       {"TS3506", func(t *testing.T, o *object) { o.replace("f", 4, 4) }},
		"no padding":                    {"TS3506", func(t *testing.T, o *object) { o.replace("tight", 1, 7) }},
		"a branch into the first bytes": {"TS3506", func(t *testing.T, o *object) { o.replace("crossed", 7, 16) }},
		"a loop to the entry, entry-only": {"TS3506", func(t *testing.T, o *object) {
			o.replace("loop", 7, 16)
			f := o.part.Functions[o.fn]
			f.Policy = splice.EntryOnly
			o.part.Functions[o.fn] = f
		}},
		"a call that returns into the jump":    {"TS3506", func(t *testing.T, o *object) { o.replace("early", 10, 16) }},
		"a loop with a call into the jump":     {"TS3506", func(t *testing.T, o *object) { o.replace("again", 15, 16) }},
		"a table of jumps that leads into one": {"TS3506", func(t *testing.T, o *object) { o.replace("table", 26, 26) }},
		"a slot that is none": {"TS3507", func(t *testing.T, o *object) {
			s := o.undefined("puts")
			o.part.Resolve[s] = pack.Target{Slot: o.value["v"], Import: splice.Import{Name: "puts"}}
			o.reloc(2, elf.R_X86_64_PLT32, s, -4)
		}},
		"a slot of something else": {"TS3507", func(t *testing.T, o *object) {
			s := o.undefined("fputs")
			o.part.Resolve[s] = pack.Target{Slot: o.slot(t, "puts", dso.GlobDat), Import: splice.Import{Name: "fputs"}}
			o.reloc(2, elf.R_X86_64_PLT32, s, -4)
		}},
		"an IFUNC without a slot": {"TS3504", func(t *testing.T, o *object) {
			s := o.undefined("f")
			o.part.Resolve[s] = pack.Target{Defined: true, Vaddr: o.value["f"], IFunc: true}
			o.reloc(2, elf.R_X86_64_PLT32, s, -4)
		}},
		"a thread-local variable that nobody placed": {"TS3505", func(t *testing.T, o *object) {
			s := o.undefined("u")
			o.part.Resolve[s] = pack.Target{TLS: true, Import: splice.Import{Name: "u"}}
			o.reloc(2, elf.R_X86_64_GOTTPOFF, s, -4)
		}},
		"local exec in a library": {"TS3505", func(t *testing.T, o *object) {
			s := o.undefined("t")
			o.part.Resolve[s] = pack.Target{TLS: true, Defined: true}
			o.reloc(2, elf.R_X86_64_TPOFF32, s, 0)
		}},
		"an address by distance": {"TS3503", func(t *testing.T, o *object) {
			s := o.undefined("puts")
			o.part.Resolve[s] = pack.Target{Import: splice.Import{Name: "puts"}}
			o.reloc(7, elf.R_X86_64_PC32, s, -4)
		}},
		"one name of two objects": {"TS3507", func(t *testing.T, o *object) {
			o.fn.Bind = elf.STB_GLOBAL
			o.in.Parts = append(o.in.Parts, pack.Part{Source: "y.c", Extract: &objdiff.Extract{File: o.part.Extract.File}})
		}},
		"exceptions without frames": {"TS3507", func(t *testing.T, o *object) { o.in.Exceptions = true }},
		"frames that are none": {"TS3507", func(t *testing.T, o *object) {
			copy(o.section(".eh_frame", elf.SHT_PROGBITS, elf.SHF_ALLOC, 8).Data, "\xff\xff\xff\xff")
		}},
		"nothing replaced": {"TS3507", func(t *testing.T, o *object) { o.part.Extract.Replaced = nil }},
	} {
		t.Run(name, func(t *testing.T) {
			o := newObject(t)
			c.spoil(t, o)
			f, err := pack.Pack(o.in)
			qt.Check(t, qt.IsNil(f))
			all := code.All(err)
			qt.Assert(t, qt.IsTrue(len(all) > 0), qt.Commentf("%v", err))
			qt.Check(t, qt.Equals(all[0].Code, c.want), qt.Commentf("%v", err))
		})
	}
}

func TestPackTakes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		make func(t *testing.T, o *object)
		see  func(t *testing.T, o *object, f *splice.File)
	}{
		"a call through the entry of the ELF file": {
			func(t *testing.T, o *object) {
				s := o.undefined("puts")
				o.part.Resolve[s] = pack.Target{Slot: o.slot(t, "puts", dso.GlobDat), Import: splice.Import{Name: "puts"}}
				o.reloc(2, elf.R_X86_64_PLT32, s, -4)
			},
			func(t *testing.T, o *object, f *splice.File) {
				qt.Check(t, qt.DeepEquals(f.Relocs, []splice.Reloc{
					{Area: splice.InText, Offset: 2, Kind: splice.PC32, Ref: splice.Ref{Kind: splice.RefText, Value: 16}, Addend: -4},
					{Area: splice.InText, Offset: 18, Kind: splice.PC32, Ref: splice.Ref{Kind: splice.RefTarget, Value: o.slot(t, "puts", dso.GlobDat)}, Addend: -4},
				}))
				qt.Check(t, qt.HasLen(f.Imports, 0))
			},
		},
		"a new import by an entry of its own": {
			func(t *testing.T, o *object) {
				s := o.undefined("getpid")
				o.part.Resolve[s] = pack.Target{Import: splice.Import{Name: "getpid", Version: "GLIBC_2.2.5", Library: "libc.so.6", Func: true}}
				o.reloc(2, elf.R_X86_64_PLT32, s, -4)
			},
			func(t *testing.T, o *object, f *splice.File) {
				qt.Check(t, qt.HasLen(f.Imports, 1))
				qt.Check(t, qt.DeepEquals(f.Relocs[2], splice.Reloc{Area: splice.InROData, Offset: 0, Kind: splice.Abs64, Ref: splice.Ref{Kind: splice.RefImport}}))
			},
		},
		"a weak symbol that nobody has": {
			func(t *testing.T, o *object) {
				s := o.undefined("maybe")
				s.Bind = elf.STB_WEAK
				o.reloc(2, elf.R_X86_64_PLT32, s, -4)
			},
			func(t *testing.T, o *object, f *splice.File) {
				qt.Check(t, qt.DeepEquals(f.Imports, []splice.Import{{Name: "maybe", Weak: true}}))
			},
		},
		"a thread-local variable by the ELF file's entry": {
			func(t *testing.T, o *object) {
				s := o.undefined("t")
				o.part.Resolve[s] = pack.Target{TLS: true, Defined: true, Vaddr: 0}
				o.reloc(2, elf.R_X86_64_GOTTPOFF, s, -4)
			},
			func(t *testing.T, o *object, f *splice.File) {
				qt.Check(t, qt.Equals(f.Relocs[0].Ref, splice.Ref{Kind: splice.RefTarget, Value: o.slot(t, "t", dso.TPOff)}))
			},
		},
		"a loop to the entry, when nobody is in it": {
			func(t *testing.T, o *object) { o.replace("loop", 7, 16) },
			func(t *testing.T, o *object, f *splice.File) {},
		},
		"a loop into the first bytes, without a call": {
			func(t *testing.T, o *object) { o.replace("alone", 9, 16) },
			func(t *testing.T, o *object, f *splice.File) {},
		},
		"a table of jumps that leads elsewhere": {
			func(t *testing.T, o *object) { o.replace("switched", 26, 26) },
			func(t *testing.T, o *object, f *splice.File) {},
		},
		"what another object of the fix brings": {
			func(t *testing.T, o *object) {
				o.reloc(2, elf.R_X86_64_PLT32, o.undefined("brought"), -4)
				text := &elfobj.Section{Name: ".text.brought", Type: elf.SHT_PROGBITS, Flags: elf.SHF_ALLOC | elf.SHF_EXECINSTR, Align: 32, Data: []byte{0xc3}}
				o.in.Parts = append(o.in.Parts, pack.Part{Source: "y.c", Extract: &objdiff.Extract{File: &elfobj.File{
					Sections: []*elfobj.Section{text},
					Symbols:  []*elfobj.Symbol{{Name: "brought", Bind: elf.STB_GLOBAL, Type: elf.STT_FUNC, Section: text, Size: 1}},
				}}})
			},
			func(t *testing.T, o *object, f *splice.File) {
				qt.Check(t, qt.Equals(f.Relocs[0].Ref, splice.Ref{Kind: splice.RefText, Value: 32}))
				qt.Check(t, qt.HasLen(f.Text, 33))
			},
		},
		"constants": {
			func(t *testing.T, o *object) {
				o.reloc(2, elf.R_X86_64_32S, &elfobj.Symbol{Name: "size", Index: elf.SHN_ABS, Value: 7}, -9)
			},
			func(t *testing.T, o *object, f *splice.File) {
				qt.Check(t, qt.DeepEquals(f.Text[2:6], []byte{0xfe, 0xff, 0xff, 0xff}))
				qt.Check(t, qt.HasLen(f.Relocs, 0))
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			o := newObject(t)
			c.make(t, o)
			f, err := pack.Pack(o.in)
			qt.Assert(t, qt.IsNil(err))
			c.see(t, o, f)
			again, err := pack.Pack(o.in)
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.DeepEquals(again, f), qt.Commentf("the same inputs, another payload"))
		})
	}
}

// TestFramesOfPackedCodeAreFound: .eh_frame of a payload, in its place, covers
// each new function.
func TestFramesOfPackedCodeAreFound(t *testing.T) {
	t.Parallel()
	b := build(t, "code.c", true, []string{"-fPIC"}, nil)
	f, err := pack.Pack(pack.Input{File: b.file, Name: "code", Parts: []pack.Part{b.part(t)}})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(f.Register))
	p := f.Layout(0).Place(0x7f0000000000, 0x7f0000000000-0x10000000)
	p.Slots, p.Imports = map[uint64]uint64{}, make([]uint64, len(f.Imports))
	for _, s := range f.Slots() {
		p.Slots[s] = 1
	}
	for i := range p.Imports {
		p.Imports[i] = 1
	}
	out, err := f.Resolve(p)
	qt.Assert(t, qt.IsNil(err))
	table, err := unwind.Parse(out.ROData[f.Unwind.Start:][:f.Unwind.Size], p.ROData+f.Unwind.Start)
	qt.Assert(t, qt.IsNil(err))
	for _, fn := range f.Functions {
		for _, off := range []uint32{0, fn.NewSize - 1} {
			_, err := table.Row(p.Text + uint64(fn.New+off))
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s+%#x", fn.Name, off))
		}
	}
}
