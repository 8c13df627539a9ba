// SPDX-License-Identifier: Apache-2.0

package rollout

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// TestTheOrderNeverChanges: rollouts are under way while servers are upgraded.
func TestTheOrderNeverChanges(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rollout, machine string
		want             uint64
	}{
		{"", "", 689861552466052133},
		{"r1", "m1", 994325431665947413},
		{"r", "1m1", 8573293542750606328},
		{"r1", "m2", 10440944740678254232},
		{"r2", "m1", 16825836681571186243},
	} {
		qt.Check(t, qt.Equals(Position(c.rollout, c.machine), c.want), qt.Commentf("%s %s", c.rollout, c.machine))
	}
}

// TestTheOrderIsAnotherForEachRollout: nobody's machines are always the first.
func TestTheOrderIsAnotherForEachRollout(t *testing.T) {
	t.Parallel()
	const fleet, rollouts = 2000, 200
	firsts := make([]int, fleet)
	for n := range rollouts {
		for i := range fleet {
			if Position(fmt.Sprintf("rollout-%d", n), fmt.Sprintf("machine-%06d", i)) < 1<<64/10 {
				firsts[i]++
			}
		}
	}
	sum := 0
	for _, n := range firsts {
		sum += n
	}
	// Each is in the first tenth in 20 of 200 rollouts, give or take 4.2.
	qt.Check(t, qt.IsTrue(sum > fleet*rollouts/10*98/100 && sum < fleet*rollouts/10*102/100), qt.Commentf("%d", sum))
	qt.Check(t, qt.IsTrue(slices.Min(firsts) > 2 && slices.Max(firsts) < 42), qt.Commentf("%d to %d", slices.Min(firsts), slices.Max(firsts)))
}

// TestTheFirstStayTheFirst: machines that come or go do not move others.
func TestTheFirstStayTheFirst(t *testing.T) {
	t.Parallel()
	p := Plan{}.Filled()
	s := New("r", &p, monday)
	f := &Facts{Silence: time.Hour}
	add := func(from, to int) {
		for i := from; i < to; i++ {
			f.Machines = append(f.Machines, Machine{ID: fmt.Sprint("m", i), Seen: monday})
		}
	}
	ids := func(n int) (all []string) {
		for _, m := range pick(s, f, monday, n) {
			all = append(all, m.Machine)
		}
		return all
	}
	add(0, 500)
	before := ids(50)
	qt.Check(t, qt.DeepEquals(ids(20), before[:20]))
	add(500, 1000)
	after := ids(1000)
	qt.Check(t, qt.DeepEquals(slices.DeleteFunc(after, func(id string) bool { return !slices.Contains(before, id) }), before))
	qt.Check(t, qt.HasLen(ids(2000), 1000))
	qt.Check(t, qt.HasLen(ids(0), 0))
}
