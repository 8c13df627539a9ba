// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"slices"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/tsugi-project/tsugi/internal/pkgfile/debtest"
)

// kernelOf returns the vmlinux of a Debian kernel package and its compression.
func kernelOf(t testing.TB, pkg, release string) (elf []byte, format string) {
	t.Helper()
	vmlinuz := debtest.File(t, debtest.Find(t, pkg), "boot/vmlinuz-"+release)
	elf, format, err := Unpack(vmlinuz)
	qt.Assert(t, qt.IsNil(err))
	return elf, format
}

func TestDebianKernelsAreRead(t *testing.T) {
	for _, tc := range []struct {
		pkg, release, format string
		ibt                  bool
	}{
		{"linux-image-6.1.0-55-amd64", "6.1.0-55-amd64", "xz", false},
		{"linux-image-6.12.115+deb12-amd64", "6.12.115+deb12-amd64", "zstd", true},
	} {
		t.Run(tc.release, func(t *testing.T) {
			elf, format := kernelOf(t, tc.pkg, tc.release)
			qt.Check(t, qt.Equals(format, tc.format))
			img := open(t, elf)
			qt.Check(t, qt.Equals(img.Release(), tc.release))
			qt.Check(t, qt.StringContains(img.Banner(), "gcc-12 (Debian 12.2.0-14+deb12u1) 12.2.0"))
			qt.Check(t, qt.HasLen(img.BuildID(), 40))
			qt.Check(t, qt.IsTrue(len(img.BTF()) > 4<<20))

			syms, err := img.Kallsyms()
			qt.Assert(t, qt.IsNil(err))
			checkKernelSymbols(t, img, syms)
			checkExports(t, img, syms)

			seal, err := SealedEndbr(img)
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.Equals(len(seal) > 10000, tc.ibt))
			text := map[uint64]bool{}
			for _, s := range syms {
				text[s.Addr] = true
			}
			for _, addr := range seal {
				b, err := img.At(addr, 4)
				qt.Assert(t, qt.IsNil(err))
				qt.Assert(t, qt.Equals(string(b), "\xf3\x0f\x1e\xfa"), qt.Commentf("ENDBR64 at %#x", addr))
				qt.Assert(t, qt.IsTrue(text[addr]), qt.Commentf("a function at %#x", addr))
			}
		})
	}
}

func checkKernelSymbols(t *testing.T, img *Image, syms []Symbol) {
	t.Helper()
	qt.Check(t, qt.IsTrue(len(syms) > 90000), qt.Commentf("%d symbols", len(syms)))
	qt.Check(t, qt.IsTrue(slices.IsSortedFunc(syms, func(a, b Symbol) int { return cmp.Compare(a.Addr, b.Addr) })))
	fentry, ok := find(syms, "__fentry__")
	qt.Assert(t, qt.IsTrue(ok))
	text, addr, ok := img.Section(".text")
	qt.Assert(t, qt.IsTrue(ok))
	at := map[string]Symbol{}
	functions, entered := 0, 0
	for i, s := range syms {
		at[s.Name] = s
		for _, c := range []byte(s.Name) {
			qt.Assert(t, qt.IsTrue(c > ' ' && c < 0x7f), qt.Commentf("symbol %d is %q", i, s.Name))
		}
		qt.Assert(t, qt.IsTrue(strings.IndexByte("aAbBdDrRtTvVwW", s.Type) >= 0), qt.Commentf("%+v", s))
		if s.Addr < addr || s.Addr >= addr+uint64(len(text)) || strings.HasPrefix(s.Name, "__pfx_") || strings.Contains(s.Name, ".") {
			continue
		}
		functions++
		// A traced function begins with a call of __fentry__, behind ENDBR64
		// where the kernel has IBT.
		pos := s.Addr - addr
		if bytes.HasPrefix(text[pos:], []byte("\xf3\x0f\x1e\xfa")) {
			pos += 4
		}
		if uint64(len(text))-pos >= 5 && text[pos] == 0xe8 {
			rel := int64(int32(binary.LittleEndian.Uint32(text[pos+1:])))
			if addr+pos+5+uint64(rel) == fentry {
				entered++
			}
		}
	}
	qt.Check(t, qt.IsTrue(functions > 35000), qt.Commentf("%d functions", functions))
	qt.Check(t, qt.IsTrue(entered*10 > functions*7), qt.Commentf("%d of %d functions begin with a call of __fentry__", entered, functions))
	for _, name := range []string{"_stext", "_text", "schedule", "tcp_rcv_state_process", "kernel_clone", "linux_banner"} {
		_, ok := at[name]
		qt.Check(t, qt.IsTrue(ok), qt.Commentf(name))
	}
	b, err := img.At(at["linux_banner"].Addr, len(img.Banner()))
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b), img.Banner()), qt.Commentf("the address of linux_banner holds it"))
}

func find(syms []Symbol, name string) (uint64, bool) {
	for _, s := range syms {
		if s.Name == name {
			return s.Addr, true
		}
	}
	return 0, false
}

// checkExports compares kallsyms with what the kernel says elsewhere of the
// same symbols: each entry of __ksymtab holds the offsets of an exported
// symbol, of its name and of its namespace, each relative to its own place.
func checkExports(t *testing.T, img *Image, syms []Symbol) {
	t.Helper()
	known := map[Symbol]bool{}
	for _, s := range syms {
		known[Symbol{Name: s.Name, Addr: s.Addr}] = true
	}
	n := 0
	for _, section := range []string{"__ksymtab", "__ksymtab_gpl"} {
		data, addr, ok := img.Section(section)
		qt.Assert(t, qt.IsTrue(ok))
		rel := func(off int) uint64 {
			return addr + uint64(off) + uint64(int64(int32(binary.LittleEndian.Uint32(data[off:]))))
		}
		for off := 0; off+12 <= len(data); off += 12 {
			value, nameAt := rel(off), rel(off+4)
			name, err := img.At(nameAt, 256)
			qt.Assert(t, qt.IsNil(err))
			s, _, _ := strings.Cut(string(name), "\x00")
			if value < 1<<63 { // percpu: linked at 0, where the offset wraps round
				value = uint64(uint32(value))
			}
			qt.Assert(t, qt.IsTrue(known[Symbol{Name: s, Addr: value}]), qt.Commentf("export %s at %#x", s, value))
			n++
		}
	}
	qt.Check(t, qt.IsTrue(n > 10000), qt.Commentf("%d exports", n))
}

func BenchmarkKallsyms(b *testing.B) {
	elf, _ := kernelOf(b, "linux-image-6.12.115+deb12-amd64", "6.12.115+deb12-amd64")
	img := open(b, elf)
	for b.Loop() {
		if _, err := img.Kallsyms(); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnpack(b *testing.B) {
	for _, k := range [][2]string{{"linux-image-6.1.0-55-amd64", "6.1.0-55-amd64"}, {"linux-image-6.12.115+deb12-amd64", "6.12.115+deb12-amd64"}} {
		b.Run(k[1], func(b *testing.B) {
			vmlinuz := debtest.File(b, debtest.Find(b, k[0]), "boot/vmlinuz-"+k[1])
			for b.Loop() {
				if _, _, err := Unpack(vmlinuz); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
