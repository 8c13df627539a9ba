// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// TestVariablesStay: a program's variables keep their values through a patch,
// and the patch's own begin as they are initialised.
func TestVariablesStay(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("data", local.PIE, "data.c").make(t, 1)
	p := start(t, m.ELF)
	qt.Check(t, qt.Equals(p.do("call f 1"), 7)) // count 1, shared 5
	qt.Check(t, qt.Equals(p.do("call f 1"), 8))
	becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
	for _, want := range []int{306, 406, 506, -4, -5} {
		qt.Check(t, qt.Equals(p.do("call f 1"), want))
	}
	qt.Check(t, qt.Equals(p.do("call look 0"), 7))
	becomes(t, revert(t, p.pid, within), process.Reverted)
	qt.Check(t, qt.Equals(p.do("call f 1"), 14))
	p.quit()
}

// TestThreadLocalVariables: of a program, of a library that it was started
// with, and of one that was loaded later; each thread has its own.
func TestThreadLocalVariables(t *testing.T) {
	needs(t)
	t.Parallel()
	through := func(t *testing.T, p *program, m made) {
		qt.Check(t, qt.Equals(p.do("call f 1"), 41+3))
		becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
		qt.Check(t, qt.Equals(p.do("call f 1"), (42+4)*100))
		p.do("start f 5")
		qt.Check(t, qt.Equals(p.do("join"), (45+3)*100))
		qt.Check(t, qt.Equals(p.do("call peek 0"), 42004))
		becomes(t, revert(t, p.pid, within), process.Reverted)
		qt.Check(t, qt.Equals(p.do("call f 1"), 43+5))
		p.quit()
	}
	for _, kind := range []local.Kind{local.PIE, local.Exec} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			m := program1("tls", kind, "tls.c").make(t, 1)
			through(t, start(t, m.ELF), m)
		})
	}
	t.Run("a library that is loaded later", func(t *testing.T) {
		t.Parallel()
		lib := build{name: "libtls.so", kind: local.Shared, files: []string{"tls.c"}, cflags: []string{"-DLATE"}}.make(t, 1)
		exe := program1("main", local.PIE)
		exe.same = append(exe.same, "empty.c")
		r, err := exe.at(t, t.TempDir(), 0)
		qt.Assert(t, qt.IsNil(err))
		p := start(t, r.ELF)
		qt.Check(t, qt.Equals(apply(t, p.pid, "v1", 0, lib.Splice).State, process.NotAffected))
		p.do("load %s", lib.ELF)
		through(t, p, lib)
	})
}

// TestLibraryAndProgram: one patch of both goes in and out together.
func TestLibraryAndProgram(t *testing.T) {
	needs(t)
	t.Parallel()
	lib := build{name: "liblibrary.so", kind: local.Shared, files: []string{"library.c"}, strip: true}.make(t, 1)
	b := program1("both", local.PIE, "both.c")
	b.ldflags = append([]string{lib.ELF, "-Wl,-rpath," + lib.dir}, b.ldflags...)
	m := b.make(t, 1)
	p := start(t, m.ELF)
	values := []call{{"f", 3, 9, 1008}, {"lib", 3, 9, 504}}
	p.check("before", values, func(c call) int { return c.before })
	r := apply(t, p.pid, "v1", within, m.Splice, lib.Splice)
	becomes(t, r, process.Applied)
	qt.Check(t, qt.HasLen(r.Objects, 2))
	p.check("after", values, func(c call) int { return c.after })
	becomes(t, revert(t, p.pid, within), process.Reverted)
	p.check("reverted", values, func(c call) int { return c.before })
	p.quit()
}

// TestDataOfLibc: a library refers to all of it through its own table.
func TestDataOfLibc(t *testing.T) {
	needs(t)
	t.Parallel()
	lib := build{name: "liblibc.so", kind: local.Shared, files: []string{"libc.c"}, cflags: []string{"-DLATE", "-DDATA"}, strip: true}.make(t, 1)
	exe := program1("main", local.PIE)
	exe.same = append(exe.same, "empty.c")
	r, err := exe.at(t, t.TempDir(), 0)
	qt.Assert(t, qt.IsNil(err))
	p := start(t, r.ELF)
	p.do("load %s", lib.ELF)
	qt.Check(t, qt.Equals(p.do("call f 42"), 42))
	becomes(t, apply(t, p.pid, "v1", within, lib.Splice), process.Applied)
	qt.Check(t, qt.Equals(p.do("call f 42"), 7212))
	becomes(t, revert(t, p.pid, within), process.Reverted)
	qt.Check(t, qt.Equals(p.do("call f 42"), 42))
	p.quit()
}
