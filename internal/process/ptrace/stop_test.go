// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"strconv"
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

func TestAllThreadsAreStoppedAndGoOn(t *testing.T) {
	for _, n := range []int{1, 11, 101} {
		t.Run(strconv.Itoa(n)+" threads", func(t *testing.T) {
			p := start(t, "idle", strconv.Itoa(n-1))
			for range 3 {
				s, err := ptrace.Stop(t.Context(), p.target(), patient)
				qt.Assert(t, qt.IsNil(err))
				qt.Check(t, qt.HasLen(s.Threads(), n+1)) // and the one that reads
				for _, th := range s.Threads() {
					qt.Check(t, qt.IsTrue(th.Regs.Rip != 0 && th.Regs.Rsp != 0 && !th.Worker && !th.JobStopped))
				}
				pause, err := s.Resume()
				qt.Assert(t, qt.IsNil(err))
				t.Logf("pause %v", pause)
				p.untraced()
			}
			p.finish()
		})
	}
}
