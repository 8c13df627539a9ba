// SPDX-License-Identifier: Apache-2.0

package stack

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"slices"
	"sort"
	"time"

	"github.com/tsugi-project/tsugi/internal/order"
	"github.com/tsugi-project/tsugi/internal/unwind"
)

// Reasons why a stack could not be unwound to its outermost frame.
var (
	errForeign  = errors.New("the thread does not run 64-bit code")
	errUnmapped = errors.New("the stack cannot be read")
	errNoObject = errors.New("code of no ELF file that is known")
	errNoTable  = errors.New("code of an ELF file without unwind table")
	errTooMany  = errors.New("too many frames")
	errSignal   = errors.New("a signal frame is on the stack")
	errEnd      = errors.New("the end of the stack is not known or too far")
	errAligned  = errors.New("the stack pointer is not aligned")
	errSwitch   = errors.New("the thread is changing its stack")
	errRegister = errors.New("a register leads into a function")
	errLate     = errors.New("the check of other threads has taken too long")
)

// Checker checks the threads of one process. It holds buffers, so that Check
// allocates as little as possible, and must not be used concurrently.
type Checker struct {
	layout Layout
	opt    Options

	functions []Function
	// What words are compared with first: below low or above high is none.
	low, high uint64

	signals               []interval // signal trampolines, up to behind their system call
	signalLow, signalHigh uint64     // of all of them

	snap snapshot
	rows []cachedRow // made when the first frame is unwound
}

// interval is [start, end).
type interval struct{ start, end uint64 }

// cachedRow is the row for one address of the process.
type cachedRow struct {
	pc  uint64
	row unwind.Row
}

// trampoline is how many bytes mov $15,%rax; syscall has at most.
const trampoline = 9

// keptBuffers is how many pieces of a stack there is room for from one process
// to the next.
const keptBuffers = 4

// rowCache is how many rows are remembered: threads of a pool stand in a few
// places.
const rowCache = 256

// New prepares the check. It sorts; it reads nothing. Objects that overlap and
// functions without bytes are an error.
func New(layout Layout, functions []Function, opt Options) (*Checker, error) {
	c := &Checker{}
	if err := c.Reset(layout, functions, opt); err != nil {
		return nil, err
	}
	return c, nil
}

// Reset is New with the buffers of a Checker that is not in use any more. After
// an error it can only be reset again.
func (c *Checker) Reset(layout Layout, functions []Function, opt Options) error {
	opt.defaults()
	if c.opt.First != opt.First { // the buffers' size
		c.snap = snapshot{}
	}
	clear(c.rows)
	objects := append(c.layout.Objects[:0], layout.Objects...)
	c.layout, c.opt, c.functions = layout, opt, append(c.functions[:0], functions...)
	c.layout.Objects = objects
	c.low, c.high, c.signals = ^uint64(0), 0, c.signals[:0]
	c.signalLow, c.signalHigh = 0, 0
	order.Sort(c.layout.Objects, func(a, b Object) int { return cmp.Compare(a.Start, b.Start) })
	for i, o := range c.layout.Objects {
		if o.Start >= o.End || i > 0 && o.Start < c.layout.Objects[i-1].End {
			return fmt.Errorf("object %s at %#x-%#x: overlaps or is empty", o.Name, o.Start, o.End)
		}
		if o.Table == nil {
			continue
		}
		for _, s := range o.Table.Signals() {
			c.signals = append(c.signals, interval{s[0] + o.Bias, s[1] + o.Bias + 1})
		}
	}
	for _, at := range layout.SignalReturns {
		c.signals = append(c.signals, interval{at, at + trampoline + 1})
	}
	c.signalLow = ^uint64(0)
	for _, s := range c.signals {
		c.signalLow, c.signalHigh = min(c.signalLow, s.start), max(c.signalHigh, s.end)
	}
	for _, f := range c.functions {
		if f.Start >= f.End || f.Jump != 0 && (f.Jump < f.Start || f.Jump+JumpSize < f.Jump) {
			return fmt.Errorf("function %s at %#x-%#x: no code or no room for a jump", f.Name, f.Start, f.End)
		}
		c.low = min(c.low, f.Start)
		c.high = max(c.high, f.End, f.Jump+JumpSize)
	}
	order.Sort(c.functions, func(a, b Function) int { return cmp.Compare(a.Start, b.Start) })
	c.snap.first, c.snap.limit = opt.First, opt.MaxBytes
	if len(c.snap.bufs) > keptBuffers {
		c.snap.bufs = slices.Clone(c.snap.bufs[:keptBuffers])
	}
	return nil
}

// returns says whether a word may be an address that a frame returns to in a
// function: behind its first instruction, or just behind its last, which may be
// a call that does not return.
func (f *Function) returns(word uint64) bool {
	if f.inJump(word) {
		return true
	}
	return !f.EntryOnly && word > f.Start && word <= f.End
}

// runs says whether the instruction at pc, which runs next, is in the way.
func (f *Function) runs(pc uint64) bool {
	if f.inJump(pc) {
		return true
	}
	if f.EntryOnly || pc < f.Start || pc >= f.End {
		return false
	}
	return f.Jump == 0 || pc != f.Start && pc != f.Jump
}

// inJump says whether an instruction at pc would begin inside of the jump.
func (f *Function) inJump(pc uint64) bool {
	return f.Jump != 0 && pc > f.Jump && pc < f.Jump+JumpSize
}

// returning finds the function that a word may return to.
func (c *Checker) returning(word uint64) *Function {
	if word < c.low || word > c.high {
		return nil
	}
	for i := range c.functions {
		if c.functions[i].returns(word) {
			return &c.functions[i]
		}
	}
	return nil
}

// running finds the function that the next instruction lies in.
func (c *Checker) running(pc uint64) *Function {
	if pc < c.low || pc > c.high {
		return nil
	}
	for i := range c.functions {
		if c.functions[i].runs(pc) {
			return &c.functions[i]
		}
	}
	return nil
}

func (c *Checker) object(pc uint64) *Object {
	all := c.layout.Objects
	i := sort.Search(len(all), func(i int) bool { return all[i].Start > pc }) - 1
	if i < 0 || pc >= all[i].End {
		return nil
	}
	return &all[i]
}

// Check judges one thread. mem reads the memory of the process by address, and
// may give fewer bytes than asked for with an error, as io.ReaderAt may.
func (c *Checker) Check(mem io.ReaderAt, t *Thread) Verdict {
	v := Verdict{TID: t.TID}
	pc, sp := t.Regs.Value[unwind.RIP], t.Regs.Value[unwind.RSP]
	v.PC = pc
	switch {
	case pc == 0 && sp == 0:
		// A worker of the kernel (io_uring): it never runs code of the process.
		v.State, v.How = Safe, ByRegisters
		return v
	case t.Foreign:
		v.Why = errForeign
		return v
	}
	if f := c.running(pc); f != nil {
		v.State, v.How, v.Function = Busy, ByRegisters, f.Name
		return v
	}
	if v.Why = c.between(&t.Regs); v.Why != nil {
		v.How = ByRegisters
		return v
	}
	end := c.end(t, sp)
	c.snap.open(mem, sp, end)
	w := c.words(sp, end)
	w.signal = w.signal || c.signal(pc) // that it returned to is gone from the stack
	if w.whole && w.hit == nil && !w.signal {
		v.State, v.How = Safe, ByWords
		v.Bytes = c.snap.total
		return v
	}
	c.unwind(t, &v)
	if v.State == Unproven {
		c.decide(&v, w, sp, end)
	}
	v.Bytes = c.snap.total
	return v
}

// between is why a thread may go on where no stack tells: it is changing stacks,
// or holds an address within a function as the last step to that (longjmp, and
// coroutines that are switched by a jump).
func (c *Checker) between(r *unwind.Regs) error {
	if c.switching(r.Value[unwind.RIP]) {
		return errSwitch
	}
	for i, word := range r.Value {
		if i == unwind.RSP || i == unwind.RIP || word < c.low || word >= c.high {
			continue
		}
		// Pointers to functions lie in registers all the time: to the next one,
		// whose entry is the end of this, and to those of a whole area of code.
		if f := c.returning(word); f != nil && f.Jump != 0 && word < f.End {
			return errRegister
		}
	}
	return nil
}

// switching says whether the instruction at pc is one that changes the stack.
func (c *Checker) switching(pc uint64) bool {
	for _, s := range c.layout.Switches {
		if pc >= s.Start && pc < s.End {
			return true
		}
	}
	return false
}

// end is the address behind the thread's own stack, or 0 when the thread is
// not known to be on it: for the main thread what the kernel made, for others
// the thread's control block, which threading libraries put at the end of the
// stack. Both lie above all of its frames, or are not readable from here on.
func (c *Checker) end(t *Thread, sp uint64) uint64 {
	end := t.FSBase
	if t.TID == c.layout.PID {
		end = c.layout.MainStackEnd
	}
	if sp >= end || end-sp > uint64(c.opt.MaxBytes) {
		return 0
	}
	return end
}

// unwind goes through the frames. It leaves State Unproven, and Why, when it
// did not come to the outermost.
func (c *Checker) unwind(t *Thread, v *Verdict) {
	regs := t.Regs
	regs.Known, regs.Exact = unwind.AllKnown, true
	for v.Frames = 0; v.Frames < c.opt.MaxFrames; v.Frames++ {
		last, err := c.step(&regs)
		if err != nil {
			v.Why = fmt.Errorf("frame %d at %#x: %w", v.Frames, regs.Value[unwind.RIP], err)
			return
		}
		if last {
			v.State, v.How = Safe, ByUnwinding
			return
		}
		pc := regs.Value[unwind.RIP]
		f := c.running(pc)
		if !regs.Exact {
			f = c.returning(pc)
		} else if c.switching(pc) {
			v.Why = errSwitch // a signal came in between
			return
		}
		if f != nil {
			v.State, v.How, v.Function, v.PC = Busy, ByUnwinding, f.Name, pc
			return
		}
	}
	v.Why = errTooMany
}

func (c *Checker) step(regs *unwind.Regs) (last bool, err error) {
	pc := regs.PC()
	if at := regs.Value[unwind.RIP]; c.signal(at) {
		pc = at // nothing has called a signal trampoline: no instruction lies before
	}
	if c.rows == nil {
		c.rows = make([]cachedRow, rowCache)
	}
	slot := &c.rows[(pc^pc>>8)%rowCache]
	if slot.pc != pc {
		o := c.object(pc)
		if o == nil {
			return false, errNoObject
		}
		if o.Table == nil {
			return false, fmt.Errorf("%s: %w", o.Name, errNoTable)
		}
		row, err := o.Table.Row(pc - o.Bias)
		if err != nil {
			return false, fmt.Errorf("%s: %w", o.Name, err)
		}
		slot.pc, slot.row = pc, row
	}
	return slot.row.Step(regs, &c.snap)
}

// signal says whether signal handlers return to an address.
func (c *Checker) signal(word uint64) bool {
	for _, s := range c.signals {
		if word >= s.start && word < s.end {
			return true
		}
	}
	return false
}

// CheckAll judges threads, all of them or up to the first limit that are not
// Safe (0: all). What it has not come to at a time, where one is given, is
// Unproven: a process can have tables that take long.
func (c *Checker) CheckAll(mem io.ReaderAt, threads []Thread, limit int, until time.Time) []Verdict {
	var blocking []Verdict
	for i := range threads {
		v := Verdict{TID: threads[i].TID, PC: threads[i].Regs.Value[unwind.RIP], Why: errLate}
		if until.IsZero() || time.Now().Before(until) {
			v = c.Check(mem, &threads[i])
		}
		if v.State != Safe {
			if blocking = append(blocking, v); len(blocking) == limit {
				break
			}
		}
	}
	return blocking
}
