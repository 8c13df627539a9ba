// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

// TestTracersAreKept: a thread that has let all go serves again, and one that
// has not ends, with which the kernel lets go.
func TestTracersAreKept(t *testing.T) {
	p := start(t, "gap", "1")
	tracers := &ptrace.Tracers{}
	defer tracers.Close()
	stop := func(resume bool) int {
		tid := 0
		tracers.Do(patient, func(opt ptrace.Options) {
			tid = unix.Gettid()
			s, err := ptrace.Stop(t.Context(), p.target(), opt)
			if qt.Check(t, qt.IsNil(err)) && resume {
				_, err = s.Resume()
				qt.Check(t, qt.IsNil(err))
			}
		})
		return tid
	}
	// A thread that has started a program of ours, such as p, is not kept: its
	// child and what it traces look the same to it.
	first, again := 0, stop(true)
	for try := 0; first != again && try < 20; try++ {
		first, again = again, stop(true)
	}
	qt.Check(t, qt.Equals(again, first))
	qt.Check(t, qt.Not(qt.Equals(first, unix.Getpid())))
	pause, err := tracers.Borrow(t.Context(), p.target(), patient, func(l *ptrace.Loan) error {
		qt.Check(t, qt.Equals(unix.Gettid(), first))
		p.mmap(l)
		return nil
	})
	qt.Check(t, qt.IsNil(err))
	qt.Check(t, qt.IsTrue(pause > 0))
	qt.Check(t, qt.Equals(stop(false), first))
	p.untraced()
	qt.Check(t, qt.IsNotNil(unix.Tgkill(unix.Getpid(), first, 0)), qt.Commentf("a thread that traced when it was given back"))
	second := stop(true)
	tracers.Do(patient, func(ptrace.Options) { // more than there are turns
		other := make(chan struct{})
		go tracers.Do(patient, func(ptrace.Options) {
			go tracers.Do(patient, func(ptrace.Options) { close(other) })
			<-other
		})
		<-other // none waits for good for one that takes long
	})
	tracers.Close()
	qt.Check(t, qt.IsNotNil(unix.Tgkill(unix.Getpid(), second, 0)), qt.Commentf("a thread that was kept"))
	p.untraced()
	p.finish()
}
