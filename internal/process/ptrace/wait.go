// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"context"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Waiting for stops is asking: a wait that blocks could not be ended at a
// deadline, since Go's signal handlers restart it. Threads stop within some
// microseconds, and those that are to run on our processor need us to sleep: to
// yield is not enough, since we come before them.
const (
	shortest = 3 * time.Microsecond // between two questions
	longest  = 400 * time.Microsecond
	slow     = 150 * time.Microsecond // without an answer: look for the reason
	lookUp   = time.Millisecond       // between two looks at a thread in /proc
	lookedUp = 16                     // threads per round
)

// pace waits between two rounds of questions that had no answer. It returns
// for how long there has been none.
type pace struct{ since time.Time }

func (p *pace) progress() { p.since = time.Time{} }

func (p *pace) wait(now time.Time) time.Duration {
	if p.since.IsZero() {
		p.since = now
	}
	idle := now.Sub(p.since)
	nap(min(max(idle/4, shortest), longest))
	return idle
}

// collect waits until no tracee runs.
func (s *Stopped) collect(ctx context.Context, deadline time.Time) error {
	var p pace
	for {
		left, progress := 0, false
		for _, t := range s.order {
			if t.state != running {
				continue
			}
			if err := s.look(t); err != nil {
				return err
			}
			if t.state == running {
				left++
			} else {
				progress = true
			}
		}
		if left == 0 {
			return nil
		}
		now := time.Now()
		switch {
		case progress:
			p.progress()
			continue
		case now.After(deadline):
			return unstopped(s.target.PID, s.late())
		case ctx.Err() != nil:
			return ctx.Err()
		}
		if p.wait(now) > slow {
			if err := s.lookUp(now); err != nil {
				return err
			}
		}
	}
}

// look asks whether a tracee has stopped.
func (s *Stopped) look(t *tracee) error {
	r, err := ask(s.target.PID, t.tid)
	switch {
	case err != nil, r.exited:
		t.state = gone // ECHILD: exec has made it disappear
		return nil
	case !r.stopped:
		return nil
	case r.event == unix.PTRACE_EVENT_EXEC:
		t.state, t.event = halted, r.event
		return ended(s.target.PID, "it has started another program")
	}
	t.halt(r)
	if getRegs(t.tid, &t.regs) != nil {
		t.state = gone // killed; if it lives on it is found in the list
		return nil
	}
	if s.session.keepOn(s.target.PID, t.tid, &t.regs) != nil {
		t.state = gone
	}
	return nil
}

// halt notes a stop. A signal-delivery-stop is a stop like another: the signal
// goes with the release.
func (t *tracee) halt(r report) {
	t.state, t.event, t.signal, t.job = halted, r.event, 0, false
	switch {
	case r.event == 0:
		t.signal = r.signal
	case r.event == unix.PTRACE_EVENT_STOP:
		t.job = r.signal != unix.SIGTRAP
	}
}

// lookUp looks in /proc for why threads have not stopped. A dead thread group
// leader never does while other threads live; a thread that waits for its vfork
// child does not until that starts a program, so it isn't waited for. One that
// starts a program itself waits until the dead are taken note of.
func (s *Stopped) lookUp(now time.Time) error {
	n := 0
	for _, t := range s.order {
		if now.Sub(t.checked) < lookUp {
			continue
		}
		if t.state != running { // stopped threads, too, are killed by an exec
			if t.tid != s.target.PID {
				_, _ = ask(s.target.PID, t.tid)
			}
			continue
		}
		if n++; n > lookedUp {
			return nil
		}
		t.checked = now
		if s.session.lost(s.target.PID, t.tid) {
			t.state = gone
			continue
		}
		if waitsForChild(s.target.PID, t.tid) {
			return unstopped(s.target.PID, []int{t.tid})
		}
	}
	return nil
}

// lost tells whether a thread is dead or not traced by us: one that starts a
// program takes the main thread's number.
func (s *session) lost(pid, tid int) bool {
	st, ok := proc.TaskStatus(pid, tid)
	return !ok || st.State.Ended() || st.TracerPID != s.tid
}

func waitsForChild(pid, tid int) bool {
	return makesProcess(proc.TaskCall(pid, tid).Number) && strings.Contains(wchan(pid, tid), "vfork")
}

func (s *Stopped) late() []int {
	var tids []int
	for _, t := range s.order {
		if t.state == running {
			tids = append(tids, t.tid)
		}
	}
	return tids
}
