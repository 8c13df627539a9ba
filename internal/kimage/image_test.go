// SPDX-License-Identifier: Apache-2.0

package kimage

import (
	"bytes"
	"debug/elf"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/tsugi-project/tsugi/internal/code"
)

func TestImageTellsWhatItIs(t *testing.T) {
	img := open(t, image(layouts()[1]))
	qt.Check(t, qt.Equals(img.BuildID(), "210cfeaa3686"))
	qt.Check(t, qt.Equals(img.Banner(), banner))
	qt.Check(t, qt.Equals(img.Release(), "6.1.0-55-amd64"))
	qt.Check(t, qt.DeepEquals(img.BTF(), []byte("\x9f\xeb\x01\x00")))
	text, ok := img.Config()
	qt.Check(t, qt.IsTrue(ok))
	qt.Check(t, qt.Equals(string(text), config))
	seal, err := SealedEndbr(img)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(seal, []uint64{textAddr + 0x20, textAddr + 0x40}))
	var names []string
	for _, s := range img.Sections() {
		names = append(names, s.Name)
	}
	qt.Check(t, qt.DeepEquals(names, []string{".text", ".rodata", ".notes", ".BTF", ".ibt_endbr_seal", ".data..percpu", ".bss", ".shstrtab"}))
}

func TestImageWithoutTheseThingsSaysSo(t *testing.T) {
	img := open(t, elfOf([]part{{".text", elf.SHT_PROGBITS, elf.SHF_ALLOC | elf.SHF_EXECINSTR, textAddr, []byte("\xc3"), 0}}))
	qt.Check(t, qt.Equals(img.BuildID(), ""))
	qt.Check(t, qt.Equals(img.Banner(), ""))
	qt.Check(t, qt.Equals(img.Release(), ""))
	qt.Check(t, qt.IsNil(img.BTF()))
	_, ok := img.Config()
	qt.Check(t, qt.IsFalse(ok))
	seal, err := SealedEndbr(img)
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsNil(seal))
	_, err = img.Kallsyms()
	qt.Check(t, qt.Equals(code.Of(err), code.Code("TS2104")))
}

func TestAtGivesTheBytesOfAnAddressOrAnError(t *testing.T) {
	img := open(t, image(layouts()[1]))
	for name, tc := range map[string]struct {
		addr uint64
		n    int
		want []byte // nil: an error
	}{
		"the first bytes of .text":      {textAddr, 3, []byte{0, 1, 2}},
		"bytes inside .text":            {textAddr + 0x20, 2, []byte{0x20, 0x21}},
		"no bytes":                      {textAddr, 0, []byte{}},
		"percpu data at its offset":     {0, 6, []byte("percpu")},
		"over the end of a segment":     {textAddr + 16*900 - 1, 2, nil},
		"behind a segment":              {textAddr + 16*900, 1, nil},
		"before the first":              {textAddr - 1, 1, nil},
		".bss, which has none":          {bssAddr, 1, nil},
		"a negative count":              {textAddr, -1, nil},
		"a count that would wrap round": {textAddr, int(^uint(0) >> 1), nil},
		"the highest address":           {^uint64(0), 1, nil},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := img.At(tc.addr, tc.n)
			if tc.want == nil {
				qt.Assert(t, qt.IsNotNil(err))
				qt.Assert(t, qt.IsNil(got))
				return
			}
			qt.Assert(t, qt.IsNil(err))
			qt.Assert(t, qt.DeepEquals(got, tc.want))
		})
	}
}

func TestFilesThatAreNoKernelAreRefused(t *testing.T) {
	good := image(layouts()[1])
	edit := func(off int, b ...byte) []byte {
		out := bytes.Clone(good)
		copy(out[off:], b)
		return out
	}
	code2 := part{".text", elf.SHT_PROGBITS, elf.SHF_ALLOC, textAddr, []byte("\xc3"), 0}
	overlap := elfOf([]part{code2, code2})
	for name, tc := range map[string]struct {
		in   []byte
		want code.Code
	}{
		"nothing":                       {nil, "TS2101"},
		"only the ELF header":           {good[:64], "TS2101"},
		"a file cut in half":            {good[:len(good)/2], "TS2101"},
		"a 32-bit file":                 {edit(4, 1), "TS2101"},
		"a big-endian file":             {edit(5, 2), "TS2101"},
		"a relocatable object":          {edit(16, 1), "TS2101"},
		"no program headers":            {edit(56, 0, 0), "TS2101"},
		"a segment behind the end":      {edit(64+8, 0xff, 0xff, 0xff), "TS2103"},
		"sections over one another":     {grow(overlap), "TS2103"},
		"a section behind the file end": {bigSection(good), "TS2103"},
	} {
		t.Run(name, func(t *testing.T) {
			img, err := Open(tc.in)
			qt.Assert(t, qt.Equals(code.Of(err), tc.want), qt.Commentf("%v", err))
			qt.Assert(t, qt.IsNil(img))
		})
	}
}

// grow lets every section of a small file but the last be the whole file.
func grow(b []byte) []byte {
	shoff := int(b[40]) | int(b[41])<<8
	for i := 1; i <= 2; i++ {
		h := b[shoff+64*i:]
		copy(h[24:], []byte{0, 0, 0, 0, 0, 0, 0, 0})
		copy(h[32:], []byte{byte(len(b)), byte(len(b) >> 8), 0, 0, 0, 0, 0, 0})
	}
	return b
}

func bigSection(b []byte) []byte {
	out := bytes.Clone(b)
	shoff := int(out[40]) | int(out[41])<<8 | int(out[42])<<16
	copy(out[shoff+64+32:], []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f})
	return out
}

func TestSealOfAnOddSizeIsRefused(t *testing.T) {
	img := open(t, elfOf([]part{{".ibt_endbr_seal", elf.SHT_PROGBITS, elf.SHF_ALLOC, sealAddr, []byte("12345"), 0}}))
	got, err := SealedEndbr(img)
	qt.Assert(t, qt.IsNotNil(err))
	qt.Assert(t, qt.IsNil(got))
}

func TestNotesThatLieAboutTheirLengthEndTheWalk(t *testing.T) {
	for _, b := range [][]byte{
		nil,
		[]byte("short"),
		[]byte("\x04\x00\x00\x00\xff\xff\xff\xff\x03\x00\x00\x00GNU\x00abcd"),
		[]byte("\xff\xff\xff\xff\x04\x00\x00\x00\x03\x00\x00\x00GNU\x00abcd"),
		[]byte("\x04\x00\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00GNU\x00"),
	} {
		qt.Check(t, qt.Equals(buildID(b), ""), qt.Commentf("%q", b))
	}
}
