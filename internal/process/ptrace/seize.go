// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"context"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Threads that are born from a traced thread are traced from their first
// instruction on. PTRACE_O_EXITKILL is never set.
const stopOptions = unix.PTRACE_O_TRACECLONE | unix.PTRACE_O_TRACEEXEC | unix.PTRACE_O_TRACESYSGOOD

// seizeTime bounds the seizing of a process that keeps making threads.
const seizeTime = 5 * time.Second

// seizeAll traces all threads while they run. A pass over the list that finds
// no new one is the last: every thread that could make another is traced then,
// and one that does waits for us with its child. One that is dead when its turn
// comes is new, too: it may have made another before.
func (s *Stopped) seizeAll(ctx context.Context) error {
	stop := s.unblock()
	defer stop()
	until := time.Now().Add(seizeTime)
	for {
		var err error
		if s.listed, err = proc.Tasks(s.target.PID, s.listed[:0]); err != nil {
			return s.missing(err)
		}
		more := false
		for _, tid := range s.listed {
			if s.known[tid] != nil {
				continue
			}
			t, err := s.seize(tid)
			if err != nil {
				return err
			}
			more = more || t != nil || s.known[tid] != nil
		}
		switch {
		case !more:
			return nil
		case ctx.Err() != nil:
			return ctx.Err()
		case time.Now().After(until):
			return unstopped(s.target.PID, s.listed[:min(1, len(s.listed))])
		}
	}
}

// seize traces one thread; nil where there is nothing to trace. A worker of
// io_uring is none: it runs no code of the program and makes no thread that
// does, and a stop would end the request that it waits for with EINTR, which
// the program sees.
func (s *Stopped) seize(tid int) (*tracee, error) {
	if proc.TaskWorker(s.target.PID, tid) {
		return nil, nil
	}
	ok, problem := s.session.seize(s.target.PID, tid, stopOptions)
	t := s.known[tid]
	switch {
	case problem != nil:
		return nil, problem
	case !ok && t == nil:
		s.known[tid] = &tracee{tid: tid, state: gone}
		return nil, nil
	case !ok:
		return nil, nil
	case t != nil && slices.Contains(s.order, t): // it was thought dead
		t.state = running
		return t, nil
	}
	t = &tracee{tid: tid}
	s.add(t)
	if len(s.order) == 1 && s.target.Start != 0 {
		// From here on nobody can take the number: a traced thread keeps it.
		if st, ok := proc.TaskStat(s.target.PID, s.target.PID); !ok || st.Start != s.target.Start {
			return nil, ended(s.target.PID, "its number is another process's now")
		}
	}
	s.opt.step(Seized)
	return t, nil
}

func (s *Stopped) add(t *tracee) {
	s.known[t.tid] = t
	s.order = append(s.order, t)
}

// unblock keeps an exec in the target from waiting for us while we wait for it:
// exec waits until the other threads are dead and taken note of, and seizing
// one waits for the end of exec. The dead are taken note of from a goroutine,
// as any thread of a program may. It asks and does not wait for them alone: that
// would take the stops of the living, whose tracer would never hear of them.
func (s *Stopped) unblock() (stop func()) {
	const every = 2 * time.Millisecond // mostly all is over before
	quit, done := make(chan struct{}), make(chan struct{})
	timer := time.AfterFunc(every, func() {
		defer close(done)
		for {
			list, _ := proc.Tasks(s.target.PID, nil)
			for _, tid := range list {
				if tid != s.target.PID {
					_, _ = ask(s.target.PID, tid)
				}
			}
			select {
			case <-quit:
				return
			case <-time.After(every):
			}
		}
	})
	return func() {
		if !timer.Stop() {
			close(quit)
			<-done
		}
	}
}
