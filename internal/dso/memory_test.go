// SPDX-License-Identifier: Apache-2.0

package dso_test

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// TestAProcessShowsWhatTheFileHas: what is read of a running program's memory,
// and of a library's in it, is what their files have.
func TestAProcessShowsWhatTheFileHas(t *testing.T) {
	t.Parallel()
	path := need.Program(t, "cat")
	cmd := exec.Command(path)
	in, err := cmd.StdinPipe()
	qt.Assert(t, qt.IsNil(err))
	out, err := cmd.StdoutPipe()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(cmd.Start()))
	defer func() { in.Close(); cmd.Wait() }()
	_, err = io.WriteString(in, "x") // when it answers, the loader has done its work
	qt.Assert(t, qt.IsNil(err))
	_, err = io.ReadFull(out, make([]byte, 1))
	qt.Assert(t, qt.IsNil(err))

	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", cmd.Process.Pid))
	if err != nil {
		need.Allowed(t, "no look into a child's memory: ", err)
	}
	defer mem.Close()
	maps, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", cmd.Process.Pid))
	qt.Assert(t, qt.IsNil(err))
	seen := 0
	for line := range strings.Lines(string(maps)) {
		var start, end, offset uint64
		var perms, dev, name string
		var inode uint64
		fmt.Sscanf(line, "%x-%x %s %x %s %d %s", &start, &end, &perms, &offset, &dev, &inode, &name)
		if offset != 0 || inode == 0 || !strings.Contains(name, "/lib") && name != path {
			continue
		}
		if strings.Contains(name, "locale") || strings.Contains(name, "gconv") {
			continue
		}
		f, err := dso.OpenMemory(mem, start)
		qt.Assert(t, qt.IsNil(err), qt.Commentf("%s", line))
		same(t, f, open(t, name))
		seen++
	}
	qt.Check(t, qt.IsTrue(seen >= 2), qt.Commentf("%d files in\n%s", seen, maps))
}

func same(t *testing.T, mem, file *dso.File) {
	t.Helper()
	qt.Check(t, qt.Equals(mem.BuildID, file.BuildID))
	qt.Check(t, qt.Equals(mem.Soname, file.Soname))
	qt.Check(t, qt.Equals(mem.Interp, file.Interp))
	qt.Check(t, qt.DeepEquals(mem.Needed, file.Needed))
	qt.Check(t, qt.DeepEquals(mem.Segments, file.Segments))
	qt.Check(t, qt.Equals(mem.BindNow, file.BindNow))
	a, err := mem.Slots()
	qt.Assert(t, qt.IsNil(err))
	b, err := file.Slots()
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(a, len(b)))
	for i := range a {
		if a[i].Kind == dso.Relative && a[i].Addend == 0 { // of DT_RELR, whose addends lie in the places
			b[i].Addend = 0
		}
	}
	qt.Check(t, qt.DeepEquals(a, b))
	x, err := mem.DynamicSymbols()
	qt.Assert(t, qt.IsNil(err))
	y, err := file.DynamicSymbols()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.DeepEquals(x, y))
	p, err := mem.EHFrame()
	qt.Assert(t, qt.IsNil(err))
	q, err := file.EHFrame()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(p, q))
}

// at is memory that begins at an address.
type at struct {
	base uint64
	b    []byte
}

func (m at) ReadAt(p []byte, off int64) (int, error) {
	return bytes.NewReader(m.b).ReadAt(p, off-int64(m.base))
}

// image lays a file out as a loader does.
func image(t testing.TB, raw []byte) []byte {
	t.Helper()
	f, err := dso.Open(bytes.NewReader(raw))
	qt.Assert(t, qt.IsNil(err))
	last := f.Segments[len(f.Segments)-1]
	mem := make([]byte, last.Vaddr+last.Memsz-f.Segments[0].Vaddr)
	for _, s := range f.Segments {
		copy(mem[s.Vaddr:s.Vaddr+s.Filesz], raw[s.Offset:])
	}
	return mem
}

func TestPointersAreReadWithAndWithoutTheBias(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(compile(t, "int x = 1; int *f(void) { return &x; }", "-shared", "-fPIC", "-nostdlib"))
	qt.Assert(t, qt.IsNil(err))
	const base = 0x7f0000000000
	plain := image(t, raw) // as musl leaves it
	f, err := dso.OpenMemory(at{base, plain}, base)
	qt.Assert(t, qt.IsNil(err))
	moved := bytes.Clone(plain)
	for off := f.Dynamic.Start; ; off += 16 {
		tag := binary.LittleEndian.Uint64(moved[off:])
		if tag == 0 {
			break
		}
		switch tag {
		case 4, 5, 6, 7, 0x6ffffef5, 0x6ffffff0: // as glibc does
			binary.LittleEndian.PutUint64(moved[off+8:], base+binary.LittleEndian.Uint64(moved[off+8:]))
		}
	}
	g, err := dso.OpenMemory(at{base, moved}, base)
	qt.Assert(t, qt.IsNil(err))
	for _, file := range []*dso.File{f, g} {
		qt.Check(t, qt.Equals(file.Bias, base))
		s, ok, err := file.Lookup("x", "", dso.ForPointer)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(ok))
		v := make([]byte, 4)
		qt.Assert(t, qt.IsNil(file.ReadVaddr(v, s.Value)))
		qt.Check(t, qt.Equals(v[0], 1))
	}
}

func TestWhatIsNoSuchFileIsRefused(t *testing.T) {
	t.Parallel()
	raw, err := os.ReadFile(compile(t, "int x = 1;", "-shared", "-fPIC", "-nostdlib"))
	qt.Assert(t, qt.IsNil(err))
	change := func(off int, v byte) []byte {
		b := bytes.Clone(raw)
		b[off] = v
		return b
	}
	for name, c := range map[string]struct {
		raw []byte
		err error
	}{
		"nothing":           {nil, dso.ErrFormat},
		"no ELF file":       {[]byte(strings.Repeat("x", 100)), dso.ErrFormat},
		"32 bits":           {change(4, 1), dso.ErrClass},
		"big-endian":        {change(5, 2), dso.ErrClass},
		"an object":         {change(16, 1), dso.ErrFormat},
		"half a header":     {raw[:40], dso.ErrFormat},
		"no headers":        {change(56, 0), dso.ErrFormat},
		"headers elsewhere": {change(36, 0xff), dso.ErrFormat},
	} {
		f, err := dso.Open(bytes.NewReader(c.raw))
		qt.Check(t, qt.ErrorIs(err, c.err), qt.Commentf("%s", name))
		qt.Check(t, qt.ErrorIs(err, dso.ErrFormat), qt.Commentf("%s", name))
		qt.Check(t, qt.IsNil(f), qt.Commentf("%s", name))
	}
	for _, base := range []uint64{1, 0x7f0000000001, 1 << 63, 1<<62 - 4096} {
		_, err := dso.OpenMemory(at{base, image(t, raw)}, base)
		qt.Check(t, qt.ErrorIs(err, dso.ErrFormat), qt.Commentf("%#x", base))
	}
}

// TestTablesThatAreMissingAreNoPanic: a file, or a process, may name a table's
// entries and have no table.
func TestTablesThatAreMissingAreNoPanic(t *testing.T) {
	t.Parallel()
	path := compile(t, "extern int z; int *w(void) { return &z; }", "-shared", "-fPIC", "-nostdlib")
	raw, err := os.ReadFile(path)
	qt.Assert(t, qt.IsNil(err))
	s := standard(t, path).Section(".dynamic")
	for off := s.Offset; off < s.Offset+s.Size; off += 16 { // without one tag at a time, and with its value changed
		for _, change := range []func(b []byte){
			func(b []byte) { b[7] = 0x60 },
			func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 0) },
			func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 1<<40) },
			func(b []byte) { binary.LittleEndian.PutUint64(b[8:], 1<<63) },
		} {
			b := bytes.Clone(raw)
			change(b[off:])
			if f, err := dso.Open(bytes.NewReader(b)); err == nil {
				use(f)
			}
		}
	}
}

// use asks a File everything. It must end, and soon.
func use(f *dso.File) {
	f.DynamicSymbols()
	f.Slots()
	f.Lookup("x", "", dso.ForPointer)
	f.Lookup("x", "V1", dso.ForCall)
	f.EHFrame()
	f.Uint64(f.Entry)
	if len(f.Segments) > 0 {
		f.Bytes(f.Segments[0].Vaddr, 100)
	}
}

// FuzzOpen: error or value, and neither panics nor endless work.
func FuzzOpen(f *testing.F) {
	f.Add([]byte("\x7fELF"), false)
	if _, err := exec.LookPath("gcc"); err == nil {
		script := filepath.Join(f.TempDir(), "versions")
		qt.Assert(f, qt.IsNil(os.WriteFile(script, []byte("V1 { *; };"), 0o600)))
		for _, args := range [][]string{{"-Wl,--hash-style=both", "-Wl,--version-script=" + script}, {"-s", "-Wl,-z,max-page-size=4096"}, {"-Wl,-z,pack-relative-relocs"}} {
			raw, err := os.ReadFile(compile(f, "int v; extern int z; int *x(void) { return &v; } int *w(void) { return &z; } int *p[] = { &v };",
				append(args, "-shared", "-fPIC", "-nostdlib")...))
			qt.Assert(f, qt.IsNil(err))
			f.Add(raw, false)
			f.Add(image(f, raw), true)
		}
	}
	f.Fuzz(func(t *testing.T, raw []byte, memory bool) {
		start := time.Now()
		var file *dso.File
		var err error
		if memory {
			file, err = dso.OpenMemory(at{0x7f0000000000, raw}, 0x7f0000000000)
		} else {
			file, err = dso.Open(bytes.NewReader(raw))
		}
		if (err == nil) != (file != nil) {
			t.Fatal("error and value, or neither")
		}
		if err == nil {
			use(file)
		}
		if d := time.Since(start); d > 20*time.Second {
			t.Fatalf("it took %v", d)
		}
	})
}
