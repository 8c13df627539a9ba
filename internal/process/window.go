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

// How long a process may stay stopped when its memory does not answer, or this
// machine has no time for us. The usual is a thousandth of it.
const (
	windowGrace     = 250 * time.Millisecond
	windowPerThread = time.Millisecond
	windowPerWrite  = 5 * time.Millisecond
	// writeGrace is for the writes. They go to pages that have just been read;
	// what is half written is worse than what takes long.
	writeGrace = 2 * time.Second
	// lateGrace is for a write that was given up, and the way back. Threads must
	// not run when it comes.
	lateGrace = 10 * time.Second
)

// window is one stop of a process, and what is done in it. All that it needs is
// allocated before, and all is done in the thread that traces: from the first
// order to stop to the last release nothing is waited for but the process. What
// can't be done so, since a page is not there, is done with a time limit, by a
// goroutine that may be left behind.
type window struct {
	work    *work
	units   []*unit
	pieces  []proc.Piece // what is compared, in the order of checks
	checks  []watch
	back    []proc.Piece // the entries, to be read again
	still   *proc.Still
	room    *room
	stopped *ptrace.Stopped
	written []write // so far, for the way back
	late    bool    // a write was given up, and may come yet

	outer    context.Context // of the caller, without its end
	bounded  context.Context // the same with the end of the window; nil until it is needed
	cancel   context.CancelFunc
	deadline time.Time
}

// room is what windows need, kept from one to the next.
type room struct {
	checker stack.Checker
	threads []stack.Thread
	lost    bool // a goroutine that was left behind may still use it
}

func (w *work) newWindow(ctx context.Context, units []*unit, tables bool) (*window, error) {
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
	if win.room, _ = w.e.rooms.Get().(*room); win.room == nil {
		win.room = &room{}
	}
	if err := win.room.checker.Reset(layout, functions, stack.Options{}); err != nil {
		win.close()
		return nil, code.New("TS9642", w.p.ID().String(), "").With(err)
	}
	if win.still, err = w.p.Still(ctx, max(len(win.pieces), len(win.back))); err != nil {
		win.close()
		return nil, err
	}
	// From here on a caller that gives up is not heard: it takes less than a moment.
	win.outer = proc.Unguarded(context.WithoutCancel(ctx))
	return win, nil
}

func (win *window) close() {
	if win.cancel != nil {
		win.cancel()
	}
	if win.still != nil {
		win.still.Close()
	}
	if !win.room.lost {
		win.work.e.rooms.Put(win.room)
	}
}

// commit stops the process, does what the units say if that may be done now,
// and lets it run on. Whatever it returns, the process runs.
func (win *window) commit(ctx context.Context) (err error) {
	defer win.close()
	win.work.opt.tracers.Do(win.work.opt.ptrace, func(opt ptrace.Options) { err = win.stop(ctx, opt) })
	return err
}

func (win *window) stop(ctx context.Context, opt ptrace.Options) (err error) {
	w := win.work
	began := time.Now()
	win.stopped, err = ptrace.Stop(ctx, w.target(), opt)
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
	win.deadline = time.Now().Add(win.limit(len(threads)))
	reader := 0
	win.room.threads = win.room.threads[:0]
	for i := range threads {
		if !threads[i].Worker {
			reader = threads[i].TID
			win.room.threads = append(win.room.threads, stack.FromPtrace(threads[i].TID, &threads[i].Regs))
		}
	}
	if err := win.unchanged(); err != nil {
		return err
	}
	w.step("compared")
	if err := win.quiet(reader); err != nil {
		return err
	}
	w.step("checked")
	return win.write()
}

// limit is how long the process may stay stopped at most.
func (win *window) limit(threads int) time.Duration {
	return windowGrace + time.Duration(threads)*windowPerThread + time.Duration(len(win.back)+len(win.units))*windowPerWrite
}

// limited is the context of what may have to be left behind.
func (win *window) limited() context.Context {
	if win.bounded == nil {
		win.bounded, win.cancel = context.WithDeadline(win.outer, win.deadline)
	}
	return win.bounded
}

// longer gives what must not be left half done its own time.
func (win *window) longer(d time.Duration) {
	if win.cancel != nil {
		win.cancel()
	}
	win.bounded, win.deadline = nil, time.Now().Add(d)
}

func (win *window) read(pieces []proc.Piece) error {
	if win.still.ReadPieces(pieces) {
		return nil
	}
	return win.work.p.ReadPieces(win.limited(), pieces)
}

// unchanged compares what was prepared with.
func (win *window) unchanged() error {
	if err := win.read(win.pieces); err != nil {
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

// quiet checks all stacks. Where a page of one is not there, the check may have
// to wait for memory that does not answer: then the process is let go, and the
// check ends by itself.
func (win *window) quiet(reader int) error {
	win.still.Absent = false
	verdicts := win.room.checker.CheckAll(win.still, win.room.threads, 1, win.deadline)
	if len(verdicts) > 0 && win.still.Absent {
		done := make(chan []stack.Verdict, 1)
		go func() {
			done <- win.room.checker.CheckAll(stack.Memory{PID: reader}, win.room.threads, 1, win.deadline)
		}()
		select {
		case verdicts = <-done:
		case <-win.limited().Done():
			win.room.lost = true
			return code.New("TS9604", win.work.p.ID().String(), "the stacks can't be read")
		}
	}
	if len(verdicts) > 0 {
		return verdicts[0].Problem()
	}
	return nil
}

// write writes states and jumps, and reads the jumps back. What goes wrong is
// taken back at once. No write comes when it has returned, but from a process
// that has not answered for so long that it is let go all the same.
func (win *window) write() error {
	win.longer(writeGrace + win.limit(0))
	err := win.forward()
	if err == nil {
		return nil
	}
	win.longer(lateGrace)
	defer win.settle()
	if lateErr := win.settle(); lateErr != nil {
		return unfinished(win.work.p.ID().String(), errors.Join(err, lateErr))
	}
	for i := len(win.written) - 1; i >= 0; i-- {
		if backErr := win.put(win.written[i].entry, win.written[i].from[:]); backErr != nil {
			return unfinished(win.written[i].name, errors.Join(err, backErr))
		}
	}
	for _, u := range win.units {
		if stateErr := win.put(u.journal.base+stateOffset, u.header[stateOffset:stateOffset+8]); stateErr != nil {
			return errors.Join(err, stateErr)
		}
		u.touched = false
	}
	if code.Of(err) != "" {
		return err
	}
	return code.New("TS9637", win.work.p.ID().String(), "").With(err)
}

// settle waits for a write that was given up.
func (win *window) settle() error {
	if !win.late {
		return nil
	}
	err := win.work.p.Answered(win.limited())
	win.late = err != nil
	return err
}

// unfinished is what has to be healed: the journal says so, and the next look
// finds it there.
func unfinished(where string, err error) error {
	return errors.Join(errAgain, code.New("TS9637", where, "and what was written can't be taken back now").With(err))
}

func (win *window) forward() error {
	for _, u := range win.units {
		for _, a := range u.stale {
			if err := win.state(a.base, Replaced); err != nil {
				return err
			}
		}
	}
	for _, u := range win.units {
		u.touched = true
		if err := win.state(u.journal.base, u.through); err != nil {
			return err
		}
	}
	for _, u := range win.units {
		for _, wr := range u.writes {
			win.written = append(win.written, wr)
			if err := win.put(wr.entry, wr.to[:]); err != nil {
				return fmt.Errorf("%s: %w", wr.name, err)
			}
			win.work.step("jump")
		}
	}
	if len(win.back) > 0 {
		if err := win.read(win.back); err != nil {
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
		if err := win.state(u.journal.base, u.end); err != nil {
			return err
		}
	}
	for _, u := range win.units {
		if u.prior != nil {
			// From here on nothing is taken back: the new journal names the old one.
			if err := win.state(u.prior.base, Replaced); err != nil {
				break
			}
		}
	}
	return nil
}

func (win *window) state(base uint64, s JournalState) error {
	if err := win.put(base+stateOffset, stateWord(s)); err != nil {
		return err
	}
	win.work.step("state " + string(s))
	return nil
}

// put writes bytes that are in no danger of being half written: within one page
// the kernel copies them in one go, and a signal does not come between.
func (win *window) put(at uint64, b []byte) error {
	done, err := win.still.WriteAt(b, at)
	if !done && err == nil {
		_, err = win.work.p.Memory(win.limited()).WriteAt(b, int64(at))
		win.late = win.late || err != nil && !unreadable(err)
	}
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
