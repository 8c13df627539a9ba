// SPDX-License-Identifier: Apache-2.0

package elfobj

import (
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-quicktest/qt"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const fixture = `
static int counter;
static const char *const names[] = { "one", "two", 0 };
int exported = 7;
extern int other(const char *, int);
int plain(int x) { return x + counter++; }
int strings(int i) { return other(names[i & 1], exported); }
__attribute__((cold)) int rare(void) { return other("rare", 3); }
`

// compile builds C (".c") or assembler (".s") source with the machine's gcc.
func compile(tb testing.TB, ext, src string, flags ...string) []byte {
	tb.Helper()
	return compileWith(tb, "gcc", ext, src, flags...)
}

func compileWith(tb testing.TB, compiler, ext, src string, flags ...string) []byte {
	tb.Helper()
	dir := tb.TempDir()
	in, out := filepath.Join(dir, "in"+ext), filepath.Join(dir, "out.o")
	qt.Assert(tb, qt.IsNil(os.WriteFile(in, []byte(src), 0o644)))
	msg, err := exec.Command(compiler, append(flags, "-c", "-o", out, in)...).CombinedOutput()
	qt.Assert(tb, qt.IsNil(err), qt.Commentf("%s", msg))
	data, err := os.ReadFile(out)
	qt.Assert(tb, qt.IsNil(err))
	return data
}

func roundTrip(t *testing.T, data []byte) {
	t.Helper()
	first, err := Read(data)
	qt.Assert(t, qt.IsNil(err))
	again, err := first.Bytes()
	qt.Assert(t, qt.IsNil(err))
	second, err := Read(again)
	qt.Assert(t, qt.IsNil(err))
	if d := cmp.Diff(flatten(first), flatten(second), cmpopts.EquateEmpty()); d != "" {
		t.Fatalf("what was written differs from what was read:\n%s", d)
	}
	third, err := second.Bytes()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsTrue(string(again) == string(third)), qt.Commentf("writing is not stable"))
}

// flatten lists a File's facts without pointers.
func flatten(f *File) []string {
	out := []string{fmt.Sprint(f.Machine, f.Order, f.OSABI, f.Flags)}
	num := map[*Symbol]int{}
	for i, s := range f.Symbols {
		num[s] = i + 1
	}
	name := func(s *Section) string {
		if s == nil {
			return "-"
		}
		return s.Name
	}
	for _, s := range f.Sections {
		out = append(out, fmt.Sprintf("section %s %v %v align %d ent %d nobits %d link %s target %s rela %v data %x",
			s.Name, s.Type, s.Flags, s.Align, s.EntSize, s.NoBits, name(s.LinkTo), name(s.Target), s.RelaFlags, s.Data))
		if s.Group != nil {
			out = append(out, fmt.Sprintf("group %d %d", s.Group.Flags, num[s.Group.Signature]))
			for _, m := range s.Group.Members {
				out = append(out, " member "+m.Name)
			}
		}
		for _, r := range s.Relocs {
			out = append(out, fmt.Sprintf(" reloc %#x %d %d %d", r.Off, r.Type, num[r.Sym], r.Addend))
		}
	}
	for _, s := range f.Symbols {
		out = append(out, fmt.Sprintf("symbol %q %v %v %d %s %v %#x %d", s.Name, s.Bind, s.Type, s.Other, name(s.Section), s.Index, s.Value, s.Size))
	}
	return out
}

func TestReadingAndWritingKeepsEverything(t *testing.T) {
	for name, flags := range map[string][]string{
		"plain":                  {"-O2"},
		"function sections":      {"-O2", "-ffunction-sections", "-fdata-sections"},
		"debug information":      {"-O2", "-g"},
		"patchable entries":      {"-O2", "-fpatchable-function-entry=16,16"},
		"compressed debug":       {"-O2", "-g", "-gz"},
		"position independent":   {"-O2", "-fPIC"},
		"old unmerged constants": {"-O0", "-fno-merge-constants"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			roundTrip(t, compile(t, ".c", fixture, flags...))
		})
	}
	t.Run("a section group", func(t *testing.T) {
		t.Parallel()
		roundTrip(t, compile(t, ".s", ".section .text.f,\"axG\",@progbits,f,comdat\n.weak f\nf: call g\nret\n.section .data.f,\"awG\",@progbits,f,comdat\n.quad f\n"))
	})
}

// TestOtherMachinesRoundTrip covers what differs in the ELF of other machines:
// big-endian fields, MIPS's own order of r_info, and relocations without
// addends (BPF, by clang). What the machine has no compiler for is not tried.
func TestOtherMachinesRoundTrip(t *testing.T) {
	tried := 0
	for _, c := range [][]string{
		{"gcc", "-O2"},
		{"s390x-linux-gnu-gcc", "-O2"},
		{"mips64el-linux-gnuabi64-gcc", "-O2"},
		{"aarch64-linux-gnu-gcc", "-O2"},
		{"powerpc64le-linux-gnu-gcc", "-O2"},
		{"clang-14", "-O2", "-target", "bpf"},
		{"clang-16", "-O2", "-target", "bpf"},
	} {
		if _, err := exec.LookPath(c[0]); err != nil {
			continue
		}
		tried++
		t.Run(strings.Join(c, " "), func(t *testing.T) {
			data := compileWith(t, c[0], ".c", fixture, c[1:]...)
			f, err := Read(data)
			qt.Assert(t, qt.IsNil(err))
			var refs []string
			for _, s := range f.Sections {
				for _, r := range s.Relocs {
					if r.Sym != nil {
						refs = append(refs, r.Sym.Name)
					}
				}
			}
			qt.Assert(t, qt.SliceContains(refs, "other"), qt.Commentf("relocations name their symbols"))
			roundTrip(t, data)
		})
	}
	qt.Assert(t, qt.IsTrue(tried > 0))
}

func TestMoreThan65280SectionsKeepTheirSymbols(t *testing.T) {
	src := ".altmacro\n.macro one n\n.section .text.f\\n,\"ax\"\nf\\n: nop\n.endm\n.set i,0\n.rept 66000\none %i\n.set i,i+1\n.endr\n"
	data := compile(t, ".s", src)
	f, err := Read(data)
	qt.Assert(t, qt.IsNil(err))
	last := f.Symbol("f65999")
	qt.Assert(t, qt.IsNotNil(last))
	qt.Assert(t, qt.Equals(last.Section.Name, ".text.f65999"))
	roundTrip(t, data)
}

func TestTheLinkerAcceptsWhatIsWritten(t *testing.T) {
	f, err := Read(compile(t, ".c", fixture, "-O2", "-ffunction-sections"))
	qt.Assert(t, qt.IsNil(err))
	out, err := f.Bytes()
	qt.Assert(t, qt.IsNil(err))
	dir := t.TempDir()
	in, linked := filepath.Join(dir, "a.o"), filepath.Join(dir, "b.o")
	qt.Assert(t, qt.IsNil(os.WriteFile(in, out, 0o644)))
	for _, args := range [][]string{{"ld", "-r", "-o", linked, in}, {"objdump", "-dr", linked}, {"readelf", "-aW", in}} {
		msg, err := exec.Command(args[0], args[1:]...).CombinedOutput()
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%v: %s", args, msg))
		if args[0] == "readelf" {
			qt.Assert(t, qt.Not(qt.StringContains(string(msg), "Warning")))
		}
	}
}

func TestLivepatchSectionsStayApart(t *testing.T) {
	f, err := Read(compile(t, ".c", fixture, "-O2", "-ffunction-sections"))
	qt.Assert(t, qt.IsNil(err))
	text := f.Section(".text.strings")
	other := f.Symbol("other")
	other.Index, other.Name = SHNLivepatch, ".klp.sym.vmlinux.other,0"
	f.Sections = append(f.Sections, &Section{
		Name: ".klp.rela.vmlinux..text.strings", Type: elf.SHT_RELA,
		Flags:  elf.SHF_ALLOC | elf.SHF_INFO_LINK | SHFRelaLivepatch,
		Target: text, Relocs: []Reloc{{Off: 0, Type: 1, Sym: other, Addend: -4}},
	})
	out, err := f.Bytes()
	qt.Assert(t, qt.IsNil(err))
	g, err := Read(out)
	qt.Assert(t, qt.IsNil(err))
	klp := g.Section(".klp.rela.vmlinux..text.strings")
	qt.Assert(t, qt.IsNotNil(klp))
	qt.Assert(t, qt.Equals(klp.Target.Name, ".text.strings"))
	qt.Assert(t, qt.Equals(klp.Relocs[0].Sym.Index, SHNLivepatch))
	qt.Assert(t, qt.Equals(len(g.Section(".text.strings").Relocs), len(text.Relocs)))
}

func TestForeignObjectsAreRefusedWithAReason(t *testing.T) {
	good := compile(t, ".c", fixture, "-O2")
	edit := func(off int, b byte) []byte {
		out := append([]byte(nil), good...)
		out[off] = b
		return out
	}
	for name, tc := range map[string]struct {
		data []byte
		want string
	}{
		"empty":           {nil, ".*fewer than an ELF header.*"},
		"a text":          {[]byte("hello, this is a text that is longer than an ELF header, surely so"), ".*no ELF magic.*"},
		"32 bit":          {compile(t, ".c", "int x;", "-m32"), ".*ELFCLASS32.*"},
		"an executable":   {edit(16, byte(elf.ET_EXEC)), ".*not ET_REL.*"},
		"truncated":       {good[:len(good)/2], ".*lie outside.*"},
		"no byte order":   {edit(5, 9), ".*byte order 9.*"},
		"no name section": {edit(62, 0xee), ".*does not exist.*"},
	} {
		t.Run(name, func(t *testing.T) {
			f, err := Read(tc.data)
			qt.Assert(t, qt.IsNil(f))
			qt.Assert(t, qt.IsTrue(errors.Is(err, ErrFormat)))
			qt.Assert(t, qt.ErrorMatches(err, tc.want))
		})
	}
}

func FuzzRead(f *testing.F) {
	f.Add(compile(f, ".c", fixture, "-O2", "-ffunction-sections"))
	f.Add(compile(f, ".c", fixture, "-O2", "-g"))
	f.Add(compile(f, ".s", ".section .text.f,\"axG\",@progbits,f,comdat\n.weak f\nf: call g\nret\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := Read(data)
		if (file == nil) == (err == nil) {
			t.Fatal("a result and an error exclude each other")
		}
		if err != nil {
			return
		}
		out, err := file.Bytes()
		if err != nil {
			return // e.g. a relocation against a table that is not modelled
		}
		if _, err := Read(out); err != nil {
			t.Fatalf("what was written can't be read: %v", err)
		}
	})
}
