// SPDX-License-Identifier: Apache-2.0

// Package ptrace stops the threads of a running process and makes system calls
// in one of them, and leaves the process as it was whatever becomes of the
// tracer: a tracer that is killed at any instruction leaves a process that runs
// and computes what it would have computed.
//
// [Stop] stops all threads; [Borrow] stops one and makes system calls in it
// while the others run. Each has an operating system thread for itself, which
// ends when anything is left to be let go: the kernel does it then. One that
// traces nothing any more may serve again, see [Tracers].
// Nothing is waited for without a deadline, and what is not possible now is
// told as a problem: TS9611 to TS9619, and what package proc has a code for.
//
// What happens follows ptrace(2) and the kernel's kernel/ptrace.c,
// kernel/signal.c and arch/x86/kernel/signal_64.c. It is for x86-64.
package ptrace

import (
	"io"
	"time"

	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// Target is the process that is meant.
type Target struct {
	PID int
	// Start is field 22 of /proc/PID/stat. It tells the process from a later
	// one of the same number; 0 is not compared.
	Start uint64
}

// Options are for [Stop] and [Borrow]. The zero value has the defaults.
type Options struct {
	// Grace and PerThread bound a stop: Grace + PerThread × threads. The
	// defaults are 20 ms and 50 µs.
	Grace     time.Duration
	PerThread time.Duration
	// Hook is told each step before the next one is taken. It is for tests of
	// what a tracer that dies there leaves behind.
	Hook func(Step)
	// Note keeps a few words where the next tracer of the process finds them, for
	// [Lower], also when this one is killed. Without it threads are stopped as the
	// scheduler finds time for it.
	Note func(string) error

	// session is the thread that Tracers.Do has given, nil for one of its own.
	session *session
	hints   *hints
}

const (
	defaultGrace     = 20 * time.Millisecond
	defaultPerThread = 50 * time.Microsecond
)

func (o Options) filled() Options {
	if o.Grace <= 0 {
		o.Grace = defaultGrace
	}
	if o.PerThread <= 0 {
		o.PerThread = defaultPerThread
	}
	return o
}

func (o Options) search(mem io.ReaderAt, maps []proc.Mapping) gadgets {
	if o.hints != nil {
		return o.hints.search(mem, maps)
	}
	return search(mem, maps)
}

func (o Options) step(s Step) {
	if o.Hook != nil {
		o.Hook(s)
	}
}

// Step is a point between two calls to the kernel.
type Step string

// The steps of a stop, and those of making a system call.
const (
	Seized      Step = "seized"      // a thread is traced and runs
	Interrupted Step = "interrupted" // a thread has been told to stop
	Halted      Step = "halted"      // all threads that shall be are stopped
	Released    Step = "released"    // a thread goes on, not traced any more

	Framed    Step = "framed"    // what heals the thread lies below its stack
	Aimed     Step = "aimed"     // its registers lead to the system call
	Masked    Step = "masked"    // its signals wait
	Chained   Step = "chained"   // it makes several calls, one after the other
	Entered   Step = "entered"   // it is about to make the call
	Left      Step = "left"      // the call is made
	Recalled  Step = "recalled"  // it has been told to stop behind the call
	Resting   Step = "resting"   // it is in the kind of stop that it was in before
	Unmasked  Step = "unmasked"  // it has its own signal mask again
	Reinstate Step = "reinstate" // it has its own registers again
)

// Thread is one stopped thread.
type Thread struct {
	TID int
	// Regs are its registers. Where it was in a system call that the stop has
	// interrupted, Rax is one of the kernel's own numbers (-512, -513, -514,
	// -516): the call goes on when the thread does.
	Regs unix.PtraceRegs
	// Syscall is the number of the system call that it is in, or -1.
	Syscall int
	// JobStopped tells that it was stopped already (SIGSTOP), and stays so.
	JobStopped bool
	// Signal is delivered to it when it goes on; 0 for none.
	Signal unix.Signal
	// Worker tells that it is the kernel's (vhost, or io_uring and without a name
	// yet): it runs no user code and has no user stack.
	Worker bool
}
