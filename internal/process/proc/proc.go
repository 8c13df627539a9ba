// SPDX-License-Identifier: Apache-2.0

// Package proc finds running processes and looks into them: which one it is,
// what it maps, which ELF files those are by build-id, what its memory holds,
// and what keeps it from being patched.
//
// # Identity
//
// A process is known by its number and the time it was started, and held by a
// pidfd and a file descriptor of its directory in /proc: both stay with the
// process when the number goes to another one. Its memory is read through file
// descriptors that stay with one program: when the process executes another,
// reads fail instead of answering for the new one.
//
// # Foreign memory may not answer
//
// A page may come from a file system that is gone (NFS, FUSE), or from a
// process that handles its own page faults and does not. Such a read sleeps in
// the kernel for as long as it likes. Everything here that can end there is
// done by a goroutine that may be given up, with a limit of time; the process
// is then known as one that does not answer, and is asked nothing more until
// it does.
//
// # Foreign bytes
//
// What a process shows of itself is its own word: every count and size is
// bounded, and a malformed ELF header means that there is no object. No file of
// the process is opened, but by [Process.Outdated].
//
// What goes wrong with a process is a *code.Problem, TS9601 to TS9609.
package proc

import (
	"context"
	"fmt"
	"os"
	"strconv"

	"github.com/tsugi-project/tsugi/internal/code"
)

// ID names one process for as long as the machine is up.
type ID struct {
	PID   int    `json:"pid"`   // as this process sees it, in its own pid namespace
	Start uint64 `json:"start"` // when it was started, in clock ticks since boot
}

func (id ID) String() string { return fmt.Sprintf("process %d", id.PID) }

// List tells all processes there are now, kernel threads left out, in the order
// of /proc. Those that end meanwhile are left out, and those that begin may be.
func List(ctx context.Context) ([]ID, error) {
	table, err := Scan(ctx)
	if err != nil {
		return nil, err
	}
	ids := make([]ID, len(table))
	for i, e := range table {
		ids[i] = e.ID
	}
	return ids, nil
}

// Entry is what /proc tells of a process without any right to look into it.
type Entry struct {
	ID
	Parent int
	Name   string // comm: up to 15 bytes that the process itself chooses
	Zombie bool   // its first thread has ended; others may run on
	// Thread is one that has not ended, as far as there is one: the first, but for
	// a look by Scan where that has. Code and Stack are where those of the program
	// lie by that thread, the same for all that share the memory; Stack is 0 where
	// that isn't told.
	Thread      int
	Code, Stack uint64
}

// Scan is List with what else a look at each process tells.
func Scan(ctx context.Context) ([]Entry, error) {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil, code.New("TS9230", "/proc", "").With(err)
	}
	defer dir.Close()
	names, err := dir.Readdirnames(-1)
	if err != nil {
		return nil, code.New("TS9230", "/proc", "").With(err)
	}
	var all []Entry
	for _, name := range names {
		pid, ok := number(name)
		if !ok {
			continue
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		s, err := statOf(pid)
		if err != nil || s.kernel() {
			continue // ended meanwhile, hidden, or not of userland
		}
		e := s.entry(pid)
		if s.over() && s.tasks > 1 {
			if tid, other, ok := living(pid); ok {
				e.Thread, e.Code, e.Stack = tid, other.image.code, other.image.stack
			}
		}
		all = append(all, e)
	}
	return all, nil
}

// Lookup is Scan for one process, which may have ended and wait for its parent.
func Lookup(pid int) (Entry, error) {
	s, err := statOf(pid)
	if err != nil {
		return Entry{}, err
	}
	return s.entry(pid), nil
}

func (s stat) entry(pid int) Entry {
	return Entry{
		ID: ID{PID: pid, Start: s.start}, Parent: s.parent, Name: s.comm, Zombie: s.dead(),
		Thread: pid, Code: s.image.code, Stack: s.image.stack,
	}
}

// number reads the name of a process's or thread's directory.
func number(name string) (int, bool) {
	if name == "" || name[0] < '1' || name[0] > '9' {
		return 0, false
	}
	n, err := strconv.ParseInt(name, 10, 32)
	return int(n), err == nil
}
