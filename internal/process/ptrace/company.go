// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// A process that shares its memory and is neither child nor parent: a clone with
// CLONE_PARENT, or one whose parent in between has ended. It is found by where its
// program's code and stack lie, which is chosen at random for each execve and is
// the same for the same memory; kcmp(2) says which of these, those that fork(2)
// has made too, share it. What was born after that look is compared one by one.

// company is which processes of this system share their memory.
type company struct {
	mu   sync.Mutex
	at   time.Time     // of the look
	last int           // proc.LastPID before it
	with map[int][]int // the process's number, and all of the same memory
}

// everybody is the same for all who stop processes here. Measured with 4,000
// processes: a look takes 65 ms where each has been started, 145 ms where all were
// forked by one, which are compared with each other.
var everybody company

const (
	companyAge = 10 * time.Second
	// maxSince is how many that were born since are compared for one process; for
	// more it is looked at all again.
	maxSince = 256
)

// other finds who else uses the memory of a thread of a process; 0 for nobody.
func (c *company) other(pid, tid int) int {
	with, last, now := c.of(pid)
	for _, other := range with {
		if other != pid && shares(tid, other) {
			return other
		}
	}
	for n := last + 1; n <= now; n++ {
		if n == pid || !sameMemory(tid, n) {
			continue
		}
		if _, own := proc.TaskStat(pid, n); !own {
			return n
		}
	}
	return 0
}

// of gives those that had the same memory as a process at the last look, and the
// numbers that were given last before that and now.
func (c *company) of(pid int) (with []int, last, now int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	now = proc.LastPID()
	if c.at.IsZero() || time.Since(c.at) > companyAge || now < c.last || now-c.last > maxSince {
		c.at, c.last = time.Now(), now
		c.with = look()
		now = proc.LastPID()
	}
	return c.with[pid], c.last, now
}

// look compares all processes that there are.
func look() map[int][]int {
	with := map[int][]int{}
	all, _ := proc.Scan(context.Background()) // it waits for nobody
	type place struct{ code, stack uint64 }
	families := map[place][]member{}
	for _, p := range all {
		// Without memory, or where we may not look, there is no such place.
		if p.Stack != 0 {
			at := place{p.Code, p.Stack}
			families[at] = append(families[at], member{p.PID, p.Thread})
		}
	}
	for _, some := range families {
		if len(some) > 1 {
			sharing(some, with)
		}
	}
	return with
}

// member is a process and a thread of it that has its memory.
type member struct{ pid, tid int }

// shares tells whether a process has the memory of a thread, by whichever of its
// threads lives.
func shares(tid, pid int) bool {
	if sameMemory(tid, pid) {
		return true
	}
	living := proc.Living(pid)
	return living != 0 && living != pid && sameMemory(tid, living)
}

// sharing notes which of some processes share their memory. The kernel tells of
// each two an order, always the same, so that those that do come side by side.
func sharing(some []member, with map[int][]int) {
	for range 4 {
		some = slices.DeleteFunc(some, func(m member) bool { return !sameMemory(m.tid, m.tid) }) // it has ended
		all := true
		slices.SortFunc(some, func(a, b member) int {
			order, ok := compareMemory(a.tid, b.tid)
			all = all && ok
			return order
		})
		if all {
			break
		}
	}
	for from := 0; from < len(some); {
		to := from + 1
		for to < len(some) && sameMemory(some[from].tid, some[to].tid) {
			to++
		}
		if to-from > 1 {
			pids := make([]int, 0, to-from)
			for _, m := range some[from:to] {
				pids = append(pids, m.pid)
			}
			for _, pid := range pids {
				with[pid] = pids
			}
		}
		from = to
	}
}
