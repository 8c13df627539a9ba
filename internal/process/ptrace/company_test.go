// SPDX-License-Identifier: Apache-2.0

package ptrace

import (
	"os"
	"os/exec"
	"slices"
	"testing"

	"github.com/go-quicktest/qt"
)

// TestNobodySharesByChance: of many processes of one program, and of one that
// asks itself, none is told to share its memory.
func TestNobodySharesByChance(t *testing.T) {
	pids := []member{{os.Getpid(), os.Getpid()}}
	for range 20 {
		c := exec.Command("sleep", "600")
		qt.Assert(t, qt.IsNil(c.Start()))
		defer func() { _ = c.Process.Kill(); _ = c.Wait() }()
		pids = append(pids, member{c.Process.Pid, c.Process.Pid})
	}
	with := map[int][]int{}
	sharing(append(slices.Clone(pids), member{1 << 22, 1 << 22}), with)
	qt.Check(t, qt.HasLen(with, 0))
	one := pids[1].pid
	sharing([]member{pids[1], pids[2], pids[0], pids[1]}, with) // as two of one memory are
	qt.Check(t, qt.DeepEquals(with, map[int][]int{one: {one, one}}))
}

func TestNumbersBeginAnew(t *testing.T) {
	for _, c := range []struct {
		pid, before, after int
		want               bool
	}{
		{10, 9, 10, true},
		{9, 9, 10, false},
		{11, 9, 10, false},
		{5, 9, 9, false},
		{32000, 31999, 400, true},
		{400, 31999, 400, true},
		{401, 31999, 400, false},
		{31999, 31999, 400, false},
		{1, 0, 400, true}, // the last number before is not known
	} {
		qt.Check(t, qt.Equals(born(c.pid, c.before, c.after), c.want), qt.Commentf("%+v", c))
	}
}

func BenchmarkLookAtAll(b *testing.B) {
	for b.Loop() {
		look()
	}
}
