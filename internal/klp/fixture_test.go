// SPDX-License-Identifier: Apache-2.0

package klp

import (
	"bytes"
	"cmp"
	"debug/elf"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/elfobj"
	"github.com/tsugi-project/tsugi/internal/kernel"
	"github.com/tsugi-project/tsugi/internal/kimage"
)

// A bench makes small objects, modules and kernels with the machine's own
// compiler and linker.
type bench struct {
	t   testing.TB
	dir string
	n   int
}

func newBench(t testing.TB) *bench { return &bench{t: t, dir: t.TempDir()} }

func (b *bench) run(name string, args ...string) {
	b.t.Helper()
	cmd := exec.Command(name, args...)
	cmd.Dir = b.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		b.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
}

// object compiles C the way the kernel does as far as it matters here and
// returns the name of the file.
func (b *bench) object(source string, flags ...string) string {
	b.t.Helper()
	b.n++
	c, o := fmt.Sprintf("unit%d.c", b.n), fmt.Sprintf("unit%d.o", b.n)
	err := os.WriteFile(filepath.Join(b.dir, c), []byte(prelude+source), 0o600)
	qt.Assert(b.t, qt.IsNil(err))
	args := []string{
		"-c", "-O2", "-ffreestanding", "-fno-pic", "-mcmodel=kernel", "-mno-red-zone", "-fno-asynchronous-unwind-tables",
		"-fcf-protection=none", "-fno-stack-protector", "-fno-common", "-pg", "-mfentry", "-fno-toplevel-reorder",
	}
	b.run("gcc", append(append(args, flags...), "-o", o, c)...)
	return o
}

const prelude = `
#define noinline __attribute__((noinline, noclone))
#define __cold __attribute__((cold))
#define __used __attribute__((used))
`

func (b *bench) read(file string) *elfobj.File {
	b.t.Helper()
	f, err := elfobj.Read(b.bytes(file))
	qt.Assert(b.t, qt.IsNil(err))
	return f
}

func (b *bench) bytes(file string) []byte {
	b.t.Helper()
	raw, err := os.ReadFile(filepath.Join(b.dir, file))
	qt.Assert(b.t, qt.IsNil(err))
	return raw
}

// module links objects as Kbuild links a module.
func (b *bench) module(name string, objects ...string) string {
	b.t.Helper()
	b.run("ld", append([]string{"-r", "-o", name + ".ko"}, objects...)...)
	return name + ".ko"
}

// modinfo is a source that gives a module its .modinfo.
func modinfoSource(items ...string) string {
	s := ""
	for i, item := range items {
		s += fmt.Sprintf("static const char info%d[] __used __attribute__((section(\".modinfo\"), aligned(1))) = %q;\n", i, item)
	}
	return s
}

// kernel links objects to a vmlinux and returns a target of it with the given
// modules. The first object's exports are vmlinux's.
func (b *bench) target(modules map[string]string, exports map[string]kernel.Export, objects ...string) *Target {
	b.t.Helper()
	lds := "SECTIONS { . = 0xffffffff81000000; .text : { *(.text) *(.text.unlikely) } .rodata : { *(.rodata*) } .data : { *(.data) } .bss : { *(.bss) } /DISCARD/ : { *(.comment) *(.note*) } }"
	err := os.WriteFile(filepath.Join(b.dir, "vmlinux.lds"), []byte(lds), 0o600)
	qt.Assert(b.t, qt.IsNil(err))
	b.run("ld", append([]string{"-T", "vmlinux.lds", "-e", "0", "--unresolved-symbols=ignore-all", "-z", "max-page-size=4096", "-o", "vmlinux"}, objects...)...)
	raw := b.bytes("vmlinux")
	img, err := kimage.Open(raw)
	qt.Assert(b.t, qt.IsNil(err))
	return &Target{
		Name: "test", Image: img, Symbols: symbolTable(b.t, raw), Exports: exports,
		Module: func(name string) ([]byte, error) {
			file, ok := modules[name]
			if !ok {
				return nil, fmt.Errorf("module %s: %w", name, fs.ErrNotExist)
			}
			return os.ReadFile(filepath.Join(b.dir, file))
		},
	}
}

// symbolTable lists an executable's symbols as kallsyms does: by address.
func symbolTable(t testing.TB, raw []byte) []kimage.Symbol {
	f, err := elf.NewFile(bytes.NewReader(raw))
	qt.Assert(t, qt.IsNil(err))
	syms, err := f.Symbols()
	qt.Assert(t, qt.IsNil(err))
	var out []kimage.Symbol
	for _, s := range syms {
		typ := elf.ST_TYPE(s.Info)
		if s.Name == "" || typ == elf.STT_FILE || typ == elf.STT_SECTION || s.Section == elf.SHN_UNDEF || s.Section >= elf.SHN_LORESERVE {
			continue
		}
		letter := byte('d')
		if f.Sections[s.Section].Flags&elf.SHF_EXECINSTR != 0 {
			letter = 't'
		}
		if elf.ST_BIND(s.Info) != elf.STB_LOCAL {
			letter -= 'a' - 'A'
		}
		out = append(out, kimage.Symbol{Name: s.Name, Type: letter, Addr: s.Value})
	}
	slices.SortStableFunc(out, func(a, b kimage.Symbol) int { return cmp.Compare(a.Addr, b.Addr) })
	return out
}

// golden compares with a file of testdata. TSUGI_GOLDEN=write writes it.
func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("TSUGI_GOLDEN") == "write" {
		qt.Assert(t, qt.IsNil(os.MkdirAll("testdata", 0o755)))
		qt.Assert(t, qt.IsNil(os.WriteFile(path, []byte(got), 0o644)))
	}
	want, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.Equals(got, string(want)))
}
