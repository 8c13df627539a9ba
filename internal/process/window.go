// SPDX-License-Identifier: Apache-2.0

package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
	"github.com/tsugi-project/tsugi/internal/process/stack"
)

// How long a process may stay stopped when its memory does not answer. The
// usual is a thousandth of it.
const (
	windowGrace     = 250 * time.Millisecond
	windowPerThread = time.Millisecond
	windowPerWrite  = 5 * time.Millisecond
)

// window is one stop of a process, and what is done in it. All that it needs is
// allocated before.
type window struct {
	work    *work
	units   []*unit
	pieces  []proc.Piece // what is compared, in the order of checks
	checks  []watch
	back    []proc.Piece // the entries, to be read again
	checker *stack.Checker
	stopped *ptrace.Stopped
	threads []stack.Thread
	written []write // so far, for the way back
}

func (w *work) newWindow(units []*unit, tables bool) (*window, error) {
	win := &window{work: w, units: units}
	var functions []stack.Function
	for _, u := range units {
		for _, b := range u.busy {
			functions = append(functions, stack.Function{Name: b.name, Start: b.start, End: b.end, Jump: b.jump, EntryOnly: b.entryOnly})
		}
		win.checks = append(win.checks, u.watch...)
		win.checks = append(win.checks, watch{addr: u.journal.base, want: u.header, what: "the journal"})
		if u.content != nil {
			for _, c := range u.chunks() {
				if !c.writable {
					win.checks = append(win.checks, watch{addr: c.addr, want: c.data, what: "the new code"})
				}
			}
		}
		for _, wr := range u.writes {
			win.back = append(win.back, proc.Piece{Addr: wr.entry, Data: make([]byte, jumpSize)})
		}
		win.written = make([]write, 0, len(win.back))
	}
	for _, c := range win.checks {
		win.pieces = append(win.pieces, proc.Piece{Addr: c.addr, Data: make([]byte, len(c.want))})
	}
	layout, err := w.layout(tables)
	if err != nil {
		return nil, err
	}
	if win.checker, err = stack.New(layout, functions, stack.Options{}); err != nil {
		return nil, code.New("TS9642", w.p.ID().String(), "").With(err)
	}
	return win, nil
}

// commit stops the process, does what the units say if that may be done now,
// and lets it run on. Whatever it returns, the process runs.
func (win *window) commit(ctx context.Context) (err error) {
	w := win.work
	began := time.Now()
	win.stopped, err = ptrace.Stop(ctx, w.target(), w.e.config.Ptrace)
	w.result.Tries++
	if err != nil {
		w.paused(time.Since(began)) // some threads may have been stopped for so long
		return err
	}
	w.step("stopped")
	defer func() {
		pause, resumeErr := win.stopped.Resume()
		w.paused(pause)
		w.step("resumed")
		err = errors.Join(err, resumeErr)
	}()
	threads := win.stopped.Threads()
	// From here on a caller that gives up is not heard: it takes less than a moment.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), win.limit(len(threads)))
	defer cancel()
	reader := 0
	for i := range threads {
		if !threads[i].Worker {
			reader = threads[i].TID
			win.threads = append(win.threads, stack.FromPtrace(threads[i].TID, &threads[i].Regs))
		}
	}
	if err := win.unchanged(ctx); err != nil {
		return err
	}
	w.step("compared")
	if err := win.quiet(ctx, reader); err != nil {
		return err
	}
	w.step("checked")
	return win.write(ctx)
}

// limit is how long the process may stay stopped at most.
func (win *window) limit(threads int) time.Duration {
	return windowGrace + time.Duration(threads)*windowPerThread + time.Duration(len(win.back)+len(win.units))*windowPerWrite
}

// unchanged compares what was prepared with.
func (win *window) unchanged(ctx context.Context) error {
	if err := win.work.p.ReadPieces(ctx, win.pieces); err != nil {
		return err
	}
	for i := range win.checks {
		c, got := &win.checks[i], win.pieces[i].Data
		if win.pieces[i].N != len(got) || !bytes.Equal(got, c.want) && (c.or == nil || !bytes.Equal(got, c.or)) {
			return fmt.Errorf("%w: %s", errChanged, c.what)
		}
	}
	return nil
}

// quiet checks all stacks. The check reads memory that may not answer: then the
// process is let go, and the check ends by itself.
func (win *window) quiet(ctx context.Context, reader int) error {
	done := make(chan []stack.Verdict, 1)
	go func() { done <- win.checker.CheckAll(stack.Memory{PID: reader}, win.threads, 1) }()
	select {
	case verdicts := <-done:
		if len(verdicts) > 0 {
			return verdicts[0].Problem()
		}
		return nil
	case <-ctx.Done():
		return code.New("TS9604", win.work.p.ID().String(), "the stacks can't be read")
	}
}

// write writes states and jumps, and reads the jumps back. What goes wrong is
// taken back at once.
func (win *window) write(ctx context.Context) error {
	err := win.forward(ctx)
	if err == nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), win.limit(0))
	defer cancel()
	for i := len(win.written) - 1; i >= 0; i-- {
		if backErr := win.put(ctx, win.written[i].entry, win.written[i].from[:]); backErr != nil {
			// The journal says that it is unfinished; Heal will find it.
			return code.New("TS9637", win.written[i].name, "and what was written can't be taken back now").With(errors.Join(err, backErr))
		}
	}
	for _, u := range win.units {
		if stateErr := win.put(ctx, u.journal.base+stateOffset, u.header[stateOffset:stateOffset+8]); stateErr != nil {
			return errors.Join(err, stateErr)
		}
		u.touched = false
	}
	if code.Of(err) != "" {
		return err
	}
	return code.New("TS9637", win.work.p.ID().String(), "").With(err)
}

func (win *window) forward(ctx context.Context) error {
	for _, u := range win.units {
		for _, a := range u.stale {
			if err := win.state(ctx, a.base, Replaced); err != nil {
				return err
			}
		}
	}
	for _, u := range win.units {
		u.touched = true
		if err := win.state(ctx, u.journal.base, u.through); err != nil {
			return err
		}
	}
	for _, u := range win.units {
		for _, wr := range u.writes {
			win.written = append(win.written, wr)
			if err := win.put(ctx, wr.entry, wr.to[:]); err != nil {
				return fmt.Errorf("%s: %w", wr.name, err)
			}
			win.work.step("jump")
		}
	}
	if len(win.back) > 0 {
		if err := win.work.p.ReadPieces(ctx, win.back); err != nil {
			return err
		}
	}
	for i, wr := range win.written {
		if win.back[i].N != jumpSize || [jumpSize]byte(win.back[i].Data) != wr.to {
			return fmt.Errorf("%s: what was written is not there", wr.name)
		}
	}
	win.work.step("read back")
	for _, u := range win.units {
		if err := win.state(ctx, u.journal.base, u.end); err != nil {
			return err
		}
	}
	for _, u := range win.units {
		if u.prior != nil {
			// From here on nothing is taken back: the new journal names the old one.
			if err := win.state(ctx, u.prior.base, Replaced); err != nil {
				break
			}
		}
	}
	return nil
}

func (win *window) state(ctx context.Context, base uint64, s JournalState) error {
	if err := win.put(ctx, base+stateOffset, stateWord(s)); err != nil {
		return err
	}
	win.work.step("state " + string(s))
	return nil
}

// put writes bytes that are in no danger of being half written: within one page
// the kernel copies them in one go, and a signal does not come between.
func (win *window) put(ctx context.Context, at uint64, b []byte) error {
	_, err := win.work.p.Memory(ctx).WriteAt(b, int64(at))
	if !errors.Is(err, unix.EIO) && !errors.Is(err, unix.EFAULT) {
		return err
	}
	// The kernel forbids to write where the process may not
	// (proc_mem.force_override). Word by word only what lies in one word.
	if at/8 != (at+uint64(len(b))-1)/8 {
		return err
	}
	return win.stopped.Poke(at, b)
}
