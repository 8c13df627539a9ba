// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"os"
	"os/exec"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestNobodySharesByChance: of many processes of one program, and of one that
// asks itself, none is told to share its memory.
func TestNobodySharesByChance(t *testing.T) {
	pids := []int{os.Getpid()}
	for range 20 {
		c := exec.Command("sleep", "600")
		qt.Assert(t, qt.IsNil(c.Start()))
		defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
		pids = append(pids, c.Process.Pid)
	}
	with := map[int][]int{}
	sharing(append(pids, 1<<22), with)
	qt.Check(t, qt.HasLen(with, 0))
	sharing([]int{pids[1], pids[2], pids[0], pids[1]}, with) // as two of one memory are
	qt.Check(t, qt.DeepEquals(with, map[int][]int{pids[1]: {pids[1], pids[1]}}))
}

func BenchmarkLookAtAll(b *testing.B) {
	for b.Loop() {
		look()
	}
}
