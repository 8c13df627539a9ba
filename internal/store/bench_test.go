// SPDX-License-Identifier: Apache-2.0

package store

import (
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/testenv"
)

// BenchmarkStore is what a server does all day: with SQLite and 100,000
// machines, and with PostgreSQL and 20,000.
func BenchmarkStore(b *testing.B) {
	b.Run("sqlite", func(b *testing.B) { benchmarkAll(b, "sqlite:"+b.TempDir()+"/x.db", 100_000) })
	b.Run("postgresql", func(b *testing.B) { benchmarkAll(b, testenv.Postgres(b), 20_000) })
}

func benchmarkAll(b *testing.B, dsn string, machines int) {
	s := open(b, dsn)
	unlimited(b, s)
	ids := populate(b, s, newToken(b, s, Token{Name: "t"}), machines)
	for n := range slices.Chunk(ids, 5000) {
		rows := make([]CheckInRow, len(n))
		for i, id := range n {
			rows[i] = CheckInRow{ID: id, Facts: benchFacts(i)}
		}
		qt.Assert(b, qt.IsNil(s.SaveCheckIns(b.Context(), rows)))
	}

	// What a server reads when it starts.
	b.Run("all machines", func(b *testing.B) {
		perRow(b, len(ids), func() {
			for b.Loop() {
				n := 0
				qt.Assert(b, qt.IsNil(s.AllMachines(b.Context(), func(Machine) error { n++; return nil })))
				qt.Assert(b, qt.Equals(n, len(ids)))
			}
		})
	})
	b.Run("machine by credential", func(b *testing.B) {
		perRow(b, 1, func() {
			for b.Loop() {
				_, err := s.MachineByCredential(b.Context(), digest(fmt.Sprintf("credential of machine-%d", rand.IntN(len(ids)))))
				qt.Assert(b, qt.IsNil(err))
			}
		})
	})
	// The write-behind of unchanged check-ins.
	b.Run("touch 10000", func(b *testing.B) {
		seen := time.Now().UnixMilli()
		perRow(b, 10_000, func() {
			for b.Loop() {
				touches := make([]Touch, 10_000)
				for i, at := range rand.Perm(len(ids))[:len(touches)] {
					touches[i] = Touch{ID: ids[at], Seen: seen}
				}
				seen++
				qt.Assert(b, qt.IsNil(s.TouchMachines(b.Context(), touches)))
			}
		})
	})
	b.Run("check in 1000", func(b *testing.B) {
		perRow(b, 1000, func() {
			for n := 0; b.Loop(); n++ {
				rows := make([]CheckInRow, 1000)
				for i := range rows {
					rows[i] = CheckInRow{ID: ids[rand.IntN(len(ids))], Seen: int64(n), Facts: benchFacts(n)}
				}
				qt.Assert(b, qt.IsNil(s.SaveCheckIns(b.Context(), rows)))
			}
		})
	})
	// One machine each, 64 at the same time.
	b.Run("check in 1 of 64", func(b *testing.B) {
		together(b, func() error {
			row := CheckInRow{ID: ids[rand.IntN(len(ids))], Facts: benchFacts(rand.Int())}
			return s.SaveCheckIns(b.Context(), []CheckInRow{row})
		})
	})
	b.Run("report 1 of 64", func(b *testing.B) {
		var n atomic.Int64
		run := time.Now().UnixNano()
		body := []byte(`{"x":"` + strings.Repeat("y", 400) + `"}`)
		together(b, func() error {
			_, err := s.AddReports(b.Context(), "m", []Report{{ID: fmt.Sprint(run, n.Add(1)), Kind: "state", Body: body}})
			return err
		})
	})
}

func together(b *testing.B, write func() error) {
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	perRow(b, 1, func() {
		b.RunParallel(func(pb *testing.PB) {
			for pb.Next() {
				if err := write(); err != nil {
					b.Error(err)
				}
			}
		})
	})
}

// benchFacts are of the size that a machine with little to say has.
func benchFacts(i int) Facts {
	return Facts{
		Agent: "1.0.0", Release: "6.1.0-55-amd64", BuildID: "0123456789abcdef0123456789abcdef01234567", Arch: "x86_64",
		Patch: "debian-6.1.0-55-amd64-v3", PatchVersion: i, PatchState: "healthy", Able: true, JSON: []byte(`{"x":"` + strings.Repeat("y", 600) + `"}`),
	}
}

// perRow reports how many rows a second there were, and what each cost this
// process, which other load on the machine does not change.
func perRow(b *testing.B, rows int, run func()) {
	before := cpu()
	run()
	all := float64(rows) * float64(b.N)
	b.ReportMetric(all/b.Elapsed().Seconds(), "rows/s")
	b.ReportMetric(float64((cpu()-before).Nanoseconds())/1000/all, "cpu-µs/row")
}

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
