// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"testing"

	"github.com/go-quicktest/qt"
	"golang.org/x/sys/unix"

	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

func TestACallIsMadeInTheProcess(t *testing.T) {
	for _, args := range [][]string{{"single"}, {"sleep", "300"}, {"idle", "10"}, {"compute", "1"}, {"compute", "3"}, {"signals"}, {"storm", "3"}, {"forks"}, {"calls"}} {
		t.Run(args[0], func(t *testing.T) {
			p := start(t, args...)
			for range 5 {
				l, err := ptrace.Borrow(t.Context(), p.target(), patient)
				qt.Assert(t, qt.IsNil(err))
				at := p.mmap(l)
				pid, err := l.Syscall(unix.SYS_GETPID)
				qt.Check(t, qt.IsNil(err))
				qt.Check(t, qt.Equals(int(pid), p.pid()))
				_, err = l.Syscall(unix.SYS_MUNMAP, at+1, 4096)
				qt.Check(t, qt.ErrorIs(err, error(unix.EINVAL)))
				_, err = l.Syscall(unix.SYS_MUNMAP, at, 4096)
				qt.Check(t, qt.IsNil(err))
				pause, err := l.Return()
				qt.Assert(t, qt.IsNil(err))
				t.Logf("pause %v", pause)
				p.untraced()
			}
			p.finish()
		})
	}
}
