// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
)

// This file builds kernel images small enough for a test: an ELF file with the
// sections that this package reads, kallsyms tables in the layout of a given
// kernel version, and a bzImage around it.

const (
	textAddr   = 0xffffffff81000000
	rodataAddr = 0xffffffff82000000
	notesAddr  = 0xffffffff82800000
	sealAddr   = 0xffffffff82900000
	bssAddr    = 0xffffffff83000000
)

// layout is how scripts/kallsyms.c of some version writes its tables.
type layout struct {
	name        string
	addressLast bool // since 6.4 the addresses follow the tokens
	seqs        bool // since 6.2 there is seqs_of_names
	form        addrForm
	longNames   bool // since 6.1
}

func layouts() []layout {
	return []layout{
		{"4.6 to 6.0, absolute percpu", false, false, formPercpu, false},
		{"6.1", false, false, formPercpu, true},
		{"6.2 and 6.3", false, true, formPercpu, true},
		{"6.4 to 6.14", true, true, formPercpu, true},
		{"6.15 and later, no absolute percpu", true, true, formOffset, true},
		{"base relative without percpu", false, false, formOffset, false},
		{"whole addresses", false, false, formWhole, false},
	}
}

// symbols makes a symbol table such as kernels have: percpu ones at low
// addresses, names with common parts, duplicates, one longer than 127.
func symbols(l layout) []Symbol {
	var syms []Symbol
	if l.form != formOffset {
		syms = append(syms, Symbol{"fixed_percpu_data", 'A', 0}, Symbol{"__per_cpu_start", 'A', 0}, Symbol{"cpu_info", 'A', 0x21000})
	}
	syms = append(syms, Symbol{"_stext", 'T', textAddr}, Symbol{"_text", 'T', textAddr})
	for i := range 900 {
		name := fmt.Sprintf("tcp_function_%d", i/2) // each twice, as static functions
		if l.longNames && i == 400 {
			name = strings.Repeat("very_", 50) + "long"
		}
		syms = append(syms, Symbol{name, "tTdDbBrRwW"[i%10], textAddr + 16*uint64(i)})
	}
	return append(syms, Symbol{"__brk_limit", 'B', bssAddr + 0x1000})
}

// tokens are the ASCII characters themselves and a few frequent parts, one of
// them empty, as an unused one is.
func tokens() [256]string {
	var out [256]string
	for i := range out {
		out[i] = fmt.Sprintf("~%d", i) // never used
	}
	for c := ' '; c < 0x7f; c++ {
		out[c] = string(c)
	}
	out[1], out[2], out[3], out[0xff] = "tcp_", "function_", "", "very_"
	return out
}

func compressName(s string, toks [256]string) []byte {
	var out []byte
	for len(s) > 0 {
		c := s[0]
		for _, t := range []byte{1, 2, 0xff} {
			if strings.HasPrefix(s, toks[t]) {
				c = t
			}
		}
		out = append(out, c)
		s = s[len(toks[c]):]
	}
	return out
}

// tablesOf writes the kallsyms tables with some bytes before and after.
func tablesOf(l layout, syms []Symbol) []byte {
	var b []byte
	le := binary.LittleEndian
	align := func() {
		for len(b)%8 != 0 {
			b = append(b, 0)
		}
	}
	addresses := func() {
		if l.form == formWhole {
			for _, s := range syms {
				b = le.AppendUint64(b, s.Addr)
			}
			return
		}
		for _, s := range syms {
			off := uint32(s.Addr - textAddr)
			if l.form == formPercpu {
				off = uint32(s.Addr)
				if s.Addr >= textAddr {
					off = uint32(textAddr - 1 - s.Addr) // negative
				}
			}
			b = le.AppendUint32(b, off)
		}
		align()
		b = le.AppendUint64(b, textAddr)
	}
	b = append(b, "some constants before\x00"...)
	align()
	if !l.addressLast {
		addresses()
	}
	b = le.AppendUint32(b, uint32(len(syms)))
	align()
	toks := tokens()
	start := len(b)
	var markers []byte
	for i, s := range syms {
		if i%256 == 0 {
			markers = le.AppendUint32(markers, uint32(len(b)-start))
		}
		name := compressName(string(s.Type)+s.Name, toks)
		if len(name) > 0x7f {
			b = append(b, byte(len(name)&0x7f|0x80), byte(len(name)>>7))
		} else {
			b = append(b, byte(len(name)))
		}
		b = append(b, name...)
	}
	align()
	b = append(b, markers...)
	align()
	seqs := func() {
		for i := range syms {
			b = append(b, 0, byte(i>>8), byte(i))
		}
		align()
	}
	if l.seqs && !l.addressLast {
		seqs()
	}
	var index []byte
	start = len(b)
	for _, t := range toks {
		index = le.AppendUint16(index, uint16(len(b)-start))
		b = append(append(b, t...), 0)
	}
	align()
	b = append(b, index...)
	if l.addressLast {
		addresses()
		align()
		seqs()
	}
	return append(b, "constants after"...)
}

// part is one section of a test image.
type part struct {
	name  string
	typ   elf.SectionType
	flags elf.SectionFlag
	addr  uint64
	data  []byte
	size  uint64 // of SHT_NOBITS
}

// elfOf writes an executable whose every loaded part is a segment.
func elfOf(parts []part) []byte {
	le := binary.LittleEndian
	var names, body bytes.Buffer
	names.WriteByte(0)
	parts = append([]part{{}}, parts...)
	parts = append(parts, part{name: ".shstrtab", typ: elf.SHT_STRTAB})
	var segs []elf.Prog64
	var heads []elf.Section64
	loaded := 0
	for _, p := range parts {
		if p.flags&elf.SHF_ALLOC != 0 {
			loaded++
		}
	}
	base := uint64(64 + 56*loaded)
	for i, p := range parts {
		h := elf.Section64{Name: uint32(names.Len()), Type: uint32(p.typ), Flags: uint64(p.flags), Addr: p.addr, Addralign: 1}
		if i == 0 {
			heads = append(heads, elf.Section64{})
			continue
		}
		names.WriteString(p.name + "\x00")
		if p.name == ".shstrtab" {
			p.data = names.Bytes()
		}
		h.Off, h.Size = base+uint64(body.Len()), uint64(len(p.data))+p.size
		body.Write(p.data)
		heads = append(heads, h)
		if p.flags&elf.SHF_ALLOC != 0 {
			typ := elf.PT_LOAD
			if p.typ == elf.SHT_NOTE {
				typ = elf.PT_NOTE
			}
			segs = append(segs, elf.Prog64{Type: uint32(typ), Off: h.Off, Vaddr: p.addr, Filesz: uint64(len(p.data)), Memsz: h.Size})
		}
	}
	head := elf.Header64{
		Type: uint16(elf.ET_EXEC), Machine: uint16(elf.EM_X86_64), Version: 1, Phoff: 64, Shoff: base + uint64(body.Len()),
		Ehsize: 64, Phentsize: 56, Phnum: uint16(len(segs)), Shentsize: 64, Shnum: uint16(len(heads)), Shstrndx: uint16(len(heads) - 1),
	}
	copy(head.Ident[:], "\x7fELF\x02\x01\x01")
	var out bytes.Buffer
	for _, v := range []any{head, segs, body.Bytes(), heads} {
		if err := binary.Write(&out, le, v); err != nil {
			panic(err)
		}
	}
	return out.Bytes()
}

const banner = "Linux version 6.1.0-55-amd64 (someone@example.org) (gcc-12 (Debian 12.2.0) 12.2.0, GNU ld 2.40) #1 SMP Debian 6.1.192-1"

const config = "CONFIG_LIVEPATCH=y\n# CONFIG_CFI_CLANG is not set\n"

// image is a whole small vmlinux.
func image(l layout) []byte {
	le := binary.LittleEndian
	weak := strings.Replace(banner, "#1 SMP", "# SMP", 1)
	rodata := []byte("Linux version %s (%s)\n\x00" + weak + "\n\x00" + banner + "\n\x00")
	var gz bytes.Buffer
	z := gzip.NewWriter(&gz)
	z.Write([]byte(config))
	z.Close()
	rodata = append(rodata, "IKCFG_ST"+gz.String()+"IKCFG_ED"...)
	for len(rodata)%8 != 0 {
		rodata = append(rodata, 0)
	}
	rodata = append(rodata, tablesOf(l, symbols(l))...)
	note := func(name string, typ uint32, desc string) []byte {
		b := le.AppendUint32(nil, uint32(len(name)))
		b = le.AppendUint32(b, uint32(len(desc)))
		b = le.AppendUint32(b, typ)
		b = append(b, name...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		b = append(b, desc...)
		for len(b)%4 != 0 {
			b = append(b, 0)
		}
		return b
	}
	notes := append(note("Linux\x00", 0x101, "abc"), note("GNU\x00", 3, "\x21\x0c\xfe\xaa\x36\x86")...)
	var seal []byte
	for i, addr := range []int64{0x20, 0x40} {
		seal = le.AppendUint32(seal, uint32(addr-(sealAddr-textAddr)-4*int64(i)))
	}
	text := make([]byte, 16*900)
	for i := range text {
		text[i] = byte(i)
	}
	return elfOf([]part{
		{".text", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, textAddr, text, 0},
		{".rodata", elf.SHT_PROGBITS, elf.SHF_ALLOC, rodataAddr, rodata, 0},
		{".notes", elf.SHT_NOTE, elf.SHF_ALLOC, notesAddr, notes, 0},
		{".BTF", elf.SHT_PROGBITS, elf.SHF_ALLOC, notesAddr + 0x1000, []byte("\x9f\xeb\x01\x00"), 0},
		{".ibt_endbr_seal", elf.SHT_PROGBITS, elf.SHF_ALLOC, sealAddr, seal, 0},
		{".data..percpu", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_WRITE, 0, []byte("percpu data"), 0},
		{".bss", elf.SHT_NOBITS, elf.SHF_ALLOC | elf.SHF_WRITE, bssAddr, nil, 0x1000},
	})
}

// bzImageOf wraps a payload as arch/x86/boot does.
func bzImageOf(payload []byte) []byte {
	const setupSects, offset = 1, 0x40
	b := make([]byte, (setupSects+1)*512+offset, (setupSects+1)*512+offset+len(payload)+512)
	copy(b, "MZ")
	b[0x1f1] = setupSects
	binary.LittleEndian.PutUint16(b[0x1fe:], 0xaa55)
	copy(b[0x202:], "HdrS")
	binary.LittleEndian.PutUint16(b[0x206:], 0x20f)
	binary.LittleEndian.PutUint32(b[0x248:], offset)
	binary.LittleEndian.PutUint32(b[0x24c:], uint32(len(payload)))
	b = append(b, payload...)
	return append(b, make([]byte, 512)...) // what follows the payload is not read
}

func open(t testing.TB, b []byte) *Image {
	t.Helper()
	img, err := Open(b)
	qt.Assert(t, qt.IsNil(err))
	return img
}
