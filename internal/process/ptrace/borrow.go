// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/pagemap"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Loan is one stopped thread of a process, of which the others run, that makes
// system calls. It must be returned. Its methods are for one goroutine at a
// time.
type Loan struct {
	target  Target
	opt     Options
	session *session
	own     bool // it ends with the loan
	mem     *os.File
	pages   *pagemap.File
	maps    []proc.Mapping
	code    gadgets

	thread  tracee
	mask    uint64 // its signal mask
	seccomp int    // mode
	suspend bool   // filters do not run while we trace
	filters [][]instruction
	at      uint64 // of the frame
	fpAt    uint64 // of the vector registers in it
	healing bool   // its registers lead over the frame
	spent   bool   // it has gone on since the frame was written
	raised  raised // it, while it is ours
	began   time.Time
	pause   time.Duration
	over    bool
}

// grade tells how well a thread suits; lower is better.
type grade int

const (
	waiting    grade = iota // in a system call that is made again as it was
	computing               // in its own code
	timed                   // in a call with a timeout: a killed tracer makes it begin anew
	timedAgain              // the same, restarted before: a killed tracer makes it end with EINTR
	unfit
)

const (
	maxCandidates = 8
	maxRanked     = 64
	memoryTime    = 2 * time.Second
	pageSize      = 4096
)

// Borrow stops one thread that can make system calls. When it returns an error
// none is stopped or traced any more.
func Borrow(ctx context.Context, target Target, opt Options) (*Loan, error) {
	l, candidates, err := ready(target, opt)
	if err != nil {
		return nil, err
	}
	l.session, l.own = newSession(), true
	l.session.do(func() { err = l.choose(ctx, candidates) })
	if err != nil {
		_, _ = l.Return()
		return nil, err
	}
	return l, nil
}

// ready does all that can be done while all threads run: it gives the threads
// that may suit, in order.
func ready(target Target, opt Options) (*Loan, []int, error) {
	if target.PID <= 0 || target.PID == unix.Getpid() {
		return nil, nil, code.New("TS9612", where(target.PID), "a process can't trace itself")
	}
	l := &Loan{target: target, opt: opt.filled()}
	err := l.prepare()
	var candidates []int
	if err == nil {
		candidates, err = l.rank()
	}
	if err != nil {
		l.closeMemory()
		return nil, nil, err
	}
	return l, candidates, nil
}

// searches is how often the code is searched: a process that starts a program
// has half of its memory for a moment.
const searches = 3

// prepare reads what is needed of the process while it runs.
func (l *Loan) prepare() error {
	pid := l.target.PID
	for try := 1; ; try++ {
		list, err := proc.Tasks(pid, nil)
		if err != nil {
			return ended(pid, "")
		}
		if err := l.readMaps(list); err != nil {
			return err
		}
		if err := l.within(func() { l.code = l.opt.search(l.mem, l.maps) }); err != nil {
			return err
		}
		switch {
		case l.code.complete():
			return nil
		case try == searches:
			return code.New("TS9617", where(pid), "its programs and libraries hold no system call instruction, or no return from signals, that could be used")
		}
		nap(time.Millisecond)
	}
}

// readMaps reads what is mapped. The main thread may have ended, and with it
// its view of the memory; any other has it still.
func (l *Loan) readMaps(list []int) error {
	pid := l.target.PID
	for _, tid := range list {
		st, ok := proc.TaskStat(pid, tid)
		if !ok || st.State.Ended() {
			continue
		}
		if err := l.openMemory(tid); err != nil {
			return err
		}
		f, err := os.Open(fmt.Sprintf("/proc/%d/task/%d/maps", pid, tid))
		if err != nil {
			return ended(pid, "")
		}
		defer f.Close()
		if l.maps, err = proc.ParseMappings(f); err != nil || len(l.maps) == 0 {
			return ended(pid, "it has no memory")
		}
		return nil
	}
	return ended(pid, "it has no living thread")
}

// within runs what touches memory of the process, which may not answer: a page
// of a file whose file system is dead, or one that a program of its own hands
// out. Given up, it holds a goroutine until it is answered, and no more.
func (l *Loan) within(f func()) error {
	done := make(chan struct{})
	go func() { defer close(done); f() }()
	select {
	case <-done:
		return nil
	case <-time.After(memoryTime):
		return code.New("TS9619", where(l.target.PID), "")
	}
}

// try stops one thread and looks whether it suits.
func (l *Loan) try(ctx context.Context, tid int) (grade, error) {
	pid := l.target.PID
	ok, problem := l.session.seize(pid, tid, unix.PTRACE_O_TRACESYSGOOD)
	switch {
	case problem != nil:
		return unfit, problem
	case !ok:
		return unfit, ended(pid, "thread "+fmt.Sprint(tid)+" is dead")
	}
	l.thread = tracee{tid: tid}
	l.opt.step(Seized)
	st, ok := proc.TaskStat(pid, tid)
	if !ok {
		return unfit, ended(pid, "thread "+fmt.Sprint(tid)+" is dead")
	} else if main, ok := proc.TaskStat(pid, pid); l.target.Start != 0 && (!ok || main.Start != l.target.Start) {
		return unfit, ended(pid, "its number is another process's now")
	} else if st.State.Ended() || st.Killed {
		return unfit, ended(pid, "thread "+fmt.Sprint(tid)+" is dead or dying")
	}
	l.raised = readyToRaise(tid, l.opt.Note)
	asleep := l.session.beside(pid, &l.raised)
	if l.began.IsZero() {
		l.began = time.Now()
	}
	if err := l.session.interrupt(tid, &l.raised, asleep); err != nil {
		return unfit, ended(pid, "")
	}
	l.opt.step(Interrupted)
	if err := l.rest(ctx); err != nil {
		return unfit, err
	}
	l.opt.step(Halted)
	l.raised.rise()
	return l.judge()
}

// judge says how well the stopped thread suits.
func (l *Loan) judge() (grade, error) {
	t := &l.thread
	r := &t.regs
	if err := getRegs(t.tid, r); err != nil {
		return unfit, ended(l.target.PID, "")
	}
	if err := l.session.keepOn(l.target.PID, t.tid, r); err != nil {
		return unfit, ended(l.target.PID, "")
	}
	switch {
	case r.Cs != userCodeSelect:
		return unfit, code.New("TS9617", where(l.target.PID), "it is a 32-bit program")
	case r.Rip == 0 && r.Rsp == 0:
		return unfit, unsuitable(t.tid, "it is the kernel's own")
	case dispatchOn(t.tid):
		return unfit, unsuitable(t.tid, "it handles its system calls itself")
	case !room(l.maps, r.Rsp, r.Fs_base, maxFrame, t.tid == l.target.PID):
		return unfit, unsuitable(t.tid, "there is no room on its stack, or it runs on a stack of its own making")
	case l.pages.Guards(r.Rsp-maxFrame, maxFrame):
		return unfit, unsuitable(t.tid, "there is a guard close below on its stack")
	}
	if err := l.notNested(stackEnd(l.maps, r.Rsp, r.Fs_base)); err != nil {
		return unfit, err
	}
	switch nr := inSyscall(r); {
	case nr >= 0 && int64(r.Rax) == restartBlock && nr == sysRestart:
		return timedAgain, nil
	case nr >= 0 && int64(r.Rax) == restartBlock:
		return timed, nil
	case wouldRestart(r):
		return waiting, nil
	}
	return computing, l.notRestartable()
}

// maxFrame is the room that the frame takes at most, with 11 KiB of XSAVE area.
const maxFrame = 16 << 10

// Return lets the thread go on exactly as it would have, and ends the tracing.
// It returns for how long the thread was kept. A second call does nothing.
func (l *Loan) Return() (time.Duration, error) {
	if l.over {
		return l.pause, nil
	}
	l.over = true
	var err error
	if l.session != nil {
		l.session.do(func() {
			if l.healing {
				err = l.reinstate()
			}
			l.letGo()
			if !l.began.IsZero() {
				l.pause = time.Since(l.began)
			}
		})
		if l.own {
			l.session.end()
		}
	}
	l.closeMemory()
	return l.pause, err
}

// letGo detaches the thread. Where it can't, because the thread runs, the end
// of the session does, and the thread heals itself.
func (l *Loan) letGo() {
	t := &l.thread
	l.raised.lower()
	if t.tid != 0 && t.state == halted && !l.healing {
		_ = request(unix.PTRACE_DETACH, t.tid, 0, uintptr(t.signal))
		l.opt.step(Released)
		*t = tracee{}
	}
}

// openMemory opens the memory that the process has now; after an exec it is
// another.
func (l *Loan) openMemory(tid int) error {
	l.closeMemory()
	var err error
	l.pages, _ = pagemap.Open(l.target.PID, tid) // nil where the kernel has none
	if l.mem, err = proc.TaskMemory(l.target.PID, tid); err != nil {
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			return ended(l.target.PID, "")
		}
		return code.New("TS9612", where(l.target.PID), "").With(err)
	}
	return nil
}

func (l *Loan) closeMemory() {
	if l.mem != nil {
		_ = l.mem.Close()
	}
	l.pages.Close()
	l.mem, l.pages = nil, nil
}
