// SPDX-License-Identifier: Apache-2.0

// Package stack tells whether a stopped thread is in a function, or will
// return to it.
//
// What goes in is prepared while the process runs: where its ELF files lie with
// their unwind tables (Layout), and the functions that must be free (Function).
// While it is stopped, Checker.Check takes the registers of one thread and reads
// its stack. It calls nothing but the reader that it is given, never ptrace,
// and may run on any goroutine: memory of a process can be such that a read
// hangs until other threads of it run, so whoever calls it while the process is
// stopped must be able to let the process go before Check has returned.
//
// Three things are looked at, the cheap ones first:
//
//  1. No word of a thread's own stack, from the stack pointer to its known end,
//     points into a function: no frame can return there. This needs the whole
//     stack, and that no signal frame is on it, which is known by what the kernel
//     writes there: the handler may run on a stack of its own, and the rest
//     lies elsewhere, be it below in the same stack.
//  2. The stack is unwound to its outermost frame by the tables, through signal
//     handlers and their alternate stacks, and no frame is in a function.
//  3. Where unwinding fails (code without tables, code made at run time, damaged
//     tables), the words of the stack decide: any that points into a function
//     makes it busy.
//
// Where none of them is possible, the answer is Unproven, and nobody may take
// it for Safe.
//
// A thread that is just changing stacks (Layout.Switches, or a register that
// leads into a function) is Unproven: where it goes on stands on neither stack.
//
// A stack that no thread runs on (a coroutine's that is suspended) is seen by
// none of these. What is suspended goes on in the old code, which stays where it
// is but for the bytes of the jump; that it never comes to them is for the
// builder to see to (userland/pack refuses the rest).
package stack

import (
	"fmt"

	"github.com/tsugi-project/tsugi/internal/code"
	"github.com/tsugi-project/tsugi/internal/unwind"
)

// JumpSize is how many bytes are written over the entry of a function.
const JumpSize = 5

// Function is a piece of code that is in the way while a thread is in it.
// Addresses are those of the process.
type Function struct {
	Name  string
	Start uint64
	End   uint64 // behind its last byte
	// Jump is where JumpSize bytes are about to be written, 0 for none: at the
	// entry, or behind its endbr64. Where there is one, a thread that is at Start
	// or at Jump is not in the function yet: it will run what is written there.
	Jump uint64
	// EntryOnly tells that threads may be in the function, and only the bytes
	// behind the first one of the jump must be free.
	EntryOnly bool
}

// Object is one executable mapping of an ELF file.
type Object struct {
	Name       string
	Start, End uint64 // addresses of the mapping
	Bias       uint64 // address in the process less virtual address in the file
	// Table is of the file's .eh_frame; nil where there is none or where it is
	// not read: what runs there is judged by the words on its stack.
	Table *unwind.Table
}

// Layout is how a process lies in memory.
type Layout struct {
	PID     int
	Objects []Object
	// MainStackEnd is the end of the mapping that is the main thread's stack
	// ([stack]), 0 when it is not known.
	MainStackEnd uint64
	// SignalReturns are addresses of signal trampolines that the tables do not
	// tell, if any are known: mov $15,%eax; syscall.
	SignalReturns []uint64
	// Switches is code that changes the stack: from behind the instruction that
	// loads the stack pointer, as swapcontext(3) does it, up to where the thread
	// runs on.
	Switches []Range
}

// Range is [Start, End).
type Range struct{ Start, End uint64 }

// Thread is a stopped thread.
type Thread struct {
	TID    int
	Regs   unwind.Regs
	FSBase uint64
	// Foreign tells that the thread does not run 64-bit code.
	Foreign bool
}

// State is what is known of a thread.
type State int

const (
	// Unproven: it could not be shown that the thread is in none of the functions.
	Unproven State = iota
	// Busy: the thread is in a function, or a word says that it may be.
	Busy
	// Safe: the thread is in none of the functions and returns to none.
	Safe
)

func (s State) String() string {
	switch s {
	case Busy:
		return "busy"
	case Safe:
		return "safe"
	}
	return "unproven"
}

// How is by what a verdict was reached.
type How string

// The ways.
const (
	ByRegisters How = "registers" // the instruction pointer itself
	ByUnwinding How = "unwinding" // a frame, or that there is none up to the outermost
	ByWords     How = "words"     // a word on the stack, or that there is none
)

// Verdict is the answer for one thread.
type Verdict struct {
	TID   int
	State State
	How   How
	// Function is the first that is in the way, when State is Busy.
	Function string
	PC       uint64 // where it was found in: an instruction or a return address
	At       uint64 // the address of the word that says so, with ByWords
	// Why is why unwinding did not do, where it did not.
	Why    error
	Frames int // that were unwound
	Bytes  int // of stack that were read
}

// Problem is why a thread is in the way; nil when it is Safe.
func (v *Verdict) Problem() *code.Problem {
	where := fmt.Sprintf("thread %d", v.TID)
	switch v.State {
	case Safe:
		return nil
	case Busy:
		why := fmt.Sprintf("%s at %#x, seen by %s", v.Function, v.PC, v.How)
		return code.New("TS9620", where, why).With(v.Why)
	}
	return code.New("TS9621", where, fmt.Sprintf("at %#x", v.PC)).With(v.Why)
}

// Options bound the work; a zero value means the default.
type Options struct {
	// First is how many bytes of a stack are read at first: 64 KiB.
	First int
	// MaxBytes is how many bytes are read for one thread: 8 MiB.
	MaxBytes int
	// MaxFrames is how many frames are unwound before the words decide: 4096.
	MaxFrames int
}

func (o *Options) defaults() {
	if o.First <= 0 {
		o.First = 64 << 10
	}
	if o.MaxBytes <= 0 {
		o.MaxBytes = 8 << 20
	}
	if o.MaxFrames <= 0 {
		o.MaxFrames = 4096
	}
	o.First = min(o.First, o.MaxBytes)
}
