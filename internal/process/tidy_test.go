// SPDX-License-Identifier: Apache-2.0

package process

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/proc"
	"github.com/tsugi-project/tsugi/internal/testenv/need"
)

// TestWhatAKilledPatcherRaised: any work at all gives it back what it was, also
// at a process that nothing is to be done to any more.
func TestWhatAKilledPatcherRaised(t *testing.T) {
	v2, _ := patches(t)
	left, other := start(t, filepath.Join(fixtures.dir, "program")), start(t, filepath.Join(fixtures.dir, "program"))
	e := engine(t)
	pid := left.p.PID()
	lock, err := os.Create(filepath.Join(e.config.Locks, fmt.Sprintf("%d-%d", pid, left.p.ID().Start)))
	qt.Assert(t, qt.IsNil(err))
	qt.Assert(t, qt.IsNil(unix.Flock(int(lock.Fd()), unix.LOCK_EX)))
	fmt.Fprintf(lock, "%d %d\n", pid, unix.SCHED_BATCH)
	if err := unix.SchedSetAttr(pid, &unix.SchedAttr{Policy: unix.SCHED_FIFO, Priority: 1, Flags: unix.SCHED_FLAG_RESET_ON_FORK}, 0); err != nil {
		need.Allowed(t, "real-time threads: ", err)
	}
	policy := func() uint32 {
		a, err := unix.SchedGetAttr(pid, 0)
		qt.Assert(t, qt.IsNil(err))
		return a.Policy
	}
	apply := func() {
		r, err := e.Apply(t.Context(), other.p, v2, Options{})
		qt.Assert(t, qt.IsNil(err))
		qt.Check(t, qt.Equals(r.State, Applied), qt.Commentf("%v", r.Reason))
	}
	apply()
	qt.Check(t, qt.Equals(policy(), unix.SCHED_FIFO), qt.Commentf("its patcher lives"))
	lock.Close()
	apply()
	qt.Check(t, qt.Equals(policy(), unix.SCHED_BATCH))
	qt.Check(t, qt.HasLen(proc.Abandoned(e.config.Locks), 0))
}
