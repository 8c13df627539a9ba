// SPDX-License-Identifier: Apache-2.0

package server

import (
	"database/sql"
	"log/slog"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/api"
	"github.com/tsugi-project/tsugi/internal/rollout"
)

// BenchmarkRollouts is one look of the server's loop at a rollout of 100,000
// machines on SQLite: while the plan's first wave is on its way, while all
// machines are offered it, and while half of them are well with it. Beside that
// it tells how long all of them take to be offered it and to be seen well, with
// all that is written down then, and the memory of a machine in a rollout.
func BenchmarkRollouts(b *testing.B) {
	s := newRolloutBench(b)
	ctx := b.Context()
	p, r := s.begin(nil)
	once := func(b *testing.B) time.Duration {
		b.Helper()
		begun := time.Now()
		qt.Assert(b, qt.IsNil(s.rollOnce(ctx)))
		return time.Since(begun)
	}
	looks := func(name string) {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				once(b)
			}
		})
	}
	once(b)
	once(b)
	qt.Assert(b, qt.Equals(s.stands(r.ID).Health.Offered, 5)) // the first wave
	looks("first wave")

	before := heap()
	m := s.rollouts.byID(r.ID)
	qt.Assert(b, qt.IsNil(s.act(ctx, m, rollout.Action{Verb: rollout.Hurry, By: "ann", Reason: "a benchmark"})))
	for _, who := range []string{"ann", "bob"} {
		qt.Assert(b, qt.IsNil(s.act(ctx, m, rollout.Action{Verb: rollout.Approve, By: who})))
	}
	took := once(b)
	qt.Assert(b, qt.Equals(s.stands(r.ID).Health.Offered, benchMachines))
	b.Logf("%d machines were offered it in %s, %d bytes of memory each", benchMachines, took.Round(time.Millisecond), (heap()-before)/benchMachines)
	looks("all offered")

	n := 0
	s.fleet.each(func(m *member) {
		if n++; n%2 == 0 {
			m.mu.Lock()
			m.patch, m.version, m.state, m.seen = p.ID, 1, api.Healthy, s.clock().UnixMilli()
			m.mu.Unlock()
		}
	})
	took = once(b)
	s.shift.Add(int64(20 * time.Minute))
	s.fleet.each(func(m *member) {
		m.mu.Lock()
		m.seen = s.clock().UnixMilli()
		m.mu.Unlock()
	})
	took += once(b)
	qt.Assert(b, qt.Equals(s.stands(r.ID).Health.Well, benchMachines/2))
	b.Logf("%d of them were seen to be well in %s", benchMachines/2, took.Round(time.Millisecond))
	looks("half well")
}

func heap() uint64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapAlloc
}

// newRolloutBench is a site of machines of one tier and one kernel.
func newRolloutBench(b testing.TB, set ...string) *site {
	file := filepath.Join(b.TempDir(), "db")
	return siteOn(b, "sqlite:"+file, func(o *Options) {
		o.Log, o.RolloutInterval = slog.New(slog.DiscardHandler), -1
		benchMachineRows(b, "sqlite:"+file)
		db, err := sql.Open("sqlite", file)
		qt.Assert(b, qt.IsNil(err))
		defer db.Close()
		to := append([]string{"tier = 'beta'", "build_id = '" + strings.ToLower(testKernel.BuildID) + "'", "patch = ''", "patch_version = 0", "patch_state = ''"}, set...)
		for _, q := range []string{
			"UPDATE machines SET " + strings.Join(to, ", "),
			"UPDATE machine_seen SET seen = (SELECT max(seen) FROM machine_seen)",
			"DELETE FROM reports",
		} {
			_, err := db.ExecContext(b.Context(), q)
			qt.Assert(b, qt.IsNil(err))
		}
	})
}
