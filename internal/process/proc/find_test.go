// SPDX-License-Identifier: Apache-2.0

package proc

import (
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-quicktest/qt"
)

// children are the processes that a process has forked.
func children(t *testing.T, parent int) []ID {
	t.Helper()
	all, err := Scan(t.Context())
	qt.Assert(t, qt.IsNil(err))
	var ids []ID
	for _, e := range all {
		if e.Parent == parent {
			ids = append(ids, e.ID)
		}
	}
	return ids
}

func TestManyProcessesAreLookedAtQuickly(t *testing.T) {
	n, limit := 300, 30*time.Second // a busy machine
	if os.Getenv("TSUGI_TEST_LONG") != "" {
		n, limit = 4000, 4*time.Second
	}
	run := start(t, linked(t), "many", strconv.Itoa(n))
	ids := children(t, run.pid())
	qt.Assert(t, qt.HasLen(ids, n))
	want := idOf(t, library(t))
	for _, text := range []bool{false, true} {
		began := time.Now()
		found, err := Find(t.Context(), ids, func(id string) bool { return id == want }, FindOptions{Text: text})
		qt.Assert(t, qt.IsNil(err))
		took := time.Since(began)
		t.Logf("%d processes in %s (by the text of maps: %v)", n, took, text)
		qt.Check(t, qt.HasLen(found, n))
		qt.Check(t, qt.IsFalse(slices.ContainsFunc(found, func(f Finding) bool { return f.Problem != nil })))
		qt.Check(t, qt.IsTrue(took < limit), qt.Commentf("%s", took))
	}
	began := time.Now()
	_, err := List(t.Context())
	qt.Assert(t, qt.IsNil(err))
	t.Logf("all processes listed in %s", time.Since(began))
}

func TestAForkStormDisturbsNoLook(t *testing.T) {
	storm := start(t, linked(t), "storm")
	calm := start(t, linked(t))
	want := idOf(t, library(t))
	rounds := 0
	for end := time.Now().Add(500 * time.Millisecond); time.Now().Before(end); rounds++ {
		ids := append(children(t, storm.pid()), hold(t, calm.pid()).ID())
		found, err := Find(t.Context(), ids, func(id string) bool { return id == want }, FindOptions{})
		qt.Assert(t, qt.IsNil(err))
		qt.Assert(t, qt.IsTrue(slices.ContainsFunc(found, func(f Finding) bool { return f.ID.PID == calm.pid() && len(f.BuildIDs) == 1 })))
		for _, f := range found {
			qt.Assert(t, qt.IsNil(f.Problem))
		}
	}
	t.Logf("%d rounds", rounds)
}
