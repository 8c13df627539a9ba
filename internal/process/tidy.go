// SPDX-License-Identifier: Apache-2.0

package process

import (
	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

// What a killed patcher leaves in a process is told by the journal there, and
// healed when the process is looked at. What it leaves in the kernel, a thread's
// scheduling, is told by the lock that it held.

// tidy goes to all that died with a lock, also where nothing is to be done now.
func (e *Engine) tidy() {
	for _, id := range proc.Abandoned(e.config.Locks) {
		if lock, err := proc.TakeLock(e.config.Locks, id); err == nil { // else somebody is at work
			e.lower(ptrace.Target{PID: id.PID, Start: id.Start}, lock)
			_ = lock.Release()
		}
	}
}

// lower gives a thread back the scheduling that the last holder of a lock noted.
// A note that says nothing that can be done is forgotten with the lock.
func (e *Engine) lower(target ptrace.Target, lock *proc.Lock) {
	if left := lock.Left(); left != "" {
		_ = ptrace.Lower(target, left)
	}
}
