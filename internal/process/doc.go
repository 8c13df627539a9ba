// SPDX-License-Identifier: Apache-2.0

// Package process puts userland live patches into running processes, takes them
// out again, and heals what a patcher left behind that was killed meanwhile.
//
// # What is in a process
//
// For each object that is patched (an ELF file as the process has it mapped) a
// patch brings an area of its own, within 2 GiB of the object: R-- pages with
// the journal and constants, R-X pages with the new code, RW- pages with new
// data, and a page without any right on either side. Then a jump of five bytes
// is written at the entry of each function that is replaced.
//
// The journal says which patch this is, what was at each entry, what is there
// now, and in one word how far the writing has come. It is complete before the
// first jump is written, so that a patcher may be killed at any instruction:
// the process runs on, and whoever comes next brings it to the one or the other
// end. It is also all the memory that this package has of a process. A child of
// fork(2) inherits area, journal and jumps, and is a process like any other.
//
// # How
//
// Everything is prepared while the process runs: symbols are looked up, the
// bytes of the functions compared with those that the patch was made for, a
// place is found, the new code written. Then all threads are stopped, once:
// what was prepared must still be as it was, no thread may be in code that is
// replaced, the jumps are written and read back. A thread that is in the way
// means to let all run on, and to try again a moment later; the share of time
// that the process is stopped is bounded.
//
// Only a process's memory is read; no file of it is opened.
//
// # What stays
//
// An area that a jump has ever led to is never unmapped. Threads may still be
// in its code, contexts saved by setjmp(3) (glibc mangles them) may lead there,
// and pointers to its constants may lie anywhere: that nothing of the kind is
// left can't be proven from outside. The same patch takes up its old area when
// it comes again, so that what stays is bounded by the number of different
// patches. An area that no jump has led to is given back, but for those rare
// ones of which it is not known whether a thread will yet do so.
//
// # What a process may forge
//
// A process can write whatever it likes into its own memory, a journal too.
// Everything in a journal is checked; an entry must lie in the code of the
// object that it names, what is there must be what the journal says, and the
// whole function with the recorded bytes put back must have the recorded
// digest. So the worst that a forged journal brings about is what the process
// could have done to itself.
package process
