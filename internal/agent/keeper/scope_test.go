// SPDX-License-Identifier: Apache-2.0

package keeper

import (
	"testing"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/proc"
)

// TestScope: what is applied to some processes grows, and nothing narrows what is
// for all.
func TestScope(t *testing.T) {
	t.Parallel()
	a, b := proc.ID{PID: 1, Start: 10}, proc.ID{PID: 2, Start: 20}
	p := Patch{ID: "x-v1"}
	qt.Check(t, qt.DeepEquals(scope(nil, p, []proc.ID{a}), []proc.ID{a}))
	qt.Check(t, qt.DeepEquals(scope([]Patch{{ID: "x-v1", Only: []proc.ID{a}}}, p, []proc.ID{b, a}), []proc.ID{b, a}))
	qt.Check(t, qt.DeepEquals(scope([]Patch{{ID: "x-v1", Only: []proc.ID{a}}}, p, []proc.ID{b}), []proc.ID{b, a}))
	qt.Check(t, qt.HasLen(scope([]Patch{{ID: "x-v1"}}, p, []proc.ID{b}), 0))
	qt.Check(t, qt.DeepEquals(scope([]Patch{{ID: "x-v1", Out: true}}, p, []proc.ID{b}), []proc.ID{b}))
}

// TestAWantCovers: another process of the same number is not meant.
func TestAWantCovers(t *testing.T) {
	t.Parallel()
	a, later := proc.ID{PID: 1, Start: 10}, proc.ID{PID: 1, Start: 11}
	qt.Check(t, qt.IsTrue(Want{}.covers(a)))
	qt.Check(t, qt.IsTrue(Want{Only: []proc.ID{a}}.covers(a)))
	qt.Check(t, qt.IsFalse(Want{Only: []proc.ID{a}}.covers(later)))
	qt.Check(t, qt.IsFalse(Want{Except: []proc.ID{a}}.covers(a)))
	qt.Check(t, qt.IsTrue(Want{Except: []proc.ID{a}}.covers(later)))
}

// TestCountsAreOfProcesses: one that maps two files counts once, by what is worst.
func TestCountsAreOfProcesses(t *testing.T) {
	t.Parallel()
	k := New(t.TempDir(), nil)
	r := k.sum(&Report{Processes: []Process{
		{PID: 1, Patch: "x-v1", File: "libssl.so.3", Standing: Protected, PauseUS: 5},
		{PID: 1, Patch: "x-v1", File: "libcrypto.so.3", Standing: Pending, PauseUS: 5},
		{PID: 2, Patch: "x-v1", File: "libcrypto.so.3", Standing: Protected},
	}}, k.now())
	qt.Check(t, qt.DeepEquals(r.Counts, map[Standing]int{Protected: 1, Pending: 1}))
	qt.Check(t, qt.Equals(r.Pauses.Processes, 1))
	qt.Check(t, qt.IsFalse(r.Whole()))
}
