// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"
)

// session is an operating system thread of ours that traces. Only it can, for
// the kernel knows tracers by thread. When it ends the kernel lets go of all
// that it still traces, in whatever state that is: so it always ends, and no
// other goroutine has it afterwards.
type session struct {
	tid  int
	work chan func()
}

// niceness of the tracing thread: the target waits for it.
const niceness = -10

func newSession() *session {
	s := &session{work: make(chan func())}
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
	close(ready)
	for f := range s.work {
		f()
	}
	// Locked still: the thread ends here.
}

// do runs f in the session's thread; from there, too.
func (s *session) do(f func()) {
	if unix.Gettid() == s.tid {
		f()
		return
	}
	done := make(chan struct{})
	s.work <- func() { defer close(done); f() }
	<-done
}

// end lets the thread end, and waits for that, so that another tracer finds
// the target free.
func (s *session) end() {
	close(s.work)
	if unix.Gettid() == s.tid {
		return
	}
	for until := time.Now().Add(time.Second); time.Now().Before(until); nap(20 * time.Microsecond) {
		if unix.Tgkill(unix.Getpid(), s.tid, 0) != nil {
			return
		}
	}
}
