// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// callTime bounds one system call that is made in the target.
const callTime = 2 * time.Second

// setUp readies the chosen thread: what heals it is written below its stack.
// Nothing of the thread changes yet.
func (l *Loan) setUp() error {
	t := &l.thread
	pid := l.target.PID
	var err error
	if l.mask, err = getSigmask(t.tid); err != nil {
		return ended(pid, "")
	}
	if err := l.readFilters(); err != nil {
		return err
	}
	xstate, err := getXstate(t.tid, l.session.xstate)
	if err == unix.ESRCH {
		return ended(pid, "")
	}
	if err != nil {
		return code.New("TS9617", where(pid), "its vector registers can't be read").With(err)
	}
	regs := resumed(t.regs)
	at, fpAt, bytes, err := frame(&regs, l.mask, l.code.sigreturn, xstate)
	if err != nil {
		return code.New("TS9617", where(pid), "").With(err)
	}
	if t.regs.Rsp-at > maxFrame {
		return unsuitable(t.tid, "its vector registers take too much room")
	}
	l.at, l.fpAt = at, fpAt
	// The program may be another one since its code was searched. From here on
	// it can't become one without ending this thread.
	if err := l.openMemory(t.tid); err != nil {
		return err
	}
	same, wrote := false, error(nil)
	touch := func() {
		if same = l.code.still(l.mem); same {
			_, wrote = l.mem.WriteAt(bytes, int64(at))
		}
	}
	if l.answers(at, uint64(len(bytes))) {
		touch()
	} else if err := l.within(touch); err != nil {
		return err
	}
	switch {
	case !same:
		return ended(pid, "it has started another program")
	case wrote != nil:
		return unsuitable(t.tid, "its stack can't be written: "+wrote.Error())
	}
	l.opt.step(Framed)
	return nil
}

// answers tells that the code and a place on the stack can be touched at once.
func (l *Loan) answers(at, size uint64) bool {
	back := l.code.afterSig - l.code.sigreturn
	return l.pages.Readable(l.code.syscall, syscallLength+1) == syscallLength+1 &&
		l.pages.Readable(l.code.sigreturn, back) == back && l.pages.Writable(at, size) == size
}

// readFilters finds out what system calls the thread may make. It is read in
// the stop, for it can change at any time.
func (l *Loan) readFilters() error {
	t := &l.thread
	status, ok := proc.TaskStatus(l.target.PID, t.tid)
	if !ok {
		return ended(l.target.PID, "")
	}
	if status.ShadowStack {
		return code.New("TS9617", where(l.target.PID), "its returns are guarded by shadow stacks")
	}
	// Without a filter this still helps against one that another thread sets
	// for all in this moment.
	err := request(unix.PTRACE_SETOPTIONS, t.tid, 0, unix.PTRACE_O_TRACESYSGOOD|unix.PTRACE_O_SUSPEND_SECCOMP)
	l.seccomp, l.suspend = int(status.Seccomp), err == nil
	l.filters = nil
	all := false
	switch l.seccomp {
	case 0:
		return nil
	case unix.SECCOMP_MODE_STRICT:
		return code.New("TS9616", where(l.target.PID), "it is in strict mode")
	}
	for i := range maxFilters {
		f, err := getFilter(t.tid, i, make([]instruction, maxFilter))
		if all = err == unix.ENOENT; all {
			break
		}
		if err == unix.ESRCH {
			return ended(l.target.PID, "")
		}
		if err != nil {
			return code.New("TS9616", where(l.target.PID), "its filters can't be read").With(err)
		}
		l.filters = append(l.filters, f)
	}
	if !all {
		return code.New("TS9616", where(l.target.PID), "it has too many filters")
	}
	back := call{nr: unix.SYS_RT_SIGRETURN, ip: l.code.afterSig}
	if v, err := verdict(l.filters, back); err != nil || v != actAllow && v != actLog {
		return code.New("TS9616", where(l.target.PID), "it may not return from signals")
	}
	return nil
}

// permitted asks the filters for a call. They would see it only if we died
// while it is made; it must not do harm then either. A call that fails then
// does none.
func (l *Loan) permitted(nr uintptr, args [6]uint64) error {
	if l.seccomp == 0 {
		return nil
	}
	v, err := verdict(l.filters, call{nr: int(nr), ip: l.code.syscall + syscallLength, args: args})
	switch {
	case err != nil:
	case v == actAllow, v == actLog, v == actErrno && l.suspend:
		return nil
	}
	return code.New("TS9616", where(l.target.PID), fmt.Sprintf("system call %d is answered with action %#x", nr, v)).With(err)
}

// Syscall makes a system call in the thread. The call's own failure is a
// unix.Errno; where it could not be made, a problem. It is for calls that do
// not wait. After a problem the loan can only be returned.
func (l *Loan) Syscall(nr uintptr, args ...uintptr) (uintptr, error) {
	var result uintptr
	var err error
	l.session.do(func() { result, err = l.call(nr, args) })
	return result, err
}

func (l *Loan) call(nr uintptr, args []uintptr) (uintptr, error) {
	t := &l.thread
	if t.state == gone && !l.over {
		return 0, ended(l.target.PID, "")
	}
	if l.over || l.spent || t.state != halted {
		return 0, l.lost("the thread is not held")
	}
	var a [6]uint64
	for i := range min(len(args), len(a)) {
		a[i] = uint64(args[i])
	}
	if err := l.permitted(nr, a); err != nil {
		return 0, err
	}
	r := l.aimed(nr, a, l.at)
	// Registers before the mask: a thread whose signals are blocked is on the
	// way that gives it its own mask again.
	if err := setRegs(t.tid, &r); err != nil {
		return 0, ended(l.target.PID, "")
	}
	if err := l.heed(); err != nil {
		return 0, err
	}
	if err := l.advance(Entered); err != nil {
		return 0, err
	}
	if err := l.advance(Left); err != nil {
		return 0, err
	}
	var after unix.PtraceRegs
	if err := getRegs(t.tid, &after); err != nil {
		return 0, ended(l.target.PID, "")
	}
	if after.Rip != l.code.syscall+syscallLength || after.Orig_rax != uint64(nr) || after.Rsp != l.at {
		return 0, l.lost(fmt.Sprintf("at %#x, call %d", after.Rip, int64(after.Orig_rax)))
	}
	if no := -int64(after.Rax); no > 0 && no < 4096 {
		return uintptr(after.Rax), unix.Errno(no)
	}
	return uintptr(after.Rax), nil
}

// heed notes that the thread's registers lead over the frame, and makes its
// signals wait.
func (l *Loan) heed() error {
	first := !l.healing
	l.healing = true
	l.opt.step(Aimed)
	if first {
		if err := setSigmask(l.thread.tid, ^uint64(0)); err != nil {
			return ended(l.target.PID, "")
		}
		l.opt.step(Masked)
	}
	return nil
}

// aimed are registers that lead to a system call, and from it over the frame at
// sp.
func (l *Loan) aimed(nr uintptr, a [6]uint64, sp uint64) unix.PtraceRegs {
	r := l.thread.regs
	r.Rip, r.Rsp, r.Rax, r.Orig_rax = l.code.syscall, sp, uint64(nr), ^uint64(0)
	r.Rdi, r.Rsi, r.Rdx, r.R10, r.R8, r.R9 = a[0], a[1], a[2], a[3], a[4], a[5]
	const stepping, backwards, aligned = 1 << 8, 1 << 10, 1 << 18
	r.Eflags &^= stepping | backwards | aligned
	return r
}

func (l *Loan) lost(why string) error { return code.New("TS9618", where(l.target.PID), why) }

// advance lets the thread run to the next end of a system call.
func (l *Loan) advance(s Step) error {
	t := &l.thread
	how, signal := unix.PTRACE_SYSCALL, unix.Signal(0)
	for range 64 { // stops of others' making
		if err := request(how, t.tid, 0, uintptr(signal)); err != nil {
			return ended(l.target.PID, "")
		}
		r, err := l.await(context.Background(), time.Now().Add(callTime))
		if err != nil {
			return err
		}
		signal = 0
		switch {
		case r.event == 0 && r.signal == unix.SIGTRAP|0x80:
			l.opt.step(s)
			return nil
		case r.event == unix.PTRACE_EVENT_STOP: // job control has stopped the process; we go on
		case r.event == 0 && r.signal == unix.SIGSTOP:
			signal = r.signal // it can't be blocked; let it do what it does
		default:
			// All signals wait, so the code at hand did something wrong. The
			// signal is ours, not the program's.
			return l.lost(fmt.Sprintf("signal %d, event %d", r.signal, r.event))
		}
	}
	return l.lost("it is stopped again and again")
}

// await waits for the thread to stop.
func (l *Loan) await(ctx context.Context, deadline time.Time) (report, error) {
	t := &l.thread
	t.state = running
	var p pace
	for {
		r, err := ask(l.target.PID, t.tid)
		if err != nil || r.exited {
			t.state = gone
			return report{}, ended(l.target.PID, "")
		}
		if r.stopped {
			t.state = halted
			return r, nil
		}
		now := time.Now()
		if now.After(deadline) {
			return report{}, unstopped(l.target.PID, []int{t.tid})
		}
		if ctx.Err() != nil {
			return report{}, ctx.Err()
		}
		if p.wait(now) > slow && now.Sub(t.checked) > lookUp {
			t.checked = now
			if l.session.lost(l.target.PID, t.tid) {
				t.state = gone
				return report{}, ended(l.target.PID, "")
			}
			if waitsForChild(l.target.PID, t.tid) {
				return report{}, unstopped(l.target.PID, []int{t.tid})
			}
		}
	}
}

// rest waits until the thread has done what it was told by PTRACE_INTERRUPT. On
// the way it may bring signals, which it then takes.
func (l *Loan) rest(ctx context.Context) error {
	t := &l.thread
	deadline := time.Now().Add(l.opt.Grace)
	for range 64 {
		r, err := l.await(ctx, deadline)
		if err != nil {
			return err
		}
		t.halt(r)
		if r.event == unix.PTRACE_EVENT_STOP {
			return nil
		}
		signal := t.signal
		if r.signal == unix.SIGTRAP|0x80 {
			signal = 0
		}
		if err := request(unix.PTRACE_CONT, t.tid, 0, uintptr(signal)); err != nil {
			return ended(l.target.PID, "")
		}
		t.signal = 0
	}
	return unsuitable(t.tid, "it has signals without end")
}

// reinstate puts the thread back to where it was: in the kind of stop that it
// was in, so that the kernel goes on with its interrupted call as it would
// have.
func (l *Loan) reinstate() error {
	t := &l.thread
	switch t.state {
	case gone:
		return ended(l.target.PID, "")
	case running:
		return l.lost("the thread is not held; it heals itself")
	}
	if err := request(unix.PTRACE_INTERRUPT, t.tid, 0, 0); err != nil {
		return ended(l.target.PID, "")
	}
	l.opt.step(Recalled)
	if err := request(unix.PTRACE_CONT, t.tid, 0, 0); err != nil {
		return ended(l.target.PID, "")
	}
	if err := l.rest(context.Background()); err != nil {
		return err
	}
	l.opt.step(Resting)
	return l.restore()
}

// restore gives the thread what it had. The mask comes before the registers,
// see call.
func (l *Loan) restore() error {
	t := &l.thread
	if err := setSigmask(t.tid, l.mask); err != nil {
		return ended(l.target.PID, "")
	}
	l.opt.step(Unmasked)
	if err := setRegs(t.tid, &t.regs); err != nil {
		return ended(l.target.PID, "")
	}
	l.healing = false
	l.opt.step(Reinstate)
	return nil
}
