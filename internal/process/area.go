// SPDX-License-Identifier: Apache-2.0

package process

import (
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

// reserveFlags: the kernel takes a free place or none.
const reserveFlags = unix.MAP_PRIVATE | unix.MAP_ANONYMOUS | unix.MAP_FIXED_NOREPLACE

// stage gives the units their areas: the pages, by system calls of one thread
// while the others run, and then the bytes, while all run. Areas of unused that
// no jump ever led to are given back on the way.
func (w *work) stage(ctx context.Context, units []*unit, unused []*area) error {
	need := len(unused) > 0
	for _, u := range units {
		need = need || u.fresh && !u.mapped
	}
	if need {
		if err := w.borrow(ctx, func(l *ptrace.Loan) error {
			for _, a := range unused {
				if err := w.unmap(ctx, l, a.journal); err != nil {
					return err
				}
			}
			return w.mapAreas(l, units)
		}); err != nil {
			return err
		}
		if err := w.confirm(ctx, units); err != nil {
			return err
		}
	}
	mem := w.p.Memory(ctx)
	put := func(at uint64, b []byte) error {
		_, err := mem.WriteAt(b, int64(at))
		return err
	}
	for _, u := range units {
		if u.content == nil {
			continue
		}
		// The journal comes last: an area that has one has all the rest.
		for _, c := range u.chunks() {
			if u.fresh {
				if err := put(c.addr, c.data); err != nil {
					return w.unwritable(u, err)
				}
				w.step("written " + c.name)
			}
		}
		if err := put(u.journal.base, u.header); err != nil {
			return w.unwritable(u, err)
		}
		w.step("written journal")
	}
	return nil
}

func (w *work) unwritable(u *unit, err error) error {
	if unreadable(err) {
		return code.New("TS9641", u.object.Name, "the new pages can't be written").With(err)
	}
	return err
}

// borrow runs f with a thread that makes system calls. One that is frozen would
// stop and then make none: it is left alone.
func (w *work) borrow(ctx context.Context, f func(*ptrace.Loan) error) error {
	group, err := w.p.Frozen(ctx)
	if err != nil {
		return err
	}
	if group != "" {
		return code.New("TS9645", w.p.ID().String(), "control group "+group)
	}
	pause, err := w.opt.tracers.Borrow(ctx, w.target(), w.opt.ptrace, f)
	w.paused(pause)
	return err
}

// mapAreas reserves the places with a page on either side, and then takes from
// each part the rights that it shall not have: no page is ever writable and
// executable. What fails leaves all as it was: mmap(2) over what was reserved
// may leave a hole on kernels before 6.12, which another thread may have taken
// when the place is given back. And rights to execute are not given later, which
// systemd's MemoryDenyWriteExecute= and PR_SET_MDWE forbid. What is reserved is
// ours alone, so this is done without a stop for each call where that can be
// done; confirm looks after them.
func (w *work) mapAreas(l *ptrace.Loan, units []*unit) error {
	var calls []ptrace.Call
	var of []*unit
	for _, u := range units {
		if !u.fresh || u.mapped {
			continue
		}
		protect := u.protect()
		if err := l.Permitted(protect...); err != nil {
			return err // before there is anything to be given back
		}
		if err := w.reserve(l, u); err != nil {
			return err
		}
		for _, c := range protect {
			calls, of = append(calls, c), append(of, u)
		}
	}
	if !w.oneByOne && len(calls) > 0 {
		made, err := l.Chain(calls)
		if made && err != nil {
			// The thread may make the calls yet, wherever it is held up. What was
			// reserved for them stays so, for good.
			for _, u := range of {
				u.mapped = false
			}
		}
		if err != nil {
			return w.refused(of[0], "mprotect", err)
		}
		if made {
			w.step("mapped")
			return nil
		}
	}
	for i, c := range calls {
		if _, err := l.Syscall(c.Number, c.Args[:]...); err != nil {
			if c := code.Of(err); c != "" && c != "TS9616" {
				of[i].mapped = false // the same: it may be made yet
			}
			return w.refused(of[i], "mprotect", err)
		}
		w.step("mapped")
	}
	return nil
}

// protect are the calls that make of a reserved place what the layout says.
func (u *unit) protect() []ptrace.Call {
	call := func(at, size uint64, rights uintptr) ptrace.Call {
		return ptrace.Call{Number: unix.SYS_MPROTECT, Args: [6]uintptr{uintptr(at), uintptr(size), rights}}
	}
	calls := []ptrace.Call{call(u.journal.base-guard, guard, unix.PROT_NONE)}
	for _, part := range u.layout.Parts {
		if part.Exec {
			continue // as it was reserved
		}
		rights := uintptr(unix.PROT_READ)
		if part.Write {
			rights |= unix.PROT_WRITE
		}
		calls = append(calls, call(u.journal.base+part.Offset, part.Size, rights))
	}
	return append(calls, call(u.journal.base+u.journal.size, guard, unix.PROT_NONE))
}

// reserve takes the place of an area. What is reserved is given back where it
// comes to nothing.
func (w *work) reserve(l *ptrace.Loan, u *unit) error {
	at, size := uintptr(u.journal.base-guard), uintptr(u.journal.size+2*guard)
	got, err := l.Syscall(unix.SYS_MMAP, at, size, unix.PROT_READ|unix.PROT_EXEC, reserveFlags, ^uintptr(0), 0)
	switch {
	case errors.Is(err, unix.EEXIST):
		return fmt.Errorf("%w: the place for the new code was taken", errChanged)
	case errors.Is(err, unix.EACCES):
		return w.refused(u, "mmap of memory to execute, which a security module forbids (execmem); "+proc.Forbids(w.p.PID()), err)
	case err != nil:
		return w.refused(u, "mmap", err)
	}
	if got != at { // a kernel that does not know MAP_FIXED_NOREPLACE
		_, err := l.Syscall(unix.SYS_MUNMAP, got, size)
		return errors.Join(fmt.Errorf("%w: the place for the new code was taken", errChanged), err)
	}
	u.mapped = true
	w.step("reserved")
	return nil
}

// confirm looks whether new areas have all their parts, with the rights that were
// asked for and no others: a journal that can be executed is none. Where something
// is missing all is looked at anew, and the next try is told by the call what is
// wrong.
func (w *work) confirm(ctx context.Context, units []*unit) error {
	var s sight
	for _, u := range units {
		if !u.fresh {
			continue
		}
		if s.maps == nil {
			var err error
			if s.maps, err = w.p.Mappings(ctx); err != nil {
				return err
			}
		}
		switch {
		case s.hasParts(u, u.journal.base):
		case w.oneByOne:
			return code.New("TS9641", u.object.Name, "the new pages have other rights than were asked for, as with READ_IMPLIES_EXEC")
		default:
			w.oneByOne = true
			return fmt.Errorf("%w: %s: not all of the new pages are there", errAgain, u.object.Name)
		}
	}
	return nil
}

func (w *work) refused(u *unit, call string, err error) error {
	if code.Of(err) != "" {
		return err
	}
	return code.New("TS9641", u.object.Name, call).With(err)
}

// unmap gives a place back, or leaves it for good: it is tried once and never
// again. A thread that was given up may make the call at any time later, and the
// same is so where we are killed. Given back by another call meanwhile, the
// place could be the program's by then. So the journal ceases to be one before.
func (w *work) unmap(ctx context.Context, l *ptrace.Loan, j *journal) error {
	call := ptrace.Call{Number: unix.SYS_MUNMAP, Args: [6]uintptr{uintptr(j.base - guard), uintptr(j.size + 2*guard)}}
	if err := l.Permitted(call); err != nil {
		return err
	}
	// The thread is stopped: memory that does not answer must not hold it up.
	mem := w.p.Memory(proc.Unguarded(ctx))
	if _, err := mem.WriteAt(make([]byte, len(journalMagic)), int64(j.base)); err != nil {
		if unreadable(err) {
			return fmt.Errorf("%w: what was to be given back is not there", errChanged)
		}
		return err
	}
	w.step("forgotten")
	_, err := l.Syscall(call.Number, call.Args[:]...)
	if err != nil && code.Of(err) == "" {
		err = code.New("TS9641", w.p.ID().String(), "munmap").With(err)
	}
	w.step("given back")
	return err
}

// giveBack unmaps the areas of units that were not used in the end. It does
// what it can: what stays is a few pages that the next one takes away.
func (w *work) giveBack(ctx context.Context, units []*unit) {
	var mine []*unit
	for _, u := range units {
		if u.fresh && u.mapped && !u.touched {
			mine = append(mine, u)
		}
	}
	if len(mine) == 0 || ctx.Err() != nil {
		return
	}
	// A write that was given up must not come to what the process maps there next.
	late, cancel := context.WithTimeout(ctx, lateGrace)
	defer cancel()
	if w.p.Answered(late) != nil {
		return
	}
	_ = w.borrow(ctx, func(l *ptrace.Loan) error {
		for _, u := range mine {
			u.mapped = false
			if err := w.unmap(ctx, l, u.journal); err != nil {
				return err
			}
		}
		return nil
	})
}
