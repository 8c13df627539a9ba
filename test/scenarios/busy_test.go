// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// short is a budget for what can't come.
const short = 150 * time.Millisecond

// TestBusyFunctions: while a thread is in the old code, nothing happens, and
// the process goes on; when it has left, the patch goes in.
func TestBusyFunctions(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("busy", local.PIE, "busy.c").make(t, 1)
	for _, c := range []struct {
		name, begin   string
		before, after int
	}{
		{"on top of the stack", "start spin 5", 6, 105},
		{"below another", "start held 5", 6, 105},
		{"below a hundred others", "start deep 100", 1, 100},
		{"below a signal handler with a stack of its own", "handler spin 5", 6, 105},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p := start(t, m.ELF)
			p.do("%s", c.begin)
			if c.begin != "start spin 5" {
				until(t, "the thread waits", func() bool { return p.do("gated") == 1 })
			}
			r := apply(t, p.pid, "v1", short, m.Splice)
			qt.Assert(t, qt.Equals(r.State, process.Pending), qt.Commentf("%v", r.Reason))
			qt.Assert(t, qt.IsNotNil(r.Reason))
			t.Logf("%s after %d tries", r.Reason, r.Tries)
			p.do("release")
			qt.Check(t, qt.Equals(p.do("join"), c.before))
			becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
			name, with := "spin", 5
			if c.begin == "start deep 100" {
				name, with = "deep", 0
			}
			qt.Check(t, qt.Equals(p.do("call %s %d", name, with), c.after))
			p.quit()
		})
	}
}

// TestRevertWhileBusy: a thread in the new code keeps it there.
func TestRevertWhileBusy(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("busy", local.PIE, "busy.c").make(t, 1)
	p := start(t, m.ELF)
	becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
	p.do("start held 5")
	until(t, "the thread waits", func() bool { return p.do("gated") == 1 })
	r := revert(t, p.pid, short)
	qt.Assert(t, qt.Equals(r.State, process.Pending), qt.Commentf("%v", r.Reason))
	p.do("release")
	qt.Check(t, qt.Equals(p.do("join"), 105))
	becomes(t, revert(t, p.pid, within), process.Reverted)
	qt.Check(t, qt.Equals(p.do("call held 5"), 6))
	p.quit()
}

// TestLevels: a later level takes the place of an earlier one, never by way of
// the original, also when the earlier one is busy for a while; one revert leads
// to the original.
func TestLevels(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("busy", local.PIE, "busy.c").make(t, 1)
	v3 := m.level(t, 3)
	p := start(t, m.ELF)
	becomes(t, apply(t, p.pid, "x-v1", within, m.Splice), process.Applied)
	p.do("start held 5")
	until(t, "the thread waits", func() bool { return p.do("gated") == 1 })
	r := apply(t, p.pid, "x-v3", short, v3)
	qt.Assert(t, qt.Equals(r.State, process.Pending), qt.Commentf("%v", r.Reason))
	p.do("release")
	qt.Check(t, qt.Equals(p.do("join"), 105))
	qt.Check(t, qt.Equals(p.do("call held 5"), 105))
	becomes(t, apply(t, p.pid, "x-v3", within, v3), process.Applied)
	qt.Check(t, qt.Equals(p.do("call held 5"), 305))
	becomes(t, apply(t, p.pid, "x-v3", within, v3), process.Applied) // again: nothing to do
	qt.Check(t, qt.Equals(p.do("call held 5"), 305))
	becomes(t, revert(t, p.pid, within), process.Reverted)
	qt.Check(t, qt.Equals(p.do("call held 5"), 6))
	p.quit()
}

// TestCoroutines: a function that was left in the middle by swapcontext is on
// nobody's stack, and goes on in its old code, or in its new code after a
// revert.
func TestCoroutines(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("coroutine", local.PIE, "coroutine.c").make(t, 1)
	p := start(t, m.ELF)
	p.do("call begin 0")
	r := apply(t, p.pid, "v1", within, m.Splice)
	if r.State == process.Pending {
		t.Logf("a coroutine holds it up: %v", r.Reason)
		qt.Check(t, qt.Equals(p.do("call resume 0"), 8))
		return
	}
	becomes(t, r, process.Applied)
	qt.Check(t, qt.Equals(p.do("call resume 0"), 8)) // the old code ends
	p.do("call resume 0")                            // into the new code
	becomes(t, revert(t, p.pid, within), process.Reverted)
	qt.Check(t, qt.Equals(p.do("call resume 0"), 107)) // the new code ends
	p.do("call resume 0")
	qt.Check(t, qt.Equals(p.do("call resume 0"), 8))
	p.quit()
}

// TestExceptions: what they pass through is refused or works.
func TestExceptions(t *testing.T) {
	needs(t)
	t.Parallel()
	b := program1("exception", local.PIE, "exception.cc")
	calls := map[int][]call{
		1: {{"catcher", 3, 4, 103}, {"catcher", -1, -100, -100}, {"calm", 1, 4, 4}},
		2: {{"catcher", 3, 4, 103}, {"catcher", -1, -100, -200}, {"calm", 1, 4, 4}},
		3: {{"catcher", 3, 4, 4}, {"catcher", -1, -100, -100}, {"calm", 1, 4, 31}},
	}
	for level, want := range calls {
		r, err := b.at(t, t.TempDir(), level)
		if err != nil {
			qt.Check(t, qt.Not(qt.Equals(level, 3)), qt.Commentf("%v", err))
			t.Logf("level %d: refused: %v", level, err)
			continue
		}
		p := start(t, r.ELF)
		p.check("before", want, func(c call) int { return c.before })
		res := apply(t, p.pid, "v", within, r.Splice)
		if res.State == process.Unprotected {
			t.Logf("level %d: not in this process: %v", level, res.Reason)
			p.check("after", want, func(c call) int { return c.before })
			p.quit()
			continue
		}
		becomes(t, res, process.Applied)
		p.check("after", want, func(c call) int { return c.after })
		becomes(t, revert(t, p.pid, within), process.Reverted)
		p.check("reverted", want, func(c call) int { return c.before })
		p.quit()
	}
}
