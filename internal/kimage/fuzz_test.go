// SPDX-License-Identifier: Apache-2.0

package kimage

import "testing"

func FuzzUnpack(f *testing.F) {
	for format, b := range compressed(f) {
		f.Add(bzImageOf(sized(format, b, len(payload()))))
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		elf, format, err := Unpack(b)
		if (err == nil) != (elf != nil && format != "") {
			t.Fatalf("%d bytes, format %q, error %v", len(elf), format, err)
		}
		ko, err := UnpackModule(b)
		if (err == nil) != (ko != nil) {
			t.Fatalf("module of %d bytes, error %v", len(ko), err)
		}
	})
}

func FuzzOpen(f *testing.F) {
	for _, l := range layouts() {
		f.Add(image(l))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		img, err := Open(b)
		if (err == nil) != (img != nil) {
			t.Fatalf("image %v, error %v", img, err)
		}
		if img == nil {
			return
		}
		img.BuildID()
		img.Release()
		img.BTF()
		if c, ok := img.Config(); ok != (c != nil) && len(c) > 0 {
			t.Fatal("a configuration that is not there")
		}
		if got, err := SealedEndbr(img); err != nil && got != nil {
			t.Fatal("an error and a value")
		}
		checkSymbols(t, img)
		for _, s := range img.Sections() {
			if got, err := img.At(s.Addr, int(s.Size)); err == nil && len(got) != int(s.Size) {
				t.Fatalf("At gave %d bytes of %d", len(got), s.Size)
			}
		}
	})
}

func checkSymbols(t *testing.T, img *Image) {
	syms, err := img.Kallsyms()
	if (err == nil) != (syms != nil) {
		t.Fatalf("%d symbols, error %v", len(syms), err)
	}
	for i, s := range syms {
		if s.Name == "" || i > 0 && s.Addr < syms[i-1].Addr {
			t.Fatalf("symbol %d is %+v", i, s)
		}
	}
}

func FuzzKallsyms(f *testing.F) {
	for _, l := range layouts() {
		f.Add(tablesOf(l, symbols(l)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		budget := 1 << 22
		syms, err := decodeTables(b, &budget)
		if (err == nil) != (syms != nil) {
			t.Fatalf("%d symbols, error %v", len(syms), err)
		}
	})
}
