// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"context"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// slow is a machine whose processes never come to an end with a live patch.
type slow struct {
	machine
	begun chan struct{} // a message for each pass that is held up
}

func newSlow() *slow {
	return &slow{
		machine: machine{processes: map[proc.ID]string{{PID: 7, Start: 1}: "nginx"}, busy: map[int]bool{}, has: map[int]string{}},
		begun:   make(chan struct{}, 16),
	}
}

func (s *slow) Bring(ctx context.Context, want []Want, pids ...int) ([]Process, error) {
	ps, err := s.machine.Bring(ctx, want, pids...)
	if len(want) == 0 || want[0].Out {
		return ps, err
	}
	s.begun <- struct{}{}
	<-ctx.Done()
	return nil, ctx.Err()
}

// TestARevertComesFirst: before a pass of the keeper, and before a command that
// applies, neither of which would ever end here.
func TestARevertComesFirst(t *testing.T) {
	t.Parallel()
	for name, run := range map[string]func(t *testing.T, dir string, m *slow, ctx context.Context) func(){
		"a pass": func(t *testing.T, dir string, m *slow, ctx context.Context) func() {
			_, err := New(dir, nil).Give(ctx, givenFile(t, 1), false)
			qt.Assert(t, qt.IsNil(err))
			return func() { qt.Check(t, qt.IsNil(New(dir, m).Run(ctx, slog.New(slog.DiscardHandler)))) }
		},
		"a command": func(t *testing.T, dir string, m *slow, ctx context.Context) func() {
			return func() {
				_, err := New(dir, m).Apply(ctx, givenFile(t, 1))
				qt.Check(t, qt.Equals(code.Of(err), code.Code("TS9662")))
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "processes")
			m := newSlow()
			ctx, stop := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			defer wg.Wait()
			defer stop()
			wg.Go(run(t, dir, m, ctx))
			<-m.begun
			began := time.Now()
			r, err := New(dir, m).Revert(t.Context(), "debian:given=1")
			qt.Assert(t, qt.IsNil(err))
			qt.Check(t, qt.IsTrue(time.Since(began) < time.Minute), qt.Commentf("%s", time.Since(began)))
			qt.Check(t, qt.IsTrue(r.Whole()))
			qt.Check(t, qt.HasLen(m.has, 0))
		})
	}
}

// TestWaitingEnds: whoever waits for the processes stops when the program does.
func TestWaitingEnds(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "processes")
	k := New(dir, newSlow())
	_, err := k.Give(t.Context(), givenFile(t, 1), false)
	qt.Assert(t, qt.IsNil(err))
	unlock, err := k.dir.lock(t.Context(), patience) // another program
	qt.Assert(t, qt.IsNil(err))
	defer unlock()
	for name, wait := range map[string]func(ctx context.Context) error{
		"give":   func(ctx context.Context) error { _, err := New(dir, nil).Give(ctx, givenFile(t, 2), false); return err },
		"back":   func(ctx context.Context) error { return New(dir, nil).TakeBack(ctx, "debian-given-1-v1") },
		"apply":  func(ctx context.Context) error { _, err := k.Apply(ctx, givenFile(t, 2)); return err },
		"revert": func(ctx context.Context) error { _, err := k.Revert(ctx, "debian-given-1-v1"); return err },
		"pass":   func(ctx context.Context) error { _, _, err := k.pass(ctx); return err },
		"run": func(ctx context.Context) error {
			if err := New(dir, newSlow()).Run(ctx, slog.New(slog.DiscardHandler)); err != nil {
				return err
			}
			return ctx.Err()
		},
	} {
		ctx, stop := context.WithTimeout(t.Context(), 50*time.Millisecond)
		began := time.Now()
		err := wait(ctx)
		stop()
		qt.Check(t, qt.ErrorIs(err, context.DeadlineExceeded), qt.Commentf("%s", name))
		qt.Check(t, qt.IsTrue(time.Since(began) < patience/2), qt.Commentf("%s: %s", name, time.Since(began)))
	}
}
