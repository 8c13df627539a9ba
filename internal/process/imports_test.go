// SPDX-License-Identifier: Apache-2.0

package process

import (
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/dso"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// TestImportsAreThoseOfTheLoader compares what is looked up with what the
// loader has put into the GOT of programs that run, for every entry there is.
func TestImportsAreThoseOfTheLoader(t *testing.T) {
	patches(t)
	lib := filepath.Join(fixtures.dir, "lib.so")
	for _, args := range [][]string{
		{filepath.Join(fixtures.dir, "program")},
		{filepath.Join(fixtures.dir, "fixed")},
		{filepath.Join(fixtures.dir, "opener"), lib},
		{filepath.Join(fixtures.dir, "opener"), lib, "new"},
	} {
		g := start(t, args...)
		n := compareImports(t, g.p)
		t.Logf("%v: %d entries", args, n)
		qt.Assert(t, qt.IsTrue(n > 10))
	}
	if !long() {
		return
	}
	for _, args := range [][]string{{"bash"}, {"perl"}, {"gdb", "-q"}, {"python3"}} {
		path, err := exec.LookPath(args[0])
		if err != nil {
			continue
		}
		cmd := exec.Command(path, args[1:]...)
		in, err := cmd.StdinPipe() // it waits for
		qt.Assert(t, qt.IsNil(err))
		defer in.Close()
		qt.Assert(t, qt.IsNil(cmd.Start()))
		defer func() {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}()
		time.Sleep(time.Second)
		p, err := proc.Open(t.Context(), cmd.Process.Pid)
		qt.Assert(t, qt.IsNil(err))
		defer p.Close()
		t.Logf("%v: %d entries", args, compareImports(t, p))
	}
}

func compareImports(t *testing.T, p *proc.Process) (compared int) {
	t.Helper()
	s, err := look(t.Context(), p)
	qt.Assert(t, qt.IsNil(err))
	for i := range s.objects {
		o := &s.objects[i]
		f, err := dso.OpenMemory(s.mem, o.Base)
		qt.Assert(t, qt.IsNil(err))
		r := &resolver{s: s, u: &unit{object: o, file: &prepared{File: &splice.File{}}}, file: f}
		slots, err := f.Slots()
		qt.Assert(t, qt.IsNil(err))
		for _, slot := range slots {
			if slot.Symbol == nil || slot.Kind != dso.GlobDat && slot.Kind != dso.JumpSlot {
				continue
			}
			has, err := f.Uint64(slot.Vaddr)
			qt.Assert(t, qt.IsNil(err))
			if slot.Kind == dso.JumpSlot && pltStub(f, has) {
				continue
			}
			at, err := r.find(splice.Import{Name: slot.Symbol.Name, Version: slot.Symbol.Version, Weak: true})
			qt.Check(t, qt.IsNil(err), qt.Commentf("%s of %s", slot.Symbol.Name, o.Name))
			qt.Check(t, qt.Equals(at, has), qt.Commentf("%s of %s: %#x, has %#x", slot.Symbol.Name, o.Name, at, has))
			compared++
		}
	}
	return compared
}
