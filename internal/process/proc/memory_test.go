// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"debug/elf"
	"errors"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"
)

func TestMemoryIsReadAndWritten(t *testing.T) {
	run := start(t, pie(t))
	p := hold(t, run.pid())
	m := p.Memory(t.Context())
	b := make([]byte, 30)
	n, err := m.ReadAt(b, int64(run.text))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b[:n]), "what the test reads and writes"))
	// A page that the process itself may not write takes it too, for this
	// process alone.
	for _, addr := range []uint64{run.text, run.constant} {
		n, err = m.WriteAt([]byte("OTHER"), int64(addr))
		if errors.Is(err, unix.EIO) && addr == run.constant {
			t.Skip("this kernel forbids to write to read-only memory (proc_mem.force_override)")
		}
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(n, 5))
		_, err = m.ReadAt(b[:6], int64(addr))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(string(b[:5]), "OTHER"))
		qt.Check(t, qt.Not(qt.Equals(b[5], 'R')))
	}
	other := start(t, pie(t))
	_, err = hold(t, other.pid()).Memory(t.Context()).ReadAt(b[:5], int64(other.constant))
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(string(b[:5]), "in a "))
}

func TestAnAddressThatIsNotThere(t *testing.T) {
	run := start(t, pie(t))
	p := hold(t, run.pid())
	m := p.Memory(t.Context())
	for _, addr := range []int64{0, 64, 1 << 46, -4096} {
		n, err := m.ReadAt(make([]byte, 8), addr)
		qt.Check(t, qt.Equals(n, 0))
		qt.Check(t, qt.IsNotNil(err), qt.Commentf("%#x", addr))
		qt.Check(t, qt.IsFalse(Gone(err)), qt.Commentf("%#x: %v", addr, err))
	}
	_, err := m.ReadAt(make([]byte, 8), 64)
	e, ok := errors.AsType[*AddressError](err)
	qt.Assert(t, qt.IsTrue(ok), qt.Commentf("%v", err))
	qt.Check(t, qt.Equals(e.Addr, 64))
	// A read over the end of what is mapped gives what there is.
	maps, err := p.Mappings(t.Context())
	qt.Assert(t, qt.IsNil(err))
	for i, a := range maps[:len(maps)-1] {
		if a.Read && maps[i+1].Start > a.End {
			n, err := m.ReadAt(make([]byte, 8192), int64(a.End-100))
			qt.Check(t, qt.Equals(n, 100))
			qt.Check(t, qt.ErrorIs(err, unix.EIO))
			break
		}
	}
}

func TestPiecesAreReadInOneGo(t *testing.T) {
	run := start(t, pie(t))
	p := hold(t, run.pid())
	pieces := make([]Piece, 3000)
	for i := range pieces {
		pieces[i] = Piece{Addr: run.text, Data: make([]byte, 1+i%17)}
		if i%7 == 3 {
			pieces[i].Addr = 4096 // nothing is there
		}
	}
	pieces[5].Data = nil
	began := time.Now()
	qt.Assert(t, qt.IsNil(p.ReadPieces(t.Context(), pieces)))
	t.Logf("%d pieces in %s", len(pieces), time.Since(began))
	for i, piece := range pieces {
		if i%7 == 3 {
			qt.Assert(t, qt.Equals(piece.N, 0))
			continue
		}
		qt.Assert(t, qt.Equals(piece.N, len(piece.Data)))
		qt.Assert(t, qt.IsTrue(strings.HasPrefix("what the test reads and writes", string(piece.Data))))
	}
}

func TestObjectsLieWhereTheirCodeRuns(t *testing.T) {
	lib := library(t)
	for _, c := range []struct {
		name, path, file, symbol string
		typ                      elf.Type
		interp                   bool
		args                     []string
	}{
		{"a program that is linked for any place", pie(t), pie(t), "main", elf.ET_DYN, true, nil},
		{"a program that is linked for one place", cc(t, "fixed", "-no-pie", "-fno-pie", "testdata/target.c", "-pthread"), "", "main", elf.ET_EXEC, true, nil},
		{"a static program", cc(t, "static", "-static", "testdata/target.c", "-pthread"), "", "main", elf.ET_EXEC, false, nil},
		{"a static program for any place", cc(t, "staticpie", "-static-pie", "testdata/target.c", "-pthread"), "", "main", elf.ET_DYN, false, nil},
		{"a program whose segments share pages", cc(t, "nosep", "-Wl,-z,noseparate-code", "testdata/target.c", "-pthread"), "", "main", elf.ET_DYN, true, nil},
		{"a library", linked(t), lib, "fixture", elf.ET_DYN, false, nil},
		{"a library that is loaded twice", linked(t), lib, "fixture", elf.ET_DYN, false, []string{"twice", lib}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.file == "" {
				c.file = c.path
			}
			run := start(t, c.path, c.args...)
			p := hold(t, run.pid())
			objects, err := p.Objects(t.Context())
			qt.Assert(t, qt.IsNil(err))
			var mine []Object
			for _, o := range objects {
				if o.BuildID == idOf(t, c.file) {
					mine = append(mine, o)
				}
				qt.Check(t, qt.Equals(o.Program, o.Path == c.path))
				qt.Check(t, qt.IsTrue(o.Base < o.End))
			}
			qt.Assert(t, qt.HasLen(mine, 1+len(c.args)/2))
			o := mine[len(mine)-1]
			if len(mine) == 2 && o.Bias+valueOf(t, c.file, c.symbol) != run.third {
				o = mine[0]
			}
			qt.Check(t, qt.Equals(o.Bias+valueOf(t, c.file, c.symbol), run.third))
			qt.Check(t, qt.Equals(o.Type, c.typ))
			qt.Check(t, qt.Equals(o.Interp, c.interp))
			qt.Check(t, qt.Equals(o.Path, c.file))
			qt.Check(t, qt.IsFalse(o.Deleted))
			for _, text := range []bool{false, true} {
				f, err := p.Look(t.Context(), func(id string) bool { return id == idOf(t, c.file) }, FindOptions{Text: text})
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.DeepEquals(f.BuildIDs, []string{idOf(t, c.file)}))
				f, err = p.Look(t.Context(), func(string) bool { return false }, FindOptions{Text: text})
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.HasLen(f.BuildIDs, 0))
				qt.Check(t, qt.Equals(f.Static, strings.HasPrefix(c.name, "a static")))
			}
		})
	}
}

func TestAFileThatIsOnlyReadIsNoObject(t *testing.T) {
	// The test itself maps a library as data.
	lib := library(t)
	f, err := os.Open(lib)
	qt.Assert(t, qt.IsNil(err))
	defer f.Close()
	b, err := unix.Mmap(int(f.Fd()), 0, 4096, unix.PROT_READ, unix.MAP_PRIVATE)
	qt.Assert(t, qt.IsNil(err))
	defer unix.Munmap(b)
	objects, err := hold(t, os.Getpid()).Objects(t.Context())
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(slices.ContainsFunc(objects, func(o Object) bool { return o.Path == lib })))
}

func TestADeletedLibraryIsFoundByItsBuildID(t *testing.T) {
	dir := t.TempDir()
	copied := dir + "/libfixture.so"
	bytes, err := os.ReadFile(library(t))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(os.WriteFile(copied, bytes, 0o755)))
	run := start(t, linked(t), "twice", copied)
	qt.Assert(t, qt.IsNil(os.Remove(copied)))
	p := hold(t, run.pid())
	objects, err := p.Objects(t.Context())
	qt.Assert(t, qt.IsNil(err))
	at := slices.IndexFunc(objects, func(o Object) bool { return o.Path == copied })
	qt.Assert(t, qt.IsTrue(at >= 0))
	qt.Check(t, qt.IsTrue(objects[at].Deleted))
	qt.Check(t, qt.Equals(objects[at].BuildID, idOf(t, library(t))))
	out, err := p.Outdated(t.Context(), objects)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(out, 0)) // nothing that a package installs
}
