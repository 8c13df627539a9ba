// SPDX-License-Identifier: Apache-2.0

package splice_test

import (
	"bytes"
	"encoding/binary"
	"math"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// example is a File that uses everything there is.
func example() *splice.File {
	return &splice.File{
		Format: splice.Format, BuildID: strings.Repeat("ab", 20), Name: "libx.so.1", Path: "/usr/lib/libx.so.1",
		Segments: []splice.Segment{
			{Vaddr: 0, Memsz: 0x800, Filesz: 0x800, Flags: 4},
			{Vaddr: 0x1000, Memsz: 0x1000, Filesz: 0x1000, Flags: 5},
			{Vaddr: 0x3000, Memsz: 0x1000, Filesz: 0x200, Flags: 6},
		},
		Text:   bytes.Repeat([]byte{0x90}, 64),
		ROData: append(bytes.Repeat([]byte{1}, 28), 0, 0, 0, 0),
		Data:   make([]byte, 16), BSS: 100,
		Functions: []splice.Function{
			{
				Name: "f<T>&", Source: "x.c", Old: 0x1100, Size: 3, Room: 16, SHA256: strings.Repeat("0", 64),
				Parts: []splice.Range{{Start: 0x1800, Size: 8}}, New: 0, NewSize: 32, Policy: splice.Quiescent,
			},
			{Name: "g", Old: 0x1110, Size: 32, Room: 32, Skip: 4, SHA256: strings.Repeat("1", 64), New: 32, NewSize: 32, Policy: splice.EntryOnly},
		},
		Relocs: []splice.Reloc{
			{Area: splice.InText, Offset: 1, Kind: splice.PC32, Ref: splice.Ref{Kind: splice.RefTarget, Value: 0x1110}, Addend: -4},
			{Area: splice.InText, Offset: 5, Kind: splice.PC32, Ref: splice.Ref{Kind: splice.RefROData, Value: 8}, Addend: -4},
			{Area: splice.InROData, Offset: 0, Kind: splice.Abs64, Ref: splice.Ref{Kind: splice.RefSlot, Value: 0x3010, Import: 1}},
			{Area: splice.InROData, Offset: 8, Kind: splice.Abs64, Ref: splice.Ref{Kind: splice.RefImport, Value: 1}, Addend: 3},
			{Area: splice.InROData, Offset: 16, Kind: splice.PC64, Ref: splice.Ref{Kind: splice.RefText, Value: 32}},
			{Area: splice.InData, Offset: 8, Kind: splice.Abs64, Ref: splice.Ref{Kind: splice.RefData, Value: 16}},
		},
		Imports: []splice.Import{
			{Name: "memcpy", Version: "GLIBC_2.14", Library: "libc.so.6", Func: true},
			{Name: "environ", Weak: true},
		},
		Unwind: splice.Range{Start: 24, Size: 8}, Register: true,
	}
}

func TestEncodingHasOneForm(t *testing.T) {
	t.Parallel()
	raw, err := example().Encode()
	qt.Assert(t, qt.IsNil(err))
	f, err := splice.Decode(raw)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(f, example()))
	sum, err := f.Digest()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(sum, 64))
	for name, other := range map[string]string{
		"a space":           strings.Replace(string(raw), `{"format"`, `{ "format"`, 1),
		"an unknown field":  strings.Replace(string(raw), `{"format"`, `{"x":1,"format"`, 1),
		"no end of line":    strings.TrimSuffix(string(raw), "\n"),
		"a second value":    string(raw) + "{}",
		"another letter":    strings.Replace(string(raw), `"name"`, `"NAME"`, 1),
		"an escape":         strings.Replace(string(raw), `f<T>&`, `f\u003cT>&`, 1),
		"a field twice":     strings.Replace(string(raw), `{"format":1`, `{"format":1,"format":1`, 1),
		"another format":    strings.Replace(string(raw), `{"format":1`, `{"format":2`, 1),
		"nothing":           "",
		"a negative offset": strings.Replace(string(raw), `"offset":5`, `"offset":-5`, 1),
	} {
		_, err := splice.Decode([]byte(other))
		qt.Check(t, qt.Equals(code.Of(err), "TS3501"), qt.Commentf("%s", name))
	}
}

func TestCheckRefuses(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(f *splice.File){
		"no build-id":                       func(f *splice.File) { f.BuildID = "" },
		"a build-id in capitals":            func(f *splice.File) { f.BuildID = strings.Repeat("AB", 20) },
		"a name that writes to terminals":   func(f *splice.File) { f.Name = "a\x1b[2J" },
		"no name":                           func(f *splice.File) { f.Name = "" },
		"no segments":                       func(f *splice.File) { f.Segments = nil },
		"segments that overlap":             func(f *splice.File) { f.Segments[1].Vaddr = 0x700 },
		"a segment that wraps":              func(f *splice.File) { f.Segments[2].Memsz = math.MaxUint64 },
		"no code":                           func(f *splice.File) { f.Text = nil },
		"too much of zeros":                 func(f *splice.File) { f.BSS = math.MaxUint32 },
		"no functions":                      func(f *splice.File) { f.Functions = nil },
		"functions out of order":            func(f *splice.File) { f.Functions[0].Old = 0x1200 },
		"functions that overlap":            func(f *splice.File) { f.Functions[0].Size, f.Functions[0].Room = 17, 17 },
		"a function's padding in another":   func(f *splice.File) { f.Functions[0].Room = 17 },
		"a part in another function":        func(f *splice.File) { f.Functions[0].Parts[0].Start = 0x1110 },
		"a part in its own function":        func(f *splice.File) { f.Functions[0].Parts[0].Start = 0x1100 },
		"a part of nothing":                 func(f *splice.File) { f.Functions[0].Parts[0].Size = 0 },
		"a part in the data":                func(f *splice.File) { f.Functions[0].Parts[0].Start = 0x3000 },
		"a function in the data":            func(f *splice.File) { f.Functions[1].Old = 0x3000 },
		"a function behind the file":        func(f *splice.File) { f.Functions[1].Old = 0x1ff0 },
		"no room for a jump":                func(f *splice.File) { f.Functions[0].Room = 4 },
		"no room behind endbr64":            func(f *splice.File) { f.Functions[0].Room, f.Functions[0].Skip = 8, 4 },
		"room shorter than the function":    func(f *splice.File) { f.Functions[1].Room = 31 },
		"more padding than there is":        func(f *splice.File) { f.Functions[1].Room = 200 },
		"a jump into the middle":            func(f *splice.File) { f.Functions[0].Skip = 1 },
		"new code behind the text":          func(f *splice.File) { f.Functions[1].NewSize = 33 },
		"new code that wraps":               func(f *splice.File) { f.Functions[1].New = math.MaxUint32 },
		"an unknown policy":                 func(f *splice.File) { f.Functions[0].Policy = "" },
		"half a digest":                     func(f *splice.File) { f.Functions[0].SHA256 = "00" },
		"relocations out of order":          func(f *splice.File) { f.Relocs[0], f.Relocs[1] = f.Relocs[1], f.Relocs[0] },
		"areas out of order":                func(f *splice.File) { f.Relocs[0], f.Relocs[2] = f.Relocs[2], f.Relocs[0] },
		"relocations that overlap":          func(f *splice.File) { f.Relocs[1].Offset = 4 },
		"a relocation over the end":         func(f *splice.File) { f.Relocs[5].Offset = 9 },
		"a relocation that wraps":           func(f *splice.File) { f.Relocs[5].Offset = math.MaxUint32 },
		"a relocation in no area":           func(f *splice.File) { f.Relocs[0].Area = "bss" },
		"a relocation of no kind":           func(f *splice.File) { f.Relocs[0].Kind = "pc16" },
		"a reference behind the text":       func(f *splice.File) { f.Relocs[4].Ref.Value = 65 },
		"a reference behind the data":       func(f *splice.File) { f.Relocs[5].Ref.Value = 117 },
		"a reference out of the file":       func(f *splice.File) { f.Relocs[0].Ref.Value = 0x4001 },
		"a reference to nothing":            func(f *splice.File) { f.Relocs[0].Ref.Kind = "moon" },
		"a huge addend":                     func(f *splice.File) { f.Relocs[0].Addend = math.MinInt64 },
		"a slot with an addend":             func(f *splice.File) { f.Relocs[2].Addend = 1 },
		"a slot by distance":                func(f *splice.File) { f.Relocs[2].Kind = splice.PC64 },
		"a slot over the end of a segment":  func(f *splice.File) { f.Relocs[2].Ref.Value = 0x3ff9 },
		"a slot of an unknown import":       func(f *splice.File) { f.Relocs[2].Ref.Import = 3 },
		"a slot of import -1":               func(f *splice.File) { f.Relocs[2].Ref.Import = -1 },
		"an import that isn't a slot's":     func(f *splice.File) { f.Relocs[0].Ref.Import = 1 },
		"an unknown import":                 func(f *splice.File) { f.Relocs[3].Ref.Value = 2 },
		"an import twice":                   func(f *splice.File) { f.Imports[1] = f.Imports[0] },
		"an import without a name":          func(f *splice.File) { f.Imports[1].Name = "" },
		".eh_frame over the end":            func(f *splice.File) { f.Unwind.Size = 12 },
		".eh_frame that wraps":              func(f *splice.File) { f.Unwind.Start = math.MaxUint64 &^ 7 },
		".eh_frame without an end":          func(f *splice.File) { f.Unwind = splice.Range{Start: 16, Size: 8} },
		"exceptions without an .eh_frame":   func(f *splice.File) { f.Unwind = splice.Range{} },
		"a source path that can't be shown": func(f *splice.File) { f.Functions[0].Source = "\n" },
	} {
		f := example()
		change(f)
		err := f.Check()
		qt.Check(t, qt.Equals(code.Of(err), "TS3501"), qt.Commentf("%s", name))
		if _, err := f.Encode(); err == nil {
			t.Errorf("%s: it was encoded", name)
		}
	}
	qt.Check(t, qt.IsNil(example().Check()))
}

func TestLayoutSharesNoPageBetweenProtections(t *testing.T) {
	t.Parallel()
	f := example()
	for _, c := range []struct {
		header         uint32
		ro, text, data uint64
		size           uint64
		change         func()
	}{
		{0, 0, 4096, 8192, 12288, nil},
		{100, 128, 4096, 8192, 12288, nil},
		{4096 - 32, 4096, 8192, 12288, 16384, nil},
		{100, 128, 4096, 8192, 8192, func() { f.Data, f.BSS = nil, 0 }},
		{100, 128, 4096, 8192, 8192, func() { f.ROData = nil }},
		{0, 0, 0, 4096, 4096, nil},
	} {
		if c.change != nil {
			c.change()
		}
		l := f.Layout(c.header)
		qt.Check(t, qt.DeepEquals([]uint64{l.ROData, l.Text, l.Data, l.Size}, []uint64{c.ro, c.text, c.data, c.size}))
		end := uint64(0)
		for _, p := range l.Parts {
			qt.Check(t, qt.Equals(p.Offset, end))
			qt.Check(t, qt.IsFalse(p.Write && p.Exec))
			end += p.Size
		}
		qt.Check(t, qt.Equals(end, l.Size))
	}
}

func place() splice.Place {
	p := example().Layout(0).Place(0x7f0000010000, 0x7f0000000000)
	p.Slots = map[uint64]uint64{0x3010: 0x7f1234567890}
	p.Imports = []uint64{0x7f1234567890, 0}
	return p
}

func TestResolveWritesWhatTheKindsSay(t *testing.T) {
	t.Parallel()
	f := example()
	qt.Check(t, qt.DeepEquals(f.Slots(), []uint64{0x3010}))
	qt.Check(t, qt.Equals(f.SlotImport(0x3010), 1))
	out, err := f.Resolve(place())
	qt.Assert(t, qt.IsNil(err))
	le := binary.LittleEndian
	d := int32(0x1110 - 4 - (0x11000 + 1))
	qt.Check(t, qt.Equals(le.Uint32(out.Text[1:]), uint32(d)))
	d = 0x10000 + 8 - 4 - (0x11000 + 5)
	qt.Check(t, qt.Equals(le.Uint32(out.Text[5:]), uint32(d)))
	qt.Check(t, qt.Equals(le.Uint64(out.ROData), 0x7f1234567890))
	qt.Check(t, qt.Equals(le.Uint64(out.ROData[8:]), 3))
	qt.Check(t, qt.Equals(le.Uint64(out.ROData[16:]), 0x11000+32-0x10010))
	qt.Check(t, qt.Equals(le.Uint64(out.Data[8:]), 0x7f0000012010))
	qt.Check(t, qt.DeepEquals(f, example()), qt.Commentf("the File was changed"))
}

func TestResolveRefusesWhatIsOutOfReach(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(p *splice.Place){
		"text without a place":        func(p *splice.Place) { p.Text = 0 },
		"text beside a boundary":      func(p *splice.Place) { p.Text += 16 },
		"text in the kernel":          func(p *splice.Place) { p.Text = math.MaxUint64 &^ 63 },
		"text 2 GiB away":             func(p *splice.Place) { p.Text += 1 << 31 },
		"text 2 GiB below":            func(p *splice.Place) { p.Text -= 1<<31 + 1<<20 },
		"a bias beside a page":        func(p *splice.Place) { p.Bias++ },
		"a file over the end":         func(p *splice.Place) { p.Bias = 1<<47 - 4096 },
		"a bias that wraps":           func(p *splice.Place) { p.Bias = math.MaxUint64 &^ 4095 },
		"a slot that is not known":    func(p *splice.Place) { p.Slots = nil },
		"imports that are not known":  func(p *splice.Place) { p.Imports = nil },
		"constants over the boundary": func(p *splice.Place) { p.ROData = 1<<47 - 1 },
	} {
		p := place()
		change(&p)
		out, err := example().Resolve(p)
		qt.Check(t, qt.Equals(code.Of(err), "TS3502"), qt.Commentf("%s", name))
		qt.Check(t, qt.IsNil(out), qt.Commentf("%s", name))
	}
	f := example()
	f.Imports[1].Weak = false
	_, err := f.Resolve(place())
	qt.Check(t, qt.Equals(code.Of(err), "TS3502"))
}

func TestAddressesOfFourBytesAreBelowTwoGiB(t *testing.T) {
	t.Parallel()
	f := example()
	qt.Check(t, qt.Equals(f.Limit(), 1<<47))
	f.Relocs[0].Kind = splice.Abs32
	qt.Check(t, qt.Equals(f.Limit(), 1<<31))
	_, err := f.Resolve(place())
	qt.Check(t, qt.Equals(code.Of(err), "TS3502"))
	p := f.Layout(0).Place(0x500000, 0x400000)
	p.Slots, p.Imports = map[uint64]uint64{0x3010: 0}, []uint64{1, 0}
	out, err := f.Resolve(p)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(binary.LittleEndian.Uint32(out.Text[1:]), 0x401110-4))
}

func TestJump(t *testing.T) {
	t.Parallel()
	b, err := splice.Jump(0x401000, 0x400000)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(b, [5]byte{0xe9, 0xfb, 0xef, 0xff, 0xff}))
	for _, to := range []uint64{0x401005 + 1<<31, 0, math.MaxUint64} {
		_, err = splice.Jump(0x401005+1<<31+0x401000, to)
		if to == 0x401005+1<<31 {
			qt.Check(t, qt.IsNil(err))
			continue
		}
		qt.Check(t, qt.Equals(code.Of(err), "TS3502"), qt.Commentf("%#x", to))
	}
	_, err = splice.Jump(0x401000, 0x401005+1<<31-1)
	qt.Check(t, qt.IsNil(err))
	_, err = splice.Jump(0x401000, 0x401005+1<<31)
	qt.Check(t, qt.IsNotNil(err))
}

// FuzzDecode: what is decoded has one form, and can be laid out and resolved
// without leaving its areas.
func FuzzDecode(f *testing.F) {
	raw, err := example().Encode()
	qt.Assert(f, qt.IsNil(err))
	f.Add(raw)
	f.Add([]byte(`{"format":1}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		file, err := splice.Decode(raw)
		if (err == nil) != (file != nil) {
			t.Fatal("error and value, or neither")
		}
		if err != nil {
			if code.Of(err) != "TS3501" {
				t.Fatal(err)
			}
			return
		}
		again, err := file.Encode()
		if err != nil || !bytes.Equal(again, raw) {
			t.Fatal("it does not encode to what it was decoded from")
		}
		p := file.Layout(100).Place(0x7f0000000000, 0x7f0000000000-file.Segments[0].Vaddr&^4095)
		p.Slots, p.Imports = map[uint64]uint64{}, make([]uint64, len(file.Imports))
		for _, s := range file.Slots() {
			p.Slots[s] = 1
		}
		out, err := file.Resolve(p)
		if (err == nil) != (out != nil) {
			t.Fatal("error and value, or neither")
		}
	})
}
