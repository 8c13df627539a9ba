// SPDX-License-Identifier: Apache-2.0

package scenarios

import (
	"runtime"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// floor stops processes of one thread, one after the other, as simply as it can
// be done, on a machine that does nothing else: each is told to stop, kept for a
// while by a thread that does nothing but look at the clock, and let go, and that
// twice, as one that is patched. It returns each one's longer stop: what is longer
// than that while is the machine's, a processor that stood still or ran another.
func floor(t *testing.T, ids []proc.ID, held time.Duration) []time.Duration {
	t.Helper()
	stopped := make(chan []time.Duration)
	go func() {
		// Locked and never unlocked: the thread ends, and what it would still trace
		// is let go.
		runtime.LockOSThread()
		var all []time.Duration
		defer func() { stopped <- all }()
		_ = unix.Setpriority(unix.PRIO_PROCESS, 0, -20)
		for _, id := range ids {
			first, ok1 := stopFor(id.PID, held)
			second, ok2 := stopFor(id.PID, held)
			if ok1 && ok2 {
				all = append(all, max(first, second))
			}
		}
	}()
	all := <-stopped
	qt.Assert(t, qt.Equals(len(all), len(ids)))
	return all
}

// stopFor stops one process for so long, and returns for how long it was.
func stopFor(pid int, held time.Duration) (time.Duration, bool) {
	request := func(req int) bool {
		_, _, no := unix.RawSyscall6(unix.SYS_PTRACE, uintptr(req), uintptr(pid), 0, 0, 0, 0)
		return no == 0
	}
	if !request(unix.PTRACE_SEIZE) {
		return 0, false
	}
	began := time.Now()
	if !request(unix.PTRACE_INTERRUPT) {
		return 0, false
	}
	if _, err := unix.Wait4(pid, nil, unix.WALL, nil); err != nil {
		return 0, false
	}
	for time.Since(began) < held {
	}
	ok := request(unix.PTRACE_DETACH)
	return time.Since(began), ok
}
