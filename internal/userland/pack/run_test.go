// SPDX-License-Identifier: Apache-2.0

package pack_test

import (
	"bufio"
	"debug/elf"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/objdiff"
	"github.com/tsugi-project/tsugi/internal/splice"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
	"github.com/tsugi-project/tsugi/internal/userland/pack"
)

// built is a program or library of the code under test, as shipped, and what
// the fix changes of it.
type built struct {
	file    *dso.File
	program string // to run
	extract *objdiff.Extract
	symbols map[string]dso.Symbol // .symtab
}

func compiler(t *testing.T, source string, args ...string) {
	t.Helper()
	cc := "gcc"
	if strings.HasSuffix(source, ".cc") {
		cc = "g++"
	}
	need.Program(t, cc)
	out, err := exec.CommandContext(t.Context(), cc, args...).CombinedOutput()
	qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", out))
}

// build compiles source as a library or a program, and both its versions as
// the objects to compare.
func build(t *testing.T, source string, library bool, cflags, ldflags []string) *built {
	t.Helper()
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	source = filepath.Join("testdata", source)
	cflags = append([]string{"-O2", "-g0", "-c", source}, cflags...)
	compiler(t, source, append(cflags, "-o", at("code.o"))...)
	compiler(t, source, append(cflags, "-ffunction-sections", "-fdata-sections", "-o", at("orig.o"))...)
	compiler(t, source, append(cflags, "-ffunction-sections", "-fdata-sections", "-DFIXED", "-o", at("fixed.o"))...)
	b := &built{program: at("host"), symbols: map[string]dso.Symbol{}}
	shipped := at("host")
	if library {
		shipped = at("libcode.so")
		compiler(t, source, append([]string{"-shared", "-Wl,-soname,libcode.so", at("code.o"), "-o", shipped}, ldflags...)...)
		compiler(t, source, "-O1", "testdata/host.c", shipped, "-Wl,-rpath,"+dir, "-o", b.program)
	} else {
		compiler(t, source, append([]string{"-O1", "testdata/host.c", at("code.o"), "-o", shipped}, ldflags...)...)
	}
	r, err := os.Open(shipped)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { r.Close() })
	b.file, err = dso.Open(r)
	qt.Assert(t, qt.IsNil(err))
	for _, s := range symtab(t, r) {
		kind := elf.ST_TYPE(s.Info)
		if s.Section != elf.SHN_UNDEF && kind != elf.STT_FILE && kind != elf.STT_SECTION {
			b.symbols[s.Name] = dso.Symbol{Name: s.Name, Value: s.Value, Size: s.Size, Type: kind, Bind: elf.ST_BIND(s.Info), Section: s.Section}
		}
	}
	read := func(name string) *elfobj.File {
		raw, err := os.ReadFile(at(name))
		qt.Assert(t, qt.IsNil(err))
		f, err := elfobj.Read(raw)
		qt.Assert(t, qt.IsNil(err))
		return f
	}
	diff, err := objdiff.Diff(read("orig.o"), read("fixed.o"), objdiff.Options{Trace: objdiff.TraceUnneeded, Userland: true})
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(diff.Refusals, 0), qt.Commentf("%v", diff.Refusals))
	b.extract, err = diff.Extract()
	qt.Assert(t, qt.IsNil(err))
	return b
}

// part answers from .symtab and .dynsym where everything is.
func (b *built) part(t *testing.T) pack.Part {
	t.Helper()
	p := pack.Part{Source: "code.c", Extract: b.extract, Functions: map[*elfobj.Symbol]splice.Function{}, Resolve: map[*elfobj.Symbol]pack.Target{}}
	for _, r := range b.extract.Replaced {
		s, ok := b.symbols[r.Orig.Name]
		qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%s", r.Orig.Name))
		p.Functions[r.New] = splice.Function{
			Old: s.Value, Size: uint32(s.Size), Room: uint32(max(s.Size, 5)), Policy: splice.Quiescent,
		}
	}
	slots, err := b.file.Slots()
	qt.Assert(t, qt.IsNil(err))
	dynamic, err := b.file.DynamicSymbols()
	qt.Assert(t, qt.IsNil(err))
	for _, r := range b.extract.Refs {
		var target pack.Target
		name := r.Symbol.Name
		if r.Orig != nil {
			name = r.Orig.Name
		}
		s, ok := b.symbols[name]
		if ok {
			target = pack.Target{Defined: true, Vaddr: s.Value, TLS: s.Type == elf.STT_TLS, IFunc: s.Type == elf.STT_GNU_IFUNC}
		} else {
			target.Import = splice.Import{Name: name, Weak: r.Symbol.Bind == elf.STB_WEAK}
			for _, d := range dynamic {
				if d.Name == name && !d.Defined() {
					target.Import.Version, target.Import.Library, target.Import.Func = d.Version, d.Library, d.Type == elf.STT_FUNC
					target.TLS = d.Type == elf.STT_TLS
				}
			}
		}
		for _, slot := range slots {
			if slot.Symbol != nil && slot.Symbol.Name == name && (slot.Kind == dso.GlobDat || slot.Kind == dso.JumpSlot) && target.Slot == 0 {
				target.Slot = slot.Vaddr
				target.Import.Name, target.Import.Version = name, slot.Symbol.Version
			}
		}
		p.Resolve[r.Symbol] = target
	}
	return p
}

// host is the running program.
type host struct {
	t   *testing.T
	in  io.Writer
	out *bufio.Scanner
}

func (b *built) start(t *testing.T, env ...string) (*host, uint64) {
	t.Helper()
	cmd := exec.Command(b.program) // it ends with its input
	cmd.Env = append([]string{"TSUGI_TEST_WORD=env"}, env...)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	out, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	h := &host{t, in, bufio.NewScanner(out)}
	t.Cleanup(func() {
		in.Close()
		qt.Check(t, qt.IsNil(cmd.Wait()))
	})
	bias := h.answer("bias")
	return h, bias
}

func (h *host) line(word string) string {
	h.t.Helper()
	qt.Assert(h.t, qt.IsTrue(h.out.Scan()), qt.Commentf("it ended before it said %q", word))
	rest, ok := strings.CutPrefix(h.out.Text(), word+" ")
	qt.Assert(h.t, qt.IsTrue(ok), qt.Commentf("%s", h.out.Text()))
	return rest
}

func (h *host) answer(word string) (v uint64) {
	h.t.Helper()
	_, err := fmt.Sscanf(h.line(word), "%x", &v)
	qt.Assert(h.t, qt.IsNil(err))
	return v
}

func (h *host) say(format string, args ...any) { fmt.Fprintf(h.in, format+"\n", args...) }

func (h *host) done(word string) {
	h.t.Helper()
	qt.Assert(h.t, qt.Equals(h.line(word), "1"))
}

func (h *host) run() string {
	h.t.Helper()
	h.say("run")
	return h.line("out")
}

func (h *host) write(at uint64, b []byte) {
	h.t.Helper()
	h.say("write %x %x", at, len(b))
	h.in.Write(b)
	h.done("wrote")
}

// apply puts a payload into the program, and returns how to take it out.
func (h *host) apply(f *splice.File, bias uint64) (revert func()) {
	h.t.Helper()
	last := f.Segments[len(f.Segments)-1]
	l := f.Layout(64)
	base := (bias + last.Vaddr + last.Memsz + 0x2000000) &^ 0xfff
	h.say("map %x %x", base, l.Size)
	h.done("mapped")
	place := l.Place(base, bias)
	place.Slots = map[uint64]uint64{}
	for _, s := range f.Slots() {
		h.say("read %x", bias+s)
		place.Slots[s] = h.answer("value")
		if i := f.SlotImport(s); i != 0 { // as an engine that does not trust lazy entries
			h.say("symbol %s", f.Imports[i-1].Name)
			place.Slots[s] = h.answer("value")
		}
	}
	for _, m := range f.Imports {
		h.say("symbol %s", m.Name)
		place.Imports = append(place.Imports, h.answer("value"))
	}
	areas, err := f.Resolve(place)
	qt.Assert(h.t, qt.IsNil(err))
	h.write(place.ROData, areas.ROData)
	h.write(place.Text, areas.Text)
	if len(areas.Data) > 0 {
		h.write(place.Data, areas.Data)
	}
	for _, p := range l.Parts {
		prot := "r"
		if p.Write {
			prot += "w"
		}
		if p.Exec {
			prot += "x"
		}
		h.say("protect %x %x %s", base+p.Offset, p.Size, prot)
		h.done("protected")
	}
	if f.Register {
		h.say("register %x", place.ROData+f.Unwind.Start)
		h.done("registered")
	}
	old := map[uint64][]byte{}
	patch := func(at uint64, b []byte) {
		h.say("protect %x 2000 rwx", at&^0xfff)
		h.done("protected")
		h.write(at, b)
		h.say("protect %x 2000 rx", at&^0xfff)
		h.done("protected")
	}
	for _, fn := range f.Functions {
		at := bias + fn.Old + uint64(fn.Skip)
		jump, err := splice.Jump(at, place.Text+uint64(fn.New))
		qt.Assert(h.t, qt.IsNil(err))
		h.say("read %x", at)
		word := h.answer("value")
		for range 5 {
			old[at] = append(old[at], byte(word))
			word >>= 8
		}
		patch(at, jump[:])
	}
	return func() {
		for at, b := range old {
			patch(at, b)
		}
	}
}

// TestPackedCodeRuns: the payload of a change that refers to everything does in
// a running program what the fixed source does, and the program does the old
// thing again without it.
func TestPackedCodeRuns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		library         bool
		cflags, ldflags []string
	}{
		{"a library that is bound lazily", true, []string{"-fPIC"}, []string{"-Wl,-z,lazy"}},
		{"a library that is bound at the start", true, []string{"-fPIC"}, []string{"-Wl,-z,now"}},
		{"a library without a PLT", true, []string{"-fPIC", "-fno-plt"}, []string{"-Wl,-z,now"}},
		{"a library that uses its own symbols", true, []string{"-fPIC"}, []string{"-Wl,-Bsymbolic"}},
		{"a library of hidden symbols", true, []string{"-fPIC", "-Dwork=__attribute__((visibility(\"default\"))) work", "-fvisibility=hidden"}, nil},
		{"a program that may lie anywhere", false, []string{"-fPIE"}, []string{"-pie"}},
		{"a program bound lazily", false, []string{"-fPIE"}, []string{"-pie", "-Wl,-z,lazy"}},
		{"a program of fixed addresses", false, []string{"-fno-pie", "-DNEAR"}, []string{"-no-pie"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			b := build(t, "code.c", c.library, c.cflags, c.ldflags)
			f, err := pack.Pack(pack.Input{File: b.file, Name: "code", Path: "/usr/lib/code", Parts: []pack.Part{b.part(t)}})
			qt.Assert(t, qt.IsNil(err))
			raw, err := f.Encode()
			qt.Assert(t, qt.IsNil(err))
			f, err = splice.Decode(raw)
			qt.Assert(t, qt.IsNil(err))

			h, bias := b.start(t)
			before := h.run()
			revert := h.apply(f, bias)
			after := h.run()
			revert()
			again := h.run()
			qt.Check(t, qt.Equals(before, "[old one 102 103 9 7][old two 104 -1 12 8][old three 106 107 16 10][old one 108 1 21 13]"))
			// total and the calls of sub go on, variables of threads begin again
			qt.Check(t, qt.Equals(after, "[fixed none One sub 106 107 9 9 40 0 0 7 1 env][fixed single two abs 108 -1 8 12 42 1.5 1 8 1 env]"+
				"[fixed pair Three add 110 111 7 16 44 3 2 10 1 env][fixed several one sub 112 1 6 21 46 4.5 3 13 1 env]"))
			qt.Check(t, qt.Equals(again, "[old one 110 111 9 7][old two 112 -1 12 8][old three 114 115 16 10][old one 116 1 21 13]"))
		})
	}
}

// TestExceptionsPassThroughPackedCode: with its .eh_frame made known, C++ code
// of a payload throws, catches and cleans up.
func TestExceptionsPassThroughPackedCode(t *testing.T) {
	t.Parallel()
	for _, library := range []bool{true, false} {
		flags, link := []string{"-fPIE"}, []string{"-pie"}
		if library {
			flags, link = []string{"-fPIC"}, nil
		}
		b := build(t, "throws.cc", library, flags, link)
		f, err := pack.Pack(pack.Input{File: b.file, Name: "code", Parts: []pack.Part{b.part(t)}})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(f.Register))
		h, bias := b.start(t)
		before := h.run()
		revert := h.apply(f, bias)
		after := h.run()
		revert()
		qt.Check(t, qt.Equals(before, "[old 0 0][odd 1 0][old 1 0][odd 3 0]"))
		qt.Check(t, qt.Equals(after, "[fixed 1000 0][odd 1 0][fixed two 0][odd 3 0]"))
		qt.Check(t, qt.Equals(h.run(), before))
	}
}
