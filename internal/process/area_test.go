// SPDX-License-Identifier: Apache-2.0

package process

import (
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/splice"
)

// unstaged is all that is known of a patch before anything is put into a process.
func unstaged(t *testing.T, e *Engine, g *target, p Patch) (*work, []*unit) {
	t.Helper()
	w := &work{e: e, p: g.p, opt: Options{tracers: &ptrace.Tracers{}, ptrace: patient}}
	t.Cleanup(w.opt.tracers.Close)
	files, err := prepare(p)
	qt.Assert(t, qt.IsNil(err))
	w.s, err = look(t.Context(), g.p)
	qt.Assert(t, qt.IsNil(err))
	units, err := applyUnits(w.s, p.ID, files)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(units, 1))
	return w, units
}

// staged puts the area of a patch into a process, as a patcher does that is
// killed before it writes a jump.
func staged(t *testing.T, e *Engine, g *target, p Patch) (*work, *unit) {
	t.Helper()
	w, units := unstaged(t, e, g, p)
	qt.Assert(t, qt.IsNil(w.stage(t.Context(), units, nil)))
	return w, units[0]
}

// place is where an area lies, with the pages on either side.
func (u *unit) place() span {
	return span{u.journal.base, u.journal.base + u.journal.size}.around(guard)
}

func anonymous(m proc.Mapping) bool { return !m.File() && !m.Shared }

// TestAPlaceIsGivenBackOnce: where it is not known whether a thread will yet
// unmap a place, nobody else unmaps it. The program could have mapped something
// there when the thread comes to it.
func TestAPlaceIsGivenBackOnce(t *testing.T) {
	v2, _ := patches(t)
	e, g := engine(t), program(t, "l")
	w, u := staged(t, e, g, v2)
	err := w.borrow(t.Context(), func(l *ptrace.Loan) error {
		_, err := l.Return()
		qt.Check(t, qt.IsNil(err))
		return w.unmap(t.Context(), l, u.journal) // which is given up
	})
	qt.Assert(t, qt.Equals(code.Of(err), "TS9618"), qt.Commentf("%v", err))
	held := func() bool {
		s, err := look(t.Context(), g.p)
		qt.Assert(t, qt.IsNil(err))
		return s.covers(u.place(), anonymous)
	}
	qt.Assert(t, qt.IsTrue(held()))
	applied(t, e, g, v2, Options{Budget: 20 * time.Second})
	qt.Check(t, qt.IsTrue(held()))
	_, err = e.Revert(t.Context(), g.p, Selection{}, Options{Budget: 20 * time.Second})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(held()))
}

// TestWhatAKilledPatcherReservedIsGivenBack when it has a journal and no jump.
func TestWhatAKilledPatcherReservedIsGivenBack(t *testing.T) {
	v2, _ := patches(t)
	e, g := engine(t), program(t)
	_, u := staged(t, e, g, v2)
	_, err := e.Heal(t.Context(), g.p, Options{Budget: 20 * time.Second})
	qt.Assert(t, qt.IsNil(err))
	s, err := look(t.Context(), g.p)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.HasLen(s.within(u.place()), 0))
}

// TestWhatFailsLeavesNoHole: the pages of an area's data are refused, and at no
// moment anything of its place is free for another thread to take.
func TestWhatFailsLeavesNoHole(t *testing.T) {
	v2, _ := patches(t)
	file := *v2.Files[0]
	file.Data = slices.Repeat([]byte{1}, 64<<10)
	v2.Files = []*splice.File{&file}
	for _, oneByOne := range []bool{false, true} {
		e, g := engine(t), program(t, "l")
		w, units := unstaged(t, e, g, v2)
		w.oneByOne = oneByOne
		qt.Assert(t, qt.IsNil(unix.Prlimit(g.cmd.Process.Pid, unix.RLIMIT_DATA, &unix.Rlimit{Cur: 1 << 12, Max: unix.RLIM_INFINITY}, nil)))
		qt.Assert(t, qt.IsNotNil(w.stage(t.Context(), units, nil)))
		s, err := look(t.Context(), g.p)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(s.covers(units[0].place(), anonymous)))
		w.giveBack(t.Context(), units)
		s, err = look(t.Context(), g.p)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.HasLen(s.within(units[0].place()), 0))
		r, err := e.Apply(t.Context(), g.p, v2, Options{})
		pending(t, r, err, Pending, "TS9641")
		qt.Check(t, qt.Equals(g.ask("v"), "1 2"))
	}
}
