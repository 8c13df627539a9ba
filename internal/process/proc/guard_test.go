// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"context"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// TestGuardedLooksAreGivenUp: a look that hangs is left behind, with its
// context or without, and the process is not asked until it has come back.
func TestGuardedLooksAreGivenUp(t *testing.T) {
	run := start(t, pie(t), "plain")
	defer run.end()
	p := hold(t, run.pid())
	n, err := Guarded(t.Context(), p, func(ctx context.Context) int {
		maps, err := p.Mappings(ctx)
		qt.Check(t, qt.IsNil(err))
		inner, err := Guarded(ctx, p, func(context.Context) int { return len(maps) })
		qt.Check(t, qt.IsNil(err))
		return inner
	})
	qt.Assert(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(n > 3))

	hang := func(ctx context.Context, hangs func()) (late error, err error) {
		block, came := make(chan struct{}), make(chan error, 1)
		_, err = Guarded(ctx, p, func(ctx context.Context) int {
			_, late := within(ctx, p.id, p.uid, func() (int, error) { hangs(); <-block; return 0, nil })
			came <- late
			return 1
		})
		qt.Check(t, qt.StringContains(silence.refuse(p.id, p.uid), "earlier"))
		_, other := Guarded(t.Context(), p, func(context.Context) int { return 1 })
		qt.Check(t, qt.Equals(code.Of(other), "TS9604"))
		close(block)
		late = <-came
		for range 60000 {
			if silence.refuse(p.id, p.uid) == "" {
				return late, err
			}
			time.Sleep(time.Millisecond)
		}
		t.Error("it is not asked any more")
		return late, err
	}
	began := time.Now()
	late, err := hang(t.Context(), func() {})
	qt.Check(t, qt.Equals(code.Of(err), "TS9604"))
	qt.Check(t, qt.Equals(code.Of(late), "TS9604"), qt.Commentf("what hung must not go on"))
	qt.Check(t, qt.IsTrue(time.Since(began) >= Limit))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err = hang(ctx, cancel)
	qt.Check(t, qt.ErrorIs(err, context.Canceled))
}

// TestStillTouchesOnlyWhatIsThere: a page that a program hands out, and does
// not, is left alone; others are read and written.
func TestStillTouchesOnlyWhatIsThere(t *testing.T) {
	needsRoot(t)
	run := start(t, pie(t), "silent")
	defer run.end()
	p := hold(t, run.pid())
	want := make([]byte, 8)
	_, err := p.Memory(t.Context()).ReadAt(want, int64(run.text))
	qt.Assert(t, qt.IsNil(err))
	m, err := p.Still(t.Context(), 2)
	qt.Assert(t, qt.IsNil(err))
	defer m.Close()
	if m.pages == nil {
		need.Allowed(t, "no pagemap")
	}
	pieces := []Piece{{Addr: run.text, Data: make([]byte, 8)}, {Addr: run.text + 4, Data: make([]byte, 4)}}
	qt.Assert(t, qt.IsTrue(m.ReadPieces(pieces)))
	qt.Check(t, qt.DeepEquals(pieces[0].Data, want))
	qt.Check(t, qt.DeepEquals(pieces[1].Data, want[4:]))
	qt.Check(t, qt.Equals(pieces[1].N, 4))
	qt.Check(t, qt.IsTrue(m.ReadPieces(nil)))
	qt.Check(t, qt.IsFalse(m.ReadPieces(make([]Piece, 3))), qt.Commentf("more than there is room for"))
	done, err := m.WriteAt(want[:5], run.text)
	qt.Check(t, qt.IsTrue(done), qt.Commentf("%v", err))
	qt.Check(t, qt.IsFalse(m.Absent))

	pieces[1].Addr = run.third
	qt.Check(t, qt.IsFalse(m.ReadPieces(pieces)))
	qt.Check(t, qt.IsTrue(m.Absent))
	m.Absent = false
	n, err := m.ReadAt(make([]byte, 8), int64(run.third))
	qt.Check(t, qt.Equals(n, 0))
	qt.Check(t, qt.IsNotNil(err))
	qt.Check(t, qt.IsTrue(m.Absent))
	done, err = m.WriteAt(want, run.third)
	qt.Check(t, qt.IsFalse(done))
	qt.Check(t, qt.IsNil(err))
	n, err = m.ReadAt(make([]byte, 8), int64(run.text))
	qt.Check(t, qt.Equals(n, 8))
	qt.Check(t, qt.IsNil(err))
}
