// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process"
	"github.com/tsugi-project/tsugi/internal/userland/local"
)

// TestThreadStorm: threads come and go all the time, and all get the patch.
func TestThreadStorm(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("simple", local.PIE, "simple.c").make(t, 1)
	p := start(t, m.ELF)
	qt.Check(t, qt.Equals(p.do("storm 8 f"), 8))
	for range 20 {
		becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
		qt.Check(t, qt.Equals(p.do("call f 3"), 31))
		becomes(t, revert(t, p.pid, within), process.Reverted)
		qt.Check(t, qt.Equals(p.do("call f 3"), 4))
	}
	if n := p.do("calm"); n < 100 {
		t.Errorf("only %d calls", n)
	}
	p.quit()
}

// TestSignals: a handler calls the function a thousand times a second.
func TestSignals(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("simple", local.PIE, "simple.c").make(t, 1)
	p := start(t, m.ELF)
	p.do("tick caller")
	for range 20 {
		becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
		qt.Check(t, qt.Equals(p.do("call f 3"), 31))
		becomes(t, revert(t, p.pid, within), process.Reverted)
		qt.Check(t, qt.Equals(p.do("call f 3"), 4))
	}
	n := p.do("ticks")
	until(t, "signals go on", func() bool { return p.do("ticks") > n+10 })
	p.quit()
}

// TestVfork: while a child runs in the memory of its parent, the process waits.
func TestVfork(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("simple", local.PIE, "simple.c").make(t, 1)
	p := start(t, m.ELF)
	p.do("vfork")
	r := apply(t, p.pid, "v1", short, m.Splice)
	if r.State != process.Applied {
		qt.Assert(t, qt.Equals(r.State, process.Pending), qt.Commentf("%v", r.Reason))
	} else {
		// vfork may not have come so far.
		t.Log("the patch was faster")
	}
	p.do("release")
	qt.Check(t, qt.Equals(p.do("join"), 7))
	becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
	qt.Check(t, qt.Equals(p.do("call f 3"), 31))
	p.quit()
}

// TestForkAfterPatch: a child has its parent's patch and is known to have it;
// each of both is reverted alone.
func TestForkAfterPatch(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("simple", local.PIE, "simple.c").make(t, 1)
	p := start(t, m.ELF)
	becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
	child := p.do("fork")
	qt.Check(t, qt.Equals(p.do("child call f 3"), 31))
	c := open(t, child)
	defer c.Close()
	there, err := engine().State(t.Context(), c)
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.HasLen(there, 1))
	qt.Check(t, qt.Equals(there[0].Patch, "v1"))
	becomes(t, apply(t, child, "v1", within, m.Splice), process.Applied)
	qt.Check(t, qt.Equals(p.do("child call f 3"), 31))
	becomes(t, revert(t, child, within), process.Reverted)
	qt.Check(t, qt.Equals(p.do("child call f 3"), 4))
	qt.Check(t, qt.Equals(p.do("call f 3"), 31))
	p.do("child quit")
	becomes(t, revert(t, p.pid, within), process.Reverted)
	qt.Check(t, qt.Equals(p.do("call f 3"), 4))
	p.quit()
}

// TestExec: a new program in the same process begins without it, and gets it.
func TestExec(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("simple", local.PIE, "simple.c").make(t, 1)
	p := start(t, m.ELF)
	for range 3 {
		qt.Check(t, qt.Equals(p.do("call f 3"), 4))
		becomes(t, apply(t, p.pid, "v1", within, m.Splice), process.Applied)
		qt.Check(t, qt.Equals(p.do("call f 3"), 31))
		_, err := p.in.Write([]byte("exec\n"))
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(p.ready(), p.pid))
	}
	p.quit()
}

// TestPatchWhileItStarts: from the first instruction of the loader on, tries
// that come too early do no harm.
func TestPatchWhileItStarts(t *testing.T) {
	needs(t)
	t.Parallel()
	m := program1("simple", local.PIE, "simple.c").make(t, 1)
	for range 20 {
		p := begin(t, m.ELF)
		becomes(t, apply(t, p.cmd.Process.Pid, "v1", within, m.Splice), process.Applied)
		p.pid = p.ready()
		qt.Check(t, qt.Equals(p.do("call f 3"), 31))
		p.quit()
	}
}
