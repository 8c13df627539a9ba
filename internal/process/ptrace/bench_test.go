// SPDX-License-Identifier: Apache-2.0

package ptrace_test

import (
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/go-quicktest/qt"

	"github.com/tsugi-project/tsugi/internal/process/ptrace"
)

// How long a process of so many threads is stopped, from the first order to the
// last release, and the longest gap that its own main thread saw.
func BenchmarkStop(b *testing.B) {
	for _, n := range []int{1, 11, 101, 1001} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			p := start(b, "gap", strconv.Itoa(n-1))
			var all []time.Duration
			for b.Loop() {
				s, err := ptrace.Stop(b.Context(), p.target(), patient)
				qt.Assert(b, qt.IsNil(err))
				pause, err := s.Resume()
				qt.Assert(b, qt.IsNil(err))
				all = append(all, pause)
				time.Sleep(time.Millisecond)
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs/pause")
			b.ReportMetric(float64(all[0].Microseconds()), "µs/least")
			gap, err := strconv.Atoi(p.finish())
			qt.Assert(b, qt.IsNil(err))
			b.ReportMetric(float64(gap), "µs/longest-gap")
		})
	}
}

func BenchmarkCall(b *testing.B) {
	p := start(b, "gap", "1")
	var all []time.Duration
	for b.Loop() {
		l, err := ptrace.Borrow(b.Context(), p.target(), patient)
		qt.Assert(b, qt.IsNil(err))
		p.mmap(l)
		pause, err := l.Return()
		qt.Assert(b, qt.IsNil(err))
		all = append(all, pause)
	}
	slices.Sort(all)
	b.ReportMetric(float64(all[len(all)/2].Microseconds()), "µs/pause")
	p.finish()
}
