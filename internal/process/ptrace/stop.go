// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"context"
	"errors"
	"io/fs"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Stopped is a process of which all threads are stopped. It must be resumed.
// Its methods are for one goroutine at a time.
type Stopped struct {
	target  Target
	opt     Options
	session *session
	known   map[int]*tracee // by tid; all that was seen
	order   []*tracee
	threads []Thread
	listed  []int  // room for lists of threads
	before  []int  // and for the list before
	living  int    // a thread that had not ended before the stop
	raised  raised // the only thread
	began   time.Time
	pause   time.Duration
	over    bool
}

// tracee is one thread of the target.
type tracee struct {
	tid     int
	state   traceeState
	event   int         // PTRACE_EVENT_STOP and others; 0 in a signal-delivery-stop
	signal  unix.Signal // of a signal-delivery-stop: it is delivered later
	job     bool        // stopped by job control
	regs    unix.PtraceRegs
	checked time.Time // when its state was last looked up
}

type traceeState uint8

const (
	running traceeState = iota
	halted
	gone // dead or dying
)

// Stop stops all threads of a process. When it returns an error none is
// stopped or traced any more. It makes one try: a problem TS9605, TS9611 or
// TS9614 may be over a moment later.
func Stop(ctx context.Context, target Target, opt Options) (*Stopped, error) {
	if target.PID <= 0 || target.PID == unix.Getpid() {
		return nil, code.New("TS9612", where(target.PID), "a process can't trace itself")
	}
	s := &Stopped{target: target, opt: opt.filled(), known: map[int]*tracee{}}
	before := proc.LastPID()
	if err := s.alone(); err != nil {
		return nil, err
	}
	if s.session = s.opt.session; s.session == nil {
		s.session = newSession()
	}
	var err error
	s.session.do(func() { err = s.stop(ctx, before) })
	if err != nil {
		_, _ = s.Resume()
		return nil, err
	}
	return s, nil
}

// Threads are the stopped threads, all of the process but dead ones. The slice
// is the same for every call.
func (s *Stopped) Threads() []Thread { return s.threads }

// Poke writes to the process by PTRACE_POKEDATA, for kernels on which
// /proc/PID/mem does not override protections. It writes whole words: p may
// begin and end anywhere.
func (s *Stopped) Poke(addr uint64, p []byte) error {
	var err error
	s.session.do(func() { err = s.poke(addr, p) })
	return err
}

func (s *Stopped) poke(addr uint64, p []byte) error {
	i := slices.IndexFunc(s.order, func(t *tracee) bool { return t.state == halted })
	if i < 0 {
		return ended(s.target.PID, "no thread is left")
	}
	tid := s.order[i].tid
	for len(p) > 0 {
		at := addr &^ 7
		word, err := peek(tid, at)
		if err != nil {
			return err
		}
		n := 0
		for off := addr - at; off < 8 && n < len(p); off, n = off+1, n+1 {
			word = word&^(0xff<<(8*off)) | uint64(p[n])<<(8*off)
		}
		if err := poke(tid, at, word); err != nil {
			return err
		}
		addr, p = addr+uint64(n), p[n:]
	}
	return nil
}

// Resume lets all threads go on and ends the tracing. It returns how long the
// process was stopped: from the first order to stop to the last release. A
// second call does nothing.
func (s *Stopped) Resume() (time.Duration, error) {
	if s.over {
		return s.pause, nil
	}
	s.over = true
	s.session.do(s.release)
	if s.opt.session == nil {
		s.session.end()
	}
	return s.pause, nil
}

// release detaches what is stopped. What is not stopped the end of the session
// lets go: the thread that waits for its vfork child, the thread in a dead file
// system. One that was told to stop and may have by now is looked at before, so
// that its call goes on.
func (s *Stopped) release() {
	s.raised.lower()
	for _, t := range s.order {
		if t.state == running && !s.began.IsZero() {
			_ = s.look(t)
		}
		if t.state == halted {
			// It fails for a thread that was killed in the meantime.
			_ = request(unix.PTRACE_DETACH, t.tid, 0, uintptr(t.signal))
			t.state = gone
			s.opt.step(Released)
		}
	}
	if !s.began.IsZero() {
		s.pause = time.Since(s.began)
	}
}

func (s *Stopped) stop(ctx context.Context, before int) error {
	if err := s.seizeAll(ctx); err != nil {
		return err
	}
	s.threads = make([]Thread, 0, len(s.order)+2) // not in the stop
	asleep := false
	if len(s.order) == 1 {
		s.raised = readyToRaise(s.order[0].tid, s.opt.Note)
		asleep = s.session.beside(s.target.PID, &s.raised)
	} else {
		s.session.near(-1) // they are stopped by all processors
	}
	n := 0
	s.began = time.Now()
	for _, t := range s.order {
		if t.state == running {
			// ESRCH: it has died or is stopped in a way that look will tell.
			_ = s.session.interrupt(t.tid, &s.raised, asleep)
			s.opt.step(Interrupted)
			n++
		}
	}
	if n == 0 {
		return ended(s.target.PID, "it has no living thread")
	}
	deadline := s.began.Add(s.opt.Grace + time.Duration(n)*s.opt.PerThread)
	for {
		if err := s.collect(ctx, deadline); err != nil {
			return err
		}
		more, err := s.newcomers()
		if err != nil {
			return err
		}
		if !more {
			break
		}
		if time.Now().After(deadline) {
			return unstopped(s.target.PID, s.late())
		}
	}
	if err := s.nobodyElse(before); err != nil {
		return err
	}
	if !s.report() {
		return ended(s.target.PID, "it ended while it was stopped")
	}
	s.opt.step(Halted)
	return nil
}

// newcomers seizes what has come since the last list: threads that were born
// of a thread before that was traced. It tells whether there are any, or may be:
// of one that is dead when its turn comes, and behind one that died while the
// kernel was listing them, which ends the list. Those that are stopped don't die;
// of a list with others it is known that none did when the next one is the same.
func (s *Stopped) newcomers() (bool, error) {
	s.before = append(s.before[:0], s.listed...)
	var err error
	if s.listed, err = proc.Tasks(s.target.PID, s.listed[:0]); err != nil {
		return false, s.missing(err)
	}
	more, whole := false, true
	for _, tid := range s.listed {
		before := s.known[tid]
		if before != nil && before.state != gone {
			continue
		}
		t, err := s.seize(tid)
		if err != nil {
			return false, err
		}
		if t != nil {
			_ = request(unix.PTRACE_INTERRUPT, tid, 0, 0)
		}
		more = more || t != nil || before == nil && s.known[tid] != nil
		whole = whole && tid == s.target.PID // the first stays in the list, dead or not
	}
	return more || !whole && !slices.Equal(s.before, s.listed), nil
}

// report fills the list of threads.
func (s *Stopped) report() bool {
	for _, t := range s.order {
		if t.state != halted {
			continue
		}
		s.threads = append(s.threads, Thread{
			TID: t.tid, Regs: t.regs, Syscall: inSyscall(&t.regs), JobStopped: t.job, Signal: t.signal,
			Worker: t.regs.Rip == 0 && t.regs.Rsp == 0,
		})
	}
	slices.SortFunc(s.threads, func(a, b Thread) int { return a.TID - b.TID })
	return slices.ContainsFunc(s.threads, func(t Thread) bool { return !t.Worker })
}

// missing is the problem when the list of threads can't be read.
func (s *Stopped) missing(err error) error {
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return ended(s.target.PID, "")
	}
	return code.New("TS9612", where(s.target.PID), "").With(err)
}
