// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bufio"
	"crypto/sha256"
	"debug/elf"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// fixtures is the directory of what is compiled for the tests of this package,
// once for all of them.
var fixtures struct {
	once sync.Once
	dir  string
	err  error
}

// built compiles testdata and returns where things lie: lib.so and program and fixed
// (linked with it, of any place and of one), opener (which opens it by dlopen), and per version new-V.o.
func built(t testing.TB) string {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("tracing other processes' children needs no right, but locks and Yama may: run as root")
	}
	fixtures.once.Do(func() { fixtures.err = build() })
	qt.Assert(t, qt.IsNil(fixtures.err))
	return fixtures.dir
}

func build() error {
	dir, err := os.MkdirTemp("", "tsugi-process")
	if err != nil {
		return err
	}
	fixtures.dir = dir
	for _, args := range [][]string{
		{"-O2", "-g0", "-fPIC", "-shared", "-Wl,--build-id", "-Wl,-soname,lib.so", "-o", "lib.so", "testdata/lib.c"},
		{"-O2", "-fpie", "-pie", "-rdynamic", "-Wl,--build-id", "-o", "program", "testdata/main.c", "-L", dir, "-l:lib.so", "-Wl,-rpath," + dir, "-pthread"},
		{"-O2", "-fno-pie", "-no-pie", "-rdynamic", "-Wl,--build-id", "-o", "fixed", "testdata/main.c", "-L", dir, "-l:lib.so", "-Wl,-rpath," + dir, "-pthread"},
		{"-O2", "-DDLOPEN", "-o", "opener", "testdata/main.c", "-pthread"},
		{"-O2", "-fPIC", "-fno-plt", "-fno-builtin", "-ffunction-sections", "-DV=2", "-c", "-o", "new-2.o", "testdata/new.c"},
		{"-O2", "-fPIC", "-fno-plt", "-fno-builtin", "-ffunction-sections", "-DV=3", "-DIMPORTS", "-c", "-o", "new-3.o", "testdata/new.c"},
	} {
		for i, a := range args {
			if i > 0 && args[i-1] == "-o" {
				args[i] = filepath.Join(dir, a)
			}
		}
		if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("gcc %v: %w\n%s", args, err, out)
		}
	}
	return nil
}

// spliceOf makes a payload that replaces functions of a library by those of an
// object, by hand: references to others go through a GOT of its own.
func spliceOf(t testing.TB, library, object string, policy splice.Policy, names ...string) *splice.File {
	t.Helper()
	r, err := os.Open(library)
	qt.Assert(t, qt.IsNil(err))
	defer r.Close()
	lib, err := dso.Open(r)
	qt.Assert(t, qt.IsNil(err))
	obj, err := elf.Open(object)
	qt.Assert(t, qt.IsNil(err))
	defer obj.Close()
	symbols, err := obj.Symbols()
	qt.Assert(t, qt.IsNil(err))

	f := &splice.File{Format: splice.Format, BuildID: lib.BuildID, Name: filepath.Base(library), Path: library}
	for _, s := range lib.Segments {
		f.Segments = append(f.Segments, splice.Segment{Vaddr: s.Vaddr, Memsz: s.Memsz, Filesz: s.Filesz, Flags: s.Flags})
	}
	for _, name := range names {
		old, ok, err := lib.Lookup(name, "", dso.ForCall)
		qt.Assert(t, qt.IsTrue(ok && err == nil), qt.Commentf("%s %v", name, err))
		shipped, err := lib.Bytes(old.Value, old.Size)
		qt.Assert(t, qt.IsNil(err))
		sum := sha256.Sum256(shipped)
		section := obj.Section(".text." + name)
		text, err := section.Data()
		qt.Assert(t, qt.IsNil(err))
		at := uint32(len(f.Text))
		f.Functions = append(f.Functions, splice.Function{
			Name: name, Source: "lib.c", Old: old.Value, Size: uint32(old.Size), Room: uint32(old.Size), SHA256: hex.EncodeToString(sum[:]),
			New: at, NewSize: uint32(len(text)), Policy: policy,
		})
		f.Text = append(f.Text, text...)
		f.Text = append(f.Text, slices.Repeat([]byte{0xcc}, (16-len(f.Text)%16)%16)...)
		if rela := obj.Section(".rela.text." + name); rela != nil {
			raw, err := rela.Data()
			qt.Assert(t, qt.IsNil(err))
			relocate(t, f, lib, symbols, raw, at)
		}
	}
	slices.SortFunc(f.Functions, func(a, b splice.Function) int { return int(int64(a.Old) - int64(b.Old)) })
	slices.SortFunc(f.Relocs, func(a, b splice.Reloc) int {
		if a.Area != b.Area {
			return strings.Compare(string(b.Area), string(a.Area)) // text, rodata
		}
		return int(a.Offset) - int(b.Offset)
	})
	qt.Assert(t, qt.IsNil(f.Check()))
	return f
}

func relocate(t testing.TB, f *splice.File, lib *dso.File, symbols []elf.Symbol, raw []byte, at uint32) {
	t.Helper()
	for ; len(raw) > 0; raw = raw[24:] {
		r := reader{b: raw}
		off, info, addend := r.u64(), r.u64(), int64(r.u64())
		sym := symbols[info>>32-1]
		switch elf.R_X86_64(uint32(info)) {
		case elf.R_X86_64_GOTPCRELX, elf.R_X86_64_REX_GOTPCRELX, elf.R_X86_64_GOTPCREL:
		default:
			t.Fatalf("relocation %v to %s", elf.R_X86_64(uint32(info)), sym.Name)
		}
		ref := splice.Ref{Kind: splice.RefImport, Value: uint64(len(f.Imports))}
		if own, ok, err := lib.Lookup(sym.Name, "", dso.ForCall); err == nil && ok {
			ref = splice.Ref{Kind: splice.RefTarget, Value: own.Value}
		} else {
			f.Imports = append(f.Imports, splice.Import{Name: sym.Name, Func: true})
		}
		entry := uint64(len(f.ROData))
		f.ROData = append(f.ROData, make([]byte, 8)...)
		f.Relocs = append(f.Relocs,
			splice.Reloc{Area: splice.InText, Offset: at + uint32(off), Kind: splice.PC32, Ref: splice.Ref{Kind: splice.RefROData, Value: entry}, Addend: addend},
			splice.Reloc{Area: splice.InROData, Offset: uint32(entry), Kind: splice.Abs64, Ref: ref})
	}
}

// target is a program of ours that runs.
type target struct {
	t   testing.TB
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Scanner
	p   *proc.Process
}

func start(t testing.TB, args ...string) *target {
	t.Helper()
	cmd := exec.Command(args[0], args[1:]...)
	in, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	out, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	cmd.Stderr = os.Stderr
	qt.Assert(t, qt.IsNil(cmd.Start()))
	g := &target{t: t, cmd: cmd, in: in, out: bufio.NewScanner(out)}
	t.Cleanup(g.stop)
	qt.Assert(t, qt.Equals(g.line(), "ready"))
	g.p, err = proc.Open(t.Context(), cmd.Process.Pid)
	qt.Assert(t, qt.IsNil(err))
	t.Cleanup(func() { g.p.Close() })
	return g
}

// stop ends the program, however often it is called.
func (g *target) stop() {
	_ = g.cmd.Process.Kill()
	_ = g.cmd.Wait()
}

func (g *target) line() string {
	g.t.Helper()
	if !g.out.Scan() {
		_ = g.cmd.Wait()
		g.t.Fatalf("the target has ended: %v", g.cmd.ProcessState)
	}
	return g.out.Text()
}

// ask sends a letter and returns the answer.
func (g *target) ask(letter string) string {
	g.t.Helper()
	_, err := io.WriteString(g.in, letter)
	qt.Assert(g.t, qt.IsNil(err))
	return g.line()
}

func (g *target) number(letter string) int {
	g.t.Helper()
	n, err := strconv.Atoi(g.ask(letter))
	qt.Assert(g.t, qt.IsNil(err))
	return n
}

// patient is how processes are stopped on a machine that has much else to do.
var patient = ptrace.Options{Grace: 3 * time.Second}

func engine(t testing.TB) *Engine {
	t.Helper()
	return New(Config{Locks: t.TempDir(), Ptrace: patient})
}
