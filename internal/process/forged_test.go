// SPDX-License-Identifier: Apache-2.0

package process

import (
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/stack"
)

// TestManyForgedJournals: that thousands of areas name each other costs no more
// than to look at each.
func TestManyForgedJournals(t *testing.T) {
	t.Parallel()
	s := &sight{objects: make([]proc.Object, 1)}
	o := &s.objects[0]
	for i := range maxAreas {
		j := sampleJournal()
		j.base, j.prior, j.generation = uint64(i+2)<<20, uint64(i+1)<<20, uint64(i)
		s.areas = append(s.areas, &area{journal: j, state: InEffect, object: o})
	}
	began := time.Now()
	s.supersede()
	current := 0
	for _, a := range s.areas {
		if s.installed(a).State == InEffect {
			current++
		}
	}
	qt.Check(t, qt.Equals(current, 1))
	last, err := s.soleInEffect(o)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Equals(last, s.areas[maxAreas-1]))
	qt.Check(t, qt.IsTrue(time.Since(began) < 30*time.Second)) // it took minutes
}

// TestWhatIsRememberedOfCode is for one user's processes, and only when all of
// the code was seen.
func TestWhatIsRememberedOfCode(t *testing.T) {
	e, g := engine(t), program(t)
	w := &work{e: e, p: g.p}
	var err error
	w.s, err = look(t.Context(), g.p)
	qt.Assert(t, qt.IsNil(err))
	libc := -1
	for i := range w.s.objects {
		left := uint64(maxScanned)
		found, whole, err := w.search(&w.s.objects[i], &left)
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.IsTrue(whole))
		if len(found.returns) > 0 {
			libc = i
		}
	}
	qt.Assert(t, qt.IsTrue(libc >= 0))
	o := &w.s.objects[libc]

	left := uint64(1 << 10) // as behind a program of some hundred MiB
	found, whole, err := w.search(o, &left)
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsFalse(whole))
	qt.Assert(t, qt.Not(qt.HasLen(found.switches, 0)))
	c, err := stack.New(stack.Layout{Switches: []stack.Range{{Start: found.switches[0].Start + o.Bias, End: found.switches[0].End + o.Bias}}}, nil, stack.Options{})
	qt.Assert(t, qt.IsNil(err))
	thread := stack.FromPtrace(1, &unix.PtraceRegs{Rip: found.switches[0].Start + o.Bias + 16, Rsp: 8, Cs: 0x33})
	qt.Check(t, qt.Equals(c.Check(w.s.mem.(*proc.Memory), &thread).State, stack.Unproven))

	// A process of another user that has shown a file without any of it.
	other := w.fileOf(o)
	other.owner++
	e.special.remember(other, special{})
	returns, _, err := w.specialCode()
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.Not(qt.HasLen(returns, 0)))
}
