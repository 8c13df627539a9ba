// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"context"
	"encoding/binary"
	"math/rand/v2"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
)

// Several calls are made without a stop between them: what heals the thread
// after a call (see frame) may as well lead to the next call, and only the last
// one's to what it did without us. On a busy machine each stop is a wait for a
// processor.
//
//	low     marker, timeout
//	        a frame for each call but the last, which leads to the next one
//	l.at    the frame that setUp has written
//
// The last two calls are ours: the marker says that the others are made, and
// then the thread waits for us, or for a while if we are dead.

// Call is a system call and its arguments.
type Call struct {
	Number uintptr
	Args   [6]uintptr
}

const (
	linkSize = (8 + ucontextSize + 128 + 15) &^ 15 // of a frame without vector registers
	linkHead = 32                                  // marker and timeout
	maxChain = 24

	// chainWait is how long a thread waits at most for a tracer that is dead.
	chainWait = 100 * time.Millisecond
)

// Chain makes system calls in the thread, one after the other, whatever each
// gives: what has become of them is to be looked up in the process. Each must do
// no harm where an earlier one has failed. Where the thread does not suit for it
// none is made, and false is returned: [Loan.Syscall] can make them one by one.
// After true with an error they are made some time, or not at all.
func (l *Loan) Chain(calls []Call) (bool, error) {
	var made bool
	var err error
	l.session.do(func() { made, err = l.chain(calls) })
	return made, err
}

// Permitted tells by TS9616 that the filters do not let calls be made. Where
// several belong together it is asked before the first.
func (l *Loan) Permitted(calls ...Call) error {
	for _, c := range calls {
		if err := l.permitted(c.Number, words(c.Args)); err != nil {
			return err
		}
	}
	return nil
}

func (l *Loan) chain(calls []Call) (bool, error) {
	t := &l.thread
	switch {
	case t.state == gone && !l.over:
		return false, ended(l.target.PID, "")
	case l.over || l.spent || t.state != halted:
		return false, l.lost("the thread is not held")
	case len(calls) == 0, len(calls) > maxChain:
		return false, nil
	case inSyscall(&t.regs) >= 0 && int64(t.regs.Rax) == restartBlock:
		return false, nil // rt_sigreturn would make it forget how long it has waited
	}
	links := uint64(len(calls) + 1)
	low := l.at - links*linkSize - linkHead - 8
	low &^= 15
	if t.regs.Rsp-low > maxFrame {
		return false, nil
	}
	marker, timeout := low, low+16
	all := append(append(make([]Call, 0, links+1), calls...),
		Call{unix.SYS_RT_SIGPROCMASK, [6]uintptr{unix.SIG_BLOCK, 0, uintptr(marker), 8}},
		Call{unix.SYS_SELECT, [6]uintptr{0, 0, 0, 0, uintptr(timeout)}})
	for i, c := range all {
		if err := l.permitted(c.Number, words(c.Args)); err != nil {
			if i >= len(calls) || code.Of(err) != "TS9616" {
				return false, nil
			}
			return false, err
		}
	}
	// Its registers tell whether it is still on the way: what it does without us
	// has others.
	secret := rand.Uint64() | 1
	block, first := l.links(all, low, secret)
	wrote := error(nil)
	touch := func() { _, wrote = l.mem.WriteAt(block, int64(low)) }
	if l.pages.Writable(low, uint64(len(block))) == uint64(len(block)) {
		touch()
	} else if err := l.within(touch); err != nil {
		return false, err
	}
	if wrote != nil {
		return false, unsuitable(t.tid, "its stack can't be written: "+wrote.Error())
	}
	if err := setRegs(t.tid, &first); err != nil {
		return false, ended(l.target.PID, "")
	}
	if err := l.heed(); err != nil {
		return true, err
	}
	if err := l.goThrough(marker, secret); err != nil {
		return true, err
	}
	return true, l.leaveChain(secret)
}

// links are the bytes from low to the frame that setUp has written, and the
// registers for the first call.
func (l *Loan) links(all []Call, low, secret uint64) ([]byte, unix.PtraceRegs) {
	b := make([]byte, 0, l.at-low)
	b = append(b, make([]byte, 16)...)
	b = binary.LittleEndian.AppendUint64(b, 0) // struct timeval
	b = binary.LittleEndian.AppendUint64(b, uint64(chainWait/time.Microsecond))
	for (low+uint64(len(b)))&15 != l.at&15 {
		b = append(b, 0)
	}
	at := low + uint64(len(b))
	aim := func(i int) unix.PtraceRegs { // all but the last return over a frame of their own
		sp := l.at
		if i < len(all)-1 {
			sp = at + uint64(i)*linkSize
		}
		r := l.aimed(all[i].Number, words(all[i].Args), sp)
		r.R15 = secret
		return r
	}
	for i := 1; i < len(all); i++ {
		next, start := aim(i), len(b)
		b = sigContext(b, &next, ^uint64(0), l.code.sigreturn, l.fpAt)
		b = append(b, make([]byte, linkSize-(len(b)-start))...)
	}
	return b, aim(0)
}

func words(args [6]uintptr) (w [6]uint64) {
	for i, a := range args {
		w[i] = uint64(a)
	}
	return w
}

// goThrough lets the thread make the calls, and waits for the marker.
func (l *Loan) goThrough(marker, secret uint64) error {
	t := &l.thread
	if err := request(unix.PTRACE_CONT, t.tid, 0, 0); err != nil {
		return ended(l.target.PID, "")
	}
	t.state = running
	l.opt.step(Chained)
	deadline := time.Now().Add(callTime)
	var p pace
	for stops := 0; ; {
		r, err := ask(l.target.PID, t.tid)
		switch {
		case err != nil, r.exited:
			t.state = gone
			return ended(l.target.PID, "")
		case r.stopped:
			if stops++; stops > 64 {
				t.state = halted
				return l.lost("it is stopped again and again")
			}
			if on, err := l.passOn(r, secret); err != nil || !on {
				return err
			}
		case readWord(t.tid, marker) != 0:
			return nil
		}
		now := time.Now()
		if now.After(deadline) {
			return unstopped(l.target.PID, []int{t.tid})
		}
		if p.wait(now) > slow && now.Sub(t.checked) > lookUp {
			t.checked = now
			if l.session.lost(l.target.PID, t.tid) {
				t.state = gone
				return ended(l.target.PID, "")
			}
		}
	}
}

// passOn lets a thread go on that has stopped on the way. It tells whether it is
// still there.
func (l *Loan) passOn(r report, secret uint64) (bool, error) {
	t := &l.thread
	t.halt(r)
	var now unix.PtraceRegs
	if err := getRegs(t.tid, &now); err != nil {
		t.state = gone
		return false, ended(l.target.PID, "")
	}
	on := now.R15 == secret
	signal := t.signal
	switch {
	case !on: // it has waited for us in vain; what comes now is its own
		if err := l.session.keepOn(l.target.PID, t.tid, &now); err != nil {
			t.state = gone
			return false, ended(l.target.PID, "")
		}
	case r.event == unix.PTRACE_EVENT_STOP: // job control has stopped the process; we go on
	case r.event == 0 && r.signal == unix.SIGSTOP: // it can't be blocked; let it do what it does
	default:
		// All signals wait, so the code at hand did something wrong. The signal
		// is ours, not the program's.
		t.signal = 0
		return on, l.lost("a signal on the way")
	}
	if err := request(unix.PTRACE_CONT, t.tid, 0, uintptr(signal)); err != nil {
		t.state = gone
		return false, ended(l.target.PID, "")
	}
	t.state, t.signal = running, 0
	return on, nil
}

// leaveChain stops the thread and puts it back to where it was, in the kind of
// stop that it was in.
func (l *Loan) leaveChain(secret uint64) error {
	t := &l.thread
	if err := request(unix.PTRACE_INTERRUPT, t.tid, 0, 0); err != nil {
		return ended(l.target.PID, "")
	}
	l.opt.step(Recalled)
	if err := l.rest(context.Background()); err != nil {
		return err
	}
	l.opt.step(Resting)
	var now unix.PtraceRegs
	if err := getRegs(t.tid, &now); err != nil {
		return ended(l.target.PID, "")
	}
	if now.R15 == secret {
		return l.restore()
	}
	// It has waited for us in vain, and does what it did without us.
	l.healing, l.spent = false, true
	t.regs = now
	if err := l.session.keepOn(l.target.PID, t.tid, &t.regs); err != nil {
		return ended(l.target.PID, "")
	}
	return nil
}

// readWord reads a word that is there, 0 where it can't be.
func readWord(tid int, at uint64) uint64 {
	var word uint64
	local := unix.Iovec{Base: (*byte)(unsafe.Pointer(&word)), Len: 8}
	remote := unix.RemoteIovec{Base: uintptr(at), Len: 8}
	_, _, no := unix.RawSyscall6(unix.SYS_PROCESS_VM_READV, uintptr(tid),
		uintptr(unsafe.Pointer(&local)), 1, uintptr(unsafe.Pointer(&remote)), 1, 0)
	if no != 0 {
		return 0
	}
	return word
}
