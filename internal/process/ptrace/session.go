// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// session is an operating system thread of ours that traces. Only it can, for
// the kernel knows tracers by thread. When it ends the kernel lets go of all
// that it still traces, in whatever state that is: so it ends as soon as
// something may be left, and no other goroutine has it afterwards. One that
// traces nothing may serve again, see [Tracers].
type session struct {
	tid    int
	work   chan func()
	xstate []byte        // room for a thread's vector registers
	filter []instruction // room for one of a thread's filters
	all    unix.CPUSet   // the processors that it may run on
	cpu    int           // the one that it is on, -1 for any
	early  atomic.Uint64 // a thread that is real-time and not told to stop yet, and its policy
	guard  *time.Timer
}

// niceness of the tracing thread: the target waits for it.
const niceness = -20

func newSession() *session {
	s := &session{cpu: -1, work: make(chan func()), xstate: make([]byte, maxXstate), filter: make([]instruction, maxFilter)}
	s.guard = time.AfterFunc(time.Hour, s.giveBack)
	s.guard.Stop()
	ready := make(chan struct{})
	go s.loop(ready)
	<-ready
	return s
}

func (s *session) loop(ready chan struct{}) {
	runtime.LockOSThread()
	if unix.Gettid() == unix.Getpid() {
		// The main thread can't end before the program. It stays ours until
		// another goroutine has got another thread.
		go s.loop(ready)
		<-ready
		runtime.UnlockOSThread()
		return
	}
	s.tid = unix.Gettid()
	_ = unix.Setpriority(unix.PRIO_PROCESS, s.tid, niceness) // no matter when not allowed
	_ = unix.Prctl(unix.PR_SET_TIMERSLACK, 1, 0, 0, 0)       // naps are as short as they say
	_ = unix.SchedGetaffinity(0, &s.all)                     // without it there is no processor to move to
	quiet()
	close(ready)
	for f := range s.work {
		f()
	}
	// Locked still: the thread ends here.
}

// here tells whether the caller runs in the session's thread.
func (s *session) here() bool {
	tid, _, _ := unix.RawSyscall(unix.SYS_GETTID, 0, 0, 0)
	return int(tid) == s.tid
}

// do runs f in the session's thread; from there, too.
func (s *session) do(f func()) {
	if s.here() {
		f()
		return
	}
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

// idle tells whether the kernel knows of nothing that this thread traces, nor
// of any child of it. It is asked in the session's thread.
func (s *session) idle() bool {
	var info [128]byte
	const anything = unix.WEXITED | unix.WSTOPPED | unix.WALL | unix.WNOTHREAD | unix.WNOHANG | unix.WNOWAIT
	_, _, no := unix.RawSyscall6(unix.SYS_WAITID, unix.P_ALL, 0, uintptr(unsafe.Pointer(&info)), anything, 0, 0)
	return no == unix.ECHILD
}

// end lets the thread end, and waits for that, so that another tracer finds
// the target free.
func (s *session) end() {
	close(s.work)
	if s.here() {
		return
	}
	for until := time.Now().Add(time.Second); time.Now().Before(until); nap(20 * time.Microsecond) {
		if unix.Tgkill(unix.Getpid(), s.tid, 0) != nil {
			return
		}
	}
}

// Tracers are threads that trace, kept from one process to the next: to make
// one takes longer than a process is stopped. Only one that the kernel says to
// trace nothing is kept. The zero value is ready. It must be closed.
type Tracers struct {
	mu     sync.Mutex
	free   []*session
	closed bool
	hints  hints
	lanes  chan struct{} // one for each thread that may trace now
}

// Close ends the threads that are kept. Those in use end after it.
func (t *Tracers) Close() {
	t.mu.Lock()
	free := t.free
	t.free, t.closed = nil, true
	t.mu.Unlock()
	for _, s := range free {
		s.end()
	}
}

// Do calls f in a thread that traces, with options that make [Stop] and
// [Borrow] work in that thread: nothing is handed over from the first order to
// stop to the last release. What f stops it must let go. A process that does
// not answer must not be waited for in f without a limit.
func (t *Tracers) Do(opt Options, f func(Options)) {
	defer t.turn()()
	s := t.take()
	idle := false
	s.do(func() {
		opt.session, opt.hints = s, &t.hints
		f(opt)
		idle = s.idle()
	})
	t.give(s, idle)
}

// Borrow runs f with a thread of a process that makes system calls, and returns
// it. Like [Borrow], but all from the first order to stop to the end happens in
// a thread that is kept. It returns for how long the thread was, and the first
// errors.
func (t *Tracers) Borrow(ctx context.Context, target Target, opt Options, f func(*Loan) error) (time.Duration, error) {
	opt.hints = &t.hints
	l, candidates, err := ready(target, opt)
	if err != nil {
		return 0, err
	}
	var pause time.Duration
	t.Do(opt, func(opt Options) {
		l.session = opt.session
		if err = l.choose(ctx, candidates); err == nil {
			err = f(l)
		}
		var returned error
		pause, returned = l.Return()
		err = errors.Join(err, returned)
	})
	return pause, err
}

// longTurn is for how long one waits for another's turn to end. The usual is a
// hundredth of it: only a process that does not answer takes so long, and it
// must not hold up the others.
const longTurn = 100 * time.Millisecond

// turn waits for one: half of the processors stay for the processes that are
// stopped, and for those who prepare others. More stops at a time would only
// make each of them longer.
func (t *Tracers) turn() (over func()) {
	t.mu.Lock()
	if t.lanes == nil {
		t.lanes = make(chan struct{}, max(1, runtime.GOMAXPROCS(0)/2))
	}
	t.mu.Unlock()
	timer := time.NewTimer(longTurn)
	defer timer.Stop()
	select {
	case t.lanes <- struct{}{}:
		return func() { <-t.lanes }
	case <-timer.C:
		return func() {}
	}
}

func (t *Tracers) take() *session {
	t.mu.Lock()
	defer t.mu.Unlock()
	if n := len(t.free); n > 0 {
		s := t.free[n-1]
		t.free = t.free[:n-1]
		return s
	}
	return newSession()
}

func (t *Tracers) give(s *session, idle bool) {
	t.mu.Lock()
	if idle && !t.closed {
		t.free = append(t.free, s)
		s = nil
	}
	t.mu.Unlock()
	if s != nil {
		s.end()
	}
}
